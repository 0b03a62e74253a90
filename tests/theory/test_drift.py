"""Theorem 21 and its second-order term, against steps on losses with known derivatives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import naive
from ravine import theory
from ravine.methods import SAM
from ravine.objectives import expression
from ravine.simulate import trajectory
from ravine.theory import drift


class Cubic:
    """½wᵀΛw + (1/6) T(w, w, w) with a random symmetric T: D³ℓ is constant, so B = 0 in Theorem 21."""

    def __init__(self, lam: np.ndarray, seed: int) -> None:
        d = lam.size
        raw = np.random.default_rng(seed).standard_normal((d, d, d))
        orders = [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]
        self.third = np.mean([raw.transpose(order) for order in orders], axis=0)
        self.lam = lam

    def grad(self, w: np.ndarray) -> np.ndarray:
        return self.lam * w + 0.5 * np.einsum("ijk,j,k->i", self.third, w, w)


@settings(max_examples=30)
@given(
    st.lists(st.floats(0.0, 0.9), min_size=1, max_size=4),
    st.floats(0.05, 1.8),
    st.integers(0, 2**32 - 1),
    st.sampled_from([-1, 1]),
    st.sampled_from([0.0, 0.3, 0.9]),
)
def test_the_step_from_the_bounce_to_third_order(
    rest: list[float], eta: float, seed: int, sign: int, momentum: float
) -> None:
    """The error of the second-order law falls as ρ³; the printed law's, in curved directions, only as ρ².

    With momentum the last iterate is the bounce's other side.
    """
    lam = np.array([1.0, *rest])
    loss = Cubic(lam, seed)
    sharpness_gradient = loss.third[0, 0]
    errors = []
    for rho in (2e-3, 1e-3):
        start = np.zeros(lam.size)
        start[0] = sign * theory.quadratic(lam, eta, rho, momentum).amplitude
        moved = naive.step("sam", loss.grad, start, eta, rho) - start + momentum * (start - -start)
        setting = {"sharpness": 1.0, "eta": eta, "rho": rho, "momentum": momentum}
        coefficients = drift.coefficient(lam, **setting)
        coefficients[0] = (1 - momentum) * drift.flat_coefficient(**setting)
        errors.append(np.abs(moved + 2 * start + coefficients * sharpness_gradient).max())
    scale = eta / (2 - eta) ** 3 * (1 + np.abs(loss.third).max()) ** 3
    assert errors[1] <= 100 * scale * 1e-9
    assert errors[1] <= 0.2 * errors[0] + 1e-15


def test_the_printed_law_fails_where_the_sheet_says() -> None:
    """ℓ = ½x² + ¼y² + ½x²y has B = 0, so Theorem 21 as printed leaves no error; there is one, of second order."""
    eta, rho, lam = 0.2, 0.1, np.array([1.0, 0.5])

    def grad(w: np.ndarray) -> np.ndarray:
        return np.array([w[0] + w[0] * w[1], w[1] / 2 + w[0] ** 2 / 2])

    start = theory.quadratic(lam, eta, rho).cycle[0]
    moved = naive.step("sam", grad, start, eta, rho) - start
    printed = -2 * start[1] - drift.flat_coefficient(sharpness=1.0, eta=eta, rho=rho)
    corrected = -2 * start[1] - drift.coefficient(0.5, sharpness=1.0, eta=eta, rho=rho)
    assert abs(moved[1] - printed) > 0.5 * eta**2 * rho**2 * 0.5 / 3.6
    assert abs(moved[1] - corrected) < 0.02 * abs(moved[1] - printed)


@given(st.floats(0.1, 5.0), st.floats(0.01, 1.9), st.floats(0.0, 2.0))
def test_the_printed_coefficient_is_the_shorter_one(sharpness: float, share: float, rho: float) -> None:
    eta = share / sharpness
    printed = eta * rho**2 / 2 * (1 + eta * sharpness / (2 - eta * sharpness)) ** 2
    assert drift.flat_coefficient(sharpness=sharpness, eta=eta, rho=rho) == pytest.approx(printed, rel=1e-10)


@given(
    st.floats(0.02, 1.9),
    st.floats(0.01, 1.0),
    st.integers(0, 300),
    st.lists(st.floats(0.0, 1.0), min_size=1, max_size=5),
    st.sampled_from([0.0, 0.2, 0.9]),
)
def test_displacement_is_the_recursion(
    eta: float, rho: float, steps: int, values: list[float], momentum: float
) -> None:
    lam = np.array(values)
    gradient = np.linspace(-1, 2, lam.size)
    setting = {"sharpness": 1.0, "eta": eta, "momentum": momentum}
    mu, push = drift.contraction(lam, **setting), drift.coefficient(lam, rho=rho, **setting) * gradient
    offset, before = np.zeros(lam.size), np.zeros(lam.size)
    for _ in range(steps):
        offset, before = mu * offset + momentum * (offset - before) - push, offset
    moved = drift.displacement(lam, gradient, rho=rho, steps=steps, **setting)
    assert np.allclose(moved, offset, rtol=1e-9, atol=1e-14)
    change = drift.sharpness_change(lam, gradient, rho=rho, steps=steps, **setting)
    assert change == pytest.approx(float(gradient @ offset), rel=1e-9, abs=1e-14)


@given(st.floats(0.02, 1.9), st.floats(0.01, 1.0), st.floats(0.0, 0.9))
def test_the_drift_settles_to_its_rate_where_flat_and_to_rest_where_curved(
    eta: float, rho: float, momentum: float
) -> None:
    setting = {"sharpness": 1.0, "eta": eta, "rho": rho, "momentum": momentum}
    far, further = (drift.displacement([0.0, 0.7], [1.0, 1.0], steps=t, **setting) for t in (4000, 4001))
    assert further[0] - far[0] == pytest.approx(-drift.flat_coefficient(**setting), rel=1e-6)
    rest = drift.coefficient(0.7, **setting) / (1 - drift.contraction(0.7, sharpness=1.0, eta=eta, momentum=momentum))
    assert far[1] == pytest.approx(-float(rest), rel=1e-6)


@pytest.mark.parametrize("momentum", [0.0, 0.1, 0.25])
def test_runs_with_momentum_settle_and_drift_where_said(momentum: float) -> None:
    """½x²(1 + y + z) + ¼y²: the bounce along x settles at an offset along the curved y and drifts along the flat z."""
    eta, rho = 0.4, 1e-3
    loss = expression("w1**2*(1 + w2 + w3)/2 + w2**2/4")
    run = trajectory(loss, SAM(eta=eta, rho=rho, momentum=momentum), start=[rho, 0.0, 0.0], steps=2000)
    w = run["w"].values[0]
    setting = {"sharpness": 1.0, "eta": eta, "momentum": momentum}
    centre = (w[1:] + w[:-1]) / 2
    rest = drift.coefficient(0.5, rho=rho, **setting) / (1 - drift.contraction(0.5, **setting))
    assert centre[-1, 1] == pytest.approx(-float(rest), rel=0.01)
    a_step = (centre[-1, 2] - centre[1000, 2]) / (len(centre) - 1001)
    assert a_step == pytest.approx(-drift.flat_coefficient(rho=rho, **setting), rel=0.01)


@given(st.floats(0.1, 10.0), st.floats(0.02, 1.9), st.floats(0.0, 1.0), st.sampled_from([0.0, 0.5]))
def test_the_loss_in_other_units_is_the_same_loss(unit: float, eta: float, lam: float, momentum: float) -> None:
    """cℓ at η/c makes the steps that ℓ makes at η; ∇λ₁ is then c times as long."""
    one, other = (
        {"sharpness": scale, "eta": eta / scale, "rho": 0.3, "momentum": momentum, "steps": 7} for scale in (1.0, unit)
    )
    moved = drift.displacement([lam], [1.0], **one)
    assert drift.displacement([unit * lam], [unit], **other) == pytest.approx(moved, rel=1e-9)


def test_nearly_flat_directions_lose_no_digits() -> None:
    tiny, flat = (
        drift.displacement([lam], [1.0], sharpness=1.0, eta=0.2, rho=0.1, steps=1000)[0] for lam in (1e-17, 0.0)
    )
    assert tiny == pytest.approx(flat, rel=1e-12)
    assert flat == pytest.approx(-1000 * drift.flat_coefficient(sharpness=1.0, eta=0.2, rho=0.1), rel=1e-15)


def test_the_sharpness_falls_as_predicted_on_a_widening_ravine() -> None:
    """ℓ = ½(1 + ay + by²/2…)x² with y flat: λ_max and its fall are known, and SAM is simulated."""
    a, eta, rho, steps = 0.3, 0.4, 0.01, 400

    def grad(w: np.ndarray) -> np.ndarray:
        x, y = w
        return np.array([np.exp(a * y) * x, 0.5 * a * np.exp(a * y) * x**2])

    start = np.array([theory.quadratic([1.0], eta, rho).amplitude, 0.0])
    w = naive.run("sam", grad, start, steps, eta, rho=rho)
    measured = np.exp(a * (w[-1, 1] + w[-2, 1]) / 2) - 1
    predicted = drift.sharpness_change([0.0], [a], sharpness=1.0, eta=eta, rho=rho, steps=steps)
    assert measured == pytest.approx(predicted, rel=0.02)


def test_an_offset_that_does_not_settle_grows_beyond_what_can_be_written_in_silence() -> None:
    moved = drift.displacement([5.0], [1.0], sharpness=1.0, eta=0.5, rho=0.1, steps=2001)
    assert not np.isfinite(moved).any()


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: drift.flat_coefficient(sharpness=2.0, eta=1.0, rho=0.1), "^eta·λ₁ = 2: there is no bounce"),
        (lambda: drift.flat_coefficient(sharpness=0.0, eta=0.1, rho=0.1), "sharpness"),
        (lambda: drift.coefficient(0.0, sharpness=1.0, eta=-0.1, rho=0.1), "eta"),
        (lambda: drift.contraction(0.0, sharpness=1.0, eta=3.0), "no bounce"),
        (lambda: drift.displacement([0.0], [1.0], sharpness=1.0, eta=0.1, rho=0.1, steps=-1), "steps"),
        (lambda: drift.displacement([0.0], [1.0], sharpness=1.0, eta=0.1, rho=0.1, steps=1.5), "integer"),  # pyright: ignore[reportArgumentType]
        (lambda: drift.flat_coefficient(sharpness=1.0, eta=0.1, rho=0.1, momentum=1.0), "momentum"),
        (lambda: drift.contraction(0.0, sharpness=1.0, eta=3.0, momentum=0.49), "no bounce"),
    ],
)
def test_misuse(call: object, name: str) -> None:
    with pytest.raises(ValueError, match=name):
        call()  # pyright: ignore[reportCallIssue]
