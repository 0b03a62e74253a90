"""Only exact arithmetic refutes, and only within the hypotheses; what it refutes is made simple."""

from __future__ import annotations

from fractions import Fraction

import made_up
import pytest

pytest.importorskip("flint")

from ravine.claims.refutation import refute
from ravine.claims.shrinking import shrink


def test_an_instance_outside_the_hypotheses_refutes_nothing():
    claim = made_up.beta_below(Fraction(6, 10))
    assert refute(made_up.statement(claim), claim, {"eigenvalues": (1.0, 0.5), "eta": 0.6, "rho": 1.0}) is None
    assert refute(made_up.statement(claim), claim, {"eigenvalues": (1.0, 0.5), "eta": 0.45, "rho": 1.0}) is not None


def test_shrinking_keeps_a_tenth_of_the_violation():
    claim = made_up.beta_below(Fraction(51, 100))
    statement = made_up.statement(claim)
    found = refute(statement, claim, {"eigenvalues": (3.21, 1.73, 0.91), "eta": 0.1533, "rho": 0.77})
    assert found is not None
    small = shrink(statement, claim, found)
    assert small.bound <= found.bound / 10
    assert len(small.instance["eigenvalues"]) == 2
