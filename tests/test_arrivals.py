"""Theorem 3 beside runs: the starts are of the kind said, and arrive when a run step by step says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest

import naive
from ravine import theory

pytest.importorskip("flint")

from ravine.arrivals import arrival_steps, compare_arrivals, uniform_starts

SETTING: dict[str, Any] = {"radius": 3.0, "density": 1.0, "q": 0.01, "delta": 0.05, "within": 0.01}


@settings(max_examples=15)
@given(
    st.permutations([1.0, 0.8, 0.5, 0.3]), st.floats(0.1, 1.8), st.floats(0.1, 3.0), st.sampled_from([0.5, 1e-2, 1e-6])
)
def test_arrivals_are_those_of_runs_step_by_step(lam: list[float], eta: float, rho: float, share: float) -> None:
    law = theory.quadratic(lam, eta, rho)
    starts = uniform_starts(law, radius=3.0, q=0.01, starts=5, seed=1)
    within = share * law.amplitude
    found = arrival_steps(law, starts, within=within)
    for start, arrival in zip(starts, found, strict=True):
        w, inside = start, []
        for _ in range(arrival + 100):
            inside.append(min(np.linalg.norm(w - point) for point in law.cycle) <= within)
            w = naive.quadratic_sam(law.eigenvalues, w, law.eta, law.rho)
        assert all(inside[arrival:])
        assert arrival == 0 or not inside[arrival - 1]


def test_long_runs_go_on_in_stretches() -> None:
    """Enough coordinates that a stretch is shorter than the way; the same as in one stretch."""
    law = theory.quadratic(np.linspace(1.0, 0.4, 300), 0.05, 1.0)
    starts = uniform_starts(law, radius=3.0, q=0.0, starts=40, seed=0)
    found = arrival_steps(law, starts, within=0.01)
    alone = [int(arrival_steps(law, start[None, :], within=0.01)[0]) for start in starts[:3]]
    assert found[:3].tolist() == alone
    assert min(alone) > 2**20 // starts.size


def test_a_run_that_has_not_settled_has_not_arrived() -> None:
    law = theory.quadratic([1.0, 0.5], 0.2, 1.0)
    assert arrival_steps(law, np.array([[2.0, 2.0]]), within=1e-6, most_steps=60).tolist() == [-1]
    assert arrival_steps(law, np.array([[2.0, 2.0], [0.0, 1.0]]), within=1e-6, most_steps=500).tolist() == [63, -1]


@pytest.mark.parametrize("lam", [[1.0, 0.5], [0.5, 1.0, 0.7]])
def test_starts_are_uniform_on_the_part_of_the_ball_with_enough_along_e1(lam: list[float]) -> None:
    law, d = theory.quadratic(lam, 0.2, 1.0), len(lam)
    axis = int(np.argmax(lam))
    points = uniform_starts(law, radius=2.0, q=0.09, starts=4000, seed=3)
    assert points.shape == (4000, d)
    assert (points[:, axis] ** 2 >= 0.09 - 1e-6).all()
    assert (points[:, axis] > 0).mean() == pytest.approx(0.5, abs=0.03)
    # Uniform on the rest of its ball: where along its radius, given w₁, to the power d − 1.
    others = np.delete(points, axis, axis=1)
    share = np.linalg.norm(others, axis=1) / np.sqrt(4.0 - points[:, axis] ** 2)
    assert kstest(share ** (d - 1), "uniform").pvalue > 1e-3
    assert all(float(f"{x:.6g}") == x for x in points.ravel())


def test_the_comparison_is_what_its_parts_say() -> None:
    law = theory.quadratic([0.5, 1.0], 0.2, 1.0)
    found = compare_arrivals(law, **SETTING, starts=50)
    starts = uniform_starts(law, radius=3.0, q=0.01, starts=50)
    arrived = arrival_steps(law, starts, within=0.01)
    assert found.start == tuple(starts[arrived.argmax()])
    assert found.simulated == found.certified == arrived.max()
    assert found.counts == theory.bounds.theorem_3(law, **SETTING)
    assert found.notes == ()
    assert repr(found) == f"Comparison(sharp bound 62610, simulated {arrived.max()}, certified {arrived.max()})"


def test_starts_that_are_not_the_theorems_are_named() -> None:
    law = theory.quadratic([1.0, 0.5], 0.2, 1.0)
    dense: dict[str, Any] = SETTING | {"density": 0.01, "q": 1.0}
    notes = compare_arrivals(law, **dense, starts=5).notes
    # The disc of radius 3 has area 9π; of it, |w₁| < 1 holds on a share (2/π)(asin(1/3) + √8/9).
    assert "density 0.03537 > A" in notes[0]
    assert "probability 0.4164 > δ" in notes[1]
    # The ball of radius 3 has volume 36π.
    sparse: dict[str, Any] = SETTING | {"density": 0.001}
    solid = compare_arrivals(theory.quadratic([1.0, 0.5, 0.4], 0.2, 1.0), **sparse, starts=5).notes
    assert "density 0.008842 > A" in solid[0]
    edge: dict[str, Any] = SETTING | {"q": 9.0}
    none = compare_arrivals(law, **edge, starts=5)
    assert (none.start, none.simulated, none.certified) == (None, None, None)
    assert "no start in the ball" in none.notes[-1]


def test_the_bounds_hold_for_the_slowest() -> None:
    law = theory.quadratic([1.0, 0.9, 0.8], 0.4, 0.5)
    found = compare_arrivals(law, radius=2, density=0.1, q=0.01, delta=0.2, within=0.003, starts=100)
    assert found.simulated is not None
    assert found.counts.sharp.outside == ()
    assert found.simulated < found.counts.sharp.total < found.counts.corrected.total


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda law: compare_arrivals(law, **SETTING, starts=0), "positive number of starts"),
        (lambda law: compare_arrivals(law, **SETTING, seed=-1), "seed"),
        (lambda law: uniform_starts(law, radius=1.0, q=2.0, starts=1), "q ≤ R²"),
        (lambda law: uniform_starts(law, radius=-1.0, q=0.0, starts=1), "R > 0"),
        (lambda law: arrival_steps(law, np.ones((1, 2)), within=0.0), "positive distance"),
        (lambda law: arrival_steps(law, np.ones((1, 3)), within=0.1), "starts"),
        (lambda law: arrival_steps(theory.quadratic([1.0, 1.0], 0.2, 1.0), np.ones((1, 2)), within=0.1), "λ₁ > λ₂"),
        (lambda law: arrival_steps(theory.quadratic([1.0], 2.0, 1.0), np.ones((1, 1)), within=0.1), "ηλ₁ < 2"),
        (
            lambda law: arrival_steps(theory.quadratic([1.0], 0.2, 1.0, 0.5), np.ones((1, 1)), within=0.1),
            "without momentum",
        ),
        (lambda law: compare_arrivals(theory.quadratic([1.0, 0.5], 0.6, 1.0), **SETTING), r"1/\(2λ₁\)"),
    ],
)
def test_misuse_says_the_cure(call, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        call(theory.quadratic([1.0, 0.5], 0.2, 1.0))
