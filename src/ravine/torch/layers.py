"""What the probe runs in place of layers that torch does not differentiate three times rightly, or not at all."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

BatchNormMode = Literal["eval", "batch"]

# Their derivative is piecewise constant, or jumps: a Hessian is that of one piece.
_KINKS = (
    "ReluBackward", "LeakyReluBackward", "PreluKernelBackward", "ThresholdBackward", "HardtanhBackward", "AbsBackward",
    "MaxPool", "AdaptiveMaxPool", "ClampBackward", "HardswishBackward", "HardsigmoidBackward", "RreluWithNoiseBackward",
    "SmoothL1LossBackward", "HuberLossBackward", "SoftshrinkBackward", "HardshrinkBackward",
)  # fmt: skip


# Their derivative is a probability less one or less a half, or the like: in the loss, near its minimum, little is left.
_LOG_LIKELIHOODS = frozenset({
    functional.cross_entropy, functional.log_softmax, torch.log_softmax, torch.Tensor.log_softmax,
    functional.binary_cross_entropy_with_logits, torch.binary_cross_entropy_with_logits, functional.logsigmoid,
    functional.soft_margin_loss, functional.multilabel_soft_margin_loss,
})  # fmt: skip
# What a loss of one's own may take such a probability from or to.
_SATURATING = (
    "SoftmaxBackward", "SigmoidBackward", "TanhBackward", "ErfBackward", "ExpBackward", "LogBackward", "Log1PBackward",
    "Log2Backward", "Log10Backward", "LogitBackward", "LogsumexpBackward", "LogaddexpBackward", "XlogyBackward",
    "BinaryCrossEntropyBackward",
)  # fmt: skip
# On a device without float64 torch's own, too.
_LEFT_ALONE = (
    "LogSoftmaxBackward",
    "BinaryCrossEntropyWithLogitsBackward",
    "LogSigmoidBackward",
    "SoftMarginLossBackward",
)
_PRODUCTS = ("MmBackward", "AddmmBackward", "BmmBackward", "BaddbmmBackward", "MvBackward", "ConvolutionBackward")


class LogLikelihoods(TorchFunctionMode):
    """Log-likelihoods of float32 logits in float64, while the block runs.

    The derivative by a logit is p − 1. In float32 it keeps ε/(1 − p) digits, which at a small loss leaves few in the
    gradient and in Hessian products, though logits and parameters hold them all.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _LOG_LIKELIHOODS:
            return _in_double(func, args, kwargs)
        return func(*args, **kwargs)


def _in_double(func: Any, args: Any, kwargs: Any) -> torch.Tensor:
    x = args[0] if args else kwargs["input"]
    if x.dtype != torch.float32 or x.device.type == "mps":  # which has no float64
        return func(*args, **kwargs)
    wide, named = map(_wide, args), {name: _wide(value) for name, value in kwargs.items()}
    return func(*wide, **named).to(x.dtype)


def _wide(value: Any) -> Any:
    return value.double() if isinstance(value, torch.Tensor) and value.dtype == torch.float32 else value


class Mended(LogLikelihoods):
    """Layer norm, batch norm and instance norm from elementary operations too, while the block runs.

    Autograd's third derivative through the fused forms of current torch is wrong, in silence; through these it is
    right. Running statistics are read, never written.

    Parameters
    ----------
    batchnorm
        ``"eval"``: normalise by the running statistics; ``"batch"``: by the batch's own; None: as each layer is set.
    """

    def __init__(self, batchnorm: BatchNormMode | None) -> None:
        super().__init__()
        self.batchnorm = batchnorm

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is functional.layer_norm:
            return _layer_norm(*args, **kwargs)
        if func is torch.layer_norm:
            return _layer_norm(*args[:5], **kwargs)
        if func is functional.batch_norm:
            return self._batch_norm(*args, **kwargs)
        if func is functional.instance_norm:
            return _instance_norm(*args, **kwargs)
        return super().__torch_function__(func, types, args, kwargs)

    def _batch_norm(
        self,
        x: torch.Tensor,
        running_mean: torch.Tensor | None,
        running_var: torch.Tensor | None,
        weight: torch.Tensor | None = None,
        bias: torch.Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> torch.Tensor:
        batch = training if self.batchnorm is None else self.batchnorm == "batch"
        if not batch and (running_mean is None or running_var is None):
            batch = True
        shape = (1, -1, *(1 for _ in x.shape[2:]))
        if batch:
            over = [axis for axis in range(x.ndim) if axis != 1]
            y = _standardised(x, over, eps)
        else:
            assert running_mean is not None
            assert running_var is not None
            y = (x - running_mean.view(shape)) * torch.rsqrt(running_var.view(shape) + eps)
        return _affine(y, weight, bias, shape)


def _standardised(x: torch.Tensor, over: list[int], eps: float) -> torch.Tensor:
    centred = x - x.mean(over, keepdim=True)
    return centred * torch.rsqrt((centred * centred).mean(over, keepdim=True) + eps)


def _affine(y: torch.Tensor, weight: Any, bias: Any, shape: tuple[int, ...]) -> torch.Tensor:
    if weight is not None:
        y = y * weight.view(shape)
    return y if bias is None else y + bias.view(shape)


def _layer_norm(
    x: torch.Tensor, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> torch.Tensor:
    count = len(tuple(normalized_shape))
    y = _standardised(x, list(range(x.ndim - count, x.ndim)), eps)
    return _affine(y, weight, bias, tuple(normalized_shape))


def _instance_norm(
    x: torch.Tensor,
    running_mean: Any = None,
    running_var: Any = None,
    weight: Any = None,
    bias: Any = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> torch.Tensor:
    shape = (1, -1, *(1 for _ in x.shape[2:]))
    if use_input_stats:
        y = _standardised(x, list(range(2, x.ndim)), eps)
    else:
        y = (x - running_mean.view(shape)) * torch.rsqrt(running_var.view(shape) + eps)
    return _affine(y, weight, bias, shape)


def kinks(loss: torch.Tensor) -> list[str]:
    """Names of the operations in a loss's graph that are not twice differentiable everywhere."""
    return _operations(loss, _KINKS, ())


def saturating(loss: torch.Tensor) -> list[str]:
    """Names of the operations after the last matrix product that may lose digits where the loss is small."""
    narrow = loss.device.type == "mps"
    return _operations(loss, _SATURATING + (_LEFT_ALONE if narrow else ()), _PRODUCTS)


def _operations(loss: torch.Tensor, names: tuple[str, ...], until: tuple[str, ...]) -> list[str]:
    """Those of these operations that lie in a loss's graph, looked for down to the operations `until`."""
    seen, found, waiting = set(), set(), [loss.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen or type(node).__name__.startswith(until):
            continue
        seen.add(node)
        name = type(node).__name__
        if name.startswith(names):
            found.add(name.split("Backward")[0].lower())
        waiting.extend(before for before, _ in node.next_functions)
    return sorted(found)
