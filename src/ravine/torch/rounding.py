"""By how much a network's Hessian products are off, where that is more than the rounding of their precision."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from ravine.torch.network import joined, pull

if TYPE_CHECKING:
    from ravine.torch.products import Products


def relative_error(objective: Products) -> float:
    """The relative error of products at the model's parameters, measured; 0 where it is no more than their rounding.

    Differences of gradients are measured against those of twice the step. Exact products in less than float64 lose
    digits where the loss is small and made from probabilities (`layers.saturating`): they are measured against
    float64. Where the model does not run in that, against their own linearity, which showed an eighth of their error
    at least (convolutional and attention networks of 500 to 3000 parameters, loss 1 to 4e-6).
    """
    path, w = objective.choice.path, objective.start
    eps = torch.finfo(w.dtype).eps
    if path == "difference":
        # At its best step it loses a third of the digits, and more where the loss bends strongly.
        return max(10 * eps ** (2 / 3), _off(objective, lambda u: objective._difference(w, u, 2.0)))
    if not objective._saturating or w.dtype == torch.float64:
        return 0.0
    try:
        return 4 * _off(objective, lambda u: in_double(objective, u))
    except (RuntimeError, TypeError):
        return 16 * _off(objective, lambda u: objective._by(path, w, 1.37 * u) / 1.37)


def in_double(objective: Products, u: torch.Tensor) -> torch.Tensor:
    """∇²ℓu at the model's parameters over this process's data, computed in float64.

    Raises
    ------
    RuntimeError, TypeError
        If the model does not run in float64.
    """
    w, along = objective.start.double(), objective.parts(u.double())
    total = torch.zeros_like(w)
    with torch.enable_grad():
        for weight, batch in zip(objective._weights, objective.batches, strict=True):
            leaves = objective._leaves(w)
            slopes = pull([objective._loss_at(leaves, batch).reshape(())], list(leaves.values()), create_graph=True)
            total += weight * joined(pull(slopes, list(leaves.values()), along))
    return total.to(u.dtype)


def _off(objective: Products, other: Callable[[torch.Tensor], torch.Tensor]) -> float:
    """The relative error of products, as their difference from `other`'s shows it.

    Along the gradient, which is also the noise of a loss that is computed in less than the parameters' precision
    (autocast); and along the first product, since the steepest directions bend most.
    """
    w = objective.start
    u = torch.linspace(-1, 1, w.numel(), dtype=w.dtype, device=w.device)
    u, g = u / torch.linalg.vector_norm(u), objective.of_all(objective._gradient(w))
    length = float(torch.linalg.vector_norm(g))
    u = u + g / length if length > 0 else u
    errors, sizes = [0.0], [0.0]
    for _ in range(2):
        length = float(torch.linalg.vector_norm(u))
        if length == 0:
            break
        image, another = objective.of_all(objective._by(objective.choice.path, w, u)), objective.of_all(other(u))
        objective.spent["products"] += 2
        errors.append(float(torch.linalg.vector_norm(another - image)) / length)
        sizes.append(float(torch.linalg.vector_norm(image)) / length)
        u = image
    return max(errors) / max(sizes) if max(sizes) > 0 else 0.0
