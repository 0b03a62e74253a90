"""Losses whose derivatives float32 does and does not keep, and networks trained to small values of them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from specimens import CASES, images, in_float64
from torch import nn
from torch.nn import functional

from ravine.spectrum import Eigenpairs
from ravine.torch import Probe

Loss = Callable[[Any, Any], torch.Tensor]


def classes(z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return functional.one_hot(y, z.shape[1]).to(z.dtype)


def on_logits(loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> Loss:
    return lambda model, batch: loss(model(batch[0]), batch[1])


LIKELIHOODS = {
    "cross_entropy": on_logits(functional.cross_entropy),
    "log_softmax": on_logits(lambda z, y: functional.nll_loss(torch.log_softmax(z, 1), y)),
    "method": on_logits(lambda z, y: functional.nll_loss(z.log_softmax(dim=1), y)),
    "binary": on_logits(lambda z, y: functional.binary_cross_entropy_with_logits(z, classes(z, y))),
    "logsigmoid": on_logits(lambda z, y: -functional.logsigmoid(z * (2 * classes(z, y) - 1)).mean()),
    "margin": on_logits(lambda z, y: functional.soft_margin_loss(z, 2 * classes(z, y) - 1)),
    "labels": on_logits(lambda z, y: functional.multilabel_soft_margin_loss(z, classes(z, y))),
}


OWN = {
    "softmax": on_logits(lambda z, y: -(torch.softmax(z, 1).log() * classes(z, y)).sum(1).mean()),
    "logsumexp": on_logits(lambda z, y: (torch.logsumexp(z, 1) - z.gather(1, y[:, None])[:, 0]).mean()),
    "sigmoid": on_logits(lambda z, y: functional.binary_cross_entropy(z.sigmoid(), classes(z, y))),
    "brier": on_logits(lambda z, y: ((torch.softmax(z, 1) - classes(z, y)) ** 2).sum(1).mean()),
    "einsum": on_logits(lambda z, y: -torch.einsum("bc,bc->", classes(z, y), z.softmax(1).log()) / len(z)),
    "softplus": on_logits(lambda z, y: (functional.softplus(z) - z * classes(z, y)).mean()),
    "shifted": on_logits(lambda z, y: functional.cross_entropy(z + 3000, y)),
    "root": on_logits(lambda z, y: functional.mse_loss(z.softmax(1), classes(z, y)).sqrt()),
    "log1p": on_logits(lambda z, y: torch.log1p(torch.exp(-z * (2 * classes(z, y) - 1))).mean()),
}


def trained(name: str, loss: Loss, steps: int) -> tuple[nn.Module, list[Any]]:
    torch.manual_seed(0)
    model, held = CASES[name][0](), images(torch.float32)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        for batch in held:
            loss(model, batch).backward()
        optimizer.step()
    return model, held


@dataclass
class Both:
    """A probe in float32, and the same network's in float64."""

    single: Probe
    double: Probe

    def true(self, pairs: Eigenpairs) -> np.ndarray:
        """‖Hv − λv‖ in float64."""
        w = self.double.objective.start
        images = np.stack([self.double.objective.hvp(w, torch.as_tensor(v)).numpy() for v in pairs.vectors])
        return np.linalg.norm(images - pairs.values[:, None] * pairs.vectors, axis=1)


def both(model: nn.Module, loss: Loss, held: list[Any]) -> Both:
    return Both(Probe(model, loss, held), Probe(copy.deepcopy(model).double(), loss, in_float64(held)))
