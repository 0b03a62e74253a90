"""What float32 leaves of Hessian products where the loss is small, and what the bounds say of it."""

from __future__ import annotations

import copy
from collections import UserDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from test_probe import CASES, _double, images
from torch import nn
from torch.nn import functional

from ravine import spectrum
from ravine.spectrum import Eigenpairs
from ravine.torch import Probe, rounding
from ravine.torch.curvature.layers import LogLikelihoods
from ravine.torch.curvature.rounding import in_double

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
    return Both(Probe(model, loss, held), Probe(copy.deepcopy(model).double(), loss, _double(held)))


@pytest.mark.parametrize("steps", [0, 1000])
@pytest.mark.parametrize("kind", LIKELIHOODS)
@pytest.mark.parametrize("name", ["convolutional", "transformer"])
def test_log_likelihoods_lose_no_digits_near_a_minimum(name: str, kind: str, steps: int) -> None:
    loss = LIKELIHOODS[kind]
    model, held = trained(name, loss, steps)
    probes = both(model, loss, held)
    w, eps = probes.single.objective.start, torch.finfo(torch.float32).eps
    g = probes.double.objective.grad(w.double())
    assert float((probes.single.objective.grad(w) - g).norm()) <= 100 * eps * float(g.norm())
    for tol in (1e-3, 1e-7):
        top = probes.single.eigenpairs(2, tol)
        assert (probes.true(top) <= top.residuals).all()
    assert top.residuals[0] <= 1e-5 * top.values[0]
    assert probes.single.objective.precision_at(w) <= 3 * eps
    third, u = probes.single.objective.third_checked(w, top.vectors[0]), torch.as_tensor(top.vectors[0])
    true = probes.double.objective.third(w.double(), u)
    assert float((third.value - true).norm()) <= min(third.error, 1e-3 * float(true.norm()))


@pytest.mark.parametrize("steps", [0, 700])
@pytest.mark.parametrize("kind", OWN)
@pytest.mark.parametrize("name", ["convolutional", "transformer"])
def test_losses_that_lose_digits_have_it_measured(name: str, kind: str, steps: int) -> None:
    loss = OWN[kind]
    model, held = trained(name, loss, steps)
    probes = both(model, loss, held)
    for tol in (1e-3, 1e-7):
        top = probes.single.eigenpairs(2, tol)
        assert (probes.true(top) <= top.residuals).all()
    assert probes.single.objective.precision_at(probes.single.objective.start) > 0
    assert probes.single.objective.spent["products"] >= top.products + 4
    assert probes.double.objective.precision_at(probes.double.objective.start) == 0


def test_what_the_loss_casts_to_float32_is_measured_in_float64() -> None:
    def loss(model: nn.Module, batch: Any) -> torch.Tensor:
        return OWN["softmax"](lambda x: model(x).float(), batch)

    model, held = trained("transformer", loss, 700)
    probe = Probe(model, loss, held)
    top = probe.eigenpairs(2, 1e-6)
    assert (both(model, OWN["softmax"], held).true(top) <= top.residuals).all()


@pytest.mark.parametrize("path", ["auto", "retained"])
def test_a_root_near_zero_has_bounds_that_hold_by_any_path(path: Any) -> None:
    def loss(model: nn.Module, batch: Any) -> torch.Tensor:
        return functional.mse_loss(
            model(batch[0]), classes(torch.zeros(len(batch[0]), 4).to(batch[0]), batch[1])
        ).sqrt()

    model, held = trained("transformer", loss, 700)
    probe = Probe(model, loss, held, path=path)
    top = probe.eigenpairs(2, 1e-3)
    assert (Both(probe, both(model, loss, held).double).true(top) <= top.residuals).all()


def test_a_gauss_newton_bound_holds() -> None:
    model, held = trained("transformer", OWN["softmax"], 700)
    probes = both(model, OWN["softmax"], held)
    top, exact = probes.single.gauss_newton(2, 1e-6), probes.double.gauss_newton(2, 1e-10)
    assert (np.abs(top.values - exact.values) <= top.residuals).all()


def test_autocast_is_measured() -> None:
    def loss(model: nn.Module, batch: Any) -> torch.Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return functional.cross_entropy(model(batch[0]), batch[1])

    model, held = trained("transformer", loss, 0)
    probe = Probe(model, loss, held, path="retained")
    top = probe.eigenpairs(2, 1e-3)
    plain = both(model, LIKELIHOODS["cross_entropy"], held)
    assert (Both(probe, plain.double).true(top) <= top.residuals).all()
    assert probe.objective.precision_at(probe.objective.start) > 1e-4


def test_every_batch_and_every_point_has_its_own() -> None:
    def loss(model: nn.Module, batch: Any) -> torch.Tensor:
        x, y, probable = batch
        return OWN["softmax"](model, (x, y)) if probable else functional.mse_loss(model(x), classes(model(x), y))

    model, held = trained("transformer", OWN["softmax"], 0)
    mixed = [(*held[0], False), (*held[1], True)]
    assert Probe(model, loss, mixed).objective._doubtful == ["log", "softmax"]
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


