"""What is computed in float64 where a network is in float32: log-likelihoods always, everything for comparison."""

from __future__ import annotations

from functools import partial
from typing import Any, final

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

from ravine.torch.curvature.substitution import Substitutes

# Their derivative is a probability less one, or the like: in the loss, near its minimum, little is left of it.
_LOG_LIKELIHOODS = (
    functional.cross_entropy, functional.log_softmax, torch.log_softmax, torch.Tensor.log_softmax,
    torch.special.log_softmax, functional.binary_cross_entropy_with_logits, torch.binary_cross_entropy_with_logits,
    functional.logsigmoid, functional.soft_margin_loss, functional.multilabel_soft_margin_loss,
)  # fmt: skip


def _in_double(func: Any, *args: Any, **kwargs: Any) -> Tensor:
    x = _input(args, kwargs)
    asked = next((a for a in (*args, *kwargs.values()) if isinstance(a, torch.dtype)), x.dtype)
    if x.dtype != torch.float32 or x.device.type == "mps" or asked not in (torch.float32, torch.float64):
        return func(*args, **kwargs)  # MPS has no float64
    if any(isinstance(a, Tensor) and a.dtype == torch.float64 for a in (*args, *kwargs.values())):
        asked = torch.float64
    wide, named = map(_as_float64, args), {name: _as_float64(value) for name, value in kwargs.items()}
    return func(*wide, **named).to(asked)


def _input(args: Any, kwargs: Any) -> Any:
    return args[0] if args else kwargs.get("input")


def _as_float64(value: Any) -> Any:
    if value is torch.float32:
        return torch.float64
    return value.double() if isinstance(value, Tensor) and value.dtype == torch.float32 else value


def _as_float32(value: Any) -> Any:
    if value is torch.float64:
        return torch.float32
    return value.float() if isinstance(value, Tensor) and value.dtype == torch.float64 else value


LOG_LIKELIHOODS: Substitutes = {func: partial(_in_double, func) for func in _LOG_LIKELIHOODS}
"""Log-likelihoods of float32 logits, computed in float64.

The derivative by a logit is p − 1. In float32 it keeps ε/(1 − p) digits, which at a small loss leaves few in the
gradient and in Hessian products, though logits and parameters hold them all.
"""


@final
class LogitWatch(TorchFunctionMode):
    """Sees the largest |logit| that a log-likelihood is taken of while the block runs; infinite under autocast."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: list[Tensor] = []

    @property
    def largest(self) -> float:
        """The largest |logit| so far; 0 without any log-likelihood."""
        return max((float(one) for one in self._seen), default=0.0)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda"):
            self._seen.append(torch.tensor(torch.inf))
        elif func in LOG_LIKELIHOODS:
            self._seen.append(_input(args, kwargs).detach().abs().amax())
        return func(*args, **kwargs)


@final
class DoublePrecision(TorchFunctionMode):
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
            return _draw_in_double(func, args, kwargs)
        args, kwargs = tree_map(_as_float64, (args, kwargs))
        return tree_map(_as_float64, func(*args, **kwargs))


def _draw_in_double(func: Any, args: Any, kwargs: Any) -> Any:
    """What a function draws in float32, in float64."""
    x = _input(args, kwargs)
    if func in (functional.dropout, torch.dropout):
        return x * func(torch.ones_like(x, dtype=torch.float32), *args[1:], **kwargs).double()
    narrow, named = tree_map(_as_float32, (args, kwargs))
    drawn = func(*narrow, **named)
    return x.copy_(drawn) if func.__name__.endswith("_") else _as_float64(drawn)
