# ruff: noqa: E501 (a formula in LaTeX stands on one line)
"""Lemma 17 and equation (11): when |v₁| is within ε of β₁ and δ below ε² for good (Section 4.4)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from ravine.claims.hypotheses import off_axis
from ravine.claims.law import Law, vector
from ravine.claims.numbers import Floats, Numbers, Real, norm, plus, smallest
from ravine.claims.runs import FOLLOWED, follow
from ravine.claims.samplers import REMOTE, REMOTER, Draw, Instance, digits, remote
from ravine.claims.statement import Claim, Statement
from ravine.claims.statements.lemma_14 import alignment_margin


def small_epsilon(draw: Draw, at: Instance, limit: Callable[[Law], Real]) -> float:
    """An ε below `limit`, or what the user gave for it."""
    if "eps" in draw.given:
        return float(draw.given["eps"])
    return digits(limit(Law(at, Floats())) * draw.log("", 0.05, 0.99))


def in_range(at: Instance, n: Numbers, *, limit: Callable[[Law], Real]) -> dict[str, Real]:
    """A start off e₁'s axis and not along it, and 0 < ε < `limit`."""
    law, eps = Law(at, n), n.of(at["eps"])
    return off_axis(at, n) | {
        "ε > 0": eps,
        "ε in range": limit(law) - eps,
        "v not along e₁": norm(n, law.step(vector(at, n))[1:]),
    }


def _largest_epsilon(law: Law) -> Real:
    n = law.n
    return smallest(
        n,
        [
            n.sqrt(law.h * law.beta[0] / (2 * law.gamma[0])),
            law.h / (2 * law.gamma[0]),
            1 / law.b,
            law.beta[0] / 2,
        ],
    )


def _draw(draw: Draw) -> Instance:
    at = remote(draw)
    return at | {"eps": small_epsilon(draw, at, _largest_epsilon)}


def _arrival_margin(at: Instance, n: Numbers, *, from_descent: bool) -> Real:
    """The count of steps, after T₀ or from step 0, against the last step at which one of the two bounds failed."""
    law, eps = Law(at, n), n.of(at["eps"])
    followed = follow(
        law,
        vector(at, n),
        lambda v: not n.less(eps, abs(abs(v[0]) - law.beta[0])) and not n.less(eps**2, law.misalignment(v)),
        smallest(n, [eps, law.beta[0] * eps**2]) / 10,
    )
    wait = 2 / law.mu * (law.steps_lost * n.log(4 / law.h) + n.log(followed.ratio / (2 * eps**2)) / 2)
    bound = (plus(n, wait) + followed.descended if from_descent else wait) + 6 / law.h * n.log(1 / eps)
    return (bound - followed.last_failure) / (1 + abs(bound))


LEMMA_17 = Statement(
    key="lemma-17",
    title="Lemma 17",
    draw=_draw,
    hypotheses=partial(in_range, limit=_largest_epsilon),
    printed=Claim(
        latex=r"t\ge T_2=\frac2\mu(\ldots)+\frac6{\eta\lambda_1}\ln\frac1\epsilon\Rightarrow|v_{t,1}-(-1)^{t-T_2}s_{T_2}\beta_1|\le\epsilon,\ \delta_t\le\epsilon^2",
        margin=partial(_arrival_margin, from_descent=False),
        seeds=(REMOTE | {"eps": 0.01},),
    ),
    corrected=Claim(latex=r"t\ge T_0+T_2\Rightarrow\ldots", margin=partial(_arrival_margin, from_descent=True)),
    scope=FOLLOWED + "; the alternating sign by Definition 15",
    repair="add T₀; and (−1)^{t−T₂} needs ⌈T₂⌉",
    cost=8,
)


EQUATION_11 = Statement(
    key="eq-11",
    title="(11)",
    draw=_draw,
    hypotheses=partial(in_range, limit=_largest_epsilon),
    printed=Claim(
        latex=r"\forall t\ge t^*:\delta_t\le\epsilon^2",
        margin=partial(alignment_margin, power=2, from_descent=False),
        seeds=(REMOTER,),
    ),
    corrected=Claim(
        latex=r"\forall t>T_0+t^*:\delta_t\le\epsilon^2", margin=partial(alignment_margin, power=2, from_descent=True)
    ),
    scope=FOLLOWED,
    repair="add T₀; Lemma 14 speaks of δ_{T+1}, one step later",
    cost=8,
)


STATEMENTS = (LEMMA_17, EQUATION_11)
