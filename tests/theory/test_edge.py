"""Edges of stability, against the step itself."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import naive
from ravine import theory
from ravine.methods import SAM
from ravine.objectives import quadratic
from ravine.simulate import trajectory

positive = st.floats(1e-3, 1e3)


@given(positive, st.floats(1e-4, 10.0), st.floats(0.0, 10.0), st.sampled_from([0.0, 0.5, 0.9]))
def test_the_edge_is_the_root(g: float, eta: float, rho: float, momentum: float) -> None:
    lam = float(theory.sam_edge(g, eta, rho, momentum))
    assert eta * lam * (1 + rho * lam / g) == pytest.approx(2 * (1 + momentum), rel=1e-12)


@given(positive, st.floats(1e-4, 10.0))
def test_without_radius_it_is_two_over_eta(g: float, eta: float) -> None:
    assert theory.sam_edge(g, eta, 0.0) == pytest.approx(2 / eta, rel=1e-15)
    # √(1+x) − 1 ≈ x/2 − x²/8: a radius this small must show to first order, not drown in rounding.
    x = 1e-6
    assert 1 - theory.sam_edge(g, eta, x * eta * g / 8) * eta / 2 == pytest.approx(x / 4, rel=1e-5)


@given(st.floats(0.1, 10.0), st.floats(0.01, 1.9), st.floats(0.01, 3.0), st.floats(1e-3, 10.0), st.floats(0.0, 0.95))
def test_above_beta_is_below_the_edge(lam: float, share: float, rho: float, g: float, momentum: float) -> None:
    eta = share * (1 + momentum) / lam
    beta = theory.quadratic([lam], eta, rho, momentum).beta[0]
    if abs(g - beta) > 1e-9 * beta:
        assert (g > beta) == (lam < theory.sam_edge(g, eta, rho, momentum))


def test_the_edge_of_no_gradient_is_zero() -> None:
    assert theory.sam_edge([0.0, np.inf], 0.1, 1.0).tolist() == [0.0, 20.0]


@given(st.floats(0.1, 5.0), st.floats(0.01, 3.0), st.floats(0.0, 3.0), st.floats(0.0, 0.95))
def test_usam_is_stable_where_said(lam: float, eta: float, rho: float, momentum: float) -> None:
    factor = float(naive.step("usam", lambda w: lam * w, np.array([1.0]), eta, rho)[0])
    growth = np.abs(np.linalg.eigvals([[factor + momentum, -momentum], [1.0, 0.0]])).max()
    if abs(growth - 1) > 1e-7:
        assert bool(theory.usam_stable(lam, eta, rho, momentum)) == (growth < 1)


@given(st.floats(0.05, 1.9), st.floats(0.1, 2.0), st.floats(0.0, 0.95))
def test_heavy_ball_has_the_two_cycle_and_it_attracts(share: float, rho: float, momentum: float) -> None:
    amplitude = theory.amplitude(1.0, share, rho, momentum)
    w, before = 1.001 * amplitude, -1.001 * amplitude
    for _ in range(4000):
        w, before = w - share * (w + rho * np.sign(w)) + momentum * (w - before), w
    assert abs(w) == pytest.approx(amplitude, rel=1e-9)
    assert w == pytest.approx(-before, rel=1e-9)


@settings(max_examples=20)
@given(st.floats(0.05, 1.0), st.floats(0.1, 2.0), st.floats(0.0, 0.3))
def test_with_little_momentum_runs_end_in_it(share: float, rho: float, momentum: float) -> None:
    run = trajectory(quadratic([1.0, 0.3]), SAM(eta=share, rho=rho, momentum=momentum), start=[1.0, 1.0], steps=20_000)
    w = run["w"].values[0, -2:, 0]
    assert np.abs(w) == pytest.approx([theory.amplitude(1.0, share, rho, momentum)] * 2, rel=1e-9)


def test_with_more_momentum_a_wider_orbit_attracts_too() -> None:
    run = trajectory(quadratic([1.0, 0.3]), SAM(eta=0.5, rho=1.0, momentum=0.5), start=[1.0, 1.0], steps=20_000)
    w = run["w"].values[0, :, 0]
    assert w[-4:] == pytest.approx(w[-8:-4], rel=1e-9)
    assert np.sign(w[-4:]).sum() == 0
    assert np.sign(w[-4]) * np.sign(w[-3]) + np.sign(w[-3]) * np.sign(w[-2]) == 0
    assert np.abs(w[-4:]).max() > 2 * theory.amplitude(1.0, 0.5, 1.0, 0.5)


def test_heavy_ball_without_momentum_is_the_law() -> None:
    amplitude = theory.quadratic([1.3], 0.2, 0.7).amplitude
    assert theory.amplitude(1.3, 0.2, 0.7, 0.0) == pytest.approx(amplitude)
    assert np.isnan(theory.amplitude(1.0, 3.0, 1.0, 0.5))


def test_where_nothing_bounces_there_is_no_amplitude() -> None:
    """Over an array: flat, concave, unknown, and too sharp for the step."""
    assert np.isnan(theory.amplitude([0.0, -1.0, np.nan, 10.0, 11.0], 0.2, 1.0)).all()
    assert theory.amplitude([[1.0, 2.0]], 0.2, 1.0) == pytest.approx(np.array([[0.2 / 1.8, 0.4 / 1.6]]))
    assert theory.amplitude(2.0, 0.2, 0.0) == 0.0


@pytest.mark.parametrize(
    "call",
    [
        lambda: theory.sam_edge(-1.0, 0.1, 1.0),
        lambda: theory.sam_edge(np.nan, 0.1, 1.0),
        lambda: theory.sam_edge(1.0, 0.0, 1.0),
        lambda: theory.sam_edge(1.0, 0.1, 1.0, momentum=1.0),
        lambda: theory.amplitude(1.0, 0.1, 1.0, -0.1),
        lambda: theory.amplitude("sharp", 0.1, 1.0, 0.0),
        lambda: theory.amplitude(1.0, 0.1, -1.0, 0.0),
        lambda: theory.usam_stable(1.0, 1.0, 1.0, momentum=1.0),
        lambda: theory.usam_stable(1.0, -1.0, 1.0),
    ],
)
def test_misuse(call: object) -> None:
    with pytest.raises(ValueError, match=r"give|must|norm"):
        call()  # pyright: ignore[reportCallIssue]


def test_at_the_edge_itself_nothing_contracts() -> None:
    """ηλ(1+ρλ) = 2(1+m) in numbers that have no rounding: stable strictly below, and without momentum unless given."""
    assert theory.usam_stable([0.5, 1.0, 2.0], 1.0, 1.0).tolist() == [True, False, False]
    assert theory.usam_stable([0.5, 1.0, 2.0], 1.0, 1.0, 0.5).tolist() == [True, True, False]


def test_without_radius_the_edge_is_that_of_every_gradient_also_of_none() -> None:
    assert theory.sam_edge([0.0, 1.0, np.inf], 0.5, 0.0).tolist() == [4.0, 4.0, 4.0]
    assert theory.sam_edge(0.0, 0.5, 0.0, 0.5) == 6.0


def test_near_the_end_of_the_step_sizes_the_bounce_is_as_wide_as_can_be_written() -> None:
    assert theory.amplitude(1.0, np.nextafter(2.0, 0.0), 1e300) == np.inf
