"""Sections 3 and 4 over random spectra: the closed forms against runs and against the definitions."""

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

spectra = st.lists(st.floats(0.05, 1.0), min_size=1, max_size=5).map(np.array)
# η relative to λ₁, over the paper's range and beyond it.
paper = st.floats(0.02, 0.49)
beyond = st.floats(0.5, 1.9)


def gradient_step(lam: np.ndarray, v: np.ndarray, eta: float, rho: float) -> np.ndarray:
    return lam * naive.quadratic_sam(lam, v / lam, eta, rho)


@given(spectra, paper, st.floats(0.01, 5.0), st.integers(0, 2**32 - 1))
def test_lemma_5(lam: np.ndarray, share: float, rho: float, seed: int) -> None:
    eta = share / lam.max()
    law = theory.quadratic(lam, eta, rho)
    v = np.random.default_rng(seed).standard_normal(lam.size) * law.b
    after = gradient_step(lam, v, eta, rho)
    norm, room = np.linalg.norm(v), 1e-9
    # Part 2: v² shrinks iff ‖v‖ > βᵢ.
    clear = np.abs(norm - law.beta) > room * norm
    assert ((after**2 < v**2) == (norm > law.beta))[clear].all()
    # Part 3: the top coordinate grows against the i-th iff ‖v‖ < αᵢ.
    top = int(np.argmax(lam))
    others = (lam < lam.max() * (1 - 1e-6)) & (np.abs(norm - law.alpha) > room * norm) & (np.abs(after) > 1e-12)
    grown = after[top] ** 2 * v**2 > v[top] ** 2 * after**2
    assert (grown == (norm < law.alpha))[others].all()
    # Part 4: the order of the constants.
    order = np.argsort(-lam)
    assert (np.diff(law.beta[order]) <= 1e-15).all()
    assert (np.diff(law.alpha[order]) <= 1e-12 * law.gamma.max()).all()
    assert law.beta.max() < law.alpha.min()
    assert law.alpha.max() == pytest.approx(law.gamma[top])
    assert law.beta.max() <= law.b
    # Part 5: the ball ‖v‖ ≤ b is absorbing.
    inside = v / max(norm / law.b, 1.0)
    assert np.linalg.norm(gradient_step(lam, inside, eta, rho)) <= law.b * (1 + 1e-14)


@given(spectra, paper, st.floats(0.01, 5.0))
def test_the_constants_are_their_definitions(lam: np.ndarray, share: float, rho: float) -> None:
    eta = share / lam.max()
    law = theory.quadratic(lam, eta, rho)
    gamma = eta * rho * lam**2 / (1 - eta * lam)
    assert np.allclose(law.gamma, gamma)
    assert np.allclose(law.beta, (1 - eta * lam) / (2 - eta * lam) * gamma)
    top = int(np.argmax(lam))
    weights = 1 - eta * lam[top], 1 - eta * lam
    assert np.allclose(law.alpha, (weights[0] * gamma[top] + weights[1] * gamma) / (weights[0] + weights[1]))
    assert law.b == pytest.approx((1 - eta * lam[top]) * gamma[top])


@settings(max_examples=40)
@given(
    st.lists(st.floats(0.1, 0.9), min_size=0, max_size=4),
    st.one_of(paper, beyond),
    st.floats(0.05, 3.0),
    st.integers(0, 2**32 - 1),
)
def test_runs_end_in_the_cycle_at_the_exact_rate(rest: list[float], share: float, rho: float, seed: int) -> None:
    """Theorem 2, also beyond η < 1/(2λ₁): for every ηλ₁ < 2 the run ends in the predicted pair, as fast as said."""
    lam = np.array([1.0, *rest])
    law = theory.quadratic(lam, share, rho)
    assume(law.rate < 0.97)
    start = np.random.default_rng(seed).standard_normal(lam.size)
    assume(abs(start[0]) > 1e-3)
    run = trajectory(quadratic(lam), SAM(eta=share, rho=rho), start=start, steps=6000)
    w = run["w"].values[0]
    assert np.allclose(np.abs(w[-2:, 0]), law.amplitude, rtol=1e-12)
    assert w[-1, 0] == pytest.approx(-w[-2, 0], rel=1e-12)
    assert np.abs(w[-2:, 1:]).max(initial=0.0) < 1e-9 * law.amplitude
    distance = np.min([np.linalg.norm(w - pair, axis=1) for pair in law.cycle], axis=0) / law.amplitude
    # Never slower than the rate; faster where the start happens to have little of the slowest direction.
    small = np.flatnonzero((distance < 1e-3) & (distance > 1e-10))
    if small.size > 40:
        span = small[-1] - small[0]
        assert (distance[small[-1]] / distance[small[0]]) ** (1 / span) <= law.rate + 0.02


