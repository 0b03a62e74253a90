"""Theorem 21 and its second-order term, against steps on losses with known derivatives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import naive
from ravine import theory
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
)
def test_the_step_from_the_bounce_to_third_order(rest: list[float], eta: float, seed: int, sign: int) -> None:
    """The error of the second-order law falls as ρ³; the printed law's, in curved directions, only as ρ²."""
    lam = np.array([1.0, *rest])
    loss = Cubic(lam, seed)
    sharpness_gradient = loss.third[0, 0]
    errors = []
    for rho in (2e-3, 1e-3):
        start = np.zeros(lam.size)
        start[0] = sign * theory.quadratic(lam, eta, rho).amplitude
        moved = naive.step("sam", loss.grad, start, eta, rho) - start
        coefficients = drift.coefficient(lam, 1.0, eta, rho)
        coefficients[0] = drift.printed_coefficient(1.0, eta, rho)
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
    printed = -2 * start[1] - drift.printed_coefficient(1.0, eta, rho)
    corrected = -2 * start[1] - drift.coefficient(0.5, 1.0, eta, rho)
    assert abs(moved[1] - printed) > 0.5 * eta**2 * rho**2 * 0.5 / 3.6
    assert abs(moved[1] - corrected) < 0.02 * abs(moved[1] - printed)


@given(st.floats(0.1, 5.0), st.floats(0.01, 1.9), st.floats(0.0, 2.0))
def test_the_printed_coefficient_is_the_shorter_one(top: float, share: float, rho: float) -> None:
    eta = share / top
    printed = eta * rho**2 / 2 * (1 + eta * top / (2 - eta * top)) ** 2
    assert drift.printed_coefficient(top, eta, rho) == pytest.approx(printed, rel=1e-10)


@given(
    st.floats(0.02, 1.9),
    st.floats(0.01, 1.0),
    st.integers(0, 300),
    st.lists(st.floats(0.0, 1.0), min_size=1, max_size=5),
)
def test_displacement_is_the_recursion(eta: float, rho: float, steps: int, values: list[float]) -> None:
    lam = np.array(values)
    gradient = np.linspace(-1, 2, lam.size)
    mu, push = drift.contraction(lam, 1.0, eta), drift.coefficient(lam, 1.0, eta, rho) * gradient
    offset = np.zeros(lam.size)
    for _ in range(steps):
        offset = mu * offset - push
    assert np.allclose(drift.displacement(lam, gradient, 1.0, eta, rho, steps), offset, rtol=1e-9, atol=1e-14)
    change = drift.sharpness_change(lam, gradient, 1.0, eta, rho, steps)
    assert change == pytest.approx(float(gradient @ offset), rel=1e-9, abs=1e-14)


def test_nearly_flat_directions_lose_no_digits() -> None:
    tiny, flat = (drift.displacement([lam], [1.0], 1.0, 0.2, 0.1, 1000)[0] for lam in (1e-17, 0.0))
    assert tiny == pytest.approx(flat, rel=1e-12)
    assert flat == pytest.approx(-1000 * drift.printed_coefficient(1.0, 0.2, 0.1), rel=1e-15)


def test_the_sharpness_falls_as_foreseen_on_a_widening_ravine() -> None:
    """ℓ = ½(1 + ay + by²/2…)x² with y flat: λ_max and its fall are known, and SAM is simulated."""
    a, eta, rho, steps = 0.3, 0.4, 0.01, 400

    def grad(w: np.ndarray) -> np.ndarray:
        x, y = w
        return np.array([np.exp(a * y) * x, 0.5 * a * np.exp(a * y) * x**2])

    start = np.array([theory.quadratic([1.0], eta, rho).amplitude, 0.0])
    w = naive.run("sam", grad, start, steps, eta, rho=rho)
    measured = np.exp(a * (w[-1, 1] + w[-2, 1]) / 2) - 1
    foreseen = drift.sharpness_change([0.0], [a], 1.0, eta, rho, steps)
    assert measured == pytest.approx(foreseen, rel=0.02)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: drift.printed_coefficient(1.0, 2.0, 0.1), "no bounce"),
        (lambda: drift.printed_coefficient(0.0, 0.1, 0.1), "top"),
        (lambda: drift.coefficient(0.0, 1.0, -0.1, 0.1), "eta"),
        (lambda: drift.contraction(0.0, 1.0, 3.0), "no bounce"),
        (lambda: drift.displacement([0.0], [1.0], 1.0, 0.1, 0.1, -1), "steps"),
    ],
)
def test_misuse(call: object, name: str) -> None:
    with pytest.raises(ValueError, match=name):
        call()  # pyright: ignore[reportCallIssue]
