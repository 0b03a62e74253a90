"""What float32 leaves of Hessian products where the loss is small, and what the bounds say of it."""

from __future__ import annotations

from collections import UserDict
from typing import Any

import numpy as np
import pytest
import torch
from losses_in_float32 import LIKELIHOODS, OWN, Both, both, classes, trained
from specimens import images
from torch import nn
from torch.nn import functional

from ravine import spectrum
from ravine.torch import Probe
from ravine.torch.curvature.kinks import doubtful_operations
from ravine.torch.curvature.precision import DoublePrecision


@pytest.mark.parametrize("steps", [0, 700])
@pytest.mark.parametrize("kind", OWN)
@pytest.mark.parametrize("name", ["convolutional", "transformer"])
def test_losses_that_lose_digits_have_it_measured(name: str, kind: str, steps: int) -> None:
    loss = OWN[kind]
    model, held = trained(name, loss, steps)
    probes = both(model, loss, held)
    for tol in (1e-3, 1e-7):
        pairs = probes.single.eigenpairs(2, tol)
        assert (probes.true(pairs) <= pairs.residuals).all()
    assert probes.single.objective.precision_at(probes.single.objective.start) > 0
    assert probes.single.objective.spent.products >= pairs.products + 4
    assert probes.double.objective.precision_at(probes.double.objective.start) == 0


def test_what_the_loss_casts_to_float32_is_measured_in_float64() -> None:
    def loss(model: nn.Module, batch: Any) -> torch.Tensor:
        return OWN["softmax"](lambda x: model(x).float(), batch)

    model, held = trained("transformer", loss, 700)
    probe = Probe(model, loss, held)
    pairs = probe.eigenpairs(2, 1e-6)
    assert (both(model, OWN["softmax"], held).true(pairs) <= pairs.residuals).all()


@pytest.mark.parametrize("path", ["auto", "retained"])
def test_a_root_near_zero_has_bounds_that_hold_by_any_path(path: Any) -> None:
    def loss(model: nn.Module, batch: Any) -> torch.Tensor:
        return functional.mse_loss(
            model(batch[0]), classes(torch.zeros(len(batch[0]), 4).to(batch[0]), batch[1])
        ).sqrt()

    model, held = trained("transformer", loss, 700)
    probe = Probe(model, loss, held, path=path)
    pairs = probe.eigenpairs(2, 1e-3)
    assert (Both(probe, both(model, loss, held).double).true(pairs) <= pairs.residuals).all()


def test_a_gauss_newton_bound_holds() -> None:
    model, held = trained("transformer", OWN["softmax"], 700)
    probes = both(model, OWN["softmax"], held)
    pairs, exact = probes.single.gauss_newton(2, 1e-6), probes.double.gauss_newton(2, 1e-10)
    assert (np.abs(pairs.values - exact.values) <= pairs.residuals).all()


def test_autocast_is_measured() -> None:
    def loss(model: nn.Module, batch: Any) -> torch.Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return functional.cross_entropy(model(batch[0]), batch[1])

    model, held = trained("transformer", loss, 0)
    probe = Probe(model, loss, held, path="retained")
    pairs = probe.eigenpairs(2, 1e-3)
    plain = both(model, LIKELIHOODS["cross_entropy"], held)
    assert (Both(probe, plain.double).true(pairs) <= pairs.residuals).all()
    assert probe.objective.precision_at(probe.objective.start) > 1e-4


