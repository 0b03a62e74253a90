"""The law of SAM with heavy ball: against its own step, the Jacobian of that step, and compiled runs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import naive
from ravine import theory
from ravine.methods import SAM
from ravine.objectives import quadratic
from ravine.simulate import trajectory
from ravine.theory.bounce import spectral_radius

rests = st.lists(st.floats(0.05, 0.95), min_size=0, max_size=4)
# η relative to the largest at which there is a bounce, 2(1+m)/λ₁.
shares = st.floats(0.02, 0.95)
momenta = st.floats(0.01, 0.95)


def law_of(rest: list[float], share: float, rho: float, momentum: float) -> theory.QuadraticLaw:
    lam = np.array([*rest, 1.0])
    return theory.quadratic(lam, share * 2 * (1 + momentum), rho, momentum)


def step(law: theory.QuadraticLaw, state: np.ndarray) -> np.ndarray:
    """(w_t, w_{t−1}) ↦ (w_{t+1}, w_t)."""
    w, before = np.split(state, 2)
    moved = naive.quadratic_sam(law.eigenvalues, w, law.eta, law.rho) + law.momentum * (w - before)
    return np.concatenate([moved, w])


@given(rests, shares, st.floats(0.05, 3.0), momenta)
def test_the_cycle_is_one(rest: list[float], share: float, rho: float, momentum: float) -> None:
    law = law_of(rest, share, rho, momentum)
    here, there = law.cycle
    moved = step(law, np.concatenate([here, there]))
    assert np.allclose(moved, np.concatenate([there, here]), rtol=0, atol=1e-12 * law.amplitude)
    assert law.bounces
    assert law.bounce_grad_norm == pytest.approx(float(law.beta[-1]))
    # The same pair is the cycle without momentum at η/(1+m).
    assert np.allclose(theory.quadratic(law.eigenvalues, law.eta / (1 + momentum), rho).cycle, law.cycle)


@given(rests, shares, st.floats(0.05, 3.0), momenta)
def test_the_rate_is_that_of_the_jacobian_of_two_steps(
    rest: list[float], share: float, rho: float, momentum: float
) -> None:
    law = law_of(rest, share, rho, momentum)
    here, there = law.cycle
    point, h = np.concatenate([here, there]), 1e-5 * law.amplitude
    columns = [
        (step(law, step(law, point + h * e)) - step(law, step(law, point - h * e))) / (2 * h)
        for e in np.eye(point.size)
    ]
    found = np.abs(np.linalg.eigvals(np.array(columns).T)).max() ** 0.5
    # Where two roots meet, differences that are off by 1e-9 are felt as their square root.
    assert found == pytest.approx(law.rate, abs=2e-4)
    assert np.sqrt(momentum) - 1e-12 <= law.rate < 1


@pytest.mark.parametrize(
    ("lam", "eta", "momentum", "rate"),
    [
        ([1.0], 1.0, 0.25, 0.5),  # complex roots: √m
        ([1.0], 0.2, 0.0016, (0.8016 + np.sqrt(0.8016**2 - 0.0064)) / 2),
        ([1.0, 0.5], 0.2, 0.01, (0.81 + np.sqrt(0.81**2 - 0.04)) / 2),
        ([1.0, 0.99], 1.0, 0.2, (0.99 + 0.99**2 * 1.4 - 1.2 + np.sqrt((0.99 + 0.99**2 * 1.4 - 1.2) ** 2 - 0.8)) / 2),
    ],
)
def test_the_rate_by_hand(lam: list[float], eta: float, momentum: float, rate: float) -> None:
    assert theory.quadratic(lam, eta, 1.0, momentum).rate == pytest.approx(rate, rel=1e-13)


@given(st.floats(-3.0, 3.0), st.floats(0.0, 0.99))
def test_the_spectral_radius_of_heavy_ball(factor: float, momentum: float) -> None:
    roots = np.abs(np.linalg.eigvals([[factor + momentum, -momentum], [1.0, 0.0]]))
    assert float(spectral_radius(factor, momentum)) == pytest.approx(roots.max(), abs=1e-7)


@given(st.floats(0.05, 1.0), shares, st.floats(0.05, 3.0), momenta, st.floats(0.05, 20.0))
def test_at_a_constant_gradient_norm_beta_parts_growth_from_decay(
    lam: float, share: float, rho: float, momentum: float, ratio: float
) -> None:
    """Lemma 5.2 with momentum: ‖v‖ frozen at g, the linear recursion for vᵢ contracts iff g > βᵢ."""
    law = theory.quadratic([lam, 1.0], share * 2 * (1 + momentum), rho, momentum)
    assume(abs(ratio - 1) > 1e-6)
    g = ratio * law.beta[0]
    factor = 1 - law.eta * lam - law.eta * rho * lam**2 / g
    growth = np.abs(np.linalg.eigvals([[factor + momentum, -momentum], [1.0, 0.0]])).max()
    assert (growth < 1) == (ratio > 1)


@settings(max_examples=40)
@given(rests, st.floats(0.05, 1.0), st.floats(0.05, 3.0), st.floats(0.01, 0.25), st.integers(0, 2**32 - 1))
def test_runs_with_little_momentum_end_in_the_cycle_at_the_rate(
    rest: list[float], eta: float, rho: float, momentum: float, seed: int
) -> None:
    lam = np.array([1.0, *rest])
    law = theory.quadratic(lam, eta, rho, momentum)
    assume(law.rate < 0.97)
    assume(2 * momentum < eta)  # else there is the wider orbit too
    start = np.random.default_rng(seed).standard_normal(lam.size)
    assume(abs(start[0]) > 1e-3)
    run = trajectory(quadratic(lam), SAM(eta=eta, rho=rho, momentum=momentum), start=start, steps=6000)
    w = run["w"].values[0]
    distance = np.min([np.linalg.norm(w - point, axis=1) for point in law.cycle], axis=0) / law.amplitude
    assert distance[-1] < 1e-9
    assert np.allclose(w[-1], -w[-2], rtol=0, atol=1e-9 * law.amplitude)
    small = np.flatnonzero((distance < 1e-3) & (distance > 1e-10))
    if small.size > 40:
        span = small[-1] - small[0]
        assert (distance[small[-1]] / distance[small[0]]) ** (1 / span) <= law.rate + 0.03


@given(st.floats(0.02, 1.9), st.floats(0.05, 3.0), momenta)
def test_the_wider_orbit_exists_where_eta_times_sharpness_is_below_2m(eta: float, rho: float, momentum: float) -> None:
    """The orbit of `ravine.theory.bounce`, λ₁ = 1: one iff its second point has the sign of its first."""
    assume(abs(eta - 2 * momentum) > 1e-6)
    p, q = 1 - momentum, 1 + momentum - eta
    a, b = (eta * rho * x / (p * p + q * q) for x in (p + q, q - p))
    law = theory.quadratic([1.0], eta, rho, momentum)
    state = np.array([a, -b])
    for expected in (b, -a, -b, a):
        state = step(law, state)
        if eta < 2 * momentum:
            assert state[0] == pytest.approx(expected, rel=1e-6, abs=1e-9)
    assert (b > 0) == (eta < 2 * momentum)
    # It attracts along e₁: off it the linear part is the same at each of its points.
    assert float(spectral_radius(1 - eta, momentum)) < 1


@pytest.mark.parametrize("name", ["gamma", "alpha", "b", "mu", "vanishing_grad_norm"])
def test_what_is_not_known_with_momentum_is_refused_by_name(name: str) -> None:
    law = theory.quadratic([1.0, 0.5], 0.2, 1.0, momentum=0.1)
    known = "gamma" if name == "vanishing_grad_norm" else name
    with pytest.raises(ValueError, match=f"^{known}: .*momentum=0$"):
        getattr(law, name)
    getattr(theory.quadratic([1.0, 0.5], 0.2, 1.0), name)


def test_limits_guarantees_and_ranges() -> None:
    law = theory.quadratic([1.0, 0.5], 0.2, 1.0, momentum=0.1)
    with pytest.raises(ValueError, match=r"^limit: "):
        law.limit([1.0, 1.0])
    assert not law.guaranteed
    assert law.unmet[0].startswith("momentum")
    assert theory.quadratic([1.0], 2.5, 1.0, momentum=0.5).bounces
    assert not theory.quadratic([1.0], 3.0, 1.0, momentum=0.5).bounces
    assert np.isnan(theory.quadratic([1.0], 3.0, 1.0, momentum=0.5).rate)
    for momentum in (-0.1, 1.0, np.nan, "heavy"):
        with pytest.raises(ValueError, match="momentum"):
            theory.quadratic([1.0], 0.2, 1.0, momentum)  # pyright: ignore[reportArgumentType]


def test_a_tie_and_a_flat_direction_are_left_out_of_the_rate() -> None:
    tied = theory.quadratic([1.0, 1.0, 0.0], 0.2, 1.0, momentum=0.1)
    assert tied.rate == theory.quadratic([1.0], 0.2, 1.0, momentum=0.1).rate
