"""A network as an objective: against dense float64 derivatives, and leaving the module as it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from specimens import (
    samples,
    squares,
    tiny,
)
from torch import nn

import naive
import ravine.torch as ravine_torch
from ravine.methods import SAM as SAM_RULE
from ravine.methods import SGD
from ravine.schema import Status
from ravine.simulate import ensemble, trajectory
from ravine.torch import Network, network


class Attention(nn.Module):
    """One head through torch's fused kernel, which has no second derivative, and a residual."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(4, 12)
        self.out = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.project(x.unsqueeze(1).repeat(1, 3, 1) + torch.arange(3).view(1, 3, 1)).chunk(3, dim=-1)
        return self.out(nn.functional.scaled_dot_product_attention(q, k, v).mean(dim=1))


def flat_loss(objective: Network) -> Callable[[torch.Tensor], torch.Tensor]:
    """The same loss written by hand: all samples in one batch, parameters by name."""
    x = torch.cat([batch[0] for batch in objective.batches])
    y = torch.cat([batch[1] for batch in objective.batches])
    shapes = {name: p.shape for name, p in objective.model.named_parameters() if p.requires_grad}

    def loss(w: torch.Tensor) -> torch.Tensor:
        parts = dict(zip(shapes, w.split([shape.numel() for shape in shapes.values()]), strict=True))
        parts = {name: part.view(shapes[name]) for name, part in parts.items()}
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            output = torch.func.functional_call(objective.model, parts, (x,))
        return ((output - y) ** 2).sum(dim=-1).mean()

    return loss


@pytest.mark.parametrize("make", [tiny, lambda: Attention().double()])
def test_the_four_oracles_over_ragged_batches(make: Callable[[], nn.Module]) -> None:
    x, y = samples()
    objective = network(make(), squares, [(x[:10], y[:10]), (x[10:20], y[10:20]), (x[20:], y[20:])])
    loss, w = flat_loss(objective), objective.start
    u = torch.randn(objective.dimension, dtype=torch.float64)
    hessian = torch.autograd.functional.hessian(loss, w)
    assert objective.value(w) == pytest.approx(float(loss(w)), rel=1e-14)
    assert torch.allclose(objective.grad(w), torch.func.grad(loss)(w), rtol=1e-12, atol=1e-14)
    assert torch.allclose(objective.hvp(w, u), hessian @ u, rtol=1e-10, atol=1e-12)  # pyright: ignore[reportOperatorIssue]
    w.requires_grad_(True)
    curvature: Any = torch.autograd.functional.hessian(loss, w, create_graph=True)
    (third,) = torch.autograd.grad(u @ curvature @ u, w)
    assert torch.allclose(objective.third(w, u), third, rtol=1e-9, atol=1e-10)


def test_the_module_is_left_as_found() -> None:
    x, y = samples()
    model = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 2)).double().train()
    model[3].eval()
    squares(model, (x, y)).backward()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    addresses = [p.data_ptr() for p in model.parameters()]
    modes = [module.training for module in model.modules()]
    objective = network(model, squares, [(x[:12], y[:12]), (x[12:], y[12:])])
    w = objective.start + 0.1
    objective.value(w)
    objective.grad(w)
    objective.hvp(w, w)
    trajectory(objective, SAM_RULE(eta=0.01, rho=0.1), start=w, steps=3)
    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(torch.equal(p.grad, gradients[name]) for name, p in model.named_parameters() if p.grad is not None)
    assert len(gradients) == len(list(model.parameters()))
    assert addresses == [p.data_ptr() for p in model.parameters()]
    assert modes == [module.training for module in model.modules()]
    assert all(p.requires_grad for p in model.parameters())


def test_it_works_under_no_grad() -> None:
    objective = network(tiny(), squares, [samples()])
    expected = objective.grad(objective.start)
    with torch.no_grad():
        assert torch.equal(objective.grad(objective.start), expected)


def test_unused_frozen_and_shared_parameters() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused, self.frozen = nn.Linear(4, 4), nn.Linear(3, 3), nn.Linear(4, 2)
            self.frozen.requires_grad_(False)
            self.again = nn.Linear(4, 4)
            self.again.weight = self.used.weight

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.frozen(torch.tanh(self.again(torch.tanh(self.used(x)))))

    objective = network(Odd().double(), squares, [samples()])
    assert objective.dimension == 20 + 12 + 4
    w = objective.start
    g, u = objective.grad(w), torch.ones(objective.dimension, dtype=torch.float64)
    assert (g[20:32] == 0).all()
    assert (objective.hvp(w, u)[20:32] == 0).all()
    assert (objective.third(w, u)[20:32] == 0).all()
    step = torch.zeros_like(w)
    step[0] = 1e-6
    difference = (objective.value(w + step) - objective.value(w - step)) / 2e-6
    assert float(g[0]) == pytest.approx(difference, rel=1e-6)


def test_a_loss_without_curvature() -> None:
    objective = network(nn.Linear(4, 2).double(), lambda model, batch: model(batch[0]).mean(), [samples()])
    u = torch.ones(objective.dimension, dtype=torch.float64)
    assert (objective.hvp(objective.start, u) == 0).all()
    assert (objective.third(objective.start, u) == 0).all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_sam_on_a_network_is_the_naive_loop(dtype: torch.dtype) -> None:
    objective = network(tiny().to(dtype), squares, [samples(dtype=dtype)])
    run = trajectory(objective, SAM_RULE(eta=0.05, rho=0.1), steps=25)
    expected = naive.run(
        "sam",
        lambda w: objective.grad(torch.tensor(w, dtype=dtype)).double().numpy(),
        objective.start.double().numpy(),
        25,
        0.05,
        rho=0.1,
    )
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5
    assert run["w"].dtype == (np.float64 if dtype == torch.float64 else np.float32)
    assert np.allclose(run["w"].values[0], expected, rtol=tolerance, atol=tolerance)
    assert run["loss"].values[0, -1] == pytest.approx(objective.value(run["w"].values[0, -1]), rel=1e-6)


