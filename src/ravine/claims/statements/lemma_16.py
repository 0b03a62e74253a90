# ruff: noqa: E501 (a formula in LaTeX stands on one line)
"""Lemma 16, Definition 15 and equations (8), (9) and (10): the first coordinate's way to ±β₁ in the ball (Section 4.4)."""

from __future__ import annotations

from functools import partial

from ravine.claims import proofs
from ravine.claims.hypotheses import inside_ball, off_axis
from ravine.claims.law import Law, vector
from ravine.claims.numbers import Numbers, Real, smallest
from ravine.claims.samplers import Draw, Instance, digits, given_gradient, gradient, quadratic, run
from ravine.claims.statement import Claim, Statement


def _sign_margin(at: Instance, n: Numbers) -> Real:
    """The use the paper makes of s_t: it flips exactly while ‖v_t‖ < γ₁."""
    law, v = Law(at, n), vector(at, n)
    size = law.norm(v)
    return -law.step(v)[0] / v[0] * (law.gamma[0] - size) / (size + law.gamma[0])


def _sign_proof() -> str:
    import sympy

    h, size, gamma = sympy.symbols("h N gamma", positive=True)
    return proofs.identities((1 - h - (1 - h) * gamma / size, -(1 - h) * (gamma - size) / size))


DEFINITION_15 = Statement(
    key="definition-15",
    title="Definition 15",
    draw=run,
    hypotheses=off_axis,
    printed=Claim(latex=r"s_t=\mathrm{sign}(v_{t,1})", margin=_sign_margin, proof=_sign_proof),
    scope="that it flips exactly where ‖v_t‖ < γ₁, on which Lemma 16 rests; s = 0 at v_{t,1} = 0",
)


def _sign(v: list[Real], n: Numbers) -> int:
    """s_t of Definition 15."""
    return -1 if n.less(v[0], n.of(0)) else 1


def _recurrence_margin(at: Instance, n: Numbers, *, sign: int) -> Real:
    """The recurrence with `sign` before its right-hand side."""
    law, v = Law(at, n), vector(at, n)
    s = _sign(v, n)
    left = law.step(v)[0] + s * law.beta[0]
    drive = s * law.gamma[0] * law.misalignment(v)
    return -abs(left - sign * (1 - law.h) * (v[0] - s * law.beta[0] + drive)) / (law.norm(v) + law.b)


def _recurrence_proof() -> str:
    import sympy

    h, b, size, x = sympy.symbols("h b N x", positive=True)  # s = +1, v₁ = x ≤ N
    beta, gamma, delta = b / (2 - h), b / (1 - h), 1 - x / size
    moved = (1 - h - b / size) * x
    return (
        proofs.identities(
            (moved + beta, (1 - h) * (x - beta + gamma * delta)),
            (moved + beta, (1 - h) * (x - beta) + beta * (2 - h) * delta),
        )
        + "; s = −1 by symmetry"
    )


LEMMA_16_1 = Statement(
    key="lemma-16.1",
    title="Lemma 16, the recurrence",
    draw=run,
    hypotheses=off_axis,
    printed=Claim(
        latex=r"v_{t+1,1}-(-s_t\beta_1)=-(1-\eta\lambda_1)(v_{t,1}-s_t\beta_1+s_t\gamma_1\delta_t)",
        margin=partial(_recurrence_margin, sign=-1),
    ),
    corrected=Claim(
        latex=r"v_{t+1,1}+s_t\beta_1=(1-\eta\lambda_1)(v_{t,1}-s_t\beta_1+s_t\gamma_1\delta_t)",
        margin=partial(_recurrence_margin, sign=1),
        proof=_recurrence_proof,
    ),
    repair="the sign on the right is +",
)


def _expanded_margin(at: Instance, n: Numbers, *, sign: int) -> Real:
    """The recurrence multiplied out, with `sign` before its first term."""
    law, v = Law(at, n), vector(at, n)
    s = _sign(v, n)
    left = law.step(v)[0] + s * law.beta[0]
    right = sign * (1 - law.h) * (v[0] - s * law.beta[0]) + s * law.beta[0] * (2 - law.h) * law.misalignment(v)
    return -abs(left - right) / (law.norm(v) + law.b)


EQUATION_8 = Statement(
    key="eq-8",
    title="(8)",
    draw=run,
    hypotheses=off_axis,
    printed=Claim(
        latex=r"v_{t+1,1}+s_t\beta_1=-(1-\eta\lambda_1)(v_{t,1}-s_t\beta_1)+s_t\beta_1(2-\eta\lambda_1)\delta_t",
        margin=partial(_expanded_margin, sign=-1),
    ),
    corrected=Claim(
        latex=r"v_{t+1,1}+s_t\beta_1=(1-\eta\lambda_1)(v_{t,1}-s_t\beta_1)+s_t\beta_1(2-\eta\lambda_1)\delta_t",
        margin=partial(_expanded_margin, sign=1),
        proof=_recurrence_proof,
    ),
    repair="the sign again; the line before (8) has it right",
)


