"""∇λ_max against differences of dense eigenvalues; ties."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from specimens import CASES, data, off, squares
from torch import nn

from ravine.torch import Probe


@pytest.mark.parametrize("name", CASES)
def test_the_gradient_of_sharpness(name: str) -> None:
    make, loss, batches = CASES[name]
    probe = Probe(make().double(), loss, batches())
    found = probe.sharpness_gradient()
    assert found.value is not None
    assert found.how == "exact"
    assert found.angle < 1e-6
    # The derivative of λ_max itself, along its own direction and a random one, by differences of dense eigenvalues.
    objective, w = probe.objective, probe.objective.start
    for direction in (found.value / found.value.norm(), torch.randn_like(w) / w.numel() ** 0.5):
        slopes = []
        for h in (2e-4, 1e-4):
            ends = []
            for sign in (1, -1):
                objective.assign(w + sign * h * direction)
                ends.append(probe.eigenpairs(1, 1e-11).values[0])
            slopes.append((ends[0] - ends[1]) / (2 * h))
        objective.assign(w)
        slope = slopes[1] + (slopes[1] - slopes[0]) / 3
        assert float(found.value @ direction) == pytest.approx(slope, rel=1e-5, abs=1e-6 * float(found.value.norm()))
    assert off(probe.sharpness_gradient(how="difference").value, found.value) < 1e-4
    tight = Probe(probe.model, loss, batches(), memory=1)
    assert off(tight.sharpness_gradient().value, found.value) < 1e-8


@pytest.mark.parametrize("name", CASES)
def test_the_gradient_of_sharpness_in_float32(name: str) -> None:
    make, loss, batches = CASES[name]
    model = make()
    single = Probe(model, loss, batches(dtype=torch.float32)).sharpness_gradient().value
    assert single is not None
    exact = Probe(model.double(), loss, batches()).sharpness_gradient().value
    assert off(single.double(), exact) < 5e-3


class WrongCube(torch.autograd.Function):
    """x³ with a backward pass whose second derivative is wrong, as a hand-written layer's may be."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> torch.Tensor:
        (x,) = ctx.saved_tensors
        return grads[0] * (3 * x.detach() ** 2 + 6 * x.detach() * (x - x.detach()))


class Cube(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return WrongCube.apply(x)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_wrong_third_derivative_is_refused_with_its_layer(dtype: torch.dtype) -> None:
    model = nn.Sequential(nn.Linear(4, 20), Cube(), nn.Linear(20, 2)).to(dtype)
    probe = Probe(model, squares, data(dtype=dtype))
    with pytest.raises(ValueError, match=r"Cube \(1\)"):
        probe.sharpness_gradient()
    assert probe.sharpness_gradient(how="difference").value is not None


def test_equal_top_eigenvalues_have_a_subspace_and_no_gradient() -> None:
    class Twins(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 2), nn.Linear(4, 2)
            self.b.load_state_dict(self.a.state_dict())

    def loss(model: Any, batch: Any) -> torch.Tensor:
        return sum(((torch.tanh(part(batch[0])) - batch[1]) ** 2).mean() for part in (model.a, model.b))  # pyright: ignore[reportReturnType]

    probe = Probe(Twins().double(), loss, data())
    found = probe.sharpness_gradient()
    assert found.tie
    assert found.value is None
    for v in found.subspace:
        image = probe.objective.hvp(probe.objective.start, v).numpy()
        assert np.linalg.norm(image - found.eigenpairs.values[0] * v) < 1e-4 * found.eigenpairs.values[0]
    assert found.subspace @ found.subspace.T == pytest.approx(np.eye(2), abs=1e-12)