def test_bfloat16_is_recorded_in_float32() -> None:
    objective = network(tiny().bfloat16(), squares, [samples(dtype=torch.bfloat16)])
    run = trajectory(objective, SAM_RULE(eta=0.05, rho=0.1), steps=3)
    assert run["w"].dtype == np.float32
    assert np.isfinite(run["w"]).all()


def test_noise_and_divergence_on_a_network() -> None:
    objective = network(tiny(), squares, [samples()])
    noisy = [trajectory(objective, SGD(eta=0.05, sigma=0.1), steps=5, seed=seed) for seed in (1, 1, 2)]
    assert noisy[0].identical(noisy[1])
    assert not noisy[0]["w"].equals(noisy[2]["w"])
    wild = network(nn.Linear(4, 2).double(), squares, [samples()])
    run = trajectory(wild, SAM_RULE(eta=1e3, rho=0.1), steps=500)
    assert Status(int(run["status"][0])) is Status.DIVERGED
    starts = [objective.start.tolist(), (2 * objective.start).tolist()]
    runs = ensemble(objective, SAM_RULE(eta=0.1, rho=0.1), starts=starts, steps=3)
    assert all(
        runs.isel(run=[k]).identical(trajectory(objective, SAM_RULE(eta=0.1, rho=0.1), start=starts[k], steps=3))
        for k in (0, 1)
    )


def test_assign_writes_in_place() -> None:
    objective = network(tiny(), squares, [samples()])
    addresses = [p.data_ptr() for p in objective.model.parameters()]
    w = objective.start + 1
    objective.assign(w)
    assert torch.equal(objective.start, w)
    assert addresses == [p.data_ptr() for p in objective.model.parameters()]
    with pytest.raises(ValueError, match="finite"):
        objective.assign(w * float("nan"))


@pytest.mark.parametrize("norm", [nn.LayerNorm(5), nn.BatchNorm1d(5)])
def test_a_wrong_third_derivative_is_refused_with_its_layer(norm: nn.Module) -> None:
    model = nn.Sequential(nn.Linear(4, 5), norm, nn.Tanh(), nn.Linear(5, 2)).double()
    objective = network(model, squares, [samples()])
    u = torch.randn(objective.dimension, dtype=torch.float64)
    with pytest.raises(ValueError, match=type(norm).__name__):
        objective.third(objective.start, u)


def test_a_right_third_derivative_passes_its_check_in_float32() -> None:
    exact = network(tiny(), squares, [samples()])
    single = network(tiny().float(), squares, [samples(dtype=torch.float32)])
    u = torch.randn(exact.dimension, dtype=torch.float64)
    w = exact.start
    assert torch.allclose(single.third(w.float(), u.float()).double(), exact.third(w, u), rtol=1e-3, atol=1e-3)


def refused() -> list[tuple[Callable[[], Any], str]]:
    x, y = samples()
    mixed = tiny()
    mixed[0].float()  # pyright: ignore[reportIndexIssue]
    return [
        (lambda: network(squares, squares, [(x, y)]), "torch.nn.Module"),  # pyright: ignore[reportArgumentType]
        (lambda: network(tiny().requires_grad_(False), squares, [(x, y)]), "nothing to minimize"),
        (lambda: network(mixed, squares, [(x, y)]), "differ in dtype"),
        (lambda: network(tiny(), "mse", [(x, y)]), "loss_fn"),  # pyright: ignore[reportArgumentType]
        (lambda: network(tiny(), squares, [(x, y)], size=3), "size"),  # pyright: ignore[reportArgumentType]
        (lambda: network(tiny(), squares, []), "at least one batch"),
        (lambda: network(tiny(), squares, [(x[:0], y[:0])]), "empty"),
        (lambda: network(tiny(), squares, [(1, 2)]), "size="),
        (lambda: network(tiny(), lambda m, b: m(b[0]), [(x, y)]), "scalar"),
        (lambda: network(tiny(), lambda m, b: 1.0, [(x, y)]), "scalar"),  # pyright: ignore[reportArgumentType]
        (lambda: network(nn.Sequential(tiny(), nn.Dropout(0.5)), squares, [(x, y)]), r"model\.eval\(\)"),
        (lambda: network(tiny(), squares, [(x, y)]).grad([1.0, 2.0]), "length"),
        (
            lambda: trajectory(network(tiny(), squares, [(x, y)]), SAM_RULE(eta=0.1, rho=1.0), start=[1.0], steps=1),
            "start",
        ),
    ]


@pytest.mark.parametrize("case", range(len(refused())))
def test_misuse(case: int) -> None:
    call, cure = refused()[case]
    with pytest.raises(ValueError, match=cure) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_dropout_in_evaluation_mode_is_the_network_without_it() -> None:
    inner, batches = tiny(), [samples()]
    plain = network(inner, squares, batches)
    dropping = network(nn.Sequential(inner, nn.Dropout(0.5)).eval(), squares, batches)
    w, u = plain.start, torch.linspace(-1, 1, plain.dimension, dtype=torch.float64)
    assert torch.equal(dropping.start, w)
    assert dropping.value(w) == plain.value(w) > 0
    assert torch.equal(dropping.grad(w), plain.grad(w))
    assert torch.equal(dropping.hvp(w, u), plain.hvp(w, u))
    assert repr(dropping) == f"Network(Sequential, {plain.dimension} parameters, 1 batch)"


def test_public_names() -> None:
    assert {"Network", "network"} <= set(ravine_torch.__all__)