def test_every_batch_and_every_point_has_its_own() -> None:
    def loss(model: nn.Module, batch: Any) -> torch.Tensor:
        x, y, probable = batch
        return OWN["softmax"](model, (x, y)) if probable else functional.mse_loss(model(x), classes(model(x), y))

    model, held = trained("transformer", OWN["softmax"], 0)
    mixed = [(*held[0], False), (*held[1], True)]
    losses = Probe(model, loss, mixed).objective.with_graph()
    leaves = losses.coordinates.leaves(losses.coordinates.start)
    named = [doubtful_operations(losses.loss_at(leaves, k)) for k in (0, 1)]
    assert named == [[], ["log", "softmax"]]
    probe = Probe(model, OWN["softmax"], held)
    late, _ = trained("transformer", OWN["softmax"], 700)
    there = Probe(late, OWN["softmax"], held)
    far = spectrum.eigenpairs(probe.objective, there.objective.start, 1, 1e-6)
    assert (both(late, OWN["softmax"], held).true(far) <= far.residuals).all()


class Tempered(nn.Module):
    t: torch.Tensor

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.register_buffer("t", torch.tensor(1e-3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.t * self.inner(x)


def test_a_buffer_that_changes_has_it_measured_again() -> None:
    inner, held = trained("transformer", OWN["softmax"], 700)
    model = Tempered(inner)
    probe = Probe(model, OWN["softmax"], held)
    before = probe.objective.precision_at(probe.objective.start)
    model.t.fill_(1.0)
    assert probe.objective.precision_at(probe.objective.start) > 10 * before


class Particular(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert x.dtype == torch.float32, "float32 only"
        return self.layer(x.flatten(1))


def test_a_model_that_refuses_float64_is_probed_all_the_same() -> None:
    probe = Probe(Particular(), OWN["softmax"], images(torch.float32))
    assert probe.eigenpairs(1, 1e-3).converged.all()


def test_a_batch_of_another_kind_is_measured_in_float64() -> None:
    def loss(model: nn.Module, batch: Any) -> torch.Tensor:
        return OWN["softmax"](model, (batch["x"], batch["y"]))

    model, held = trained("transformer", OWN["softmax"], 700)
    strange = [UserDict(x=x, y=y) for x, y in held]
    probe = Probe(model, loss, strange, size=lambda batch: len(batch["y"]))
    pairs = probe.eigenpairs(1, 1e-6)
    in_double = probe.objective.with_graph().within(DoublePrecision)
    assert in_double.loss(probe.objective.start.double(), 0).dtype == torch.float64
    assert (both(model, OWN["softmax"], held).true(pairs) <= pairs.residuals).all()


class OnlySingle(torch.autograd.Function):
    """The identity, for float32 alone."""

    @staticmethod
    def forward(x: torch.Tensor) -> torch.Tensor:
        if x.dtype != torch.float32:
            raise RuntimeError("a kernel for float32 only")
        return x.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        return grads[0]


@pytest.mark.parametrize("steps", [0, 700])
@pytest.mark.parametrize("kind", OWN)
def test_a_model_that_has_no_float64_is_measured_by_its_nonlinearity(kind: str, steps: int) -> None:
    def single(model: Any, batch: Any) -> torch.Tensor:
        return OWN[kind](lambda x: OnlySingle.apply(model(x)), batch)

    model, held = trained("transformer", single, steps)
    probes = Both(Probe(model, single, held), both(model, OWN[kind], held).double)
    pairs = probes.single.eigenpairs(2, 1e-3)
    assert (probes.true(pairs) <= pairs.residuals).all()


def test_the_measure_follows_the_parameters() -> None:
    loss = OWN["logsumexp"]
    model, held = trained("transformer", loss, 0)
    probe = Probe(model, loss, held)
    before = probe.objective.precision_at(probe.objective.start)
    late, _ = trained("transformer", loss, 1000)
    model.load_state_dict(late.state_dict())
    assert probe.objective.precision_at(probe.objective.start) > 20 * before
    pairs = probe.eigenpairs(1, 1e-6)
    double = both(model, loss, held)
    assert (double.true(pairs) <= pairs.residuals).all()


def test_differences_that_rounding_drowns_accuse_nobody() -> None:
    model, held = trained("convolutional", OWN["logsumexp"], 1000)
    choice = Probe(model, OWN["logsumexp"], held).choice
    assert choice.path == "difference"
    assert "rounding" in choice.reason
