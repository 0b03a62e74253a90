# ruff: noqa: E501 (a formula in LaTeX stands on one line)
"""Figures 1 and 2: what the paper says of its runs on a quadratic, on the runs."""

from __future__ import annotations

import itertools

from ravine.claims.hypotheses import unconditional
from ravine.claims.law import Law, vector
from ravine.claims.numbers import Numbers, Real, norm, smallest
from ravine.claims.samplers import Draw, Instance
from ravine.claims.statement import Claim, Statement


def _figure1_draw(draw: Draw) -> Instance:
    return {"w": (2.0, 2.0), "eigenvalues": (1.0, 0.5), "eta": 0.2, "rho": 1.0, "side": draw.integer("", 0, 1)}


def _figure1_margin(at: Instance, n: Numbers) -> Real:
    """Thirty iterates: one closer to 0 than the next by a jump, the first coordinate's share growing from there."""
    law = Law(at, n)
    states = law.run(law.gradient(vector(at, n, "w")), 30)
    sizes = [norm(n, law.point(v)) for v in states]
    nearest = min(range(30), key=lambda t: float(sizes[t]))
    share = [law.misalignment(v) for v in states]
    return smallest(n, [sizes[nearest + 1] / sizes[nearest] - 2, share[nearest] - share[30], sizes[0] / 10 - sizes[30]])


FIGURE_1 = Statement(
    key="figure-1",
    title="Figure 1",
    draw=_figure1_draw,
    hypotheses=unconditional,
    printed=Claim(
        latex=r"\text{exponential descent; then a jump away from a point very close to 0; then the first component's share grows}",
        margin=_figure1_margin,
    ),
    scope="the one run shown: a jump to more than twice the distance, δ smaller at its end, ‖w₃₀‖ < ‖w₀‖/10",
    single=True,
)


def _figure2_draw(draw: Draw) -> Instance:
    return {"w": (0.244, 0.0224), "eigenvalues": (1.0, 0.2), "eta": 0.2, "rho": 1.0, "side": draw.integer("", 0, 1)}


def _figure2_margin(at: Instance, n: Numbers) -> Real:
    """J falls along the 25 iterates, which end nearer to the minimum than where they began."""
    law = Law(at, n)
    states = law.run(law.gradient(vector(at, n, "w")), 25)
    heights = [law.potential(law.point(v)) for v in states]
    drops = [a - b for a, b in itertools.pairwise(heights)]
    return smallest(n, [*drops, law.distance(states[0]) - law.distance(states[25])])


FIGURE_2 = Statement(
    key="figure-2",
    title="Figure 2",
    draw=_figure2_draw,
    hypotheses=unconditional,
    printed=Claim(latex=r"J(u_{t+1})\le J(u_t),\ u_t\to(\beta_1/\lambda_1)e_1", margin=_figure2_margin),
    scope="the one run shown, its 25 steps",
    single=True,
)


STATEMENTS = (FIGURE_1, FIGURE_2)
