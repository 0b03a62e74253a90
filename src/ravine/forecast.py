"""What a method will do next, from a few dozen Hessian-vector products, and how far that is to be believed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from array_api_compat import array_namespace, to_device

from ravine.methods import GD, SAM, USAM, Method, gradient_norm
from ravine.objectives import Objective
from ravine.spectrum import Krylov, operator
from ravine.theory import edge

_RULES = (GD, SAM, USAM)
# Real steps at a predicted point: the first ones let the bounce settle there, the last two are measured.
_SETTLE, _LOOK = 4, 2
# The first real steps are followed one by one from the point itself.
_FIRST = 8
# Later tests start from points that are themselves foreseen: they are held to this part of the tolerance.
_CAUTION = 0.5
# A run has arrived at the bounce where ‖∇ℓ‖ stays within this of the law.
_NEAR = 0.05


@dataclass(frozen=True)
class Forecast:
    """What a method will do from a point.

    Attributes
    ----------
    run
        Along ``step``: ``grad_norm``, ``loss``, ``alignment`` (|cos| between ∇ℓ and e₁) and ``sharpness`` (λ_max;
        constant without the drift).
    horizon
        The step up to which the forecast is to be believed: there real steps from predicted points gave ‖∇ℓ‖ within
        `tolerance`. Zero if even the first did not.
    checks
        What the forecast was tested with, along ``check``: the step, ‖∇ℓ‖ foreseen and found, and the relative error.
    tolerance
        The relative error of ‖∇ℓ‖ that was allowed.
    arrival
        The step from which ‖∇ℓ‖ stays within 5 % of the bounce's, for SAM; None if it does not arrive.
    floor
        The loss that the quadratic has in the long run: its minimum, and under SAM the bounce's ½β₁²/λ₁ on it; None
        where there is negative curvature, or none.
    top, top_residual
        λ₁ at the start, and its residual bound.
    products, gradients
        Hessian products and gradients spent, those of the checks among the latter.
    """

    run: xr.Dataset
    horizon: int
    checks: xr.Dataset
    tolerance: float
    arrival: int | None
    floor: float | None
    top: float
    top_residual: float
    products: int
    gradients: int

    @property
    def believed(self) -> xr.Dataset:
        """The part of `run` up to the horizon."""
        return self.run.sel(step=slice(0, self.horizon))

    @property
    def verdict(self) -> str:
        """How far to believe it, in a sentence."""
        last = int(self.run["step"][-1])
        if self.horizon >= last:
            return f"to be believed up to its end, step {last}: real steps agree within {self.tolerance:.0%}"
        if self.horizon == 0:
            return "not to be believed: the first real steps already differ"
        return (
            f"to be believed up to step {self.horizon} of {last}; further on real steps differ by more than "
            f"{self.tolerance:.0%}"
        )


class _Reduced:
    """ℓ on a small space through w: quadratic, and of the third order what moves the largest eigenvalues.

    With x = Ez the coordinates along the top eigenvectors, ℓ̂(z) = ℓ + g·z + ½zᵀHz + ½ Σ xᵢxⱼ(pᵢⱼ·z) + Σ
    κᵢⱼₖxᵢxⱼxₖ/6, where
    D³ℓ(eᵢ, eⱼ, ·) = pᵢⱼ + Σ κᵢⱼₖeₖ, pᵢⱼ orthogonal to the eₖ. Without the last two terms SAM on it has the same ‖∇ℓ‖
    as on the whole quadratic, to the degree of a Gauss quadrature.
    """

    def __init__(
        self, hessian: np.ndarray, g: np.ndarray, top: np.ndarray, e: np.ndarray, p: np.ndarray, kappa: np.ndarray
    ) -> None:
        self.hessian, self.g, self.top, self.e, self.p, self.kappa = hessian, g, top, e, p, kappa

    def grad(self, z: np.ndarray) -> np.ndarray:
        x = self.e @ z
        along = (self.p @ z) @ x + 0.5 * (self.kappa @ x) @ x
        return self.g + self.hessian @ z + along @ self.e + 0.5 * x @ np.tensordot(x, self.p, 1)

    def change(self, z: np.ndarray) -> float:
        """ℓ̂(z) − ℓ."""
        x = self.e @ z
        cubic = 0.5 * x @ (self.p @ z) @ x + (self.kappa @ x) @ x @ x / 6
        return float(self.g @ z + 0.5 * z @ self.hessian @ z + cubic)

    def sharpness(self, z: np.ndarray) -> float:
        """The largest eigenvalue among the top directions at z."""
        moved = np.diag(self.top) + self.p @ z + self.kappa @ (self.e @ z)
        return float(np.linalg.eigvalsh(moved)[-1]) if np.isfinite(moved).all() else float("nan")


def forecast(
    objective: Objective,
    method: Method,
    *,
    w: Any = None,
    steps: int,
    products: int = 60,
    drift: bool = True,
    pairs: int = 2,
    tolerance: float = 0.05,
    sharpness_gradient: Callable[[Any, Any], Any] | None = None,
    check: bool = True,
) -> Forecast:
    """What `method` will do in the next `steps` steps from w.

    On a quadratic, GD, SAM and USAM depend on the Hessian only through the spectral measure of ∇ℓ(w), so that they
    are run
    on the Krylov space of ∇ℓ(w) (theory: `spectral_measure`). With the drift, the space also holds that of ∇λ₁, and
    the loss its third-order term along it: λ₁ then falls as Theorem 21 says, and the bounce with it.

    Parameters
    ----------
    objective, w
        The loss and the point; a network starts from its own parameters unless another is given.
    method
        GD, SAM or USAM, with or without momentum.
    steps
        How many steps to foresee, ≥ 1.
    products
        Hessian products to spend; with the drift a third of them on ∇ℓ, the rest on ∇λ₁.
    drift
        Whether to measure ∇λ₁ (one third derivative) and to let the sharpness change.
    pairs
        1 or 2: whether λ₂ moves as well (two more third derivatives), so that the forecast goes on where λ₁ falls to
        it. Left at 1 by itself where the products did not find λ₂.
    tolerance
        Relative error of ‖∇ℓ‖ up to which it is to be believed.
    sharpness_gradient
        ``(w, e₁) ↦ D³ℓ(e₁, e₁, ·)``; by default ``objective.third``.
    check
        Whether to find the horizon; without it the horizon is 0.

    Raises
    ------
    ValueError
        If the method is another, a number is out of range, or ∇ℓ(w) = 0.
    """
    if type(method) not in _RULES:
        raise ValueError(f"method: {type(method).__name__} cannot be foreseen; use GD, SAM or USAM")
    least = 6 if drift else 2
    if steps < 1 or products < least or not 0 < tolerance < 1:
        raise ValueError(
            f"steps = {steps}, products = {products}, tolerance = {tolerance}: give steps ≥ 1, products ≥ {least}, and "
            "a tolerance between 0 and 1"
        )
    if w is None:
        w = getattr(objective, "start", None)
        if w is None:
            raise ValueError(f"w: give {objective.dimension} numbers to start from")
    apply, point = operator(objective, w)
    g = objective.grad(point)
    norm = gradient_norm(g)
    if norm == 0:
        raise ValueError("w: the gradient is zero there; nothing will move")
    first = products // 3 if drift else products
    krylov = Krylov(apply, g / norm, products, np.random.default_rng(0), objective.precision)
    while krylov.size < min(first, krylov.capacity) and not krylov.exhausted:
        krylov.step()
    values, columns, residuals = krylov.ritz()
    own = krylov.size
    # Eigenvalues that λ₁ may fall to, as far as they are known.
    count = 1 + int(drift and pairs > 1 and own > 2 and residuals[-2] < 0.05 * abs(values[-1]))
    leading = np.arange(own - 1, own - 1 - count, -1)
    top, e = values[leading], columns[:, leading].T
    p, kappa, gradients = np.zeros((count, count, 0)), np.zeros((count, count, count)), 1
    if drift and krylov.size < krylov.capacity:
        thirds, tops = _thirds(sharpness_gradient or objective.third, point, krylov.vectors(e.T))
        kappa = _numpy(thirds.reshape(count * count, -1) @ tops.T).reshape(count, count, count)
        flat = thirds.reshape(count * count, -1)
        across = flat - (flat @ tops.T) @ tops
        # ∇λ₁ has half of what is left, or all.
        order = [0] if count == 1 else [0, 3, 1]
        left = krylov.capacity - krylov.size
        for share, index in zip((1.0,) if count == 1 else (0.5, 0.75, 1.0), order, strict=True):
            until = own + int(share * left)
            if krylov.size < until and krylov.insert(across[index]):
                while krylov.size < until:
                    krylov.step()
        p = _numpy(across @ krylov.basis[: krylov.size].T).reshape(count, count, -1)
    m = krylov.size
    e = np.pad(e, ((0, 0), (0, m - e.shape[1])))
    p = np.pad(p, ((0, 0), (0, 0), (0, m - p.shape[2])))
    reduced = _Reduced(krylov.projected(), norm * np.eye(m)[0], top, e, p, kappa)
    z, velocity = _run(reduced, method, steps + _FIRST)
    loss = float(objective.value(point))
    run = _dataset(reduced, z[: steps + 2], loss, steps)
    floor = _floor(reduced, method, loss, norm, krylov, first)
    horizon, checks = 0, _table([])
    if check:
        horizon, checks, spent = _horizon(objective, method, point, krylov, reduced, z, velocity, steps, tolerance)
        gradients += spent
    return Forecast(
        run, horizon, checks, tolerance, _arrival(run, method), floor, float(top[0]), float(residuals[-1]),
        krylov.products, gradients
    )  # fmt: skip


def _thirds(third: Callable[[Any, Any], Any], point: Any, vectors: Any) -> tuple[Any, Any]:
    """D³ℓ(eᵢ, eⱼ, ·), shape (k, k, d), for k = 1 or 2, by polarisation; and the eᵢ, of norm 1."""
    xp = array_namespace(vectors)
    e = vectors / xp.linalg.vector_norm(vectors, axis=1, keepdims=True)
    first = third(point, e[0])
    if e.shape[0] == 1:
        return xp.stack([first])[None, ...], e
    second, sum_ = third(point, e[1]), third(point, e[0] + e[1])
    mixed = (sum_ - first - second) / 2
    return xp.stack([xp.stack([first, mixed]), xp.stack([mixed, second])]), e


def _run(reduced: _Reduced, method: Method, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Iterates and velocities on the small space, shape (steps + 1, m); NaN once they are no longer finite."""
    m = reduced.g.size
    z, velocity = np.full((steps + 1, m), np.nan), np.full((steps + 1, m), np.nan)
    z[0], velocity[0] = 0.0, 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        for t in range(steps):
            here = reduced.grad(z[t])
            if not np.isfinite(here).all():
                break
            z[t + 1], velocity[t + 1] = method.step(reduced.grad, z[t], here, velocity[t])
    return z, velocity


