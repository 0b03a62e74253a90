"""Lemma 13 and Definition 12: the misalignment δ, and its bound by the ratio Σᵢ≥₂vᵢ²/v₁² (Section 4.4)."""

from __future__ import annotations

from ravine.claims import proofs
from ravine.claims.hypotheses import off_axis
from ravine.claims.law import Law, vector
from ravine.claims.numbers import Numbers, Real, norm, smallest
from ravine.claims.samplers import Instance, run
from ravine.claims.statement import Claim, Statement


def _misalignment_margin(at: Instance, n: Numbers) -> Real:
    law, v = Law(at, n), vector(at, n)
    delta = 1 - abs(v[0]) / law.norm(v)
    return smallest(n, [delta, 1 - delta, -abs(delta - law.misalignment(v))])


def _misalignment_proof() -> str:
    import sympy

    x, y = sympy.symbols("x y", positive=True)
    size = sympy.sqrt(x**2 + y**2)
    return proofs.identities((1 - x / size, y**2 / (size * (size + x)))) + ": 0 ≤ δ ≤ 1, and δ = 0 iff v is along e₁"


DEFINITION_12 = Statement(
    key="definition-12",
    title="Definition 12",
    draw=run,
    hypotheses=off_axis,
    printed=Claim(latex=r"\delta_t=1-|v_{t,1}|/\|v_t\|", margin=_misalignment_margin, proof=_misalignment_proof),
    scope="that it measures what Section 4.4 says: 0 ≤ δ_t ≤ 1, 0 only along e₁",
)


def _ratio_hypotheses(at: Instance, n: Numbers) -> dict[str, Real]:
    law, v = Law(at, n), vector(at, n)
    return off_axis(at, n) | {"v not along e₁": norm(n, v[1:]), "bound ≤ 1/2": 1 - law.ratio(v)}


def _ratio_margin(at: Instance, n: Numbers) -> Real:
    law, v = Law(at, n), vector(at, n)
    half = law.ratio(v) / 2
    return (half - law.misalignment(v)) / half


def _ratio_proof() -> str:
    import sympy

    s = sympy.symbols("s", positive=True)  # s = √(1+α)
    return proofs.identities(((s**2 - 1) / 2 - (1 - 1 / s), (s - 1) ** 2 * (s + 2) / (2 * s)))


LEMMA_13 = Statement(
    key="lemma-13",
    title="Lemma 13",
    draw=run,
    hypotheses=_ratio_hypotheses,
    printed=Claim(
        latex=r"\delta_t\le\frac12\sum_{i\ge2}v_{t,i}^2/v_{t,1}^2\text{ whenever this is at most }1/2",
        margin=_ratio_margin,
        proof=_ratio_proof,
    ),
    scope="the proof needs no 'whenever': (s−1)²(s+2)/(2s) ≥ 0",
)


STATEMENTS = (DEFINITION_12, LEMMA_13)
