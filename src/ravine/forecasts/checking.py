"""How far a forecast is valid: the true gradient at a few predicted points."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr
from array_api_compat import array_namespace

from ravine.forecasts.measured import Measured
from ravine.forecasts.reduced import Reduced
from ravine.methods import SAM, USAM, Method, gradient_norm
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
    *,
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
    test = _Comparison(objective, method, measured, z, velocity, tol)
    first, whole = _steps_followed(measured.reduced, method, z, steps)
    nowhere = array_namespace(measured.point).zeros_like(measured.point)
    agreed, motion = test.steps(0, nowhere, first)
    unseen = not whole and test.records[0][-1] > _UNSEEN * tol
    if agreed < min(first, steps) or unseen:
        return agreed, table(test.records), test.gradients
    last, bad = _Agreement(min(first, steps), 0, motion, nowhere), None
    for t in sorted({*(2**k for k in range(3, steps.bit_length()) if first <= 2**k <= steps), steps}):
        there = test.at(t, last)
        if there is None:
            bad = t
            break
        last = there
    good = last.step
    while bad is not None and bad - good > max(1, good // 4):
        t = (good + bad) // 2
        good, bad = (good, t) if test.at(t, last) is None else (t, bad)
    return good, table(test.records), test.gradients


@dataclass(frozen=True)
class _Agreement:
    """The last step where real steps agreed.

    The point there is the prediction for `origin` moved by `moved`; `motion` is what a real step there adds to a
    predicted one.
    """

    step: int
    origin: int
    motion: Any
    moved: Any


@dataclass
class _Comparison:
    """Real steps beside predicted ones, and what they cost."""

    objective: Objective
    method: Method
    measured: Measured
    z: np.ndarray
    velocity: np.ndarray
    tol: float
    gradients: int = 0
    records: list[tuple[int, float, float, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._values, self._columns = np.linalg.eigh(self.measured.reduced.hessian)

    def at(self, t: int, last: _Agreement) -> _Agreement | None:
        """Real steps from the prediction for step t, moved by what `last` says; None if they do not agree."""
        if not np.isfinite(self.z[t : t + _SETTLE + _LOOK + 1]).all():
            return None
        norm = float(np.linalg.norm(self.measured.reduced.grad(self.z[last.origin])))
        moved = last.moved + self._accumulated(last.motion, t - last.origin, norm)
        agreed, motion = self.steps(t, moved, _SETTLE + _LOOK)
        return _Agreement(t, t, motion, moved) if agreed == _SETTLE + _LOOK else None

    def steps(self, t: int, moved: Any, count: int) -> tuple[int, Any]:
        """How many of `count` real steps from predicted step t agree, and the motion a step that was not predicted."""
        lift = self.measured.lift
        ends, worst, agreed = [], (t, 0.0, 0.0, 0.0), 0
        for k, (w, norm) in enumerate(self._real_steps(t, moved, count)):
            predicted = float(np.linalg.norm(self.measured.reduced.grad(self.z[t + k])))
            error = abs(norm - predicted) / max(norm, 1e-300) if np.isfinite(norm + predicted) else np.inf
            if (k >= _SETTLE or t == 0) and error >= worst[-1]:
                worst = (t + k, predicted, norm, error)
            if worst[-1] > (self.tol if t == 0 else _CAUTION * self.tol):
                break
            agreed = k
            if k >= count - _LOOK:
                ends.append((w, self.z[t + k]))
        self.records.append(worst)
        if agreed < count:
            return agreed, moved
        return agreed, ((ends[-1][0] - ends[0][0]) - lift(ends[-1][1] - ends[0][1])) / _LOOK

    def _real_steps(self, t: int, moved: Any, count: int) -> Iterator[tuple[Any, float]]:
        """Iterates of real steps and their ‖∇ℓ‖, from the prediction for step t moved by `moved`."""
        w, b = self.measured.point + self.measured.lift(self.z[t]) + moved, self.measured.lift(self.velocity[t])
        ascends = isinstance(self.method, SAM | USAM) and self.method.rho != 0
        for k in range(count + 1):
            here = self.objective.grad(w)
            self.gradients += 1
            yield w, gradient_norm(here)
            if k < count:
                w, b = self.method.step(self.objective.grad, w, here, b)
                self.gradients += int(ascends)

    def _accumulated(self, motion: Any, length: int, norm: float) -> Any:
        """What `motion` a step makes in so many: it adds up where the loss is flat, settles where it is curved."""
        lift, values, eta = self.measured.lift, self._values, self.method.eta
        inside = self._columns.T @ self.measured.drop(motion)
        rho = self.method.rho if isinstance(self.method, SAM) else 0.0
        mu = np.clip(1 - eta * values - eta * rho * values**2 / max(norm, 1e-300), -1.0, 1.0)
        away = 1 - mu
        total = np.where(away < 1e-12, float(length), (1 - mu**length) / np.where(away < 1e-12, 1.0, away))
        return length * (motion - lift(self._columns @ inside)) + lift(self._columns @ (total * inside))


def _steps_followed(reduced: Reduced, method: Method, z: np.ndarray, steps: int) -> tuple[int, bool]:
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
