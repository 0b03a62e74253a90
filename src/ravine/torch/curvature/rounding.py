"""By how much a network's Hessian products are off, where that is more than the rounding of their precision."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch

from ravine.torch.curvature.layers import Wide
from ravine.torch.curvature.network import joined, pull
from ravine.torch.sharding import agreed

if TYPE_CHECKING:
    from ravine.torch.curvature.products import Products

# A logit's own rounding is at most that of its probability, ε|z|; z + 3000 made an eighth of it. What rounding may add
# to a residual is eleven times the precision or more.
_LOGIT = 0.125


def relative_error(objective: Products, w: torch.Tensor) -> float:
    """The relative error of products at w, measured; 0 where it is no more than their rounding.

    Differences of gradients are measured against float64, or where there is none against those of twice the step.
    Exact products in less than float64 are measured where the loss may lose digits (`layers.doubtful`) or autocast
    computes in less: against float64. Where the model does not run in that, against their own linearity, which shows a
    part of their error only: what is rounded in the graph itself, it does not see. Elsewhere logits are what is
    rounded.
    """
    path, eps = objective.choice.path, torch.finfo(w.dtype).eps
    if path == "difference":
        # At its best step it loses a third of the digits, and more where the loss bends strongly.
        least = 10 * eps ** (2 / 3)
        if w.dtype != torch.float64 and _runs(objective, w):
            return max(least, 2 * _off(objective, w, lambda u: difference_in_double(objective, w, u)))
        return max(least, _off(objective, w, lambda u: objective._difference(w, u, 2.0)))
    if w.dtype == torch.float64:
        return 0.0
    logit = _largest_logit(objective, w)
    if math.isfinite(logit):
        return _LOGIT * eps * logit
    if _runs(objective, w):
        return 4 * _off(objective, w, lambda u: in_double(objective, w, u))
    return 16 * _off(objective, w, lambda u: objective._by(path, w, 1.37 * u) / 1.37)


def _largest_logit(objective: Products, w: torch.Tensor) -> float:
    """The largest |logit| over all processes; infinite where products must be measured."""
    largest = w.new_tensor(math.inf if objective._doubtful else objective.largest_logit(w))
    if objective._distributed:
        torch.distributed.all_reduce(largest, op=torch.distributed.ReduceOp.MAX)
    return float(largest)


def _runs(objective: Products, w: torch.Tensor) -> bool:
    """Whether the loss runs in float64, on every process."""
    try:
        with torch.no_grad():
            runs = all(
                _loss(objective, objective._leaves(w.double()), k).dtype == torch.float64 for k in _all(objective)
            )
    except Exception:  # whatever a model says of numbers it was not made for
        runs = False
    return bool(agreed(runs, w.device)) if objective._distributed else runs


def _all(objective: Products) -> range:
    return range(len(objective.batches))


def _loss(objective: Products, leaves: dict[str, torch.Tensor], k: int) -> torch.Tensor:
    with Wide():
        return objective._loss_at(leaves, objective.batches[k]).reshape(())


def in_double(objective: Products, w: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
    """∇²ℓ(w)u over this process's data, computed in float64."""
    along = objective.parts(u.double())

    def product(leaves: list[torch.Tensor], loss: torch.Tensor) -> Sequence[torch.Tensor]:
        return pull(pull([loss], leaves, create_graph=True), leaves, along)

    return _mean(objective, w.double(), product).to(u.dtype)


def difference_in_double(objective: Products, w: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
    """∇²ℓ(w)u over this process's data, by central differences of gradients in float64."""
    point, along = w.double(), u.double()
    h = torch.finfo(torch.float64).eps ** (1 / 3) * objective.scale(point) / float(torch.linalg.vector_norm(along))
    ahead, behind = (
        _mean(objective, point + step * along, lambda leaves, loss: pull([loss], leaves)) for step in (h, -h)
    )
    return ((ahead - behind) / (2 * h)).to(u.dtype)


def _mean(
    objective: Products,
    w: torch.Tensor,
    term: Callable[[list[torch.Tensor], torch.Tensor], Sequence[torch.Tensor]],
) -> torch.Tensor:
    total = torch.zeros_like(w)
    with torch.enable_grad():
        for k in _all(objective):
            leaves = objective._leaves(w)
            total += objective._weights[k] * joined(term(list(leaves.values()), _loss(objective, leaves, k)))
    return total


def _off(objective: Products, w: torch.Tensor, other: Callable[[torch.Tensor], torch.Tensor]) -> float:
    """The relative error of products, as their difference from `other`'s shows it.

    Along the gradient, which is also the noise of a loss that is computed in less than the parameters' precision
    (autocast); and along the first product, since the steepest directions bend most.
    """
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
