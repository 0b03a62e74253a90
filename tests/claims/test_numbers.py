"""The arithmetics: balls hold the truth, fractions are exact, and both say when they cannot tell."""

from __future__ import annotations

from fractions import Fraction

import pytest

pytest.importorskip("flint")

from ravine.claims.numbers import Balls, Exact, Undecided, precision, rational


def test_balls_hold_the_truth_and_know_when_they_do_not_know():
    with precision(64):
        balls = Balls()
        assert balls.of(0.1).contains(balls.of(1) / 10)
        assert balls.less(balls.of(0.1), balls.of(0.2))
        with pytest.raises(Undecided):
            balls.less(balls.sqrt(balls.of(2)) ** 2, balls.of(2))
        assert balls.ceil(balls.of(2.5)) == 3
        assert float(balls.largest([balls.of(1), balls.of(3), balls.of(2)])) == 3


def test_fractions_take_roots_that_are_rational_and_refuse_the_others():
    assert Exact.sqrt(Fraction(9, 16)) == Fraction(3, 4)
    with pytest.raises(Undecided):
        Exact.sqrt(Fraction(2))
    assert rational(0.1) == Fraction(1, 10)
