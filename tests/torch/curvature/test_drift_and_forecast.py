"""Drift and forecast from a probe."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from training_loops import task

from ravine import observations, theory
from ravine.methods import GD
from ravine.methods import SAM as SAM_RULE
from ravine.objectives import quadratic
from ravine.torch import Probe


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_drift_is_the_law_over_the_dense_spectrum(momentum: float) -> None:
    model, loss, batches = task()
    probe = Probe(model, loss, batches)
    w = probe.objective.start
    hessian = np.stack([probe.objective.hvp(w, axis).numpy() for axis in torch.eye(w.numel(), dtype=torch.float64)])
    lam, columns = np.linalg.eigh((hessian + hessian.T) / 2)
    lam, vectors = lam[::-1], columns.T[::-1]
    gradient = vectors @ probe.objective.third(w, vectors[0].copy()).numpy()
    eta, rho, steps = 0.4 / lam[0], 0.02, 500
    seen = probe.drift(eta, rho, steps, products=w.numel(), momentum=momentum)
    law = theory.drift
    setting = {"sharpness": lam[0], "eta": eta, "rho": rho, "momentum": momentum}
    moved = law.displacement(lam[1:], gradient[1:], **setting, steps=steps) @ vectors[1:]
    assert seen.moved == pytest.approx(moved, abs=1e-6 * float(np.linalg.norm(moved)))
    change = law.sharpness_change(lam[1:], gradient[1:], **setting, steps=steps)
    assert seen.sharpness_change == pytest.approx(change, rel=1e-6)
    flat = -law.flat_coefficient(**setting) * observations.flatness(lam[1:], lam[0]) * gradient[1:]
    assert seen.flat == pytest.approx(flat @ vectors[1:], abs=1e-6 * float(np.linalg.norm(flat)))
    few = probe.drift(eta, rho, steps, products=20, momentum=momentum)
    assert few.sharpness_change == pytest.approx(change, rel=0.02)
    with pytest.raises(ValueError, match="no bounce"):
        probe.drift(4 / lam[0], rho, momentum=momentum)


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
    seen = probe.forecast(SAM_RULE(eta=eta, rho=0.005), steps=100, products=30)
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
