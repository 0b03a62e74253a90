"""The bounds at the ends of a spectrum and the probability of a miss, against their formulas written out."""

from __future__ import annotations

import numpy as np
import pytest

from ravine.spectrum import Krylov, random_start
from ravine.spectrum.unseen import SpectrumEnd, Unseen, ends_of

VALUES, RESIDUALS = np.array([0.0, 1.0, 3.0, 7.0]), np.array([0.1, 0.2, 0.3, 0.4])


def _end(values: list[float], residuals: list[float], sign: int = 1) -> SpectrumEnd:
    k = len(values)
    return SpectrumEnd(np.arange(k), np.array(values), np.array(residuals), np.full(k, np.inf), sign)


def test_each_bound_is_the_residual_squared_over_the_gap_to_the_neighbours_interval() -> None:
    largest, smallest = ends_of(VALUES, RESIDUALS, 0.01, (2, 1), whole=False)
    assert (largest.chosen.tolist(), largest.values.tolist(), largest.sign) == ([3, 2], [7.0, 3.0], 1)
    assert (smallest.chosen.tolist(), smallest.values.tolist(), smallest.sign) == ([0], [0.0], -1)
    assert (largest.residuals.tolist(), smallest.residuals.tolist()) == ([0.4, 0.3], [0.1])
    # 7 is 4 from 3 less its 0.3; 3 is 2 from 1 less 0.2 on the one side, 4 less 0.4 from 7 on the other.
    assert largest.gap_bounds == pytest.approx([0.16 / 3.7 + 0.01, 0.09 / 1.8 + 0.01], rel=1e-14)
    assert smallest.gap_bounds == pytest.approx([0.01 / 0.8 + 0.01], rel=1e-14)
    nearer = ends_of(np.array([0.0, 9.0, 10.0]), np.array([0.1, 0.2, 0.3]), 0.0, (2, 0), whole=False)[0]
    assert nearer.gap_bounds == pytest.approx([0.09 / 0.8, 0.04 / 0.7], rel=1e-14)


def test_the_last_pair_has_a_neighbour_unless_it_is_the_last_there_is() -> None:
    some = ends_of(VALUES, RESIDUALS, 0.0, (4, 0), whole=False)[0]
    every = ends_of(VALUES, RESIDUALS, 0.0, (4, 0), whole=True)[0]
    assert some.gap_bounds[:3] == pytest.approx(every.gap_bounds[:3], rel=1e-15)
    assert some.gap_bounds[3] == np.inf
    assert every.gap_bounds[3] == pytest.approx(0.01 / 0.8, rel=1e-14)
    assert ends_of(VALUES[:1], RESIDUALS[:1], 0.5, (1, 0), whole=True)[0].gap_bounds.tolist() == [0.5]
    assert ends_of(VALUES, RESIDUALS, 0.0, (0, 1), whole=True)[0].values.size == 0


@pytest.mark.parametrize("distance", [0.0, 0.25, 0.5, 0.75])
def test_where_intervals_overlap_there_is_no_bound(distance: float) -> None:
    end = ends_of(np.array([0.0, 1.0 + distance]), np.array([1.0, 0.5]), 0.0, (1, 0), whole=False)[0]
    assert (end.gap_bounds[0] < np.inf) == (distance > 0.5)
    double = ends_of(np.ones(2), np.zeros(2), 0.0, (1, 0), whole=False)[0]
    assert double.gap_bounds[0] == np.inf


def test_what_counts_as_the_error() -> None:
    end = SpectrumEnd(np.arange(3), np.zeros(3), np.array([0.1, 0.2, 0.3]), np.array([0.2, 0.1, np.inf]), 1)
    assert end.reach("vectors").tolist() == [0.1, 0.2, 0.3]
    assert end.reach("values").tolist() == [0.1, 0.1, 0.3]


ROOTS = np.array([0.0, 1.0, 3.0])
UNSEEN = Unseen(ROOTS, log_betas=-5.0, scale=2.0, floor=1e-3)


def _chance(lam: float) -> float:
    return min(1.0, 2.0 * (np.exp(min(0.0, -5.0 - np.log(np.abs(lam - ROOTS)).sum())) + 1e-3))


