"""The Gauss–Newton part of a network's Hessian, Σ Jᵀ(∂²ℓ/∂z²)J over the model's output z."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ravine.torch.curvature.coordinates import joined
from ravine.torch.curvature.mean_loss import MeanLoss, pull


def gauss_newton_product(losses: MeanLoss, w: Tensor, u: Tensor) -> Tensor:
    """Gu over this process's data, G = Jᵀ(∂²ℓ/∂z²)J, z the output of the model's call in the loss, J = ∂z/∂w.

    Raises
    ------
    ValueError
        If the loss does not call the model exactly once for a tensor, or depends on the parameters past its output.
    """
    total = torch.zeros_like(w)
    for k, weight in enumerate(losses.weights):
        named = losses.coordinates.leaves(w)
        output, leaf, loss = _cut_at_output(losses, named, k)
        with torch.enable_grad():
            leaves = list(named.values())
            *past, slope = pull([loss], [*leaves, leaf], create_graph=True)
            if any(part.detach().any() for part in past):
                raise ValueError("Gauss-Newton: the loss depends on the parameters past the model's output")
            dummy = torch.zeros_like(output).requires_grad_(True)
            back = pull([output], leaves, [dummy], create_graph=True)
            forward = pull(back, [dummy], losses.coordinates.parts(u), retain_graph=True)
            curved = pull([slope], [leaf], forward)
            total.add_(joined(pull([output], leaves, curved)), alpha=weight)
    return total


def _cut_at_output(losses: MeanLoss, parameters: dict[str, Tensor], k: int) -> tuple[Tensor, Tensor, Tensor]:
    """The model's output z with its graph; a leaf in its place; and batch k's loss by that leaf alone."""
    outputs: list[tuple[Tensor, Tensor]] = []

    def catch(module: Any, args: Any, output: Any) -> Any:
        if not isinstance(output, Tensor):
            raise ValueError("Gauss-Newton: the model must return one tensor")
        leaf = output.detach().requires_grad_(True)
        outputs.append((output, leaf))
        return leaf

    handle = losses.model.register_forward_hook(catch)
    try:
        with torch.enable_grad():
            loss = losses.loss_at(parameters, k).reshape(())
    finally:
        handle.remove()
    if len(outputs) != 1:
        raise ValueError(f"Gauss-Newton: the loss calls the model {len(outputs)} times; it must do so once")
    output, leaf = outputs[0]
    return output, leaf, loss