def _dataset(reduced: _Reduced, z: np.ndarray, loss: float, steps: int) -> xr.Dataset:
    with np.errstate(over="ignore", invalid="ignore"):
        slopes = np.array([reduced.grad(one) for one in z])
        norms = np.array([gradient_norm(one) if np.isfinite(one).all() else np.nan for one in slopes])
        alignment = np.abs(slopes @ reduced.e[0]) / np.where(norms > 0, norms, np.nan)
        # At the centre of the bounce.
        sharpness = np.array([reduced.sharpness(one) for one in (z[:-1] + z[1:]) / 2])
        losses = np.array([loss + reduced.change(one) for one in z])
    columns = {"grad_norm": norms, "loss": losses, "alignment": alignment, "sharpness": sharpness}
    run = xr.Dataset({name: ("step", values[: steps + 1]) for name, values in columns.items()})
    return run.assign_coords(step=np.arange(steps + 1))


def _floor(reduced: _Reduced, method: Method, loss: float, norm: float, krylov: Krylov, first: int) -> float | None:
    m = min(first, krylov.size)
    values, columns = np.linalg.eigh(reduced.hessian[:m, :m])
    lam = float(values[-1])
    if lam <= 0 or method.eta * lam >= 2 * (1 + method.momentum):
        return None
    # What is flat to rounding can give no more than rounding.
    flat = 1e-12 * lam
    if values[0] < -flat:
        return None
    curved = values > flat
    lowest = loss - float((0.5 * (norm * columns[0, curved]) ** 2 / values[curved]).sum())
    if not isinstance(method, SAM) or method.rho == 0:
        return lowest
    amplitude = edge.heavy_ball_amplitude(lam, method.eta, method.rho, method.momentum)
    return lowest + 0.5 * lam * amplitude**2