@pytest.mark.parametrize("sign", [1, -1])
def test_the_chance_of_a_miss_beyond_one_pair(sign: int) -> None:
    unseen = Unseen(sign * ROOTS, -5.0, 2.0, 1e-3)
    missed = unseen.missed(_end([3.0 * sign], [0.5], sign), 0.1)
    assert missed == pytest.approx([_chance(3.5)], rel=1e-14)
    assert 0.0024 < missed[0] < 1
    assert unseen.missed(_end([3.0 * sign], [0.5], sign), 0.9) == pytest.approx([_chance(3.9)], rel=1e-14)
    assert unseen.missed(_end([], [], sign), 0.1).shape == (0,)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_chances_between_pairs_add_up(sign: int) -> None:
    unseen = Unseen(sign * ROOTS, -5.0, 2.0, 1e-3)
    apart = [_chance(3.2), max(_chance(2.4), _chance(2.8))]
    found = unseen.missed(_end([3.0 * sign, 2.2 * sign], [0.2, 0.2], sign), 0.1)
    uneven = unseen.missed(_end([3.0 * sign, 2.3 * sign], [0.2, 0.1], sign), 0.1)
    assert uneven == pytest.approx(found, rel=1e-12)
    assert found == pytest.approx(np.cumsum(apart), rel=1e-12)
    # Nearer to the inner root the other end of the interval is the worse.
    apart = [_chance(3.2), max(_chance(1.02), _chance(2.8)), 0.0]
    three = _end([3.0 * sign, 1.01 * sign, 1.0 * sign], [0.2, 0.01, 0.01], sign)
    assert unseen.missed(three, 0.001) == pytest.approx(np.cumsum(apart), rel=1e-12)
    # A root between them: of what lies there nothing is known.
    assert unseen.missed(_end([3.0 * sign, 0.5 * sign], [0.2, 0.2], sign), 0.1)[1] == 1.0
    # Intervals that touch leave nothing between.
    touching = unseen.missed(_end([3.0 * sign, 2.5 * sign, 2.25 * sign], [0.25, 0.25, 0.25], sign), 0.1)
    assert touching == pytest.approx([_chance(3.25)] * 3, rel=1e-14)


def test_a_chance_is_one_at_most_also_on_a_root() -> None:
    assert UNSEEN.missed(_end([2.5], [0.5]), 0.1).tolist() == [1.0]
    assert UNSEEN.missed(_end([2.5, -1.0, -4.0], [0.5, 0.5, 0.5]), 0.1).tolist() == [1.0, 1.0, 1.0]
    vague = Unseen(ROOTS, log_betas=0.5, scale=0.5, floor=0.25)
    # Of a unit vector no component is longer than 1.
    assert vague.missed(_end([3.0], [1e-3]), 1e-3).tolist() == [0.5 * 1.25]


@pytest.mark.parametrize("share", [1.0, 0.01])
def test_a_space_says_of_the_unseen_what_its_polynomial_says(share: float) -> None:
    lam = np.linspace(0, 1, 50)
    krylov = Krylov(lambda u: lam * u, random_start(50, 0, lam), 5, np.random.default_rng(0))
    for _ in range(5):
        krylov.step()
    unseen = Unseen.of(krylov, krylov.ritz()[0], share)
    assert unseen.roots == pytest.approx(krylov.ritz()[0], rel=1e-15)
    assert unseen.log_betas == pytest.approx(sum(krylov.log_betas), rel=1e-15)
    assert unseen.scale == pytest.approx(np.sqrt(100 / np.pi) * (1 if share == 1.0 else 101), rel=1e-14)
    assert unseen.floor == 5 * np.finfo(np.float64).eps
    # Its own bound holds for the start that it had: ‖p(H)v‖ = β₁⋯β_m.
    start = random_start(50, 0, lam)
    applied = np.prod(lam[:, None] - unseen.roots, axis=1) * start
    assert np.linalg.norm(applied) == pytest.approx(np.exp(unseen.log_betas), rel=1e-9)


def test_steps_outside_an_invariant_space_say_nothing_of_the_unseen() -> None:
    lam = np.repeat([1.0, 2.0, 5.0], 3)
    krylov = Krylov(lambda u: lam * u, random_start(9, 0, lam), 9, np.random.default_rng(0))
    for _ in range(6):
        krylov.step()
    unseen = Unseen.of(krylov, krylov.ritz()[0], 1.0)
    assert unseen.roots == pytest.approx([1.0, 2.0, 5.0], rel=1e-13)
    assert unseen.log_betas == sum(krylov.log_betas[:3])
