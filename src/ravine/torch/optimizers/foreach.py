"""Lists of tensors through torch's foreach kernels: one launch for many tensors, on every device.

torch has no public name for them; every such name that this room uses stands here.
"""

# pyright: reportPrivateImportUsage=false

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch._utils import _flatten_dense_tensors


def times(tensors: list[Tensor], factor: Any, *, inplace: bool = False) -> list[Tensor]:
    """factor · tensors, over them where they may be overwritten: that saves a parameter-sized buffer.

    The factor is a number, a 0-dim tensor where the tensors are, or a list of tensors.
    """
    if not inplace:
        return list(torch._foreach_mul(tensors, factor))
    torch._foreach_mul_(tensors, factor)
    return tensors


def plus(tensors: list[Tensor], others: list[Tensor], *, alpha: float = 1, inplace: bool = False) -> list[Tensor]:
    """tensors + alpha · others, over `tensors` where they may be overwritten."""
    if not inplace:
        return list(torch._foreach_add(tensors, others, alpha=alpha))
    torch._foreach_add_(tensors, others, alpha=alpha)
    return tensors


def magnitudes(tensors: list[Tensor], offset: float) -> list[Tensor]:
    """|tensors| + offset, entry by entry."""
    found = list(torch._foreach_abs(tensors))
    torch._foreach_add_(found, offset)
    return found


def copy(targets: list[Tensor], values: list[Tensor]) -> None:
    """targets ← values, rounded to the targets' precision."""
    torch._foreach_copy_(targets, values)


def subtract(targets: list[Tensor], others: list[Tensor]) -> None:
    """targets ← targets − others."""
    torch._foreach_sub_(targets, others)


def norms(tensors: list[Tensor], order: float, dtype: torch.dtype | None = None) -> Tensor:
    """‖·‖ of each, as one vector; sums run in `dtype`, or in the tensors' own."""
    return torch.stack(torch._foreach_norm(tensors, order, dtype=dtype))


def flattened(tensors: list[Tensor]) -> Tensor:
    """All entries as one vector, a copy."""
    return _flatten_dense_tensors(tensors)


def is_view(tensor: Tensor) -> bool:
    """Whether it shares another tensor's storage as autograd sees it."""
    return tensor._is_view()
