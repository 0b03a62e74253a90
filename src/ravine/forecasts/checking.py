"""How far a forecast is valid: the true gradient at a few predicted points."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from array_api_compat import array_namespace

from ravine.forecasts.measured import Measured
from ravine.forecasts.reduced import Reduced
from ravine.methods import GD, SAM, Method, gradient_norm
from ravine.objectives import Objective

# The first real steps are followed one by one from the point itself; SAM's until it bounces, but no more than so many.
FIRST, _LONGEST = 8, 64
# Real steps at a predicted point: the first ones let the bounce settle there, the last two are measured.
_SETTLE, _LOOK = 4, 2
# Later tests start from points that are themselves predicted: they are held to this part of `tol`.
_CAUTION = 0.5
# Where the way to the bounce is longer than what is followed, that must be predicted to this part of `tol`.
_UNSEEN = 0.1
# |cos| of ∇ℓ with e₁ in the bounce.
_ALONG = 0.99


def horizon(
    objective: Objective,
    method: Method,
    measured: Measured,
    z: np.ndarray,
    velocity: np.ndarray,
    steps: int,
    tol: float,
) -> tuple[int, xr.Dataset, int]:
    """The step up to which it is valid, the checks as a table, and the gradients spent.

    It is tested over the first real steps, at steps 8, 16, 32, …, and between the last good and the first bad. What a
    forecast leaves out is small in any one step and adds up. So the mean motion of two real steps beside the two
    predicted is carried along: at the next test the predicted point is moved by what it makes in the meantime, and
    real steps start there.
    """
    reduced, lift = measured.reduced, measured.lift
    values, columns = np.linalg.eigh(reduced.hessian)
    first, whole = _followed(reduced, method, z, steps)
    gradients = 0
    records: list[tuple[int, float, float, float]] = []

    def look(t: int, moved: Any) -> tuple[int, Any]:
        """How many real steps from predicted step t agree, and the motion a step that was not predicted."""
        nonlocal gradients
        count = first if t == 0 else _SETTLE + _LOOK
        w, b = measured.point + lift(z[t]) + moved, lift(velocity[t])
        ends, worst, at_worst, agreed = [], 0.0, (t, 0.0, 0.0), 0
        for k in range(count + 1):
            here = objective.grad(w)
            gradients += 1
            true, predicted = gradient_norm(here), float(np.linalg.norm(reduced.grad(z[t + k])))
            if k >= _SETTLE or t == 0:
                error = abs(true - predicted) / max(true, 1e-300) if np.isfinite(true + predicted) else np.inf
                if error >= worst:
                    worst, at_worst = error, (t + k, predicted, true)
            if worst > (tol if t == 0 else _CAUTION * tol):
                break
            agreed = k
            if k >= count - _LOOK:
                ends.append((w, z[t + k]))
            if k == count:
                break
            w, b = method.step(objective.grad, w, here, b)
            gradients += 1 - int(isinstance(method, GD) or getattr(method, "rho", 0) == 0)
        records.append((*at_worst, worst))
        if agreed < count:
            return agreed, moved
        motion = (ends[-1][0] - ends[0][0]) - lift(ends[-1][1] - ends[0][1])
        return agreed, motion / _LOOK

    def carried(motion: Any, length: int, norm: float) -> Any:
        """What `motion` a step makes in so many: it adds up where the loss is flat, settles where it is curved."""
        inside = columns.T @ measured.drop(motion)
        rho = getattr(method, "rho", 0.0) if isinstance(method, SAM) else 0.0
        mu = np.clip(1 - method.eta * values - method.eta * rho * values**2 / max(norm, 1e-300), -1.0, 1.0)
        away = 1 - mu
        total = np.where(away < 1e-12, float(length), (1 - mu**length) / np.where(away < 1e-12, 1.0, away))
        return length * (motion - lift(columns @ inside)) + lift(columns @ (total * inside))

    def finite(t: int) -> bool:
        return bool(np.isfinite(z[t : t + _SETTLE + _LOOK + 1]).all())

    nowhere = array_namespace(measured.point).zeros_like(measured.point)
    agreed, motion = look(0, nowhere)
    unseen = not whole and records[0][-1] > _UNSEEN * tol
    if agreed < min(first, steps) or unseen:
        return agreed, table(records), gradients
    at, moved, good, bad = 0, nowhere, min(first, steps), None
    for t in sorted({*(2**k for k in range(3, steps.bit_length()) if first <= 2**k <= steps), steps}):
        shifted = moved + carried(motion, t - at, float(np.linalg.norm(reduced.grad(z[at]))))
        agreed, fresh = look(t, shifted) if finite(t) else (0, motion)
        if agreed < _SETTLE + _LOOK:
            bad = t
            break
        at, motion, moved, good = t, fresh, shifted, t
    while bad is not None and bad - good > max(1, good // 4):
        t = (good + bad) // 2
        shifted = moved + carried(motion, t - at, float(np.linalg.norm(reduced.grad(z[at]))))
        agreed = look(t, shifted)[0] if finite(t) else 0
        good, bad = (t, bad) if agreed == _SETTLE + _LOOK else (good, t)
    return good, table(records), gradients


def _followed(reduced: Reduced, method: Method, z: np.ndarray, steps: int) -> tuple[int, bool]:
    """How many of the first steps are followed one by one, and whether the way to the bounce is among them.

    SAM's until it bounces: what turns ∇ℓ to e₁ grows from little, with momentum also by swings, and small errors of its
    time are large ones of ‖∇ℓ‖, and pass. They would lie between the tests, which start from predicted points. So where
    momentum swings on after `_LONGEST` steps, nothing is claimed beyond them unless they were predicted ten times as
    well.
    """
    if not isinstance(method, SAM) or method.rho == 0:
        return FIRST, True
    slopes = [reduced.grad(one) for one in z[: min(steps, _LONGEST) + 1]]
    along = [abs(reduced.e[0] @ g) >= _ALONG * gradient_norm(g) for g in slopes]
    settled = (t for t in range(FIRST, len(along)) if along[t] and along[t - 1])
    arrived = next(settled, None)
    if arrived is not None:
        return arrived, True
    return max(FIRST, len(along) - 1), method.momentum == 0


def table(records: list[tuple[int, float, float, float]]) -> xr.Dataset:
    """Checks along ``check``: step, ‖∇ℓ‖ predicted and measured, and the relative error."""
    columns = np.array(records, dtype=np.float64).reshape(-1, 4)
    names = ("step", "predicted", "measured", "error")
    return xr.Dataset({name: ("check", columns[:, k]) for k, name in enumerate(names)})
