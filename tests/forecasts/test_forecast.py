"""Forecasts against runs: on quadratics, where they are exact, and on curved losses, where they must say how far."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from ravine import theory
from ravine.forecasts import Forecast, forecast
from ravine.forecasts.reduced import Reduced
from ravine.methods import GD, SAM, SGD, USAM, Method
from ravine.objectives import expression, quadratic
from ravine.simulate import trajectory

D = 400
LAM = 1.0 / np.arange(1, D + 1)
START = np.random.default_rng(0).standard_normal(D)


@pytest.mark.parametrize(
    "method",
    [
        GD(eta=0.4), GD(eta=0.3, momentum=0.6), SAM(eta=0.4, rho=0.1), SAM(eta=0.2, rho=0.1, momentum=0.3),
        USAM(eta=0.4, rho=0.1), SAM(eta=0.4, rho=0.0),
    ],
    ids=str,
)  # fmt: skip
def test_a_quadratic_is_predicted(method: Method) -> None:
    loss, steps = quadratic(LAM), 300
    run = trajectory(loss, method, start=START, steps=steps)
    seen = forecast(loss, method, start=START, steps=steps, products=40, drift=False)
    assert seen.run["grad_norm"].values == pytest.approx(run["grad_norm"].values[0], rel=1e-6)
    assert seen.run["loss"].values == pytest.approx(run["loss"].values[0], rel=1e-6, abs=1e-9)
    gradient = LAM * run["w"].values[0]
    along = np.abs(gradient[:, 0]) / np.linalg.norm(gradient, axis=1)
    assert seen.run["gradient_alignment"].values == pytest.approx(along, abs=1e-6)
    assert (seen.products, seen.horizon) == (40, steps)
    assert seen.sharpness == pytest.approx(1.0, abs=seen.sharpness_residual)


def test_gauss_quadrature_is_exact_for_its_steps() -> None:
    # ‖v_t‖ of SAM is exact for t ≤ (2m−1)/4; of GD v_t is a polynomial of degree t.
    loss = quadratic(LAM)
    for method, exact in ((SAM(eta=0.4, rho=0.1), 4), (GD(eta=0.4), 8)):
        run = trajectory(loss, method, start=START, steps=60)["grad_norm"].values[0]
        seen = (
            forecast(loss, method, start=START, steps=60, products=9, drift=False, check=False).run["grad_norm"].values
        )
        error = np.abs(seen / run - 1)
        assert error[: exact + 1].max() < 1e-12
        assert error.max() > 1e-8


def test_arrival_and_floor() -> None:
    lam = np.linspace(1.0, 0.1, 20)
    law = theory.quadratic(lam, 0.4, 0.1)
    seen = forecast(quadratic(lam), SAM(eta=0.4, rho=0.1), start=np.ones(20), steps=400, products=20, drift=False)
    assert seen.arrival is not None
    norms = seen.run["grad_norm"].values
    assert (np.abs(norms[seen.arrival :] / law.b * (2 - 0.4) - 1) <= 0.05).all()
    assert abs(norms[seen.arrival - 1] / law.b * (2 - 0.4) - 1) > 0.05
    assert seen.floor == pytest.approx(0.5 * law.amplitude**2, rel=1e-9)
    assert seen.run["loss"].values[-1] == pytest.approx(seen.floor, rel=1e-6)
    assert forecast(
        quadratic(lam), GD(eta=0.4), start=np.ones(20), steps=5, products=20, drift=False
    ).floor == pytest.approx(0.0, abs=1e-12)


def test_the_horizon_is_where_the_quadratic_ends() -> None:
    # Down a long way into a valley that gets steeper.
    loss = expression("w1**2/2 + w1**4/4 + w2**2/20 + w3**2/100")
    method = GD(eta=0.2)
    near = forecast(loss, method, start=[1e-3, 1.0, 1.0], steps=200, products=3, drift=False)
    assert near.horizon == 200
    far = forecast(loss, method, start=[2.0, 1.0, 1.0], steps=200, products=3, drift=False)
    run = trajectory(loss, method, start=[2.0, 1.0, 1.0], steps=200)["grad_norm"].values[0]
    error = np.abs(far.run["grad_norm"].values / run - 1)
    assert far.horizon < 8
    assert error[: far.horizon + 1].max() <= 0.05
    assert error[far.horizon + 1] > 0.05
    assert f"step {far.horizon} of 200" in far.verdict or "not valid" in far.verdict
    assert far.valid.sizes["step"] == far.horizon + 1


def test_negative_curvature_and_divergence_end_the_horizon() -> None:
    loss = expression("(w1**2-1)**2/4 + w2**2/2 + w3**2/4")
    seen = forecast(loss, GD(eta=0.5), start=[1e-2, 0.5, 0.5], steps=2000, products=3, drift=False)
    assert seen.floor is None
    assert 0 < seen.horizon < 100
    run = trajectory(loss, GD(eta=0.5), start=[1e-2, 0.5, 0.5], steps=seen.horizon)["grad_norm"].values[0]
    assert seen.run["grad_norm"].values[seen.horizon] == pytest.approx(run[-1], rel=0.05)


def test_what_adds_up_is_seen() -> None:
    """A drift that no single step shows: the first eigenvalue falls along a flat direction."""
    loss = expression("w1**2/(1+w2**2/2) + w3**2/4 + w4**2/8")
    start, method = [1e-3, 1.0, 1e-3, 1e-3], SAM(eta=0.3, rho=0.05)
    run = trajectory(loss, method, start=start, steps=4000)["grad_norm"].values[0]
    without = forecast(loss, method, start=start, steps=4000, products=4, drift=False)
    error = np.abs(without.run["grad_norm"].values / run - 1)
    assert error[4000] > 0.05
    assert 0 < without.horizon < 4000
    assert error[: without.horizon + 1].max() <= 0.05
    given = forecast(loss, method, start=start, steps=4000, products=6)
    better = np.abs(given.run["grad_norm"].values / run - 1)
    assert better[4000] < 0.5 * error[4000]
    assert given.horizon > without.horizon
    assert float(given.run["sharpness"][-1]) < given.sharpness


def call(**changed: Any) -> Forecast:
    arguments: dict[str, Any] = {"start": np.ones(20), "steps": 10, "products": 10} | changed
    method = arguments.pop("method", SAM(eta=0.1, rho=0.1))
    return forecast(quadratic(np.linspace(1, 0, 20)), method, **arguments)


@pytest.mark.parametrize(
    ("changed", "cure"),
    [
        ({"method": SGD(eta=0.1, sigma=1.0)}, "GD, SAM or USAM"),
        ({"method": SAM}, "SAM needs its numbers"),
        ({"steps": 0}, "steps ≥ 1"),
        ({"steps": 1.5}, "steps"),
        ({"products": True}, "products"),
        ({"pairs": 3}, "1 or 2"),
        ({"products": 5}, "products ≥ 6"),
        ({"tol": 0.0}, "tol"),
        ({"start": None}, "20 numbers"),
        ({"start": np.zeros(20)}, "zero"),
    ],
)
def test_misuse(changed: dict[str, Any], cure: str) -> None:
    with pytest.raises(ValueError, match=cure) as caught:
        call(**changed)
    assert "\n" not in str(caught.value)


def test_drift_needs_no_third_derivative_on_a_quadratic() -> None:
    seen = call(steps=50, products=20)
    assert (seen.run["sharpness"] == seen.sharpness).all()
    assert seen.horizon == 50


@pytest.mark.parametrize("products", [6, 12])
def test_the_sharpness_gradient_is_measured_again_ahead(products: int) -> None:
    """λ₁ = 2/(1 + w₂²/2) is far from straight along the way: its slope at the start would give a tenth too much.

    Twelve products are more than the space has directions: the drift is there all the same.
    """
    loss = expression("w1**2/(1+w2**2/2) + w3**2/4 + w4**2/8")
    start, method, steps = [1e-3, 1.0, 1e-3, 1e-3], SAM(eta=0.3, rho=0.05), 500
    run = trajectory(loss, method, start=start, steps=steps)["w"].values[0]
    curve = 2 / (1 + run[:, 1] ** 2 / 2)
    seen = forecast(loss, method, start=start, steps=steps, products=products, check=False)
    assert curve[steps] - curve[0] < -0.15
    assert float(seen.run["sharpness"][steps]) - seen.sharpness == pytest.approx(curve[steps] - curve[0], rel=0.02)


def test_where_another_eigenvalue_overtakes_the_horizon_ends() -> None:
    loss = expression("w1**2/(1+w2**2/2) + 0.62*w3**2 + w4**2/8")
    start, method = [1e-3, 1.0, 1e-3, 1e-3], SAM(eta=0.3, rho=0.05)
    run = trajectory(loss, method, start=start, steps=4000)
    crossing = int(np.argmax(2 / (1 + run["w"].values[0][:, 1] ** 2 / 2) < 1.24))
    seen = forecast(loss, method, start=start, steps=4000, products=8)
    assert seen.overtaken == pytest.approx(crossing, rel=0.1)
    assert seen.horizon == seen.overtaken
    assert "λ₁ falls to λ₂" in seen.verdict
    error = np.abs(seen.valid["grad_norm"].values / run["grad_norm"].values[0, : seen.horizon + 1] - 1)
    assert error.max() <= 0.05
    # What does not bounce has nothing to pass on.
    assert forecast(loss, GD(eta=0.3), start=start, steps=4000, products=8).overtaken is None


def test_the_small_loss_is_a_function_and_its_gradient() -> None:
    draw = np.random.default_rng(0)
    m, k = 5, 2
    e = np.linalg.qr(draw.standard_normal((m, k)))[0].T
    off = np.eye(m) - e.T @ e
    hessian, bend = (part + part.T for part in draw.standard_normal((2, m, m)))
    p = draw.standard_normal((k, k, m)) @ off
    kappa = draw.standard_normal((k, k, k))
    kappa = np.array([np.transpose(kappa, order) for order in itertools.permutations(range(3))]).sum(axis=0)
    p, bend = p + p.transpose(1, 0, 2), off @ bend @ off
    small = Reduced(hessian, draw.standard_normal(m), np.array([2.0, 1.0]), e, p, kappa, bend, 0.5)
    z, h = draw.standard_normal(m), 1e-5
    slope = [(small.change(z + h * axis) - small.change(z - h * axis)) / (2 * h) for axis in np.eye(m)]
    assert small.grad(z) == pytest.approx(slope, rel=1e-8)
    # Off the leading directions ∇λ̂₁ is the slope of λ̂₁.
    d = small.off_leading(z)
    found = [(small.sharpness(d + h * axis) - small.sharpness(d - h * axis)) / (2 * h) for axis in off]
    assert small.slope(d)[0] == pytest.approx(found, rel=1e-7)


def test_every_gradient_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    for method in (GD(eta=0.4), SAM(eta=0.4, rho=0.1), SAM(eta=0.4, rho=0.0), SAM(eta=0.4, rho=0.1, momentum=0.3)):
        loss, points = quadratic(LAM), []
        grad = loss.grad
        monkeypatch.setattr(loss, "grad", lambda w, grad=grad, points=points: points.append(w) or grad(w))
        assert forecast(loss, method, start=START, steps=100, products=40, drift=False).gradients == len(points)
