"""A small network, its data and its closure: what the tests of training loops share."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


def network(dropout: float = 0.0, norm: bool = False, dtype=torch.float64) -> Any:
    torch.manual_seed(0)
    middle = nn.BatchNorm1d(8) if norm else nn.Identity()
    return nn.Sequential(nn.Linear(4, 8), middle, nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 2)).to(dtype)


def batch(n: int = 32, dtype=torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(n, 4, generator=generator, dtype=torch.float64).to(dtype)
    return x, torch.randint(2, (n,), generator=generator)


def loss_of(model, x, y):
    return nn.functional.cross_entropy(model(x), y)


def closure_of(opt, model, x, y):
    def closure():
        opt.zero_grad()
        loss = loss_of(model, x, y)
        loss.backward()
        return loss

    return closure


def flat(model) -> torch.Tensor:
    return torch.cat([p.detach().reshape(-1).clone() for p in model.parameters()])


def sgd(model, **switches):
    return torch.optim.SGD(model.parameters(), **{"lr": 0.1, "momentum": 0.9, **switches})
