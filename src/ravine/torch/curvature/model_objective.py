"""What objectives over a module's parameters share: where they start, and what a point of theirs is."""

from __future__ import annotations

from abc import ABC
from typing import Any, Generic, TypeVar

from torch import Tensor, nn

from ravine.objectives import Objective
from ravine.torch.curvature.mean_loss import MeanLoss
from ravine.torch.curvature.sharded import ShardedLoss

Losses = TypeVar("Losses", MeanLoss, MeanLoss | ShardedLoss)


class ModelObjective(Objective, ABC, Generic[Losses]):
    """An objective whose coordinates are a module's trainable parameters, as one flat vector.

    Attributes
    ----------
    losses
        The mean loss, over this process's data, or under FSDP over all.
    """

    losses: Losses

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.description})"

    @property
    def model(self) -> nn.Module:
        """The module, whose parameters are the coordinates."""
        return self.losses.model

    @property
    def dimension(self) -> int:
        return self.losses.coordinates.dimension

    @property
    def description(self) -> str:
        return self.losses.description

    @property
    def start(self) -> Tensor:
        """The module's trainable parameters now, as one flat vector of their own dtype and device (a copy)."""
        return self.losses.coordinates.start

    def assign(self, w: Any) -> None:
        """Write `w` into the module's parameters, in place.

        Raises
        ------
        ValueError
            If `w` is not a finite vector of length d.
        """
        self.losses.coordinates.assign(w)

    def point(self, w: Any, name: str = "w") -> Tensor:
        return self.losses.coordinates.point(w, name)
