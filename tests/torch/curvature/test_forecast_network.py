"""The forecast on the digits network, near its minima: the figures that the tutorial promises."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
import torch
import xarray as xr

from ravine.experiments import network
from ravine.forecasts import Forecast, forecast
from ravine.methods import SAM
from ravine.simulate import trajectory
from ravine.spectrum import eigenpairs
from ravine.torch import Probe

pytestmark = pytest.mark.xdist_group("network")
# The radius whose runs are long enough for the fall of λ_max.
LONG = 0.02


@dataclass(frozen=True)
class Start:
    """A point beside a minimum, η, and what SAM really does from there."""

    probe: Probe
    w: torch.Tensor
    eta: float
    run: Callable[[float], xr.Dataset]

    def foresee(self, rho: float, steps: int, products: int, drift: bool = True) -> tuple[Forecast, np.ndarray]:
        """A forecast, and the relative error of ‖∇ℓ‖ along it."""
        method = SAM(eta=self.eta, rho=rho)
        seen = forecast(self.probe.objective, method, start=self.w, steps=steps, products=products, drift=drift)
        assert seen.products <= products
        real = self.run(rho)["grad_norm"].values[0, : steps + 1]
        return seen, np.abs(seen.run["grad_norm"].values / real - 1)


@cache
def minimum(seed: int) -> tuple[Probe, np.ndarray, float]:
    torch.set_num_threads(1)
    objective, w = network.train(seed)
    task = network.task(seed)
    probe = Probe(task.model, task.loss_fn, task.batches)
    probe.objective.assign(w)
    return probe, w, 0.4 / float(eigenpairs(objective, w, 1).values[0])


@pytest.fixture(scope="module", params=itertools.product(range(3), [1e-3, 1e-2]), ids="seed and offset {}".format)
def start(request: pytest.FixtureRequest) -> Start:
    seed, offset = request.param
    probe, w, eta = minimum(seed)
    # A little beside the minimum: on it the gradient is rounding.
    noise = np.random.default_rng(0).standard_normal(w.size) / w.size**0.5
    beside = torch.as_tensor(w + offset * noise)

    @cache
    def run(rho: float) -> xr.Dataset:
        steps = 1001 if rho == LONG else 400
        return trajectory(probe.objective, SAM(eta=eta, rho=rho), start=beside, steps=steps)

    return Start(probe, beside, eta, run)


@pytest.mark.parametrize("rho", [0.005, LONG])
def test_twenty_products_foresee_four_hundred_steps(start: Start, rho: float) -> None:
    seen, error = start.foresee(rho, 400, 20)
    assert error.max() <= 0.02
    assert seen.horizon == 400


def test_the_drift_halves_the_error_of_a_large_radius(start: Start) -> None:
    """From the same 20 products; and each says how far it is right."""
    with_, error = start.foresee(0.1, 400, 20)
    without, larger = start.foresee(0.1, 400, 20, drift=False)
    assert error[400] <= 0.5 * larger[400]
    assert error.max() <= 0.5 * larger.max()
    assert 0 < without.horizon < with_.horizon < 400
    assert without.overtaken is None
    for seen, one in ((with_, error), (without, larger)):
        assert one[: seen.horizon + 1].max() <= 0.05
    assert larger[2 * without.horizon + 8 :].max() > 0.05


@pytest.mark.parametrize("momentum", [0.5, 0.9])
@pytest.mark.parametrize("rho", [0.005, 0.1])
def test_with_momentum_no_more_is_claimed_than_holds(start: Start, rho: float, momentum: float) -> None:
    method = SAM(eta=start.eta, rho=rho, momentum=momentum)
    seen = forecast(start.probe.objective, method, start=start.w, steps=200, products=20)
    real = trajectory(start.probe.objective, method, start=start.w, steps=200)["grad_norm"].values[0]
    assert seen.horizon > 0
    assert np.abs(seen.run["grad_norm"].values / real - 1)[: seen.horizon + 1].max() <= 0.05


def test_sixty_products_foresee_the_fall_of_the_sharpness(start: Start) -> None:
    run = start.run(LONG)["w"].values[0]
    before, after = (
        eigenpairs(start.probe.objective, w, 1, 1e-10).values[0] for w in (start.w, (run[1000] + run[1001]) / 2)
    )
    seen, error = start.foresee(LONG, 1000, 60)
    assert float(seen.run["sharpness"][-1]) - seen.sharpness == pytest.approx(after - before, rel=0.06)
    assert error[: seen.horizon + 1].max() <= 0.05
    assert seen.horizon > 800
