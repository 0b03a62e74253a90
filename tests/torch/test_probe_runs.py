"""Bounce, drift, forecast and follow on real training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

from ravine import observations, theory
from ravine.methods import GD, SAM
from ravine.objectives import quadratic
from ravine.theory.edge import sam_edge
from ravine.torch import Probe


class PlainSAM(torch.optim.Optimizer):
    """SAM with a closure, in ten lines."""

    def __init__(self, parameters: Any, lr: float, rho: float) -> None:
        super().__init__(parameters, {"lr": lr, "rho": rho})

    def step(self, closure: Callable[[], Any]) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        loss = closure()
        group = self.param_groups[0]
        gradients = [p.grad.clone() for p in group["params"]]
        scale = group["rho"] / torch.sqrt(sum((g**2).sum() for g in gradients))  # pyright: ignore[reportArgumentType]
        with torch.no_grad():
            before = [p.clone() for p in group["params"]]
            for p, g in zip(group["params"], gradients, strict=True):
                p.add_(scale * g)
        closure()
        with torch.no_grad():
            for p, old in zip(group["params"], before, strict=True):
                p.copy_(old - group["lr"] * p.grad)
        return loss


def squares(model: nn.Module, batch: Any) -> torch.Tensor:
    return ((model(batch[0]) - batch[1]) ** 2).sum(dim=-1).mean()


def task() -> tuple[nn.Module, Any, list[Any]]:
    """A teacher's labels, so that the loss has a minimum of zero, and training that ends there."""
    x = torch.randn(12, 4, dtype=torch.float64)
    teacher = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)).double()
    model = nn.Sequential(nn.Linear(4, 12), nn.Tanh(), nn.Linear(12, 2)).double()
    with torch.no_grad():
        y = teacher(x)
    optimizer = torch.optim.LBFGS(
        model.parameters(), max_iter=2000, line_search_fn="strong_wolfe", tolerance_grad=1e-12, tolerance_change=0
    )

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = squares(model, (x, y))
        loss.backward()
        return loss

    optimizer.step(closure)
    return model, squares, [(x, y)]


def closure_of(model: nn.Module, optimizer: Any, batch: Any) -> Callable[[], torch.Tensor]:
    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = squares(model, batch)
        loss.backward()
        return loss

    return closure


def test_a_run_that_bounces_and_one_that_does_not() -> None:
    model, loss, batches = task()
    probe = Probe(model, loss, batches)
    eta = 0.4 / float(probe.eigenpairs(1, 1e-8).values[0])
    optimizer = PlainSAM(model.parameters(), eta, 0.01)
    step = closure_of(model, optimizer, batches[0])
    for _ in range(200):
        optimizer.step(step)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for seen in (probe.bounce(optimizer), probe.bounce(optimizer, lambda: optimizer.step(step))):
        assert seen.amplitude == pytest.approx(seen.law, rel=0.01)
        assert seen.alignment == pytest.approx(1.0, abs=1e-3)
        assert seen.reversal == pytest.approx(-1.0, abs=1e-3)
        assert seen.bouncing
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    # Gradient descent down a slope slides.
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.3 * torch.randn_like(p))
    sliding = probe.bounce(torch.optim.SGD(model.parameters(), lr=1e-4), rho=0.01)
    assert sliding.reversal > 0.9
    assert not sliding.bouncing
    with pytest.raises(ValueError, match="rho"):
        probe.bounce(torch.optim.SGD(model.parameters(), lr=1e-4))


def test_drift_is_the_law_over_the_dense_spectrum() -> None:
    model, loss, batches = task()
    probe = Probe(model, loss, batches)
    w = probe.objective.start
    hessian = np.stack([probe.objective.hvp(w, axis).numpy() for axis in torch.eye(w.numel(), dtype=torch.float64)])
    lam, columns = np.linalg.eigh((hessian + hessian.T) / 2)
    lam, vectors = lam[::-1], columns.T[::-1]
    gradient = vectors @ probe.objective.third(w, vectors[0].copy()).numpy()
    eta, rho, steps = 0.4 / lam[0], 0.02, 500
    seen = probe.drift(eta, rho, steps, products=w.numel())
    law = theory.drift
    setting = {"sharpness": lam[0], "eta": eta, "rho": rho}
    moved = law.displacement(lam[1:], gradient[1:], **setting, steps=steps) @ vectors[1:]
    assert seen.moved == pytest.approx(moved, abs=1e-6 * float(np.linalg.norm(moved)))
    change = law.sharpness_change(lam[1:], gradient[1:], **setting, steps=steps)
    assert seen.sharpness_change == pytest.approx(change, rel=1e-6)
    flat = -law.flat_coefficient(**setting) * observations.flatness(lam[1:], lam[0]) * gradient[1:]
    assert seen.flat == pytest.approx(flat @ vectors[1:], abs=1e-6 * float(np.linalg.norm(flat)))
    few = probe.drift(eta, rho, steps, products=20)
    assert few.sharpness_change == pytest.approx(change, rel=0.02)
    with pytest.raises(ValueError, match="no bounce"):
        probe.drift(3 / lam[0], rho)


