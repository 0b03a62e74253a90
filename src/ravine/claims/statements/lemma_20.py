"""Lemma 20: how far w is from its cycle when v is near its own (Section 4.5)."""

from __future__ import annotations

from ravine.claims import proofs
from ravine.claims.hypotheses import standing
from ravine.claims.law import Law, vector
from ravine.claims.numbers import Numbers, Real
from ravine.claims.samplers import Draw, Instance, run
from ravine.claims.statement import Claim, Statement


def _draw(draw: Draw) -> Instance:
    return run(draw) | {"side": draw.integer("side", 0, 1)}


def _margin(at: Instance, n: Numbers) -> Real:
    law, v = Law(at, n), vector(at, n)
    s = -1 if at["side"] else 1
    off = [v[0] - s * law.beta[0], *v[1:]]
    left = law.norm(law.point(off))
    right = law.norm(off) / law.least
    return (right - left) / right


def _proof() -> str:
    import sympy

    low, gap = sympy.symbols("low gap", positive=True)
    return proofs.identities((1 / low**2 - 1 / (low + gap) ** 2, gap * (2 * low + gap) / (low * (low + gap)) ** 2))


LEMMA_20 = Statement(
    key="lemma-20",
    title="Lemma 20",
    draw=_draw,
    hypotheses=standing,
    printed=Claim(
        latex=r"\|w_t-s\beta_1e_1/\lambda_1\|\le\|v_t-s\beta_1e_1\|/\lambda_d",
        margin=_margin,
        proof=_proof,
    ),
)


STATEMENTS = (LEMMA_20,)
