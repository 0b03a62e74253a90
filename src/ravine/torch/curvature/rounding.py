"""By how much a network's Hessian products are off, where that is more than the rounding of their precision."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from ravine.torch.curvature.coordinates import step_length
from ravine.torch.curvature.mean_loss import MeanLoss
from ravine.torch.curvature.precision import LogitWatch
from ravine.torch.curvature.processes import Processes
from ravine.torch.curvature.products import (
    Differences,
    DoubleBackward,
    Gradients,
    HessianProduct,
    Spent,
    central_difference,
)

# A logit's own rounding is at most that of its probability, ε|z|; z + 3000 made an eighth of it. What rounding may add
# to a residual is eleven times the precision or more.
_LOGIT = 0.125


@final
@dataclass(frozen=True)
class MeasuredProducts:
    """Products whose error is asked for, and what they are compared along.

    Attributes
    ----------
    way, losses, processes
        How products are made, over which data, and whose mean they are.
    spent
        Counts the products that measuring takes.
    wide
        The same losses in float64; None where no pass can be made in it.
    """

    way: HessianProduct
    losses: Gradients
    processes: Processes
    spent: Spent
    wide: MeanLoss | None

    def runs_in_double(self, w: Tensor) -> bool:
        """Whether the loss runs in float64, on every process."""
        return self.wide is not None and self.processes.all_agree(_runs_in_double(self.wide, w.double()), w.device)

    def apart(self, w: Tensor, other: Callable[[Tensor], Tensor]) -> float:
        """The relative error of products at w, as their difference from `other`'s shows it.

        Along the gradient, which is also the noise of a loss that is computed in less than the parameters' precision
        (autocast); and along the first product, since the steepest directions bend most.
        """
        mean = self.processes.mean
        u = torch.linspace(-1, 1, w.numel(), dtype=w.dtype, device=w.device)
        u, g = u / torch.linalg.vector_norm(u), mean(self.losses.gradient(w))
        length = float(torch.linalg.vector_norm(g))
        u = u + g / length if length > 0 else u
        errors, sizes = [0.0], [0.0]
        for _ in range(2):
            length = float(torch.linalg.vector_norm(u))
            if length == 0:
                break
            image, another = mean(self.way.product(w, u)), mean(other(u))
            self.spent.products += 2
            errors.append(float(torch.linalg.vector_norm(another - image)) / length)
            sizes.append(float(torch.linalg.vector_norm(image)) / length)
            u = image
        return max(errors) / max(sizes) if max(sizes) > 0 else 0.0


def error_of_differences(measured: MeasuredProducts, differences: Differences, w: Tensor) -> float:
    """The relative error of differences of gradients at w: against float64, or against those of twice the step."""
    # At its best step a difference loses a third of the digits, and more where the loss bends strongly.
    least = 10 * torch.finfo(w.dtype).eps ** (2 / 3)
    if w.dtype != torch.float64 and measured.runs_in_double(w):
        return max(least, 2 * measured.apart(w, lambda u: difference_in_double(_wide_losses(measured), w, u)))
    return max(least, measured.apart(w, lambda u: differences.stretched(w, u, 2.0)))


def error_of_products(measured: MeasuredProducts, largest_logit: float, w: Tensor) -> float:
    """The relative error of exact products at w, measured; 0 where it is no more than their rounding.

    In less than float64 it is measured where the loss may lose digits (`kinks.doubtful_operations`) or autocast
    computes in less, which an infinite `largest_logit` says: against float64. Where the model does not run in that,
    against their own linearity, which shows a part of their error only: what is rounded in the graph itself, it does
    not see. Elsewhere logits are what is rounded.
    """
    if w.dtype == torch.float64:
        return 0.0
    largest = float(measured.processes.largest(w.new_tensor(largest_logit)))
    if math.isfinite(largest):
        return _LOGIT * torch.finfo(w.dtype).eps * largest
    if measured.runs_in_double(w):
        return 4 * measured.apart(w, lambda u: product_in_double(_wide_losses(measured), w, u))
    return 16 * measured.apart(w, lambda u: measured.way.product(w, 1.37 * u) / 1.37)


@torch.no_grad()
def largest_logit_at(losses: MeanLoss, w: Tensor) -> float:
    """The largest |logit| that a log-likelihood is taken of at w; infinite under autocast, 0 without any."""
    with LogitWatch() as watch:
        for k in range(len(losses.batches)):
            losses.loss(w, k)
    return watch.largest


def product_in_double(wide: MeanLoss, w: Tensor, u: Tensor) -> Tensor:
    """∇²ℓ(w)u over this process's data, computed in float64."""
    return DoubleBackward(wide).product(w.double(), u.double()).to(u.dtype)


def difference_in_double(wide: MeanLoss, w: Tensor, u: Tensor) -> Tensor:
    """∇²ℓ(w)u over this process's data, by central differences of gradients in float64."""
    point, along = w.double(), u.double()
    h = torch.finfo(torch.float64).eps ** (1 / 3) * step_length(point) / float(torch.linalg.vector_norm(along))
    return central_difference(wide, point, along, h).to(u.dtype)


def _wide_losses(measured: MeasuredProducts) -> MeanLoss:
    assert measured.wide is not None
    return measured.wide


@torch.no_grad()
def _runs_in_double(wide: MeanLoss, w: Tensor) -> bool:
    try:
        leaves = wide.coordinates.leaves(w)
        return all(wide.loss_at(leaves, k).reshape(()).dtype == torch.float64 for k in range(len(wide.batches)))
    except Exception:  # whatever a model says of numbers it was not made for
        return False
