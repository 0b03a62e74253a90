# ruff: noqa: E501 (a formula in LaTeX stands on one line)
"""Lemma 19: when v is within ε of the cycle for good (Section 4.4)."""

from __future__ import annotations

from functools import partial

from ravine.claims.law import Law, vector
from ravine.claims.numbers import Numbers, Real, plus, smallest
from ravine.claims.runs import FOLLOWED, follow
from ravine.claims.samplers import REMOTE, Draw, Instance, remote
from ravine.claims.statement import Claim, Statement
from ravine.claims.statements.lemma_17 import in_range, small_epsilon


def largest_epsilon(law: Law) -> Real:
    """The range of λ_dε in which Lemma 19 holds: below this."""
    n = law.n
    return smallest(
        n,
        [
            n.sqrt(2 * law.h * law.beta[0] / law.gamma[0]),
            law.h / (2 * law.gamma[0]),
            2 / law.b,
            law.beta[0],
            n.of(1),
        ],
    )


def _draw(draw: Draw) -> Instance:
    at = remote(draw)
    return at | {"eps": small_epsilon(draw, at, largest_epsilon)}


def _arrival_margin(at: Instance, n: Numbers, *, from_descent: bool) -> Real:
    """The count of steps, after T₀ or from step 0, against the last step at which v was farther than ε."""
    law, eps = Law(at, n), n.of(at["eps"])
    followed = follow(law, vector(at, n), lambda v: not n.less(eps, law.distance(v)), eps / 10)
    scale = 2 * (1 + law.beta[0]) / eps
    wait = 2 / law.mu * (law.steps_lost * n.log(4 / law.h) + n.log(scale**2 * followed.ratio / 2) / 2)
    bound = (plus(n, wait) + followed.descended if from_descent else wait) + 6 / law.h * n.log(scale)
    return (bound - followed.last_failure) / (1 + abs(bound))


LEMMA_19 = Statement(
    key="lemma-19",
    title="Lemma 19",
    draw=_draw,
    hypotheses=partial(in_range, limit=largest_epsilon),
    printed=Claim(
        latex=r"t\ge\frac2\mu\Big(\frac{3\beta_1\lambda_1^3}{\eta\beta_d\lambda_d^4}\log\frac4{\eta\lambda_1}+\frac12\log\frac{2(1+\beta_1)^2\sum v_{T_0,i}^2}{\epsilon^2v_{T_0,1}^2}\Big)+\frac6{\eta\lambda_1}\ln\frac{2(1+\beta_1)}\epsilon\Rightarrow\|v_t\mp\beta_1e_1\|\le\epsilon",
        margin=partial(_arrival_margin, from_descent=False),
        seeds=(REMOTE | {"eps": 0.01},),
    ),
    corrected=Claim(latex=r"t\ge T_0+\ldots", margin=partial(_arrival_margin, from_descent=True)),
    scope=FOLLOWED,
    repair="add T₀; Lemma 18 is used at ε/(2(1+β₁)) < 1/2, where it holds",
    cost=8,
)


STATEMENTS = (LEMMA_19,)
