"""The Gauss–Newton part of a network's Hessian, Σ Jᵀ(∂²ℓ/∂z²)J over the model's output z."""

from __future__ import annotations

from typing import Any

import torch

from ravine.torch.products import Products, _pull


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
                point = w.clone().requires_grad_(True)
                loss = objective._loss(point, batch).reshape(())
        finally:
            handle.remove()
        if len(outputs) != 1:
            raise ValueError(f"Gauss-Newton: the loss calls the model {len(outputs)} times; it must do so once")
        output, leaf = outputs[0]
        with torch.enable_grad():
            past, slope = torch.autograd.grad(
                loss, [point, leaf], create_graph=True, allow_unused=True, materialize_grads=True
            )
            if past.detach().any():
                raise ValueError("Gauss-Newton: the loss depends on the parameters past the model's output")
            dummy = torch.zeros_like(output).requires_grad_(True)
            back = _pull(output, point, dummy, create_graph=True)
            forward = _pull(back, dummy, u, retain_graph=True)
            if slope.requires_grad:
                total += weight * _pull(output, point, _pull(slope, leaf, forward)).detach()
    return objective._of_all(total)
