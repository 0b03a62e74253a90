"""Remark 9: the minimum of J, and how much each of its saddles falls (Section 4.3)."""

from __future__ import annotations

from ravine.claims import proofs
from ravine.claims.hypotheses import defined, standing
from ravine.claims.law import Law, vector
from ravine.claims.numbers import Numbers, Real
from ravine.claims.samplers import Draw, Instance, quadratic, run_with_ties
from ravine.claims.statement import Claim, Statement
from ravine.claims.statements.proposition_08 import beta_increases_proof


def _minimum_margin(at: Instance, n: Numbers) -> Real:
    law = Law(at, n)
    u = law.point(vector(at, n))
    return (law.potential(u) + law.beta[0] / 2) / law.beta[0]


def _minimum_proof() -> str:
    import sympy

    z, b1 = sympy.symbols("z beta1", positive=True)
    text = proofs.identities(((z**2 / b1) / 2 - z + b1 / 2, (z - b1) ** 2 / (2 * b1)))
    return text + ": J(u) ≥ ‖Λu‖²/(2β₁) − ‖Λu‖ ≥ −β₁/2, with equality only for ‖Λu‖ = β₁ along the top eigenspace"


REMARK_9_1 = Statement(
    key="remark-9.1",
    title="Remark 9, the minimum",
    draw=run_with_ties,
    hypotheses=defined,
    printed=Claim(latex=r"\min J=-\beta_1/2\text{ on }M", margin=_minimum_margin, proof=_minimum_proof),
)


def _saddle_draw(draw: Draw) -> Instance:
    at = quadratic(draw)
    return at | {"which": draw.integer("which", 1, len(at["eigenvalues"]) - 1)}


def _least_curvature(at: Instance, law: Law) -> Real:
    which = max(1, min(at["which"], law.size - 1))
    return law.sharpness**2 * (1 / law.beta[0] - 1 / law.beta[which])


def _printed_saddle_margin(at: Instance, n: Numbers) -> Real:
    law = Law(at, n)
    bound = 1 / law.beta[0] - 1 / law.beta[1]
    return (bound - _least_curvature(at, law)) / abs(bound)


def _saddle_margin(at: Instance, n: Numbers) -> Real:
    law = Law(at, n)
    bound = (1 / law.beta[0] - 1 / law.beta[1]) * law.sharpness**2
    return (bound - _least_curvature(at, law)) / abs(bound)


REMARK_9_2 = Statement(
    key="remark-9.2",
    title="Remark 9, the saddles",
    draw=_saddle_draw,
    hypotheses=standing,
    printed=Claim(latex=r"\lambda_{\min}(\nabla^2J)\le1/\beta_1-1/\beta_2", margin=_printed_saddle_margin),
    corrected=Claim(
        latex=r"\lambda_{\min}(\nabla^2J)\le\lambda_1^2(1/\beta_1-1/\beta_2)",
        margin=_saddle_margin,
        proof=beta_increases_proof,
    ),
    scope="at the stationary points other than M",
    repair="λ₁² is missing; the print fails whenever λ₁ < 1",
)


STATEMENTS = (REMARK_9_1, REMARK_9_2)
