"""Log-likelihoods in float64, everything in float64, and the same noise there."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from losses_in_float32 import LIKELIHOODS, OWN, both, trained
from specimens import images, in_float64
from torch import nn
from torch.nn import functional

from ravine.torch import Probe
from ravine.torch.curvature.precision import LOG_LIKELIHOODS, DoublePrecision
from ravine.torch.curvature.rounding import product_in_double
from ravine.torch.curvature.substitution import Substituted


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
        pairs = probes.single.eigenpairs(2, tol)
        assert (probes.true(pairs) <= pairs.residuals).all()
    assert pairs.residuals[0] <= 1e-5 * pairs.values[0]
    assert probes.single.objective.precision_at(w) <= 3 * eps
    third, u = probes.single.objective.third_exact(w, pairs.vectors[0]), torch.as_tensor(pairs.vectors[0])
    true = probes.double.objective.third(w.double(), u)
    assert float((third.value - true).norm()) <= min(third.error, 1e-3 * float(true.norm()))


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


def test_frozen_parameters_buffers_and_nested_batches_are_measured_in_float64_too() -> None:
    def loss(model: nn.Module, batch: Any) -> torch.Tensor:
        return OWN["softmax"](model, (batch["data"]["x"], batch["y"]))

    model, held = trained("convolutional", OWN["softmax"], 300)
    model[0].requires_grad_(False)  # pyright: ignore[reportIndexIssue]
    model.eval()
    nested = [{"data": {"x": x}, "y": y} for x, y in held]
    probe = Probe(model, loss, nested)
    in_double = probe.objective.with_graph().within(DoublePrecision)
    wide = product_in_double(in_double, probe.objective.start, torch.ones(probe.objective.dimension))
    exact = Probe(copy.deepcopy(model).double(), OWN["softmax"], in_float64(held)).objective
    true = exact.hvp(exact.start, torch.ones(exact.dimension))
    assert torch.allclose(wide.double(), true, rtol=1e-6, atol=1e-7 * float(true.norm()))


def test_other_dtypes_and_autocast_are_left_alone() -> None:
    z, y = torch.randn(5, 3), torch.randint(0, 3, (5,))
    with Substituted(LOG_LIKELIHOODS):
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


def test_bfloat16_is_refused() -> None:
    with pytest.raises(ValueError, match=r"bfloat16.*model\.float\(\)"):
        Probe(Particular().bfloat16(), OWN["softmax"], images(torch.bfloat16))


class Particular(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert x.dtype == torch.float32, "float32 only"
        return self.layer(x.flatten(1))
