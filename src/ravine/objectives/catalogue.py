"""Losses with a name."""

from __future__ import annotations

from ravine.objectives.formulas import Expression, expression

SECTION_6 = "w1**2/(1+w2**2/2) + w2**2/2"


def section_6() -> Expression:
    """The loss of Section 6 and Figures 3 to 5 of arXiv 2210.01513.

    Its one minimum is the origin, where the Hessian's eigenvalues are 2 and 1; away from w₂ = 0 the ravine
    along w₁ widens.
    """
    return expression(SECTION_6)
