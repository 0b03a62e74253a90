"""Which ρ? A sweep from one state, beside what the theory foresees of each. It advises, it does not decide."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ravine import spectrum
from ravine.extras import require
from ravine.torch.optimizers.schedule import check_rho
from ravine.torch.passes import frozen_statistics, random_state, set_random_state, statistics_of

_ROUNDING = float(np.finfo(np.float64).tiny)  # a tolerance that rounding alone meets
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
        Of the bounce across the ravine that SAM with this ρ ends in, foreseen: ηρλ₁/(2(1 + m) − ηλ₁), in ‖w‖.
        Infinite where ηλ₁ ≥ 2(1 + m): there gradient descent itself leaves.
    floor
        The loss that this bounce keeps the run above its minimum by, foreseen: ½λ₁ amplitude².
    """

    rho: float
    loss_gap: float
    amplitude: float
    floor: float


@dataclass(frozen=True)
class Advice:
    """What a sweep found. `print` it, `plot` it, or read `rows`.

    Attributes
    ----------
    rows
        One per ρ, in ascending order.
    loss, grad_norm
        ℓ(w) and ‖∇ℓ(w)‖ at the state that was swept from.
    sharpness, residual
        λ₁ of the Hessian there, and how far an eigenvalue is from it at most.
    eta, momentum
        What the amplitudes are for.
    passes
        Forward–backward passes spent, a Hessian–vector product counted as two.
    """

    rows: tuple[Row, ...]
    loss: float
    grad_norm: float
    sharpness: float
    residual: float
    eta: float
    momentum: float
    passes: int

    def __str__(self) -> str:
        head = (
            f"ℓ = {self.loss:.4g}, ‖g‖ = {self.grad_norm:.4g}, λ₁ = {self.sharpness:.4g} ± {self.residual:.1g}, "
            f"η = {self.eta:.4g}, momentum {self.momentum:g}: {self.passes} passes\n"
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
        axes.loglog(rho, [r.floor for r in self.rows], "s--", label="½λ₁ amplitude², foreseen")
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
    max_passes: int = 50,
    tolerance: float = 1e-3,
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
        Step size and heavy-ball coefficient of the foreseen bounce. An optimizer other than SGD has no step size in the
        theory's sense: give the effective one.
    max_passes
        Bound on forward–backward passes, a Hessian–vector product counted as two.
    tolerance
        Relative residual at which the Lanczos iteration for λ₁ stops.
    seed
        Of its first vector.

    Raises
    ------
    ValueError
        For no positive radii, a bound on passes that leaves none for λ₁, or a missing η.
    """
    base = getattr(optimizer, "base", optimizer)
    group = base.param_groups[0]
    if eta is None:
        if not isinstance(base, torch.optim.SGD):
            raise ValueError(f"{type(base).__name__} has no step size in the theory's sense: give eta=")
        eta = float(group["lr"])
    momentum = float(group.get("momentum", 0.0)) if momentum is None else momentum
    radii = sorted(check_rho(float(rho)) for rho in rhos)
    if not radii or radii[0] == 0:
        raise ValueError("rhos must be positive radii")
    products = (max_passes - 1 - len(radii)) // 2
    if products < 2:
        raise ValueError(f"max_passes = {max_passes}: {len(radii)} radii and λ₁ need {len(radii) + 5} at least")
    model = getattr(optimizer, "model", None) if model is None else model
    twins = getattr(optimizer, "_twins", {})
    params = [twins.get(p, p) for g in base.param_groups for p in g["params"]]
    params = [p for p in params if p.requires_grad]
    state = random_state({p.device for p in params})

    def fresh() -> Tensor:
        set_random_state(state)
        return loss()

    kept = [p.detach().clone() for p in params]
    try:
        with frozen_statistics(statistics_of(model)):
            value = fresh()
            start_loss = float(value.detach())
            grads = torch.autograd.grad(value, params, create_graph=True, materialize_grads=True)
            top, residual, used = _sharpness(params, grads, products, tolerance, seed)
            norm = torch.stack([g.detach().norm() for g in grads]).norm()
            length = float(norm)
            gaps = []
            with torch.no_grad():
                for rho in radii:
                    for p, w, g in zip(params, kept, grads, strict=True):
                        p.copy_(w + rho * (g / norm if length > 0 else g))
                    gaps.append(float(fresh()) - start_loss)
    finally:
        with torch.no_grad():
            for p, w in zip(params, kept, strict=True):
                p.copy_(w)
        set_random_state(state)
    rows = []
    for rho, gap in zip(radii, gaps, strict=True):
        room = 2 * (1 + momentum) - eta * top
        amplitude = math.inf if room <= 0 else eta * rho * max(top, 0.0) / room
        rows.append(Row(rho, gap, amplitude, 0.5 * max(top, 0.0) * amplitude**2))
    passes = 1 + len(radii) + 2 * used
    return Advice(tuple(rows), start_loss, length, top, residual, eta, momentum, passes)


def _sharpness(
    params: list[Tensor], grads: Sequence[Tensor], products: int, tolerance: float, seed: int
) -> tuple[float, float, int]:
    """λ₁ by `spectrum.search`, its residual bound, and the products spent."""
    wide = torch.float64 if params[0].dtype == torch.float64 else torch.float32
    sizes = [p.numel() for p in params]
    first = spectrum.random_start(sum(sizes), seed, torch.empty(0, dtype=wide, device=params[0].device))

    def apply(u: Tensor) -> Tensor:
        parts = [c.view_as(p).to(p.dtype) for c, p in zip(u.split(sizes), params, strict=True)]
        hv = torch.autograd.grad(grads, params, parts, retain_graph=True, materialize_grads=True)
        return torch.cat([h.reshape(-1).to(wide) for h in hv])

    def enough(values: np.ndarray, residuals: np.ndarray) -> bool:
        # Relative to λ₁ itself, which may be far from the largest |λ|.
        return bool(residuals[-1] <= tolerance * abs(values[-1]))

    # As many vectors as products, and no more of the device's memory; six are the search's least.
    memory = (max(products, 6) + 1) * first.numel() * first.element_size()
    found, _ = spectrum.search(apply, first, (1, 0), _ROUNDING, products=products, memory=memory, enough=enough)
    if found.interrupted:
        raise KeyboardInterrupt
    return float(found.values[0]), float(found.residuals[0]), found.products
