"""Lemma 4: when one of two shifted squares exceeds the other."""

from __future__ import annotations

from ravine.claims import proofs
from ravine.claims.numbers import Numbers, Real
from ravine.claims.samplers import Draw, Instance
from ravine.claims.statement import Claim, Statement


def _draw(draw: Draw) -> Instance:
    b = draw.log("b", 0.01, 100)
    a = draw.pick([0.0, b * draw.uniform("", 0.001, 0.999)])
    alpha = draw.log("alpha", 0.01, 100)
    share = draw.pick([0.0, 0.1, 0.5, 0.9, 0.99])
    return {"a": a, "b": b, "alpha": alpha, "beta": share * a * alpha / b, "x": draw.log("x", 0.001, 1000) * alpha}


def _hypotheses(at: Instance, n: Numbers) -> dict[str, Real]:
    a, b, alpha, beta = (n.of(at[name]) for name in ("a", "b", "alpha", "beta"))
    tiny = n.of(1e-300)  # ≥ read as > −10⁻³⁰⁰, so that equality stays admissible
    return {
        "x > 0": n.of(at["x"]),
        "a ≥ 0": a + tiny,
        "a < b": b - a,
        "α > β": alpha - beta,
        "β ≥ 0": beta + tiny,
        "aα ≥ bβ": a * alpha - b * beta + tiny,
    }


def _margin(at: Instance, n: Numbers) -> Real:
    a, b, alpha, beta, x = (n.of(at[name]) for name in ("a", "b", "alpha", "beta", "x"))
    left = a * a * (x - alpha) ** 2 - b * b * (x - beta) ** 2
    right = (a * alpha + b * beta) / (a + b) - x
    return left * right / ((b * b * (x * x + alpha**2)) * (x + alpha))


def _proof() -> str:
    import sympy

    a, b, alpha, beta, x = sympy.symbols("a b alpha beta x", positive=True)
    gap = a**2 * (x - alpha) ** 2 - b**2 * (x - beta) ** 2
    factors = ((b - a) * x + (a * alpha - b * beta)) * (a + b) * ((a * alpha + b * beta) / (a + b) - x)
    return proofs.identities((gap, factors)) + "; the first factor is positive for x > 0"


LEMMA_4 = Statement(
    key="lemma-4",
    title="Lemma 4",
    draw=_draw,
    hypotheses=_hypotheses,
    printed=Claim(latex=r"a^2(x-\alpha)^2>b^2(x-\beta)^2\iff x<(a\alpha+b\beta)/(a+b)", margin=_margin, proof=_proof),
)


STATEMENTS = (LEMMA_4,)
