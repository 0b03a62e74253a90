"""The proofs refuse what is not so."""

from __future__ import annotations

from fractions import Fraction

import pytest

pytest.importorskip("flint")

from ravine.claims.proofs import Unproved, identities, positive_on


def test_the_proofs_refuse_what_is_not_so():
    import sympy

    x = sympy.symbols("x")
    with pytest.raises(Unproved):
        identities(((x + 1) ** 2, x**2 + 1))
    with pytest.raises(Unproved):
        positive_on(lambda y: y - y * y, [(Fraction(1, 2), 2)])
    assert "pieces" in positive_on(lambda y: y - y * y, [(Fraction(1, 10), Fraction(9, 10))])
