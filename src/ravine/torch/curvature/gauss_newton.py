"""The Gauss–Newton part of a network's Hessian, Σ Jᵀ(∂²ℓ/∂z²)J over the model's output z."""

from __future__ import annotations

from typing import Any

import torch

from ravine.torch.curvature.network import joined, pull
from ravine.torch.curvature.products import Products


def gauss_newton_product(objective: Products, w: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
    """Gu, G = Jᵀ(∂²ℓ/∂z²)J, z the output of the model's call in the loss, J = ∂z/∂w.

    Raises
    ------
    ValueError
        If the loss does not call the model exactly once for a tensor, or depends on the parameters past its output.
    """
    total = torch.zeros_like(w)
    for weight, batch in zip(objective._weights, objective.batches, strict=True):
        outputs: list[Any] = []

        def catch(module: Any, args: Any, output: Any, outputs: list[Any] = outputs) -> Any:
            # The loss sees a leaf in place of z, so that it is differentiated by z alone.
            if not isinstance(output, torch.Tensor):
                raise ValueError("Gauss-Newton: the model must return one tensor")
            leaf = output.detach().requires_grad_(True)
            outputs.append((output, leaf))
            return leaf

        handle = objective.model.register_forward_hook(catch)
        try:
            with torch.enable_grad():
                parameters = objective._leaves(w)
                loss = objective._loss_at(parameters, batch).reshape(())
        finally:
            handle.remove()
        if len(outputs) != 1:
            raise ValueError(f"Gauss-Newton: the loss calls the model {len(outputs)} times; it must do so once")
        output, leaf = outputs[0]
        with torch.enable_grad():
            leaves = list(parameters.values())
            *past, slope = pull([loss], [*leaves, leaf], create_graph=True)
            if any(part.detach().any() for part in past):
                raise ValueError("Gauss-Newton: the loss depends on the parameters past the model's output")
            dummy = torch.zeros_like(output).requires_grad_(True)
            back = pull([output], leaves, [dummy], create_graph=True)
            forward = pull(back, [dummy], objective.parts(u), retain_graph=True)
            curved = pull([slope], [leaf], forward)
            total.add_(joined(pull([output], leaves, curved)), alpha=weight)
    return objective.of_all(total)
