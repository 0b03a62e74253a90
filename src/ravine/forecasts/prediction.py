"""`forecast`: a small loss that stands for the large one, run, read off and tested."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from ravine.forecasts.checking import FIRST, horizon, table
from ravine.forecasts.measured import Measured, bend, measure
from ravine.forecasts.reduced import Reduced
from ravine.methods import GD, SAM, USAM, Method, gradient_norm
from ravine.objectives import Objective, beginning
from ravine.theory import amplitude

_RULES = (GD, SAM, USAM)
# A run has arrived at the bounce where ‖∇ℓ‖ stays within this of the law.
_NEAR = 0.05


@dataclass(frozen=True, repr=False)
class Forecast:
    """What a method will do from a point, by the laws of SAM near a minimum (arXiv 2210.01513) on a small space.

    Attributes
    ----------
    run
        Along ``step``: ``grad_norm``, ``loss``, ``gradient_alignment`` (|cos| between ∇ℓ and e₁) and ``sharpness``
        (λ_max; constant without the drift).
    horizon
        The step up to which the forecast is valid: there real steps from predicted points gave ‖∇ℓ‖ within
        `tol`. Zero if even the first did not. Not past `overtaken`.
    checks
        What the forecast was tested with, along ``check``: the step, ‖∇ℓ‖ predicted and measured, and the
        relative error.
    tol
        The relative error of ‖∇ℓ‖ that was allowed.
    overtaken
        The step at which λ₁ falls to the next eigenvalue, for SAM; None if it does not. The bounce then passes to
        another direction, and no test at a predicted point tells when.
    arrival
        The step from which ‖∇ℓ‖ stays within 5 % of the bounce's, for SAM; None if it does not arrive.
    floor
        The loss that the quadratic has in the long run: its minimum, and under SAM the bounce's ½β₁²/λ₁ on it; None
        where there is negative curvature, or none.
    sharpness, sharpness_residual
        λ₁ at the start, and its residual bound.
    products, gradients
        Hessian products and gradients spent; the latter with those of the checks, and with eight for each third
        derivative, which is what that of a network takes with its own check.

    Examples
    --------
    >>> import numpy as np
    >>> import ravine as rv
    >>> loss = rv.quadratic(1 / np.arange(1, 101))
    >>> seen = rv.forecast(loss, rv.SAM(eta=0.4, rho=0.1), start=np.ones(100), steps=200, products=30)
    >>> seen
    <Forecast: λ_max 1, 200 steps; valid up to its end, step 200: real steps agree within 5%>
    >>> run = rv.trajectory(loss, rv.SAM(eta=0.4, rho=0.1), start=np.ones(100), steps=200)
    >>> bool(abs(seen.run["grad_norm"][-1] / run["grad_norm"][0, -1] - 1) < 0.01)
    True
    """

    run: xr.Dataset
    horizon: int
    checks: xr.Dataset
    tol: float
    overtaken: int | None
    arrival: int | None
    floor: float | None
    sharpness: float
    sharpness_residual: float
    products: int
    gradients: int

    def __repr__(self) -> str:
        return f"<Forecast: λ_max {self.sharpness:.6g}, {int(self.run['step'][-1])} steps; {self.verdict}>"

    @property
    def valid(self) -> xr.Dataset:
        """The part of `run` up to the horizon."""
        return self.run.sel(step=slice(0, self.horizon))

    @property
    def verdict(self) -> str:
        """Up to which step it is valid, in a sentence."""
        last = int(self.run["step"][-1])
        if self.horizon >= last:
            return f"valid up to its end, step {last}: real steps agree within {self.tol:.0%}"
        if self.horizon == 0:
            return "not valid: the first real steps already differ"
        beyond = (
            "there λ₁ falls to λ₂, and when the bounce turns is not predicted"
            if self.horizon == self.overtaken
            else f"further on real steps differ by more than {self.tol:.0%}"
        )
        return f"valid up to step {self.horizon} of {last}; {beyond}"


def forecast(
    objective: Objective,
    method: Method,
    *,
    start: Any = None,
    steps: int,
    products: int = 60,
    drift: bool = True,
    pairs: int = 2,
    tol: float = 0.05,
    sharpness_gradient: Callable[[Any, Any], Any] | None = None,
    check: bool = True,
) -> Forecast:
    """What `method` will do in the next `steps` steps from `start`.

    On a quadratic, GD, SAM and USAM depend on the Hessian only through the spectral measure of ∇ℓ(w), so that they
    are run on the Krylov space of ∇ℓ(w) (theory: `spectral_measure`). With the drift, the space also holds that of
    ∇λ₁, and the loss its third-order term along it: λ₁ then falls as Theorem 21 says, and the bounce with it. How
    ∇λ₁ itself changes on the way is taken from one point ahead (`ravine.forecasts.reduced`).

    Parameters
    ----------
    objective, start
        The loss and the point w; a network starts from its own parameters unless another is given.
    method
        GD, SAM or USAM, with or without momentum.
    steps
        How many steps to predict, ≥ 1.
    products
        Hessian products to spend at most. With the drift ∇ℓ has between a third and three fifths of them, until λ₁
        and λ₂ are known to 1e-3; a tenth finds e₁ again ahead, and the rest goes to ∇λ₁ and, with two pairs, ∇λ₂.
    drift
        Whether to measure ∇λ₁ (two third derivatives, the second of them ahead) and to let the sharpness change.
    pairs
        1 or 2: whether λ₂ moves as well (two more third derivatives), so that the forecast goes on where λ₁ falls to
        it. Left at 1 by itself where the products did not find λ₂.
    tol
        Relative error of ‖∇ℓ‖ up to which it is valid.
    sharpness_gradient
        ``(w, e₁) ↦ D³ℓ(e₁, e₁, ·)``; by default ``objective.third``.
    check
        Whether to find the horizon; without it the horizon is 0.

    Raises
    ------
    ValueError
        If the method is another, a number is out of range, or ∇ℓ(w) = 0.
    """
    _check_method(method)
    _check_numbers(steps, products, pairs, tol, least=6 if drift else 2)
    third = (sharpness_gradient or objective.third) if drift else None
    seen = measure(objective, beginning(objective, start), products, third, pairs)
    if third is not None:
        seen = bend(seen, objective, method, steps=steps, products=products, third=third)
    return _run_and_test(objective, method, seen, steps=steps, tol=tol, check=check)


def _check_method(method: Method) -> None:
    if isinstance(method, type):
        raise ValueError(f"method: {method.__name__} needs its numbers, such as SAM(eta=0.1, rho=0.05)")
    if type(method) not in _RULES:
        raise ValueError(f"method: {type(method).__name__} cannot be predicted; use GD, SAM or USAM")


def _check_numbers(steps: int, products: int, pairs: int, tol: float, *, least: int) -> None:
    for name, number in (("steps", steps), ("products", products)):
        if isinstance(number, bool) or not isinstance(number, int | np.integer):
            raise ValueError(f"{name} = {number!r}: give an integer")
    if pairs not in (1, 2):
        raise ValueError(f"pairs = {pairs!r}: give 1 or 2")
    if steps < 1 or products < least or not 0 < tol < 1:
        raise ValueError(
            f"steps = {steps}, products = {products}, tol = {tol}: give steps ≥ 1, products ≥ {least}, and "
            "tol between 0 and 1"
        )


def _run_and_test(
    objective: Objective, method: Method, seen: Measured, *, steps: int, tol: float, check: bool
) -> Forecast:
    """The small loss run, read off and tested."""
    reduced = seen.reduced
    z, velocity = reduced.run(method, steps + FIRST)
    loss = float(objective.value(seen.point))
    run = _dataset(reduced, z[: steps + 2], loss, steps)
    overtaken = _overtaken_step(reduced, method, z[: steps + 2])
    valid, checks, spent = 0, table([]), 0
    if check:
        last = steps if overtaken is None else overtaken
        valid, checks, spent = horizon(objective, method, seen, z=z, velocity=velocity, steps=last, tol=tol)
    return Forecast(
        run=run,
        horizon=valid,
        checks=checks,
        tol=tol,
        overtaken=overtaken,
        arrival=_arrival_step(run, method),
        floor=_loss_floor(seen, method, loss),
        sharpness=float(reduced.eigenvalues[0]),
        sharpness_residual=seen.residual,
        products=seen.products,
        gradients=seen.gradients + spent,
    )


def _dataset(reduced: Reduced, z: np.ndarray, loss: float, steps: int) -> xr.Dataset:
    with np.errstate(over="ignore", invalid="ignore"):
        slopes = np.array([reduced.grad(one) for one in z])
        norms = np.array([gradient_norm(one) if np.isfinite(one).all() else np.nan for one in slopes])
        gradient_alignment = np.abs(slopes @ reduced.e[0]) / np.where(norms > 0, norms, np.nan)
        # At the centre of the bounce.
        sharpness = np.array([reduced.sharpness(one) for one in (z[:-1] + z[1:]) / 2])
        losses = np.array([loss + reduced.change(one) for one in z])
    columns = {"grad_norm": norms, "loss": losses, "gradient_alignment": gradient_alignment, "sharpness": sharpness}
    run = xr.Dataset({name: ("step", values[: steps + 1]) for name, values in columns.items()})
    return run.assign_coords(step=np.arange(steps + 1))


def _loss_floor(seen: Measured, method: Method, loss: float) -> float | None:
    values, columns = np.linalg.eigh(seen.reduced.hessian[: seen.own, : seen.own])
    lam = float(values[-1])
    radius = method.rho if isinstance(method, SAM) else 0.0
    half_width = float(amplitude(lam, method.eta, radius, method.momentum))
    if np.isnan(half_width):
        return None
    # What is flat to rounding can give no more than rounding.
    flat = 1e-12 * lam
    if values[0] < -flat:
        return None
    curved = values > flat
    lowest = loss - float((0.5 * (seen.reduced.g[0] * columns[0, curved]) ** 2 / values[curved]).sum())
    return lowest + 0.5 * lam * half_width**2


def _overtaken_step(reduced: Reduced, method: Method, z: np.ndarray) -> int | None:
    if not isinstance(method, SAM) or method.rho == 0:
        return None
    # The first steps are tested one by one, and are the way to the bounce.
    for t in range(FIRST, len(z) - 1):
        if reduced.lead((z[t] + z[t + 1]) / 2) < 0:
            return t
    return None


def _arrival_step(run: xr.Dataset, method: Method) -> int | None:
    if not isinstance(method, SAM) or method.rho == 0:
        return None
    lam, norms = run["sharpness"].values, run["grad_norm"].values
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        law = lam * amplitude(lam, method.eta, method.rho, method.momentum)
        outside = np.flatnonzero(~(np.abs(norms / law - 1) <= _NEAR))
    if outside.size == 0:
        return 0
    return int(outside[-1]) + 1 if outside[-1] + 1 < norms.size else None
