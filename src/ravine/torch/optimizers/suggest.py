"""Which ρ? A sweep from one state, beside what the theory predicts of each. It advises, it does not decide."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ravine.extras import require
from ravine.spectrum import random_start, search
from ravine.theory.bounce import amplitude
from ravine.torch.optimizers.sam import SAM
from ravine.torch.optimizers.schedule import check_rho
from ravine.torch.passes import frozen_statistics, random_state, set_random_state, statistics_of
from ravine.torch.settings import settings_of

_ROUNDING = float(np.finfo(np.float64).tiny)  # an accuracy that rounding alone meets
RHOS = tuple(float(rho) for rho in np.geomspace(0.005, 0.5, 9).round(4))


@dataclass(frozen=True)
class Row:
    """One ρ.

    Attributes
    ----------
    rho
        The radius, in units of ‖w‖.
    loss_gap
        ℓ(w + ρg/‖g‖) − ℓ(w), measured.
    amplitude
        Of the bounce across the ravine that SAM with this ρ ends in, predicted: ηρλ₁/(2(1 + m) − ηλ₁), in ‖w‖.
        Infinite where ηλ₁ ≥ 2(1 + m): there gradient descent itself leaves.
    floor
        The loss that this bounce keeps the run above its minimum by, predicted: ½λ₁ amplitude².
    """

    rho: float
    loss_gap: float
    amplitude: float
    floor: float


@dataclass(frozen=True, repr=False)
class Advice:
    """What a sweep found; the bounce is that of arXiv 2210.01513. `print` it, `plot` it, or read `rows`.

    Attributes
    ----------
    rows
        One per ρ, in ascending order.
    loss, grad_norm
        ℓ(w) and ‖∇ℓ(w)‖ at the state that was swept from.
    sharpness, sharpness_residual
        λ₁ of the Hessian there, and how far an eigenvalue is from it at most.
    eta, momentum
        What the amplitudes are for.
    passes
        Forward–backward passes spent, a Hessian–vector product counted as two.

    Examples
    --------
    >>> import torch
    >>> from ravine.torch import suggest_rho
    >>> w = torch.tensor([1.0, 1.0], dtype=torch.float64, requires_grad=True)
    >>> sgd = torch.optim.SGD([w], lr=0.5)
    >>> advice = suggest_rho(sgd, lambda: (w[0] ** 2 + w[1] ** 2 / 4) / 2, rhos=[0.1, 0.2], tol=1e-9)
    >>> advice
    Advice(2 radii, sharpness=1, eta=0.5)
    >>> [round(row.amplitude, 4) for row in advice.rows]
    [0.0333, 0.0667]
    """

    rows: tuple[Row, ...]
    loss: float
    grad_norm: float
    sharpness: float
    sharpness_residual: float
    eta: float
    momentum: float
    passes: int

    def __repr__(self) -> str:
        return f"Advice({len(self.rows)} radii, sharpness={self.sharpness:.4g}, eta={self.eta:.4g})"

    def __str__(self) -> str:
        head = (
            f"ℓ = {self.loss:.4g}, ‖g‖ = {self.grad_norm:.4g}, λ₁ = {self.sharpness:.4g} ± "
            f"{self.sharpness_residual:.1g}, η = {self.eta:.4g}, momentum {self.momentum:g}: {self.passes} passes\n"
            f"{'ρ':>10} {'loss gap':>12} {'amplitude':>12} {'loss floor':>12}"
        )
        lines = [f"{r.rho:10.4g} {r.loss_gap:12.4g} {r.amplitude:12.4g} {r.floor:12.4g}" for r in self.rows]
        return "\n".join([head, *lines])

    def plot(self, axes: Any = None) -> Any:
        """Loss gap and loss floor against ρ, on matplotlib axes, which are returned."""
        require("matplotlib", "report")
        from matplotlib import pyplot

        if axes is None:
            axes = pyplot.figure().add_subplot()
        rho = [r.rho for r in self.rows]
        axes.loglog(rho, [r.loss_gap if r.loss_gap > 0 else math.nan for r in self.rows], "o-", label="ℓ(w+ε) − ℓ(w)")
        axes.loglog(rho, [r.floor for r in self.rows], "s--", label="½λ₁ amplitude², predicted")
        axes.axhline(self.loss, color="0.6", lw=1, label="ℓ(w)")
        axes.set(xlabel="ρ", ylabel="loss")
        axes.legend()
        return axes


def suggest_rho(
    optimizer: torch.optim.Optimizer,
    loss: Callable[[], Tensor],
    *,
    rhos: Sequence[float] = RHOS,
    model: nn.Module | None = None,
    eta: float | None = None,
    momentum: float | None = None,
    passes: int = 50,
    tol: float = 1e-3,
    seed: int = 0,
) -> Advice:
    """Sweep ρ from where the model stands. Weights, gradients, statistics and generators are left as they were.

    Parameters
    ----------
    optimizer
        A torch optimizer, or SAM around one: its parameters are meant, and its η and momentum unless given.
    loss
        Computes the loss of one batch (a large one serves better); no backward.
    rhos
        The radii to try, positive.
    model
        Whose BatchNorm statistics the sweep must not touch; the optimizer's own model unless given.
    eta, momentum
        Step size and heavy-ball coefficient of the predicted bounce. An optimizer other than SGD has no step size in
        the theory's sense: give the effective one.
    passes
        Bound on forward–backward passes, a Hessian–vector product counted as two.
    tol
        Relative residual at which the Lanczos iteration for λ₁ stops.
    seed
        Of its first vector.

    Raises
    ------
    ValueError
        For no positive radii, a bound on passes that leaves none for λ₁, or a missing η.
    """
    wrapped = isinstance(optimizer, SAM)
    eta, momentum = _bounce_settings(optimizer.base if wrapped else optimizer, eta, momentum)
    radii = sorted(check_rho(float(rho)) for rho in rhos)
    if not radii or radii[0] == 0:
        raise ValueError("rhos must be positive radii")
    products = (passes - 1 - len(radii)) // 2
    if products < 2:
        raise ValueError(f"passes = {passes}: {len(radii)} radii and λ₁ need {len(radii) + 5} at least")
    model = optimizer.model if wrapped and model is None else model
    params = optimizer.model_parameters() if wrapped else [p for g in optimizer.param_groups for p in g["params"]]
    params = [p for p in params if p.requires_grad]
    with _left_as_found(params, model) as fresh:
        value = fresh(loss)
        before = float(value.detach())
        grads = torch.autograd.grad(value, params, create_graph=True, materialize_grads=True)
        sharpness, residual, used = _sharpness(params, grads, products, tol, seed)
        length = torch.stack([g.detach().norm() for g in grads]).norm()
        losses = _losses_along(params, grads, length, radii, lambda: float(fresh(loss)))
    rows = [_row(rho, value - before, sharpness, eta, momentum) for rho, value in zip(radii, losses, strict=True)]
    spent = 1 + len(radii) + 2 * used
    return Advice(tuple(rows), before, float(length), sharpness, residual, eta, momentum, spent)


def _bounce_settings(base: torch.optim.Optimizer, eta: float | None, momentum: float | None) -> tuple[float, float]:
    """η and momentum of the bounce: those given, else the optimizer's."""
    settings = settings_of(base)
    if eta is None:
        if not isinstance(base, torch.optim.SGD):
            raise ValueError(f"{type(base).__name__} has no step size in the theory's sense: give eta=")
        eta = settings.eta
    return eta, settings.momentum if momentum is None else momentum