@given(st.lists(st.floats(0.05, 0.95), min_size=0, max_size=4), st.one_of(paper, beyond), st.floats(0.05, 3.0))
def test_the_rate_is_the_spectral_radius_of_the_step_at_the_cycle(rest: list[float], share: float, rho: float) -> None:
    lam = np.array([1.0, *rest])
    law = theory.quadratic(lam, share, rho)
    point, h = law.cycle[0], 1e-6 * law.amplitude
    columns = [
        (naive.quadratic_sam(lam, point + h * e, share, rho) - naive.quadratic_sam(lam, point - h * e, share, rho))
        / (2 * h)
        for e in np.eye(lam.size)
    ]
    assert np.abs(np.linalg.eigvals(np.array(columns))).max() == pytest.approx(law.rate, rel=1e-6, abs=1e-8)


def test_the_rate_in_a_case_for_each_of_its_terms() -> None:
    for lam, eta, expected in (
        ([1.0, 0.5], 0.2, 0.8),
        ([1.0, 0.2], 0.2, 1 - 0.04 - 0.04 * 1.8),
        ([1.0, 0.99], 0.5, abs(1 - 0.495 - 0.9801 * 1.5)),
        ([1.0], 1.5, 0.5),
    ):
        assert theory.quadratic(lam, eta, 1.0).rate == pytest.approx(expected, rel=1e-14)


@given(st.floats(0.02, 1.9), st.floats(0.05, 3.0), st.integers(0, 2**32 - 1))
def test_ties_end_on_the_sphere_where_limit_says(share: float, rho: float, seed: int) -> None:
    lam = np.array([1.0, 0.4, 1.0, 1.0])
    law = theory.quadratic(lam, share, rho)
    assume(law.rate < 0.97)
    assert law.tie
    assert not law.guaranteed
    start = np.random.default_rng(seed).standard_normal(4)
    w = trajectory(quadratic(lam), SAM(eta=share, rho=rho), start=start, steps=4000)["w"].values[0]
    pair = law.limit(start)
    assert np.linalg.norm(pair, axis=1) == pytest.approx([law.amplitude] * 2)
    nearest = min(np.abs(w[-1] - point).max() for point in pair)
    assert nearest < 1e-9 * law.amplitude


def test_limit_of_starts_inside_invariant_subspaces() -> None:
    lam = [1.0, 0.5, 0.0]
    law = theory.quadratic(lam, 0.2, 1.0)
    for start in ([0.3, 0.4, 7.0], [0.0, 0.4, 7.0], [0.0, 0.0, 7.0]):
        w = trajectory(quadratic(lam), SAM(eta=0.2, rho=1.0), start=start, steps=2000)["w"].values[0]
        pair = law.limit(start)
        assert min(np.abs(w[-1] - point).max() for point in pair) < 1e-12


def test_the_order_of_the_eigenvalues_is_the_users() -> None:
    law = theory.quadratic([0.5, 1.0], 0.2, 1.0)
    assert law.cycle[0].tolist() == [0.0, pytest.approx(1 / 9)]
    assert law.beta[1] > law.beta[0]


def test_outside_the_theorem_is_said() -> None:
    assert theory.quadratic([1.0, 0.5], 0.49, 1.0).guaranteed
    assert not theory.quadratic([1.0, 0.5], 0.5, 1.0).guaranteed
    assert not theory.quadratic([1.0, 0.0], 0.2, 1.0).guaranteed
    assert not theory.quadratic([1.0, 0.5], 0.2, 0.0).guaranteed
    assert theory.quadratic([1.0, 0.5], 1.9, 1.0).bounces
    diverging = theory.quadratic([1.0, 0.5], 2.0, 1.0)
    assert not diverging.bounces
    assert np.isnan(diverging.amplitude)
    assert np.isnan(diverging.rate)
    assert theory.quadratic([1.0], 1.0, 1.0).gamma[0] == np.inf


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (([], 0.1, 1.0), "eigenvalues"), (([-1.0], 0.1, 1.0), "eigenvalues"), (([0.0], 0.1, 1.0), "eigenvalues"),
        (([np.nan], 0.1, 1.0), "eigenvalues"), (([[1.0]], 0.1, 1.0), "eigenvalues"), (([1.0], 0.0, 1.0), "eta"),
        (([1.0], np.inf, 1.0), "eta"), (([1.0], "a", 1.0), "eta"), (([1.0], 0.1, -1.0), "rho"),
    ],
)  # fmt: skip
def test_misuse(arguments: tuple[object, float, float], name: str) -> None:
    with pytest.raises(ValueError, match=name):
        theory.quadratic(*arguments)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="start"):
        theory.quadratic([1.0], 0.1, 1.0).limit([1.0, 2.0])