class Noisy(nn.Module):
    """Noise that depends on the dtype it is drawn in."""

    def __init__(self, draw: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.first, self.last, self.draw = nn.Linear(64, 8), nn.Linear(8, 4), draw

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.first(x.flatten(1))
        return self.last(h + torch.exp(0.1 * h) * self.draw(h))


DRAWS = {
    "randn_like": torch.randn_like,
    "randn": lambda h: torch.randn(h.shape, dtype=h.dtype),
    "normal": lambda h: torch.normal(torch.zeros_like(h), torch.ones_like(h)),
    "normal_": lambda h: torch.empty_like(h).normal_(),
    "bernoulli": lambda h: torch.bernoulli(torch.full_like(h, 0.5)),
    "dropout": lambda h: functional.dropout(h, 0.5),
}


@pytest.mark.parametrize("draw", DRAWS)
def test_float64_sees_the_same_noise(draw: str) -> None:
    torch.manual_seed(0)
    model = Noisy(DRAWS[draw])
    probe = Probe(model, OWN["softmax"], images(torch.float32), seed=3)
    assert 0 < probe.objective.precision_at(probe.objective.start) < 1e-5


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
    top = probe.eigenpairs(1, 1e-6)
    assert rounding._runs(probe.objective, probe.objective.start)
    assert (both(model, OWN["softmax"], held).true(top) <= top.residuals).all()


def test_bfloat16_is_refused() -> None:
    with pytest.raises(ValueError, match=r"bfloat16.*model\.float\(\)"):
        Probe(Particular().bfloat16(), OWN["softmax"], images(torch.bfloat16))


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
    top = probes.single.eigenpairs(2, 1e-3)
    assert (probes.true(top) <= top.residuals).all()


def test_the_measure_follows_the_parameters() -> None:
    loss = OWN["logsumexp"]
    model, held = trained("transformer", loss, 0)
    probe = Probe(model, loss, held)
    before = probe.objective.precision_at(probe.objective.start)
    late, _ = trained("transformer", loss, 1000)
    model.load_state_dict(late.state_dict())
    assert probe.objective.precision_at(probe.objective.start) > 20 * before
    top = probe.eigenpairs(1, 1e-6)
    double = both(model, loss, held)
    assert (double.true(top) <= top.residuals).all()


def test_differences_that_rounding_drowns_accuse_nobody() -> None:
    model, held = trained("convolutional", OWN["logsumexp"], 1000)
    choice = Probe(model, OWN["logsumexp"], held).choice
    assert choice.path == "difference"
    assert "rounding" in choice.reason


def test_frozen_parameters_buffers_and_nested_batches_are_measured_in_float64_too() -> None:
    def loss(model: nn.Module, batch: Any) -> torch.Tensor:
        return OWN["softmax"](model, (batch["data"]["x"], batch["y"]))

    model, held = trained("convolutional", OWN["softmax"], 300)
    model[0].requires_grad_(False)  # pyright: ignore[reportIndexIssue]
    model.eval()
    nested = [{"data": {"x": x}, "y": y} for x, y in held]
    probe = Probe(model, loss, nested)
    wide = in_double(probe.objective, probe.objective.start, torch.ones(probe.objective.dimension))
    exact = Probe(copy.deepcopy(model).double(), OWN["softmax"], _double(held)).objective
    true = exact.hvp(exact.start, torch.ones(exact.dimension))
    assert torch.allclose(wide.double(), true, rtol=1e-6, atol=1e-7 * float(true.norm()))


def test_other_dtypes_and_autocast_are_left_alone() -> None:
    z, y = torch.randn(5, 3), torch.randint(0, 3, (5,))
    with LogLikelihoods():
        assert functional.cross_entropy(z, y).dtype == torch.float32
        assert functional.cross_entropy(input=z.double(), target=y).dtype == torch.float64
        assert functional.log_softmax(z.bfloat16(), 1).dtype == torch.bfloat16
        weighted = functional.cross_entropy(z, y, weight=torch.tensor([1.0, 2.0, 3.0]), label_smoothing=0.1)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert functional.cross_entropy(z.bfloat16(), y).dtype == torch.float32
        asked = functional.log_softmax(z, 1, dtype=torch.float64)
        assert asked.dtype == functional.cross_entropy(z, torch.ones(5, 3).double() / 3).dtype == torch.float64
        assert functional.log_softmax(z, 1, dtype=torch.bfloat16).dtype == torch.bfloat16
    plain = functional.cross_entropy(z, y, weight=torch.tensor([1.0, 2.0, 3.0]), label_smoothing=0.1)
    assert torch.allclose(weighted, plain, rtol=1e-6)