@contextmanager
def _left_as_found(params: list[Tensor], model: nn.Module | None) -> Iterator[Callable[[Callable[[], Tensor]], Tensor]]:
    """What calls a loss, always with the same random numbers; weights, statistics and generators stay as they are."""
    state = random_state({p.device for p in params})
    kept = [p.detach().clone() for p in params]

    def fresh(loss: Callable[[], Tensor]) -> Tensor:
        set_random_state(state)
        return loss()

    try:
        with frozen_statistics(statistics_of(model)):
            yield fresh
    finally:
        _copy_into(params, kept)
        set_random_state(state)


@torch.no_grad()
def _copy_into(params: list[Tensor], values: Sequence[Tensor]) -> None:
    for p, value in zip(params, values, strict=True):
        p.copy_(value)


@torch.no_grad()
def _losses_along(
    params: list[Tensor], grads: Sequence[Tensor], length: Tensor, radii: list[float], loss: Callable[[], float]
) -> list[float]:
    """ℓ(w + ρg/‖g‖) for each ρ; ℓ(w) where g is 0."""
    start = [p.clone() for p in params]
    direction = [g / length if length > 0 else g for g in grads]
    found = []
    for rho in radii:
        _copy_into(params, [w + rho * d for w, d in zip(start, direction, strict=True)])
        found.append(loss())
    return found


def _row(rho: float, loss_gap: float, sharpness: float, eta: float, momentum: float) -> Row:
    width = float(amplitude(sharpness, eta, rho, momentum))
    if math.isnan(width):  # beyond the edge, or nothing to bounce across
        width = math.inf if sharpness > 0 else 0.0
    return Row(rho, loss_gap, width, 0.5 * max(sharpness, 0.0) * width**2)


def _sharpness(
    params: list[Tensor], grads: Sequence[Tensor], products: int, tol: float, seed: int
) -> tuple[float, float, int]:
    """λ₁ by `spectrum.search`, its residual bound, and the products spent."""
    wide = torch.float64 if params[0].dtype == torch.float64 else torch.float32
    sizes = [p.numel() for p in params]
    first = random_start(sum(sizes), seed, torch.empty(0, dtype=wide, device=params[0].device))

    def apply(u: Tensor) -> Tensor:
        parts = [c.view_as(p).to(p.dtype) for c, p in zip(u.split(sizes), params, strict=True)]
        hv = torch.autograd.grad(grads, params, parts, retain_graph=True, materialize_grads=True)
        return torch.cat([h.reshape(-1).to(wide) for h in hv])

    def enough(values: np.ndarray, residuals: np.ndarray) -> bool:
        # Relative to λ₁ itself, which may be far from the largest |λ|.
        return bool(residuals[-1] <= tol * abs(values[-1]))

    # As many vectors as products, and no more of the device's memory; six are the search's least.
    memory = (max(products, 6) + 1) * first.numel() * first.element_size()
    found, _ = search(apply, first, (1, 0), _ROUNDING, products=products, memory=memory, enough=enough)
    if found.interrupted:
        raise KeyboardInterrupt
    return float(found.values[0]), float(found.residuals[0]), found.products
