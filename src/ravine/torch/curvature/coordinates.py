"""A module's trainable parameters as the coordinates of one flat vector."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

import torch
from torch import Tensor, nn

from ravine.torch.sharding import like_shards_of, local, whole


@final
class Coordinates:
    """The parameters of a module that require a gradient, in the order of ``named_parameters()``, as one vector.

    Sharded parameters (FSDP2) are read and written whole.

    Parameters
    ----------
    model
        Its trainable parameters are of one real dtype, on one device.
    settle
        Called before parameters are read or written: makes of whole copies the shards that they are of.

    Raises
    ------
    ValueError
        If there is nothing to train, or parameters differ in dtype or device.
    """

    def __init__(self, model: nn.Module, settle: Callable[[], None] = lambda: None) -> None:
        if not isinstance(model, nn.Module):
            raise ValueError(f"model: pass a torch.nn.Module, not {type(model).__name__}")
        parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        if not parameters:
            raise ValueError("model: no parameter requires a gradient; there is nothing to minimize over")
        kinds = {(p.dtype, p.device) for p in parameters.values()}
        if len(kinds) > 1:
            listed = ", ".join(sorted(f"{dtype} on {device}" for dtype, device in kinds))
            raise ValueError(f"model: parameters differ in dtype or device ({listed}); convert with model.to(…)")
        if not next(iter(parameters.values())).is_floating_point():
            raise ValueError("model: parameters must be real floating-point numbers")
        self.model, self._settle = model, settle
        self.names = list(parameters)
        self.shapes = [p.shape for p in parameters.values()]
        self.sizes = [p.numel() for p in parameters.values()]

    def __repr__(self) -> str:
        return f"Coordinates({type(self.model).__name__}, {self.dimension} parameters in {len(self.names)} tensors)"

    @property
    def dimension(self) -> int:
        """The number d of trainable parameters."""
        return sum(self.sizes)

    @property
    def first(self) -> Tensor:
        """The first trainable parameter, whose dtype and device are those of all."""
        return next(p for p in self.model.parameters() if p.requires_grad)

    def parameters(self) -> list[Tensor]:
        """The module's own trainable tensors, as it holds them now."""
        self._settle()
        held = dict(self.model.named_parameters())
        return [held[name] for name in self.names]

    @property
    def start(self) -> Tensor:
        """The parameters now, one flat vector of their own dtype and device (a copy), shape (d,)."""
        return torch.cat([whole(p.detach()).reshape(-1) for p in self.parameters()])

    def assign(self, w: Any) -> None:
        """Write `w` into the parameters, in place.

        Raises
        ------
        ValueError
            If `w` is not a finite vector of length d.
        """
        self.write(self.parameters(), self.point(w))

    @torch.no_grad()
    def write(self, parameters: list[Tensor], w: Tensor) -> None:
        """Copy the parts of `w`, shape (d,), into `parameters`."""
        for p, part in zip(parameters, self.parts(w), strict=True):
            local(p).copy_(local(like_shards_of(p, part)))

    def set_gradient(self, g: Tensor) -> None:
        """Write copies of the parts of `g`, shape (d,), into the parameters' ``.grad``."""
        for p, part in zip(self.parameters(), self.parts(g), strict=True):
            p.grad = like_shards_of(p, part).clone()

    def vector(self, w: Any) -> Tensor:
        """`w` as a flat tensor; values are not checked, so that a diverging run costs no synchronization."""
        like = self.first
        vector = torch.as_tensor(w, dtype=like.dtype, device=like.device).detach()
        if vector.shape != (self.dimension,):
            raise ValueError(f"give a vector of length {self.dimension}, not shape {tuple(vector.shape)}")
        return vector

    def point(self, w: Any, name: str = "w") -> Tensor:
        """`w` as a finite flat tensor.

        Raises
        ------
        ValueError
            Naming `name`, if it is not a finite vector of length d.
        """
        like = self.first
        try:
            vector = torch.as_tensor(w, dtype=like.dtype, device=like.device).detach()
        except (TypeError, ValueError, RuntimeError):
            raise ValueError(f"{name}: give a vector of length {self.dimension}, not {type(w).__name__}") from None
        if vector.shape != (self.dimension,):
            raise ValueError(f"{name}: give a vector of length {self.dimension}, not shape {tuple(vector.shape)}")
        if not bool(torch.isfinite(vector).all()):
            raise ValueError(f"{name}: an entry is not finite; give finite numbers")
        return vector

    def split(self, w: Tensor) -> dict[str, Tensor]:
        """The parts of `w` in the parameters' shapes, by name; views."""
        parts = zip(self.names, w.split(self.sizes), self.shapes, strict=True)
        return {name: part.view(shape) for name, part, shape in parts}

    def parts(self, w: Tensor) -> list[Tensor]:
        """The parts of `w` in the parameters' shapes, in their order; views."""
        return list(self.split(w).values())

    def leaves(self, w: Tensor) -> dict[str, Tensor]:
        """The parameters at `w`, each a leaf of its own.

        A graph through one flat vector would cut it apart and join it again in every product.
        """
        return {name: part.detach().requires_grad_(True) for name, part in self.split(w.clone()).items()}


def joined(parts: Any) -> Tensor:
    """One flat vector of the parts, without a graph."""
    return torch.cat([part.detach().reshape(-1) for part in parts])


def step_length(w: Tensor) -> float:
    """The length of a step from `w` that is large beside a parameter's rounding."""
    return max(1.0, float(torch.linalg.vector_norm(w)) / w.numel() ** 0.5)
