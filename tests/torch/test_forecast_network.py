"""The forecast on the digits network, near its minimum: the figures that the tutorial promises."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ravine.experiments import network
from ravine.forecast import forecast
from ravine.methods import SAM
from ravine.simulate import trajectory
from ravine.spectrum import top_eigenpairs
from ravine.torch import Probe

Task = tuple[Probe, torch.Tensor, float]


@pytest.fixture(scope="module")
def task() -> Task:
    torch.set_num_threads(1)
    objective, w = network.train(0)
    model, loss, batches, _ = network.task(0)
    probe = Probe(model, loss, batches)
    probe.objective.assign(w)
    # A little beside the minimum: on it the gradient is rounding.
    noise = np.random.default_rng(0).standard_normal(w.size) / w.size**0.5
    start = torch.as_tensor(w + 1e-3 * noise)
    return probe, start, 0.4 / float(top_eigenpairs(objective, w, 1).values[0])


@pytest.mark.xdist_group("network")
@pytest.mark.parametrize("rho", [0.005, 0.02])
def test_twenty_products_foresee_four_hundred_steps(task: Task, rho: float) -> None:
    probe, start, eta = task
    method = SAM(eta=eta, rho=rho)
    run = trajectory(probe.objective, method, start=start, steps=400)["grad_norm"].values[0]
    seen = forecast(probe.objective, method, w=start, steps=400, products=20)
    assert seen.products <= 20
    assert np.abs(seen.run["grad_norm"].values / run - 1).max() <= 0.02
    assert seen.horizon == 400


@pytest.mark.xdist_group("network")
def test_the_drift_halves_the_error_of_a_large_radius(task: Task) -> None:
    probe, start, eta = task
    method = SAM(eta=eta, rho=0.1)
    run = trajectory(probe.objective, method, start=start, steps=400)["grad_norm"].values[0]
    with_, without = (
        forecast(probe.objective, method, w=start, steps=400, products=products, drift=drift)
        for products, drift in ((60, True), (20, False))
    )
    errors = [np.abs(seen.run["grad_norm"].values / run - 1) for seen in (with_, without)]
    assert errors[0][400] <= 0.5 * errors[1][400]
    assert errors[0].max() <= 0.5 * errors[1].max()
    # And each says how far it is right.
    assert 0 < without.horizon < with_.horizon < 400
    for seen, error in zip((with_, without), errors, strict=True):
        assert error[: seen.horizon + 1].max() <= 0.05
        assert error[2 * seen.horizon + 8] > 0.05 or error[2 * seen.horizon + 8 :].max() > 0.05


@pytest.mark.xdist_group("network")
def test_sixty_products_foresee_the_fall_of_the_sharpness(task: Task) -> None:
    probe, start, eta = task
    method = SAM(eta=eta, rho=0.01)
    run = trajectory(probe.objective, method, start=start, steps=1001)["w"].values[0]
    before, after = (
        top_eigenpairs(probe.objective, w, 1, 1e-10).values[0] for w in (start, (run[1000] + run[1001]) / 2)
    )
    seen = forecast(probe.objective, method, w=start, steps=1000, products=60)
    assert seen.products <= 60
    assert float(seen.run["sharpness"][-1]) - seen.top == pytest.approx(after - before, rel=0.06)
    assert seen.horizon == 1000
