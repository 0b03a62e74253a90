"""The probe against dense float64 Hessians, and what it refuses."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from specimens import CASES, data, dense, mlp, squares
from torch import nn

from ravine.torch import Probe
from ravine.torch.curvature.kinks import KinkWarning


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", CASES)
def test_eigenvalues_lie_within_their_bounds(name: str, dtype: torch.dtype) -> None:
    make, loss, batches = CASES[name]
    probe = Probe(make().to(dtype), loss, batches(dtype=dtype))
    assert 500 <= probe.objective.dimension <= 3000
    found = [probe.eigenpairs(3, tol) for tol in (1e-1, 1e-3, 1e-12)]
    found += [pairs for tol in (1e-2, 1e-6) for pairs in probe.extremal_eigenpairs(2, tol)]
    values = probe.eigenpairs(1, 1e-3, target="values")
    hessian = dense(probe)
    lam = np.linalg.eigvalsh(hessian)
    for pairs in [*found, values]:
        true = np.linalg.norm(pairs.vectors @ hessian - pairs.values[:, None] * pairs.vectors, axis=1)
        assert (true <= pairs.residuals).all()
        assert (np.abs(pairs.values[:, None] - lam).min(axis=1) <= pairs.residuals).all()
        assert pairs.converged.all()
    pairs = found[2]
    assert (np.abs(pairs.values - lam[::-1][:3]) <= pairs.residuals).all()
    assert values.products <= found[1].products
    assert abs(values.values[0] - lam[-1]) <= 1e-3 * lam[-1]


def test_dropout_needs_a_seed() -> None:
    model = nn.Sequential(mlp(), nn.Dropout(0.5)).double()
    with pytest.raises(ValueError, match="seed"):
        Probe(model, squares, data())
    state = torch.get_rng_state()
    pairs = [Probe(model, squares, data(), seed=seed).eigenpairs(1, 1e-8) for seed in (1, 1, 2)]
    assert torch.equal(state, torch.get_rng_state())
    assert pairs[0].values == pairs[1].values
    assert pairs[0].values != pairs[2].values


def test_kinks_get_their_answer_and_a_warning() -> None:
    model = nn.Sequential(nn.Linear(4, 20), nn.ReLU(), nn.Linear(20, 2)).double()
    with pytest.warns(KinkWarning, match="relu"):
        probe = Probe(model, squares, data())
    pairs = probe.eigenpairs(1, 1e-8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", KinkWarning)
        hessian = dense(probe)
    assert abs(pairs.values[0] - np.linalg.eigvalsh(hessian)[-1]) <= pairs.residuals[0]


def test_a_warm_start_saves_products_and_keeps_signs() -> None:
    probe = Probe(mlp().double(), squares, data())
    cold = probe.eigenpairs(1, 1e-3)
    optimizer = torch.optim.SGD(probe.model.parameters(), lr=1e-3)
    for _ in range(5):
        for batch in data():
            optimizer.zero_grad()
            squares(probe.model, batch).backward()
            optimizer.step()
        warm = probe.eigenpairs(1, 1e-3, warm=True)
        assert warm.products <= 6
        assert float(warm.vectors[0] @ cold.vectors[0]) > 0.5
        assert warm.products < cold.products


def test_a_negative_top_eigenvalue() -> None:
    def loss(model: nn.Module, batch: Any) -> torch.Tensor:
        return -sum((p**2).sum() for p in model.parameters()) + 0 * model(batch[0]).sum()

    pairs = Probe(mlp().double(), loss, data()).eigenpairs(1)
    assert pairs.values[0] == pytest.approx(-2.0)
    assert pairs.residuals[0] < 1e-10


def test_the_gauss_newton_part() -> None:
    probe = Probe(mlp().double(), squares, data())
    x, y = (torch.cat([batch[k] for batch in data()]) for k in (0, 1))
    objective, w = probe.objective, probe.objective.start

    def outputs(w: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(objective.model, objective.losses.coordinates.split(w), (x,)).reshape(-1)

    jacobian: Any = torch.func.jacrev(outputs)(w)
    lam = torch.linalg.eigvalsh(2 * jacobian.T @ jacobian / len(x))
    pairs = probe.gauss_newton(2, 1e-8)
    assert pairs.values == pytest.approx(lam.flip(0)[:2].numpy(), rel=1e-8)
    assert len(y) == 23
    for bad, cure in [
        (lambda m, b: squares(m, b) + sum((p**2).sum() for p in m.parameters()), "past"),
        (lambda m, b: squares(m, b) + squares(m, b), "2 times"),
    ]:
        with pytest.raises(ValueError, match=cure):
            Probe(mlp().double(), bad, data()).gauss_newton()


def test_density_and_trace() -> None:
    probe = Probe(mlp().double(), squares, data())
    density, trace = probe.density(20, 4), probe.trace(60)
    hessian = dense(probe)
    assert abs(trace.value - np.trace(hessian)) <= 5 * trace.error
    mean, error = density.mean(lambda x: x)
    assert abs(mean - np.trace(hessian) / len(hessian)) <= 5 * error


@pytest.mark.parametrize(
    ("make", "loss", "batches", "cure"),
    [
        (lambda: mlp().double(), lambda m, b: m(b[0]), data, "scalar"),
        (lambda: mlp().double(), lambda m, b: squares(m, b) * float("nan"), data, "finite"),
        (lambda: mlp().double(), lambda m, b: squares(m, b).detach(), data, "depend"),
        (mlp, squares, data, "float64, parameters of torch.float32"),
    ],
)
def test_misuse(make: Any, loss: Any, batches: Any, cure: str) -> None:
    with pytest.raises(ValueError, match=cure) as caught:
        Probe(make(), loss, batches())
    assert "\n" not in str(caught.value)
