"""A statement of the tests' own: true or false as they ask."""

from __future__ import annotations

from fractions import Fraction

from ravine.claims import Claim, Statement
from ravine.claims.hypotheses import convex
from ravine.claims.law import Law
from ravine.claims.samplers import quadratic


def statement(claim: Claim, *, exact: bool = True) -> Statement:
    """`claim` of quadratics within Section 4's hypotheses."""
    return Statement(key="made-up", title="", draw=quadratic, hypotheses=convex, printed=claim, exact=exact)


def beta_below(share: Fraction) -> Claim:
    """β₁ ≤ share·b: true iff 1/(2−ηλ₁) ≤ share, that is for share ≥ 2/3 under ηλ₁ < 1/2."""

    def margin(at, n):
        law = Law(at, n)
        return n.of(share) - law.beta[0] / law.b

    return Claim(latex="", margin=margin)