def _arrival(run: xr.Dataset, method: Method) -> int | None:
    if not isinstance(method, SAM) or method.rho == 0:
        return None
    lam, norms = run["sharpness"].values, run["grad_norm"].values
    room = 2 * (1 + method.momentum) - method.eta * lam
    with np.errstate(divide="ignore", invalid="ignore"):
        law = np.where(room > 0, method.eta * method.rho * lam**2 / room, np.nan)
        outside = np.flatnonzero(~(np.abs(norms / law - 1) <= _NEAR))
    if outside.size == 0:
        return 0
    return int(outside[-1]) + 1 if outside[-1] + 1 < norms.size else None


def _horizon(
    objective: Objective,
    method: Method,
    point: Any,
    krylov: Krylov,
    reduced: _Reduced,
    z: np.ndarray,
    velocity: np.ndarray,
    steps: int,
    tolerance: float,
) -> tuple[int, xr.Dataset, int]:
    """Test the forecast over the first real steps, at steps 8, 16, 32, …, and between the last good and the first bad.

    What a forecast leaves out is small in any one step and adds up. So the mean motion of two real steps beside the
    two predicted
    is carried along: at the next test the predicted point is moved by what it makes in the meantime, and real steps
    start there.
    """
    xp = array_namespace(point)
    basis = krylov.basis[: krylov.size]
    values, columns = np.linalg.eigh(reduced.hessian)
    gradients = 0
    records: list[tuple[int, float, float, float]] = []

    def lift(coordinates: np.ndarray) -> Any:
        return xp.asarray(coordinates, dtype=basis.dtype, device=basis.device) @ basis

    def look(t: int, moved: Any) -> tuple[int, Any]:
        """How many real steps from predicted step t agree, and the motion a step that was not foreseen."""
        nonlocal gradients
        count = _FIRST if t == 0 else _SETTLE + _LOOK
        w, b = point + lift(z[t]) + moved, lift(velocity[t])
        ends, worst, seen, agreed = [], 0.0, (t, 0.0, 0.0), 0
        for k in range(count + 1):
            here = objective.grad(w)
            gradients += 1
            found, foreseen = gradient_norm(here), float(np.linalg.norm(reduced.grad(z[t + k])))
            if k >= _SETTLE or t == 0:
                error = abs(found - foreseen) / max(found, 1e-300) if np.isfinite(found + foreseen) else np.inf
                if error >= worst:
                    worst, seen = error, (t + k, foreseen, found)
            if worst > (tolerance if t == 0 else _CAUTION * tolerance):
                break
            agreed = k
            if k >= count - _LOOK:
                ends.append((w, z[t + k]))
            if k == count:
                break
            w, b = method.step(objective.grad, w, here, b)
            gradients += 2 - int(isinstance(method, GD) or getattr(method, "rho", 0) == 0)
        records.append((*seen, worst))
        if agreed < count:
            return agreed, moved
        motion = (ends[-1][0] - ends[0][0]) - lift(ends[-1][1] - ends[0][1])
        return agreed, motion / _LOOK

    def carried(motion: Any, length: int, norm: float) -> Any:
        """What `motion` a step makes in so many: it adds up where the loss is flat, settles where it is curved."""
        inside = columns.T @ _numpy(basis @ motion)
        rho = getattr(method, "rho", 0.0) if isinstance(method, SAM) else 0.0
        mu = np.clip(1 - method.eta * values - method.eta * rho * values**2 / max(norm, 1e-300), -1.0, 1.0)
        away = 1 - mu
        total = np.where(away < 1e-12, float(length), (1 - mu**length) / np.where(away < 1e-12, 1.0, away))
        return length * (motion - lift(columns @ inside)) + lift(columns @ (total * inside))

    def finite(t: int) -> bool:
        return bool(np.isfinite(z[t : t + _SETTLE + _LOOK + 1]).all())

    agreed, motion = look(0, xp.zeros_like(point))
    if agreed < min(_FIRST, steps):
        return agreed, _table(records), gradients
    at, moved, good, bad = 0, xp.zeros_like(point), min(_FIRST, steps), None
    for t in sorted({*(2**k for k in range(3, steps.bit_length()) if _FIRST <= 2**k <= steps), steps}):
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
    return good, _table(records), gradients


def _table(records: list[tuple[int, float, float, float]]) -> xr.Dataset:
    columns = np.array(records, dtype=np.float64).reshape(-1, 4)
    names = ("step", "foreseen", "found", "error")
    return xr.Dataset({name: ("check", columns[:, k]) for k, name in enumerate(names)})


def _numpy(array: Any) -> np.ndarray:
    return np.asarray(to_device(array, "cpu"), dtype=np.float64)
