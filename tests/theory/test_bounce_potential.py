"""Proposition 8, Remark 9 and Lemma 10 over random spectra."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import approx_fprime

import naive
from ravine import theory
from ravine.methods import SAM
from ravine.objectives import quadratic
from ravine.simulate import trajectory

spectra = st.lists(st.floats(0.05, 1.0), min_size=1, max_size=5).map(np.array)
eta_shares = st.floats(0.02, 1.9)
seeds = st.integers(0, 2**32 - 1)


@given(spectra, eta_shares, st.floats(0.05, 3.0), seeds)
def test_sam_is_gradient_descent_on_j(lam: np.ndarray, share: float, rho: float, seed: int) -> None:
    eta = share / lam.max()
    potential = theory.potential(lam, eta, rho)
    w = np.random.default_rng(seed).standard_normal(lam.size)
    step = w - eta * rho * potential.gradient(w)
    assert np.allclose(-naive.quadratic_sam(lam, w, eta, rho), step, rtol=1e-12, atol=1e-12 * (1 + rho))


@given(spectra, eta_shares, st.floats(0.05, 3.0), st.floats(0.01, 0.95), seeds)
def test_sam_with_momentum_is_heavy_ball_on_j(
    lam: np.ndarray, share: float, rho: float, momentum: float, seed: int
) -> None:
    eta = share / lam.max()
    method = SAM(eta=eta, rho=rho, momentum=momentum)
    start = np.random.default_rng(seed).standard_normal(lam.size)
    w = trajectory(quadratic(lam), method, start=start, steps=12)["w"].values[0]
    u = w * (-1.0) ** np.arange(len(w))[:, None]
    downhill = eta * rho * theory.potential(lam, eta, rho, momentum).gradient(u[1:-1])
    after = u[1:-1] - downhill + momentum * (u[1:-1] - u[:-2])
    assert np.allclose(u[2:], after, rtol=1e-11, atol=1e-11 * (1 + rho))


@given(spectra, eta_shares, st.floats(0.05, 3.0), seeds)
def test_derivatives_of_j(lam: np.ndarray, share: float, rho: float, seed: int) -> None:
    potential = theory.potential(lam, share / lam.max(), rho, momentum=seed % 3 / 4)
    u = np.random.default_rng(seed).standard_normal(lam.size)
    scale = np.abs(potential.gradient(u)).max() + np.abs(np.diag(potential.hessian(u))).max()
    assert np.allclose(potential.gradient(u), approx_fprime(u, potential.value), rtol=1e-4, atol=1e-5 * scale)
    numeric = np.reshape(approx_fprime(u, potential.gradient), (lam.size, lam.size))  # pyright: ignore[reportCallIssue, reportArgumentType]
    assert np.allclose(potential.hessian(u), numeric, rtol=1e-3, atol=1e-4 * scale)


@given(spectra, st.floats(0.02, 3.0), st.floats(0.05, 3.0), seeds)
def test_lemma_10_bounds_the_descent_for_every_step_size(lam: np.ndarray, share: float, rho: float, seed: int) -> None:
    eta = share / lam.max()
    potential = theory.potential(lam, eta, rho)
    u = np.random.default_rng(seed).standard_normal((50, lam.size)) * rho
    after = u - eta * rho * potential.gradient(u)
    change = potential.value(after) - potential.value(u)
    bound = potential.descent_bound(u)
    slack = 1e-12 * (np.abs(potential.value(u)) + np.abs(potential.value(after)) + 1)
    assert (bound <= 0).all()
    assert (change <= bound + slack).all()


@given(spectra, st.floats(0.02, 1.9), st.floats(0.05, 3.0), seeds)
def test_the_bound_is_the_printed_sum(lam: np.ndarray, share: float, rho: float, seed: int) -> None:
    eta = share / lam.max()
    u = np.random.default_rng(seed).standard_normal(lam.size)
    beta = theory.quadratic(lam, eta, rho).beta
    norm = np.linalg.norm(lam * u)
    printed = -1 / (2 * rho) * (u**2 * (1 - beta / norm) ** 2 * (2 - eta * lam) ** 2 * lam).sum()
    assert theory.potential(lam, eta, rho).descent_bound(u) == pytest.approx(printed, rel=1e-9, abs=1e-12)


@given(
    st.lists(st.floats(0.05, 1.0), min_size=1, max_size=5, unique=True),
    st.floats(0.02, 1.9),
    st.floats(0.05, 3.0),
    st.sampled_from([0.0, 0.3, 0.9]),
)
def test_stationary_points(values: list[float], share: float, rho: float, momentum: float) -> None:
    lam = np.array(values)
    eta = share * (1 + momentum) / lam.max()
    potential = theory.potential(lam, eta, rho, momentum)
    law = theory.quadratic(lam, eta, rho, momentum)
    points = potential.stationary_points()
    assert len(points) == lam.size
    for i, point in enumerate(points):
        scale = np.abs(np.diag(potential.hessian(point.u))).max()
        assert np.abs(potential.gradient(point.u)).max() <= 1e-12 * scale * np.abs(point.u).max()
        assert potential.value(point.u) == pytest.approx(point.value, rel=1e-9)
        assert np.allclose(np.diag(point.curvatures), potential.hessian(point.u), rtol=1e-9, atol=1e-9 * scale)
        # Remark 9, with the factor λ₁² that the paper's bound lacks.
        assert point.is_minimum == (lam[i] == lam.max())
        assert point.u[i] == pytest.approx(law.beta[i] / lam[i], rel=1e-12)
    assert potential.minimum == pytest.approx(min(point.value for point in points))
    assert potential.minimum == pytest.approx(-law.bounce_grad_norm / 2)


def test_a_tie_has_a_flat_valley() -> None:
    points = theory.potential([1.0, 1.0, 0.5], 0.2, 1.0).stationary_points()
    assert points[0].curvatures.tolist() == [9.0, 0.0, pytest.approx(1.9 / 0.2 - 0.25 * 9)]
    assert points[0].is_minimum
    assert not points[2].is_minimum


def test_along_a_tie_the_curvature_is_zero_to_the_last_bit() -> None:
    """The difference that stands for it elsewhere rounds to ±1e-16, and a minimum would be none."""
    for eta in np.linspace(0.05, 1.5, 30):
        first, second = theory.potential([0.7, 0.7], eta, 0.3).stationary_points()
        assert first.curvatures[1] == second.curvatures[0] == 0
        assert first.is_minimum
        assert second.is_minimum


def test_a_direction_too_sharp_for_the_step_has_no_point_and_hides_none() -> None:
    points = theory.potential([1.0, 0.5, 1.5, 0.25], 2.0, 1.0).stationary_points()
    assert [np.flatnonzero(point.u).tolist() for point in points] == [[1], [3]]
    assert repr(points[0]) == "StationaryPoint(J = -0.25, minimum: False, at e2)"
    assert repr(points[1]) == f"StationaryPoint(J = {-0.125 / 3:.6g}, minimum: False, at e4)"


def test_integers_are_taken_as_the_numbers_they_are() -> None:
    """Their squares would not fit into integers."""
    potential, u = theory.potential([1.0, 0.5], 0.2, 1.0), 10**10 * np.array([1, 2])
    assert potential.value(u) == potential.value(u.astype(float)) > 0
    assert potential.gradient(u).tolist() == potential.gradient(u.astype(float)).tolist()
    assert potential.hessian(u).tolist() == potential.hessian(u.astype(float)).tolist()


def test_edges_of_j() -> None:
    potential = theory.potential([1.0, 0.0], 0.2, 1.0)
    assert np.isnan(potential.gradient([0.0, 1.0])).any()
    with pytest.raises(ValueError, match=r"^u: J has no Hessian where Λu = 0; move the point$"):
        potential.hessian([0.0, 1.0])
    assert len(potential.stationary_points()) == 1
    assert theory.potential([1.0], 2.0, 1.0).minimum == -np.inf
    assert np.isfinite(theory.potential([1.0], 2.0, 1.0, momentum=0.1).minimum)
    assert theory.potential([1.0, 0.5], 2.2, 1.0, momentum=0.1).minimum == -np.inf
    with pytest.raises(ValueError, match="momentum=0"):
        theory.potential([1.0], 0.2, 1.0, momentum=0.1).descent_bound([1.0])
    with pytest.raises(ValueError, match="rho"):
        theory.potential([1.0], 0.1, 0.0)