def test_the_flat_part_of_a_vector() -> None:
    lam = np.concatenate([[1.0, 0.5, 0.01], np.zeros(5), [1e-4, -1e-4]])
    v = np.arange(1.0, 11.0)
    part = observations.flat_part(quadratic(np.maximum(lam, 0)), np.zeros(10), v, 1.0)
    expected = v * observations.flatness(np.maximum(lam, 0), 1.0)
    assert part == pytest.approx(expected, abs=1e-9)
    assert part[3:8] == pytest.approx(v[3:8])
    assert abs(part[:3]).max() < 1e-9


def test_forecast_through_the_probe() -> None:
    model, loss, batches = task()
    probe = Probe(model, loss, batches)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(1e-4 * torch.randn_like(p))
    eta = 0.4 / float(probe.eigenpairs(1, 1e-8).values[0])
    seen = probe.forecast(SAM(eta=eta, rho=0.005), steps=100, products=30)
    assert seen.horizon == 100
    assert seen.products == 30
    assert "its end" in seen.verdict
    # At initialisation, with negative curvature, a handful of steps.
    wild = nn.Sequential(nn.Linear(4, 12), nn.Tanh(), nn.Linear(12, 2)).double()
    with torch.no_grad():
        for p in wild.parameters():
            p.mul_(4)
    far = Probe(wild, loss, batches)
    assert far.eigenpairs(1, end="smallest").values[0] < 0
    guess = far.forecast(GD(eta=0.5 / float(far.eigenpairs(1).values[0])), steps=200, products=30)
    assert guess.horizon < 50


def test_following_a_run(tmp_path: Path) -> None:
    model, loss, batches = task()
    probe = Probe(model, loss, batches)
    eta = 0.4 / float(probe.eigenpairs(1, 1e-8).values[0])
    optimizer = PlainSAM(model.parameters(), eta, 0.01)
    step = closure_of(model, optimizer, batches[0])
    written: list[tuple[str, float, int]] = []

    class Writer:
        def add_scalar(self, name: str, value: float, at: int) -> None:
            written.append((name, value, at))

    with probe.follow(optimizer, every=20, k=2, tol=1e-4, writer=Writer()) as log:
        for _ in range(100):
            optimizer.step(step)
    optimizer.step(step)
    run = log.run
    assert run["step"].values.tolist() == [0, 20, 40, 60, 80, 100]
    objective = probe.objective
    assert (run["eigenvalues"].sel(pair=1) > run["eigenvalues"].sel(pair=2)).all()
    assert (run["gd_edge"] == 2 / eta).all()
    expected = sam_edge(run["grad_norm"].values, eta, 0.01)
    assert run["sam_edge"].values == pytest.approx(expected)
    # Once it bounces, the gradient and the step are along e₁, and the SAM-edge is at λ₁.
    assert (run["gradient_alignment"].values[2:] > 0.99).all()
    assert (run["alignment"].values[2:] > 0.99).all()
    assert run["sam_edge"].values[2:] == pytest.approx(run["eigenvalues"].sel(pair=1).values[2:], rel=0.02)
    assert (run["continuity"].values[1:] > 0.99).all()
    assert np.isnan(run["continuity"].values[0])
    assert run.attrs["precision"] == "float64"
    assert "parameters" in run.attrs["objective"]
    assert ("ravine/sharpness", float(run["eigenvalues"].values[-1, 0]), 100) in written
    log.save(tmp_path / "run.nc")
    assert xr.load_dataset(tmp_path / "run.nc", engine="h5netcdf").equals(run)
    assert objective.value(objective.start) >= 0
    with pytest.raises(ValueError, match="every"), probe.follow(optimizer, every=0):
        pass
    with pytest.raises(ValueError, match="optimizer"), probe.follow(object()):
        pass


def test_following_any_optimizer_to_its_divergence() -> None:
    x, y = torch.randn(12, 4, dtype=torch.float64), torch.randn(12, 2, dtype=torch.float64)
    model, loss, batches = nn.Linear(4, 2).double(), squares, [(x, y)]
    probe = Probe(model, loss, batches)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e6)
    with probe.follow(optimizer, every=1) as log:
        for _ in range(300):
            closure_of(model, optimizer, batches[0])()
            optimizer.step()
            if not np.isfinite(log.run["loss"].values[-1]):
                break
    run = log.run
    assert np.isnan(run["sam_edge"]).all()
    assert not np.isfinite(run["loss"].values[-1])
    assert np.isnan(run["eigenvalues"].values[-1]).all()
    assert run["gd_edge"].values[0] == pytest.approx(2e-6)


def test_the_probe_leaves_training_as_it_was() -> None:
    """A followed run and one that is not end at the same parameters, to the bit."""
    ends = []
    for followed in (False, True):
        torch.manual_seed(1)
        model = nn.Sequential(nn.Linear(4, 12), nn.BatchNorm1d(12), nn.Tanh(), nn.Linear(12, 2)).double()
        x, y = torch.randn(16, 4).double(), torch.randn(16, 2).double()
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        step = closure_of(model, optimizer, (x, y))
        if followed:
            with Probe(model, squares, [(x, y)]).follow(optimizer, every=5):
                for _ in range(20):
                    optimizer.step(step)
        else:
            for _ in range(20):
                optimizer.step(step)
        ends.append({name: value.clone() for name, value in model.state_dict().items()})
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
