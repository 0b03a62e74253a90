"""A small network, its data and its closure: what the tests of training share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn


def network(dropout: float = 0.0, norm: type[nn.Module] = nn.Identity, dtype: torch.dtype = torch.float64) -> Any:
    """4-8-2, with `norm` over the 8."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), norm(8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 2)).to(dtype)


def batch(n: int = 32, dtype: torch.dtype = torch.float64, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 4, generator=generator, dtype=torch.float64).to(dtype)
    return x, torch.randint(2, (n,), generator=generator)


def loss_of(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return nn.functional.cross_entropy(model(x), y)


def closure_of(
    opt: torch.optim.Optimizer, model: nn.Module, x: torch.Tensor, y: torch.Tensor, loss_of: Any = loss_of
) -> Callable[[], torch.Tensor]:
    """torch's closure: zero_grad, forward, backward, return the loss."""

    def closure() -> torch.Tensor:
        opt.zero_grad()
        loss = loss_of(model, x, y)
        loss.backward()
        return loss

    return closure


def closure_on(opt: torch.optim.Optimizer, loss_of: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
    """Likewise, of a loss that takes nothing."""
    return closure_of(opt, nn.Identity(), torch.empty(0), torch.empty(0), lambda *_: loss_of())


def flat(model: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().reshape(-1).clone() for p in model.parameters()])


def sgd(model: nn.Module, **switches: Any) -> torch.optim.SGD:
    return torch.optim.SGD(model.parameters(), **{"lr": 0.1, "momentum": 0.9, **switches})
