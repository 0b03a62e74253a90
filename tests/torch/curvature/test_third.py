"""Third derivatives of networks in float32: their stated errors against float64, and what they cost."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from specimens import CASES
from torch import nn

from ravine.torch import Probe


def trained(name: str, steps: int, seed: int) -> tuple[nn.Module, Any, Any]:
    make, loss, batches = CASES[name]
    torch.manual_seed(seed)
    model, held = make(), batches(dtype=torch.float32)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        sum(loss(model, batch) for batch in held).backward()  # pyright: ignore[reportAttributeAccessIssue]
        optimizer.step()
    return model, loss, held


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("steps", [0, 30, 300])
@pytest.mark.parametrize("name", CASES)
def test_stated_errors_are_not_understated_in_float32(name: str, steps: int, seed: int) -> None:
    model, loss, held = trained(name, steps, seed)
    probe = Probe(model, loss, held)
    w = probe.objective.start
    pairs = probe.eigenpairs(1, 1e-3)
    e = probe.objective.point(pairs.vectors[0])
    along = [e, torch.randn_like(w)]
    objective = probe.objective
    found = [(u, third(w, u)) for u in along for third in (objective.third_exact, objective.third_difference)]
    product = float(pairs.values[0]) * e, float(pairs.residuals[0])
    found.append((e, objective.third_difference(w, e, product)))
    double = Probe(model.double(), loss, [tuple(t.double() if t.is_floating_point() else t for t in b) for b in held])
    for u, third in found:
        true = double.objective.third(w.double(), u.double())
        assert torch.linalg.vector_norm(third.value - true) <= third.error
        if third.how == "exact":
            assert torch.linalg.vector_norm(third.value - true) <= 1e-3 * torch.linalg.vector_norm(true)
        assert third.gradients <= (22 if third.how == "exact" else 5)
