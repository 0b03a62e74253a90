"""The step size, radius and momentum that an optimizer has now, read in one place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Settings:
    """What the theory of SAM asks of an optimizer; made by `settings_of`.

    Attributes
    ----------
    eta
        Step size η, the first group's ``lr``.
    rho
        Radius ρ in ‖w‖; None where the optimizer has none.
    momentum
        Heavy-ball coefficient m; 0 where there is none.
    """

    eta: float
    rho: float | None
    momentum: float


def settings_of(optimizer: Any, rho: float | None = None) -> Settings:
    """η, ρ and momentum of the optimizer's first parameter group, as they stand now.

    Parameters
    ----------
    optimizer
        A torch optimizer, SAM or another.
    rho
        ρ, if the group has none or it is in other units.
    """
    group = optimizer.param_groups[0]
    radius = rho if rho is not None else group.get("rho")
    return Settings(
        eta=float(group["lr"]),
        rho=None if radius is None else float(radius),
        momentum=float(group.get("momentum", 0.0)),
    )