def _alternates_draw(draw: Draw) -> Instance:
    at = quadratic(draw)
    v = gradient(draw, at, 0.01, 1)
    shrink = draw.pick([1.0, 1e-3])
    return at | {"v": given_gradient(draw, at) or (v[0], *(digits(x * shrink) for x in v[1:]))}


def _in_ball(at: Instance, n: Numbers) -> dict[str, Real]:
    return off_axis(at, n) | inside_ball(at, n)


def _aligned_hypotheses(at: Instance, n: Numbers) -> dict[str, Real]:
    law, v = Law(at, n), vector(at, n)
    worst = law.misalignment(v)
    for _ in range(40):
        v = law.step(v)
        worst = n.largest([worst, law.misalignment(v)])
    return {"δ_t ≤ ηλ₁β₁/2": law.h * law.beta[0] / 2 - worst}


def _alternates_margin(at: Instance, n: Numbers) -> Real:
    """Lemma 16's inequality along forty steps from v, with the sign that alternates from s_T."""
    law, v = Law(at, n), vector(at, n)
    s, worst = _sign(v, n), n.of(1)
    for _ in range(40):
        moved = law.step(v)
        bound = (1 - law.h) * (abs(v[0] - s * law.beta[0]) + law.gamma[0] * law.misalignment(v))
        worst = smallest(n, [worst, (bound - abs(moved[0] + s * law.beta[0])) / law.beta[0]])
        v, s = moved, -s
    return worst


def _alternates_proof() -> str:
    return (
        _recurrence_proof()
        + "; on ‖v_t‖ ≤ b < γ₁ the sign flips (Definition 15), so both sides follow by the triangle inequality, whatever δ_t"
    )


LEMMA_16_2 = Statement(
    key="lemma-16.2",
    title="Lemma 16, the inequality",
    draw=_alternates_draw,
    hypotheses=_in_ball,
    printed=Claim(
        latex=r"\delta_t\le\tfrac{\eta\lambda_1\beta_1}2\ \forall t\ge T\Rightarrow|v_{t+1,1}-(-1)^{t+1-T}s_T\beta_1|\le(1-\eta\lambda_1)(|v_{t,1}-(-1)^{t-T}s_T\beta_1|+\gamma_1\delta_t)",
        margin=_alternates_margin,
        also=_aligned_hypotheses,
    ),
    corrected=Claim(
        latex=r"\text{the same without the condition on }\delta_t", margin=_alternates_margin, proof=_alternates_proof
    ),
    scope="forty steps from v_T; all later ones by Lemma 5.5",
    repair="the print stands; its condition on δ_t is not needed",
    cost=2,
)


def _ball_draw(draw: Draw) -> Instance:
    at = quadratic(draw)
    return at | {"v": gradient(draw, at, 0.01, 1)}


def _printed_distance_margin(at: Instance, n: Numbers) -> Real:
    law, v = Law(at, n), vector(at, n)
    return ((1 - law.h) * law.beta[0] - abs(abs(v[0]) - law.beta[0])) / law.beta[0]


def _distance_margin(at: Instance, n: Numbers) -> Real:
    law, v = Law(at, n), vector(at, n)
    return (law.beta[0] - abs(abs(v[0]) - law.beta[0])) / law.beta[0]


def _distance_proof() -> str:
    import sympy

    h, b = sympy.symbols("h b", positive=True)
    return proofs.identities((b - b / (2 - h), (1 - h) * b / (2 - h))) + ": 0 ≤ |v₁| ≤ b and b − β₁ ≤ β₁"


EQUATION_9 = Statement(
    key="eq-9",
    title="(9)",
    draw=_ball_draw,
    hypotheses=_in_ball,
    printed=Claim(latex=r"|v_{t,1}-s_t\beta_1|\le(1-\eta\lambda_1)\beta_1", margin=_printed_distance_margin),
    corrected=Claim(latex=r"|v_{t,1}-s_t\beta_1|\le\beta_1", margin=_distance_margin, proof=_distance_proof),
    repair="near v_{t,1} = 0 the distance is β₁",
)


def _contraction_margin(at: Instance, n: Numbers) -> Real:
    law, v = Law(at, n), vector(at, n)
    left = abs(abs(law.step(v)[0]) - law.beta[0])
    right = (1 - law.h) * (abs(abs(v[0]) - law.beta[0]) + law.gamma[0] * law.misalignment(v))
    return (right - left) / law.beta[0]


EQUATION_10 = Statement(
    key="eq-10",
    title="(10)",
    draw=_ball_draw,
    hypotheses=_in_ball,
    printed=Claim(
        latex=r"|v_{t+1,1}-s_{t+1}\beta_1|\le(1-\eta\lambda_1)(|v_{t,1}-s_t\beta_1|+\gamma_1\delta_t)",
        margin=_contraction_margin,
        proof=_alternates_proof,
    ),
)


STATEMENTS = (DEFINITION_15, LEMMA_16_1, EQUATION_8, LEMMA_16_2, EQUATION_9, EQUATION_10)
