"""Third derivatives of networks in float32: their stated errors against float64, and what they cost."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from test_probe import CASES, data, entropy, images, mlp
from torch import nn

from ravine.torch import Probe, network


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
    top = probe.eigenpairs(1, 1e-3)
    e = probe.objective.point(top.vectors[0])
    along = [e, torch.randn_like(w)]
    found = [(u, probe.objective.third_checked(w, u, how)) for u in along for how in ("exact", "difference")]
    product = float(top.values[0]) * e, float(top.residuals[0])
    found.append((e, probe.objective.third_checked(w, e, "difference", product)))
    double = Probe(model.double(), loss, [tuple(t.double() if t.is_floating_point() else t for t in b) for b in held])
    for u, third in found:
        true = double.objective.third(w.double(), u.double())
        assert torch.linalg.vector_norm(third.value - true) <= third.error
        if third.how == "exact":
            assert torch.linalg.vector_norm(third.value - true) <= 1e-3 * torch.linalg.vector_norm(true)
        assert third.gradients <= (22 if third.how == "exact" else 5)


def test_the_gradient_of_a_kept_graph_is_not_computed_again() -> None:
    torch.manual_seed(0)
    probe = Probe(mlp().double(), CASES["mlp"][1], data())
    objective, w = probe.objective, probe.objective.start
    u = torch.randn_like(w)
    objective.hvp(w, u)
    before = objective.spent["gradients"]
    assert torch.equal(objective.grad(w), objective.grad(w))
    assert objective.spent["gradients"] == before
    assert objective.third_checked(w, u, "difference").gradients == 4
    plain = network(mlp().double(), CASES["mlp"][1], data())
    plain.assign(w)
    assert torch.allclose(objective.grad(w), plain.grad(w), rtol=1e-12, atol=1e-14)


def test_the_products_that_chose_the_path_are_lanczos_first_ones() -> None:
    torch.manual_seed(0)
    probe = Probe(CASES["convolutional"][0]().double(), entropy, images()[:1])
    made = []
    original = probe.objective._by

    def counted(path: str, w: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
        made.append(path)
        return original(path, w, u)

    probe.objective._by = counted
    assert probe.choice.path == "retained"
    pairs = probe.eigenpairs(1, 1e-6)
    assert len(made) == pairs.products - 2
    assert set(made) == {"retained"}


def test_nothing_is_kept_over_a_change_of_modes_or_buffers() -> None:
    torch.manual_seed(0)
    model = CASES["convolutional"][0]().double()
    probe = Probe(model, entropy, images()[:1])
    u = torch.randn_like(probe.objective.start)
    seen = []
    for change in (model.train, model.eval, lambda: [b.mul_(1.5) for b in model.buffers() if b.is_floating_point()]):
        change()
        fresh = Probe(model, entropy, images()[:1]).objective
        w = fresh.start
        assert torch.equal(probe.objective.hvp(w, u), fresh.hvp(w, u))
        assert torch.equal(probe.objective.grad(w), fresh.grad(w))
        seen.append(float(torch.linalg.vector_norm(fresh.grad(w))))
    assert len(set(seen)) == 3
