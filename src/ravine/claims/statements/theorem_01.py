"""Theorem 1: the count of steps in the order of magnitude, and whether Theorem 3 implies it (Section 4)."""

from __future__ import annotations

from ravine.claims.hypotheses import off_axis
from ravine.claims.law import Law, vector
from ravine.claims.numbers import Numbers, Real, norm, smallest
from ravine.claims.runs import FOLLOWED, follow
from ravine.claims.samplers import Draw, Instance, gradient, quadratic
from ravine.claims.statement import Claim, Statement, Untested


def _draw(draw: Draw) -> Instance:
    at = quadratic(draw, step=(0.1, 0.49), condition=4, scale=10)
    v = gradient(draw, at, 0.3, 30)
    return at | {"v": v, "digits": draw.integer("digits", 3, 8)}


def _margin(at: Instance, n: Numbers) -> Real:
    law, v = Law(at, n), vector(at, n)
    eps = n.of(1) / 10 ** at["digits"]
    size = norm(n, law.point(v))
    first = v[0] / law.sharpness
    limit = smallest(n, [1 / law.sharpness, law.least, law.eta, law.rho, 1 / law.rho, 1 / size, first**2, n.of(1) / 10])
    if n.less(limit, eps):
        raise Untested
    kappa = law.sharpness / law.least
    bound = (kappa**5 / (law.eta * law.least * law.mu) + law.size) * 10 * n.log(1 / eps)
    goal = law.least * eps
    last = follow(law, v, lambda state: not n.less(goal, law.distance(state)), goal / 10).last_failure
    return (bound - last) / (1 + bound)


THEOREM_1_1 = Statement(
    key="theorem-1.1",
    title="Theorem 1",
    draw=_draw,
    hypotheses=off_axis,
    printed=Claim(
        latex=r"t\ge\Big(\frac{\kappa^5}{\eta\lambda_d\min\{\eta\lambda_d,\lambda_1^2/\lambda_2^2-1\}}+d\Big)p(\log\tfrac1\epsilon)\Rightarrow\|w_t\mp\ldots\|\le\epsilon",
        margin=_margin,
    ),
    scope="it asks for some polynomials p, p′: checked with p(x) = 10x and ε at most the least of p′'s arguments, on "
    "single starts; " + FOLLOWED,
    cost=8,
)


def _implied_draw(draw: Draw) -> Instance:
    return {
        "kappa": draw.uniform("kappa", 1.5, 3),
        "step": draw.log("step", 1e-12, 0.1),
        "ratio": draw.log("ratio", 1.5, 100),
        "d": draw.integer("d", 2, 1000),
    }


def _implied_hypotheses(at: Instance, n: Numbers) -> dict[str, Real]:
    kappa, step = n.of(at["kappa"]), n.of(at["step"])
    return {
        "λ₁ > λ₂": kappa - 1,
        "ηλ_d > 0": step,
        "ηλ₁ < 1/2": n.of(1) / 2 - kappa * step,
        "R > ηρλ₁": n.of(at["ratio"]) - 1,
        "d ≥ 2": n.of(at["d"]) - 1,
    }


def _implied_margin(at: Instance, n: Numbers) -> Real:
    """λ₂ = … = λ_d = 1, λ₁ = κ, ρ = 1/(ηκ): Theorem 3's dimension term alone against Theorem 1's whole count."""
    kappa, step, ratio = n.of(at["kappa"]), n.of(at["step"]), n.log(n.of(at["ratio"]))
    d = at["d"]
    mu = smallest(n, [step, kappa**2 - 1])
    theorem3 = 2 * ratio**2 * (d + 3) * n.log(6 / step) / (step**2 * mu)
    log_eps = 20 * n.log(1 / step)  # ε = (ηλ_d)²⁰, below any p′ of degree 20 in η here
    theorem1 = (kappa**5 / (step * mu) + d) * 100 * log_eps**2
    return (theorem1 - theorem3) / theorem1


THEOREM_1_2 = Statement(
    key="theorem-1.2",
    title="Theorem 3 implies Theorem 1",
    draw=_implied_draw,
    hypotheses=_implied_hypotheses,
    printed=Claim(
        latex=r"\text{Theorem 3's count}\le\Big(\frac{\kappa^5}{\eta\lambda_d\mu}+d\Big)p(\log\tfrac1\epsilon)",
        margin=_implied_margin,
        seeds=({"kappa": 2.0, "step": 1e-12, "ratio": 10.0, "d": 10},),
    ),
    scope="with p(x) = 100x² and ε = (ηλ_d)²⁰; the ratio grows like 1/(ηλ_d) up to logarithms, so no p and p′ do",
    repair="the dimension enters Theorem 3 as d/((ηλ_d)²μ), not as + d: Theorem 1 needs another proof",
)


STATEMENTS = (THEOREM_1_1, THEOREM_1_2)
