"""The closed form of the bounce on the loss of Section 6, against runs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import naive
from ravine import theory
from ravine.methods import SAM
from ravine.objectives import section_6
from ravine.simulate import trajectory


@settings(max_examples=60)
@given(st.floats(0.02, 0.9), st.floats(0.05, 4.0), st.sampled_from([0.0, 0.3, 0.9]))
def test_it_is_a_two_cycle(share: float, rho: float, momentum: float) -> None:
    eta = share * (1 + momentum)
    pair, loss = theory.section_6.cycle(eta, rho, momentum), section_6()
    for here, there in (pair, pair[::-1]):
        moved = naive.step("sam", loss.grad, here, eta, rho) + momentum * (here - there)
        assert np.allclose(moved, there, atol=1e-12)


@pytest.mark.parametrize(("eta", "momentum"), [(0.1, 0.0), (0.2, 0.0), (0.3, 0.0), (0.2, 0.2)])
def test_the_bounce_leaves_the_axis_above_the_threshold_only(eta: float, momentum: float) -> None:
    threshold = theory.section_6.threshold(eta, momentum)
    for rho, leaves in ((threshold - 0.03, False), (threshold + 0.03, True)):
        run = trajectory(section_6(), SAM(eta=eta, rho=rho, momentum=momentum), start=[0.3, 0.05], steps=20_000)
        w = run["w"].values[0, -1]
        assert (abs(w[1]) > 1e-3) == leaves
        assert np.allclose(np.abs(w), theory.section_6.cycle(eta, rho, momentum)[0], atol=1e-9)


def test_beyond_the_threshold_the_half_width_is_eta() -> None:
    assert theory.section_6.cycle(0.2, 1.0)[:, 0].tolist() == [0.2, -0.2]
    assert theory.section_6.cycle(0.2, 0.5)[0].tolist() == [0.2 * 0.5 / 0.8, 0.0]


@pytest.mark.parametrize("w2", [0.0, 0.157, -1.0, 1.9])
def test_curvature_on_the_floor_of_the_ravine(w2: float) -> None:
    loss = section_6()
    hessian = np.stack([loss.hvp([0.0, w2], axis) for axis in np.eye(2)])
    assert theory.section_6.sharpness(w2) == pytest.approx(np.linalg.eigvalsh(hessian)[-1], rel=1e-13)


@pytest.mark.parametrize(("eta", "rho"), [(1.0, 1.0), (0.0, 1.0), (0.2, 0.0), (0.2, -1.0)])
def test_misuse(eta: float, rho: float) -> None:
    with pytest.raises(ValueError, match=r"eta|rho"):
        theory.section_6.cycle(eta, rho)


def test_momentum_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match="momentum"):
        theory.section_6.threshold(0.2, momentum=-0.1)
    assert theory.section_6.threshold(1.5, momentum=0.9) == pytest.approx(1 - 1.5 / 1.9)
    assert theory.section_6.threshold(0.25) == 0.75


@pytest.mark.parametrize(("eta", "momentum"), [(0.2, 0.0), (0.5, 0.25)])
def test_at_the_threshold_itself_the_bounce_is_on_the_axis(eta: float, momentum: float) -> None:
    threshold = theory.section_6.threshold(eta, momentum)
    assert theory.section_6.cycle(eta, threshold, momentum)[0, 1] == 0.0
    assert 0 < theory.section_6.cycle(eta, threshold * (1 + 1e-6), momentum)[0, 1] < 0.01


def test_the_height_is_found_to_the_last_bit() -> None:
    """Its equation changes sign there, also where |w₂| is beyond 1."""
    assert theory.section_6.cycle(0.99, 2.36)[0, 1] > 1.04
    for eta, rho in ((0.2, 1.0), (0.5, 4.0), (0.9, 40.0), (0.99, 2.36)):
        w2 = theory.section_6.cycle(eta, rho)[0, 1]

        def excess(w2: float, eta: float = eta, rho: float = rho) -> float:
            gradient = section_6().grad(np.array([eta, w2]))
            ascended = np.array([eta, w2]) + rho * gradient / np.linalg.norm(gradient)
            return ascended[0] - 1 - ascended[1] ** 2 / 2

        assert excess(w2 * (1 - 1e-13)) > 0 > excess(w2 * (1 + 1e-13))


def test_a_step_too_large_for_gradient_descent_is_refused_with_the_cure() -> None:
    with pytest.raises(ValueError, match=r"^eta = 1.25: along w₁ the loss has curvature 2; take η < 1 \+ momentum$"):
        theory.section_6.cycle(1.25, 1.0, momentum=0.25)
    assert np.isfinite(theory.section_6.cycle(1.24, 1.0, momentum=0.25)).all()
