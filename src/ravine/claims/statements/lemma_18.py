# ruff: noqa: E501 (a formula in LaTeX stands on one line)
"""Lemma 18 and equation (12): |v₁| near β₁ and little misalignment put v near the cycle (Section 4.4)."""

from __future__ import annotations

from ravine.claims import proofs
from ravine.claims.hypotheses import off_axis
from ravine.claims.law import Law, vector
from ravine.claims.numbers import Numbers, Real, norm
from ravine.claims.samplers import Draw, Instance, run
from ravine.claims.statement import Claim, Statement


def _share_draw(draw: Draw) -> Instance:
    return run(draw) | {"eps": draw.uniform("eps", 0.01, 1)}


def _share_hypotheses(at: Instance, n: Numbers) -> dict[str, Real]:
    law = Law(at, n)
    return off_axis(at, n) | {
        "ε ≤ 1": n.of(1) - n.of(at["eps"]) + n.of(1e-9),
        "δ ≤ ε²": n.of(at["eps"]) ** 2 - law.misalignment(vector(at, n)),
    }


def _share_margin(at: Instance, n: Numbers) -> Real:
    v = vector(at, n)
    return v[0] ** 2 / norm(n, v) ** 2 - (1 - n.of(at["eps"]) ** 2) ** 2


def _share_proof() -> str:
    import sympy

    x, d = sympy.symbols("x delta", positive=True)
    return proofs.identities(((1 - d) ** 2 - (1 - x) ** 2, (x - d) * (2 - x - d))) + ", both factors ≥ 0 for δ ≤ ε² ≤ 1"


EQUATION_12 = Statement(
    key="eq-12",
    title="(12)",
    draw=_share_draw,
    hypotheses=_share_hypotheses,
    printed=Claim(latex=r"v_{t,1}^2/\|v_t\|^2\ge(1-\epsilon^2)^2", margin=_share_margin, proof=_share_proof),
)


def _near_draw(draw: Draw) -> Instance:
    return {
        "beta1": draw.log("beta1", 0.001, 1000),
        "eps": draw.uniform("eps", 0.01, 1),
        "off": draw.pick([1.0, 0.0, draw.uniform("off", -1, 1)]),
        "share": draw.pick([1.0, draw.uniform("share", 0, 1)]),
    }


def _near_hypotheses(at: Instance, n: Numbers) -> dict[str, Real]:
    tiny = n.of(1e-9)
    return {
        "β₁ > 0": n.of(at["beta1"]),
        "ε > 0": n.of(at["eps"]),
        "ε ≤ 1": 1 + tiny - n.of(at["eps"]),
        "|v₁ − β₁| ≤ ε": 1 + tiny - abs(n.of(at["off"])),
        "0 ≤ δ": n.of(at["share"]) + tiny,
        "δ ≤ ε²": 1 + tiny - n.of(at["share"]),
        "δ < 1": 1 - n.of(at["share"]) * n.of(at["eps"]) ** 2,
    }


def _near_margin(at: Instance, n: Numbers) -> Real:
    beta, eps = n.of(at["beta1"]), n.of(at["eps"])
    first, delta = beta + n.of(at["off"]) * eps, n.of(at["share"]) * eps**2
    away = n.sqrt((first - beta) ** 2 + first**2 * (1 / (1 - delta) ** 2 - 1))
    return 1 - away / (2 * (1 + beta) * eps)


def _near_proof() -> str:
    # With x = ε², c(x) = (2−x)/(1−x)² and v₁ = β₁ + ε: 4(1+β₁)² − 1 − c(β₁+ε)² as a quadratic in β₁.
    def coefficients(eps):
        x = eps * eps
        c = (2 - x) / (1 - x) ** 2
        return 4 - c, 8 - 2 * c * eps, 3 - c * x

    texts = [proofs.positive_on(lambda eps, k=k: coefficients(eps)[k], [(0, 0.5996)]) for k in range(3)]
    return f"{texts[0]} of ε: the three coefficients in β₁ of 4(1+β₁)² − 1 − c(β₁+ε)² are positive"


LEMMA_18 = Statement(
    key="lemma-18",
    title="Lemma 18",
    draw=_near_draw,
    hypotheses=_near_hypotheses,
    printed=Claim(
        latex=r"\epsilon\le1,\ |v_{t,1}\mp\beta_1|\le\epsilon,\ \delta_t\le\epsilon^2\Rightarrow\|v_t\mp\beta_1e_1\|\le2(1+\beta_1)\epsilon",
        margin=_near_margin,
        seeds=({"beta1": 10.0, "eps": 0.9, "off": 0.0, "share": 1.0},),
    ),
    corrected=Claim(
        latex=r"\epsilon\le0.5996<\sqrt{(7-\sqrt{17})/8}",
        margin=_near_margin,
        also=lambda at, n: {"ε ≤ 0.5996": n.of(0.5996) - n.of(at["eps"])},
        proof=_near_proof,
    ),
    repair="1/(1−x)² − 1 ≤ 3x holds to x = 0.232 only, so the paper's proof to ε = 0.482; the statement itself holds "
    "to ε = √((7−√17)/8) = 0.59967…, and no further for large β₁",
)


STATEMENTS = (EQUATION_12, LEMMA_18)
