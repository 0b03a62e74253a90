# ruff: noqa: E501 (a formula in LaTeX stands on one line)
"""Theorem 2: almost every run ends in the cycle (Section 4)."""

from __future__ import annotations

from ravine.claims.hypotheses import off_axis
from ravine.claims.law import Law, vector
from ravine.claims.numbers import Numbers, Real, is_zero, norm
from ravine.claims.runs import LONGEST, follow
from ravine.claims.samplers import Draw, Instance, gradient, quadratic
from ravine.claims.statement import Claim, Statement


def _draw(draw: Draw) -> Instance:
    at = quadratic(draw, step=(0.1, 0.49), condition=5)
    return at | {"v": gradient(draw, at, 0.03, 30), "eps": draw.log("eps", 1e-6, 0.01)}


def _margin(at: Instance, n: Numbers) -> Real:
    law, v = Law(at, n), vector(at, n)
    if is_zero(law.step(v)[0]):
        return n.of(-1)  # v_{1,1} = 0, and stays 0: the run ends in another cycle, at distance ≥ β₁/λ₁
    goal = n.of(at["eps"]) * law.beta[0]
    last = follow(law, v, lambda state: not n.less(goal, law.distance(state)), goal / 10).last_failure
    return 1 - n.of(last) / LONGEST


_ON_SPHERE: Instance = {"eigenvalues": (1.0, 0.5), "eta": 0.2, "rho": 1.0, "v": (0.15, 0.2), "eps": 0.001}


THEOREM_2 = Statement(
    key="theorem-2",
    title="Theorem 2",
    draw=_draw,
    hypotheses=lambda at, n: off_axis(at, n) | {"ε > 0": n.of(at["eps"])},
    printed=Claim(
        latex=r"w_0\text{ continuous},\ \mathbf E\|w_0\|^2<\infty\Rightarrow\text{a.s. }w_t\to\pm\tfrac{\eta\rho\lambda_1}{2-\eta\lambda_1}e_1\text{ alternately}",
        margin=_margin,
        seeds=(_ON_SPHERE,),
    ),
    corrected=Claim(
        latex=r"w_0\text{ absolutely continuous, no moment}\Rightarrow\ldots",
        margin=_margin,
        also=lambda at, n: {"‖v₀‖ ≠ γ₁": abs(Law(at, n).gamma[0] - norm(n, vector(at, n)))},
    ),
    scope="single starts, followed until within ε of the cycle; the counterexample stands for every start on the sphere "
    "‖Λw₀‖ = γ₁, which carries atomless laws. Starts that meet ‖v_t‖ = γ₁ later are met with probability 0",
    repair="atomless laws may sit on ‖Λw₀‖ = γ₁, whence v_{1,1} = 0. With 'continuous' for 'has a density' the print stands; the moment "
    "is not needed",
    cost=8,
)


STATEMENTS = (THEOREM_2,)
