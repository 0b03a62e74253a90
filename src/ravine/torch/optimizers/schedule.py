"""ρ as a function of the step, beside torch's schedulers for the learning rate."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch


def check_rho(rho: Any) -> float:
    """`rho` itself.

    Raises
    ------
    ValueError
        Unless it is a finite number ≥ 0.
    """
    if isinstance(rho, bool) or not isinstance(rho, int | float) or not math.isfinite(rho) or rho < 0:
        raise ValueError(f"rho = {rho!r}: the radius must be a finite number ≥ 0 (a schedule sets group['rho'])")
    return rho


class RhoSchedule:
    """ρ_t = ρ₀ · factor(t) in every group, as LambdaLR does for the learning rate.

    GSAM's paper (arXiv 2203.08065) lets ρ follow the learning rate so.

    Parameters
    ----------
    optimizer
        Whose groups have `rho`.
    factor
        A function of the number of `step()` calls so far.

    Raises
    ------
    ValueError
        If a group has no `rho`, or a radius is not a finite number ≥ 0.

    Examples
    --------
    >>> import torch
    >>> from ravine.torch import SAM, RhoSchedule
    >>> opt = SAM(torch.optim.SGD([torch.ones(1, requires_grad=True)], lr=0.1), rho=0.2)
    >>> schedule = RhoSchedule(opt, lambda t: 1 / (1 + t))
    >>> schedule.step()
    >>> opt.param_groups[0]["rho"], schedule
    (0.1, RhoSchedule(t=1, rho=[0.1]))
    """

    def __init__(self, optimizer: torch.optim.Optimizer, factor: Callable[[int], float]):
        self.optimizer = optimizer
        self.factor = factor
        self.t = 0
        if any("rho" not in group for group in optimizer.param_groups):
            raise ValueError("optimizer: its groups have no rho; schedule a SAM, not the optimizer that it wraps")
        for group in optimizer.param_groups:
            group.setdefault("initial_rho", group["rho"])
        self._set_radii()

    def __repr__(self) -> str:
        return f"RhoSchedule(t={self.t}, rho={[group['rho'] for group in self.optimizer.param_groups]})"

    def step(self) -> None:
        """Advance t by one and set ρ."""
        self.t += 1
        self._set_radii()

    def _set_radii(self) -> None:
        for group in self.optimizer.param_groups:
            group["rho"] = check_rho(group.setdefault("initial_rho", group["rho"]) * self.factor(self.t))

    def state_dict(self) -> dict[str, Any]:
        """The step; ρ and ρ₀ are in the optimizer's own state."""
        return {"t": self.t}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state`, after the optimizer's own state is loaded."""
        self.t = state["t"]
        self._set_radii()
