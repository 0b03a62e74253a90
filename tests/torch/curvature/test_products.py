"""Hessian products by every way, and which is chosen."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sharded_models as worker
import torch
from specimens import CASES, data, entropy, images, mlp, off, squares
from torch import nn

from ravine.torch import Probe, network
from ravine.torch.curvature.coordinates import step_length
from ravine.torch.curvature.products import Differences, DoubleBackward, RetainedGraph, central_difference


@pytest.mark.parametrize("name", CASES)
def test_every_path_gives_the_same_product(name: str) -> None:
    make, loss, batches = CASES[name]
    model = make().double()
    made = {}
    for path in ("retained", "double", "forward", "difference"):
        objective = Probe(model, loss, batches(), path=path).objective
        w, u = objective.start, torch.linspace(-1, 1, objective.dimension, dtype=torch.float64)
        made[path] = objective.hvp(w, u)
        assert torch.equal(objective.hvp(w, u), made[path])
        moved = objective.hvp(w + 0.1, u)
        assert not torch.allclose(moved, made[path])
    for path in ("double", "forward"):
        assert torch.allclose(made[path], made["retained"], rtol=1e-10, atol=1e-12)
    assert torch.allclose(made["difference"], made["retained"], rtol=1e-5, atol=1e-7)


def test_differences_are_extrapolated() -> None:
    """With a step so long that truncation is all the error, one central difference is a thousand times as far off."""
    losses = Probe(mlp().double(), squares, data()).objective.with_graph()
    w = losses.coordinates.start
    u = torch.linspace(-1, 1, w.numel(), dtype=torch.float64)
    exact, h = DoubleBackward(losses).product(w, u), 1e-2 / float(u.norm())
    one = off(central_difference(losses, w, u, h), exact)
    stretch = h * float(u.norm()) / (torch.finfo(torch.float64).eps ** (1 / 3) * step_length(w))
    assert off(Differences(losses).stretched(w, u, stretch), exact) < 1e-3 * one


def test_the_path_is_chosen_by_memory_and_reported() -> None:
    model = mlp().double()
    roomy, tight = Probe(model, squares, data()), Probe(model, squares, data(), memory=1000)
    assert roomy.choice.path == "retained"
    assert roomy.choice.bytes > 1000
    assert tight.choice.path in ("double", "forward")
    assert set(tight.choice.seconds) == {"double", "forward"}
    assert "1000" in tight.choice.reason
    a, b = (probe.eigenpairs(1, 1e-6).values[0] for probe in (roomy, tight))
    assert a == pytest.approx(b, rel=1e-9)


class OnlyOnce(torch.autograd.Function):
    """A square whose backward pass is not differentiable."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: torch.Tensor) -> torch.Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return 2 * ctx.saved_tensors[0] * grads[0]


def test_without_a_second_derivative_products_are_differences_and_say_so() -> None:
    def loss(model: nn.Module, batch: Any) -> torch.Tensor:
        return OnlyOnce.apply(model(batch[0]) - batch[1]).sum(dim=-1).mean()

    probe = Probe(mlp().double(), loss, data())
    reference = Probe(probe.model, squares, data())
    assert probe.choice.path == "difference"
    assert "differences" in probe.precision
    pairs, exact = probe.eigenpairs(2, 1e-6), reference.eigenpairs(2, 1e-12)
    assert (np.abs(pairs.values - exact.values) <= pairs.residuals).all()
    with pytest.raises(ValueError, match="difference"):
        probe.sharpness_gradient()
    found = probe.sharpness_gradient(how="difference").value
    assert found is not None
    assert off(found, reference.sharpness_gradient().value) < 1e-3


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_bounds_of_differences_hold_where_the_loss_bends_strongly(dtype: torch.dtype) -> None:
    """A batch norm over few samples: one central difference is off by more than its rounding."""
    batches = [tuple(t.to(dtype) for t in batch) for own in worker.data() for batch in own]
    probe = Probe(worker.model().to(dtype), worker.squares, batches, path="difference")
    plain = Probe(worker.model(), worker.squares, [batch for own in worker.data() for batch in own])
    hessian = np.stack([plain.objective.hvp(plain.objective.start, axis).numpy() for axis in torch.eye(57).double()])
    lam = np.linalg.eigvalsh(hessian)
    largest, smallest = probe.extremal_eigenpairs(1, 1e-5)
    assert abs(largest.values[0] - lam[-1]) <= largest.residuals[0]
    assert abs(smallest.values[0] - lam[0]) <= smallest.residuals[0]
    # Asked for all digits that there are, it states those that differences lose.
    for pairs in probe.extremal_eigenpairs(2, 1e-13):
        images = pairs.vectors @ ((hessian + hessian.T) / 2)
        residuals = np.linalg.norm(images - pairs.values[:, None] * pairs.vectors, axis=1)
        assert (residuals <= pairs.residuals).all()
        assert (pairs.residuals <= (1e-5 if dtype == torch.float64 else 0.1) * np.abs(lam).max()).all()


def test_the_gradient_of_a_kept_graph_is_not_computed_again() -> None:
    torch.manual_seed(0)
    probe = Probe(mlp().double(), CASES["mlp"][1], data())
    objective, w = probe.objective, probe.objective.start
    u = torch.randn_like(w)
    objective.hvp(w, u)
    before = objective.spent.gradients
    assert torch.equal(objective.grad(w), objective.grad(w))
    assert objective.spent.gradients == before
    assert objective.third_difference(w, u).gradients == 4
    plain = network(mlp().double(), CASES["mlp"][1], data())
    plain.assign(w)
    assert torch.allclose(objective.grad(w), plain.grad(w), rtol=1e-12, atol=1e-14)


def test_the_products_that_chose_the_path_are_lanczos_first_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    probe = Probe(CASES["convolutional"][0]().double(), entropy, images()[:1])
    made = []
    original = RetainedGraph.product

    def counted(way: RetainedGraph, w: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
        made.append(u)
        return original(way, w, u)

    monkeypatch.setattr(RetainedGraph, "product", counted)
    assert probe.choice.path == "retained"
    pairs = probe.eigenpairs(1, 1e-6)
    assert len(made) == pairs.products - 2


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
