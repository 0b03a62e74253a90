"""Losses, data and small networks of every kind, and their dense float64 Hessians."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from ravine.torch import Probe, network


def squares(model: nn.Module, batch: Any) -> torch.Tensor:
    return ((model(batch[0]) - batch[1]) ** 2).sum(dim=-1).mean()


def entropy(model: nn.Module, batch: Any) -> torch.Tensor:
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def samples(dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    """23 points of ℝ⁴ and targets in ℝ²."""
    generator = torch.Generator().manual_seed(1)
    x, y = (torch.randn(23, width, generator=generator, dtype=torch.float64).to(dtype) for width in (4, 2))
    return x, y


def data(dtype: torch.dtype = torch.float64) -> list[Any]:
    """`samples` in batches, of which the last is smaller."""
    x, y = samples(dtype)
    return [(x[:10], y[:10]), (x[10:20], y[10:20]), (x[20:], y[20:])]


def images(dtype: torch.dtype = torch.float64) -> list[Any]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(12, 1, 8, 8, generator=generator, dtype=torch.float64).to(dtype)
    y = torch.randint(0, 4, (12,), generator=generator)
    return [(x[:8], y[:8]), (x[8:], y[8:])]


def tiny() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2)).double()


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 20), nn.Tanh(), nn.Linear(20, 20), nn.GELU(), nn.Linear(20, 2))


def convolutional() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1), nn.GroupNorm(2, 6), nn.SiLU(), nn.Conv2d(6, 8, 3, stride=2), nn.BatchNorm2d(8),
        nn.Tanh(), nn.Flatten(), nn.Linear(72, 4),
    )  # fmt: skip


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(8, 12)
        self.block = nn.TransformerEncoderLayer(12, 2, 24, dropout=0.0, activation="gelu", batch_first=True)
        self.out = nn.Linear(12, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.block(self.embed(x[:, 0])).mean(dim=1))


CASES: dict[str, tuple[Callable[[], nn.Module], Any, Callable[..., list[Any]]]] = {
    "mlp": (mlp, squares, data),
    "convolutional": (convolutional, entropy, images),
    "transformer": (Transformer, entropy, images),
}


def dense(probe: Probe) -> np.ndarray:
    """The float64 Hessian of the model as written (second derivatives of norms are right in torch)."""
    exact = probe.objective.losses
    plain = network(exact.model.double(), exact.loss_fn, in_float64(exact.batches))
    identity = torch.eye(plain.dimension, dtype=torch.float64)
    hessian = torch.zeros_like(identity)
    for k, weight in enumerate(plain.losses.weights):
        w = plain.start.requires_grad_(True)
        (g,) = torch.autograd.grad(plain.losses.loss(w, k).reshape(()), w, create_graph=True)
        try:
            rows = torch.autograd.grad(g, w, identity, is_grads_batched=True, retain_graph=True)[0]
        except RuntimeError:  # convolutions have no batched second derivative
            rows = torch.stack([torch.autograd.grad(g, w, axis, retain_graph=True)[0] for axis in identity])
        hessian += weight * rows
    return ((hessian + hessian.T) / 2).numpy()


def in_float64(batches: list[Any]) -> list[Any]:
    return [tuple(t.double() if t.is_floating_point() else t for t in batch) for batch in batches]


def off(a: torch.Tensor | None, b: torch.Tensor | None) -> float:
    assert a is not None
    assert b is not None
    return float(torch.linalg.vector_norm(a - b) / torch.linalg.vector_norm(b))
