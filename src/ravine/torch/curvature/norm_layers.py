"""Layer, batch and instance norm from elementary operations.

Autograd's third derivative through the fused forms of current torch is wrong, in silence; through these it is right.
Running statistics are read, never written.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from ravine.torch.curvature.substitution import Substitutes

BatchNormMode = Literal["eval", "batch"]


def elementary_norms(batchnorm: BatchNormMode | None) -> Substitutes:
    """What to call in place of torch's norms.

    Parameters
    ----------
    batchnorm
        ``"eval"``: normalize by the running statistics; ``"batch"``: by the batch's own; None: as each layer is set.
    """
    return {
        functional.layer_norm: _layer_norm,
        torch.layer_norm: _fused_layer_norm,
        functional.batch_norm: partial(_batch_norm, batchnorm),
        functional.instance_norm: _instance_norm,
    }


# What torch's functions take after the input and the running statistics, in this order.
_BATCH_NORM = ("weight", "bias", "training", "momentum", "eps")
_INSTANCE_NORM = ("weight", "bias", "use_input_stats", "momentum", "eps")


def _batch_norm(
    mode: BatchNormMode | None, x: Tensor, running_mean: Any, running_var: Any, *more: Any, **named: Any
) -> Tensor:
    given = dict(zip(_BATCH_NORM, more, strict=False)) | named
    batch = given.get("training", False) if mode is None else mode == "batch"
    if running_mean is None or running_var is None:
        batch = True
    over = [axis for axis in range(x.ndim) if axis != 1] if batch else None
    return _channel_norm(x, running_mean, running_var, over, given)


def _instance_norm(x: Tensor, running_mean: Any = None, running_var: Any = None, *more: Any, **named: Any) -> Tensor:
    given = dict(zip(_INSTANCE_NORM, more, strict=False)) | named
    over = list(range(2, x.ndim)) if given.get("use_input_stats", True) else None
    return _channel_norm(x, running_mean, running_var, over, given)


def _channel_norm(
    x: Tensor, running_mean: Any, running_var: Any, over: list[int] | None, given: dict[str, Any]
) -> Tensor:
    """Each channel normalized over some axes, or by the running statistics."""
    shape, eps = (1, -1, *(1 for _ in x.shape[2:])), given.get("eps", 1e-5)
    if over is None:
        y = (x - running_mean.view(shape)) * torch.rsqrt(running_var.view(shape) + eps)
    else:
        y = _standardized(x, over, eps)
    return _affine(y, given.get("weight"), given.get("bias"), shape)


def _standardized(x: Tensor, over: list[int], eps: float) -> Tensor:
    centred = x - x.mean(over, keepdim=True)
    return centred * torch.rsqrt((centred * centred).mean(over, keepdim=True) + eps)


def _affine(y: Tensor, weight: Any, bias: Any, shape: tuple[int, ...]) -> Tensor:
    if weight is not None:
        y = y * weight.view(shape)
    return y if bias is None else y + bias.view(shape)


def _layer_norm(x: Tensor, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Tensor:
    count = len(tuple(normalized_shape))
    y = _standardized(x, list(range(x.ndim - count, x.ndim)), eps)
    return _affine(y, weight, bias, tuple(normalized_shape))


def _fused_layer_norm(*args: Any, **kwargs: Any) -> Tensor:
    # Past these comes a switch of cuDNN.
    return _layer_norm(*args[:5], **kwargs)
