"""What the probe runs in place of layers that torch does not differentiate three times rightly, or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

BatchNormMode = Literal["eval", "batch"]

# Their derivative is piecewise constant, or jumps: a Hessian is that of one piece.
_KINKS = (
    "ReluBackward", "LeakyReluBackward", "PreluKernelBackward", "ThresholdBackward", "HardtanhBackward", "AbsBackward",
    "MaxPool", "AdaptiveMaxPool", "ClampBackward", "HardswishBackward", "HardsigmoidBackward", "RreluWithNoiseBackward",
    "SmoothL1LossBackward", "HuberLossBackward", "SoftshrinkBackward", "HardshrinkBackward",
)  # fmt: skip


# Their derivative is a probability less one, or the like: in the loss, near its minimum, little is left of it.
_LOG_LIKELIHOODS = frozenset({
    functional.cross_entropy, functional.log_softmax, torch.log_softmax, torch.Tensor.log_softmax,
    torch.special.log_softmax, functional.binary_cross_entropy_with_logits, torch.binary_cross_entropy_with_logits,
    functional.logsigmoid, functional.soft_margin_loss, functional.multilabel_soft_margin_loss,
})  # fmt: skip
_LIKELIHOOD_NODES = (
    "LogSoftmaxBackward", "BinaryCrossEntropyWithLogitsBackward", "LogSigmoidBackward", "SoftMarginLossBackward",
)  # fmt: skip
# After them a derivative holds its digits to rounding.
_HARMLESS = (
    "AccumulateGrad", "ToCopyBackward", "NllLoss", "MseLoss", "AddBackward", "SubBackward", "MulBackward",
    "NegBackward", "DivBackward", "SumBackward", "MeanBackward", "ViewBackward", "ReshapeAliasBackward",
    "UnsafeViewBackward", "TransposeBackward", "TBackward", "PermuteBackward", "ExpandBackward", "SelectBackward",
    "SliceBackward", "SqueezeBackward", "UnsqueezeBackward", "GatherBackward", "IndexBackward", "CatBackward",
    "StackBackward", "CloneBackward",
)  # fmt: skip
_PRODUCTS = ("MmBackward", "AddmmBackward", "BmmBackward", "BaddbmmBackward", "MvBackward", "ConvolutionBackward")


class LogLikelihoods(TorchFunctionMode):
    """Log-likelihoods of float32 logits in float64, while the block runs.

    The derivative by a logit is p − 1. In float32 it keeps ε/(1 − p) digits, which at a small loss leaves few in the
    gradient and in Hessian products, though logits and parameters hold them all.

    Parameters
    ----------
    watched
        Takes the largest |logit| of each call, and infinity where the loss is computed under autocast.
    """

    def __init__(self, watched: list[torch.Tensor] | None = None) -> None:
        super().__init__()
        self.watched = watched

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        likelihood = func in _LOG_LIKELIHOODS
        if self.watched is not None:
            if torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda"):
                self.watched.append(torch.tensor(torch.inf))
            elif likelihood:
                self.watched.append((args[0] if args else kwargs["input"]).detach().abs().amax())
        return _in_double(func, args, kwargs) if likelihood else func(*args, **kwargs)


def _in_double(func: Any, args: Any, kwargs: Any) -> torch.Tensor:
    x = args[0] if args else kwargs["input"]
    asked = next((a for a in (*args, *kwargs.values()) if isinstance(a, torch.dtype)), x.dtype)
    if x.dtype != torch.float32 or x.device.type == "mps" or asked not in (torch.float32, torch.float64):
        return func(*args, **kwargs)  # MPS has no float64
    if any(isinstance(a, torch.Tensor) and a.dtype == torch.float64 for a in (*args, *kwargs.values())):
        asked = torch.float64
    wide, named = map(_wide, args), {name: _wide(value) for name, value in kwargs.items()}
    return func(*wide, **named).to(asked)


def _wide(value: Any) -> Any:
    if value is torch.float32:
        return torch.float64
    return value.double() if isinstance(value, torch.Tensor) and value.dtype == torch.float32 else value


def _narrow(value: Any) -> Any:
    if value is torch.float64:
        return torch.float32
    return value.float() if isinstance(value, torch.Tensor) and value.dtype == torch.float64 else value


def _drawn(func: Any, args: Any, kwargs: Any) -> Any:
    """What a function draws in float32, in float64."""
    x = args[0] if args else kwargs.get("input")
    if func in (functional.dropout, torch.dropout):
        return x * func(torch.ones_like(x, dtype=torch.float32), *args[1:], **kwargs).double()
    narrow, named = tree_map(_narrow, (args, kwargs))
    drawn = func(*narrow, **named)
    return x.copy_(drawn) if func.__name__.endswith("_") else _wide(drawn)


class Wide(TorchFunctionMode):
    """Float64 wherever float32 is written, while the block runs; random numbers are those of float32."""

    _DRAWN = frozenset({
        torch.randn_like, torch.rand_like, torch.randn, torch.rand, torch.normal, torch.bernoulli, functional.dropout,
        torch.dropout, torch.Tensor.normal_, torch.Tensor.uniform_, torch.Tensor.exponential_, torch.Tensor.bernoulli_,
    })  # fmt: skip

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.Tensor.float:
            func = torch.Tensor.double
        if func in self._DRAWN:
            return _drawn(func, args, kwargs)
        args, kwargs = tree_map(_wide, (args, kwargs))
        return tree_map(_wide, func(*args, **kwargs))


class Mended(LogLikelihoods):
    """Layer norm, batch norm and instance norm from elementary operations too, while the block runs.

    Autograd's third derivative through the fused forms of current torch is wrong, in silence; through these it is
    right. Running statistics are read, never written.

    Parameters
    ----------
    batchnorm
        ``"eval"``: normalise by the running statistics; ``"batch"``: by the batch's own; None: as each layer is set.
    """

    def __init__(self, batchnorm: BatchNormMode | None, watched: list[torch.Tensor] | None = None) -> None:
        super().__init__(watched)
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
    return sorted({_name(node) for node in _nodes(loss, lambda node: False) if type(node).__name__.startswith(_KINKS)})


def doubtful(loss: torch.Tensor) -> list[str]:
    """Names of the operations after the last layer that may lose digits in float32 where the loss is small.

    All but those known not to, and log-likelihoods that run in float64: a loss of one's own takes probabilities from
    or to much else.
    """
    return sorted({_name(node) for node in _nodes(loss, _layer) if not (_layer(node) or _holds(node))})


def _name(node: Any) -> str:
    return type(node).__name__.split("Backward")[0].lower()


def _nodes(loss: torch.Tensor, last: Callable[[Any], bool]) -> Iterator[Any]:
    """The nodes of a loss's graph, not past those that are `last`."""
    seen, waiting = set(), [loss.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        yield node
        if not last(node):
            waiting.extend(before for before, _ in node.next_functions)


def _layer(node: Any) -> bool:
    """Whether it is the product with a parameter."""
    if not type(node).__name__.startswith(_PRODUCTS):
        return False
    return any(_parameter(before) for before, _ in node.next_functions)


def _parameter(node: Any) -> bool:
    while node is not None and type(node).__name__.startswith(("TBackward", "Transpose", "View", "Unsqueeze")):
        node = node.next_functions[0][0]
    return type(node).__name__ == "AccumulateGrad"


def _holds(node: Any) -> bool:
    name = type(node).__name__
    if name.startswith(_LIKELIHOOD_NODES):
        saved = (getattr(node, kept, None) for kept in ("_saved_result", "_saved_self"))
        return any(isinstance(tensor, torch.Tensor) and tensor.dtype == torch.float64 for tensor in saved)
    square = name.startswith("PowBackward") and getattr(node, "_saved_exponent", None) == 2
    return square or name.startswith(_HARMLESS)
