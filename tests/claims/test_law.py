"""The law, written from the paper alone, against the closed forms of `theory`."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ravine.claims.law import Law
from ravine.claims.numbers import Floats


def test_law_agrees_with_the_closed_forms():
    from ravine import theory

    at = {"eigenvalues": (2.0, 1.2, 0.3), "eta": 0.2, "rho": 0.7}
    law, closed = Law(at, Floats()), theory.quadratic(at["eigenvalues"], 0.2, 0.7)
    for name in ("alpha", "beta", "gamma"):
        np.testing.assert_allclose(getattr(law, name), getattr(closed, name), rtol=1e-14)
    u = [0.3, -0.2, 0.9]
    assert law.potential(u) == pytest.approx(float(theory.potential(at["eigenvalues"], 0.2, 0.7).value(u)), rel=1e-13)
    assert law.misalignment([3.0, 4.0]) == pytest.approx(1 - 3 / 5)
    assert math.isclose(law.b, closed.b, rel_tol=1e-14)
    assert law.point(law.gradient(u)) == pytest.approx(u)
