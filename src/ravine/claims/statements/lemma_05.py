# ruff: noqa: E501 (a formula in LaTeX stands on one line)
"""Lemma 5: five properties of one step (Section 4.1)."""

from __future__ import annotations

from typing import Any

from ravine.claims import proofs
from ravine.claims.hypotheses import convex, defined, inside_ball, no_zero_coordinate, standing
from ravine.claims.law import Law, vector
from ravine.claims.numbers import Numbers, Real, is_zero, smallest
from ravine.claims.samplers import Draw, Instance, gradient, quadratic, run, run_with_ties
from ravine.claims.statement import Claim, Statement


def _step_symbols() -> tuple[Any, ...]:
    """λ, η, ρ, N = ‖v‖, the factor with v_{t+1,i} = factor·v_{t,i}/N, and β."""
    import sympy

    lam, eta, rho, size = sympy.symbols("lam eta rho N", positive=True)
    factor = (1 - eta * lam) * size - eta * rho * lam**2
    beta = eta * rho * lam**2 / (2 - eta * lam)
    return lam, eta, rho, size, factor, beta


def _same_sign(left: Real, right: Real, *, left_scale: Real, right_scale: Real) -> Real:
    """≥ 0 iff the two have the same sign."""
    if is_zero(left_scale):
        return left_scale
    return (left / left_scale) * (right / right_scale)


def _fixed_points_draw(draw: Draw) -> Instance:
    at = quadratic(draw, ties=True)
    which = draw.integer("which", 0, len(at["eigenvalues"]) - 1)
    return at | {"which": which, "share": draw.uniform("share", 0, 1)}


def _fixed_points_with_zero_margin(at: Instance, n: Numbers) -> Real:
    """The same with s = 0, that is v = 0, where (2) divides by ‖∇ℓ‖ = 0."""
    return n.of(-1) if at.get("zero", 0) else _fixed_points_margin(at, n)


def _fixed_points_margin(at: Instance, n: Numbers) -> Real:
    """A member of the right-hand set as s: the step from v = √s must exist and keep every vᵢ²."""
    law = Law(at, n)
    which = min(at["which"], law.size - 1)
    same = [k for k in range(law.size) if at["eigenvalues"][k] == at["eigenvalues"][which]]
    share, beta = n.of(at["share"]), law.beta[which]
    parts = {same[0]: share, same[-1]: 1 - share} if len(same) > 1 else {which: n.of(1)}
    v = [beta * n.sqrt(parts[k]) if k in parts else n.of(0) for k in range(law.size)]
    moved = law.step(v)
    return -n.largest([abs(x * x - y * y) for x, y in zip(moved, v, strict=True)]) / beta**2


def _shrinking_proof() -> str:
    lam, eta, rho, size, factor, beta = _step_symbols()
    falls = eta * lam * (size + rho * lam) * (2 - eta * lam) * (size - beta)
    return proofs.identities((size**2 - factor**2, falls)) + ": the sign of v²_t − v²_{t+1} is that of ‖v‖ − β"


LEMMA_5_1 = Statement(
    key="lemma-5.1",
    title="Lemma 5, part 1",
    draw=_fixed_points_draw,
    hypotheses=convex,
    printed=Claim(
        latex=r"\{s:\exists v_t\ \forall i\ v_{t+1,i}^2=v_{t,i}^2=s_i\}=\{0\}\cup\bigcup_i\mathrm{co}\{\beta_i^2e_j:\beta_j=\beta_i\}",
        margin=_fixed_points_with_zero_margin,
        seeds=({"eigenvalues": (1.0, 0.5), "eta": 0.2, "rho": 1.0, "which": 0, "share": 0.5, "zero": 1},),
    ),
    corrected=Claim(
        latex=r"\{s:\ldots\}=\bigcup_i\mathrm{co}\{\beta_i^2e_j:\beta_j=\beta_i\}",
        margin=_fixed_points_margin,
        proof=_shrinking_proof,
    ),
    repair="s = 0 is v_t = 0, from which (2) takes no step: the set has no 0",
)


def _shrinking_margin(at: Instance, n: Numbers) -> Real:
    """For each i: v_{t+1,i}² < v_{t,i}² iff ‖v‖ > βᵢ; −1 where exactly one of the two holds."""
    law, v = Law(at, n), vector(at, n)
    size, worst = law.norm(v), n.of(1)
    for x, y, beta in zip(v, law.step(v), law.beta, strict=True):
        if is_zero(x) and n.less(beta, size):
            margin = n.of(-1)
        else:
            margin = _same_sign(x * x - y * y, size - beta, left_scale=x * x, right_scale=size)
        worst = smallest(n, [worst, margin])
    return worst


LEMMA_5_2 = Statement(
    key="lemma-5.2",
    title="Lemma 5, part 2",
    draw=run_with_ties,
    hypotheses=defined,
    printed=Claim(latex=r"v_{t+1,i}^2<v_{t,i}^2\iff\|v_t\|>\beta_i", margin=_shrinking_margin),
    corrected=Claim(
        latex=r"v_{t,i}\ne0:\ v_{t+1,i}^2<v_{t,i}^2\iff\|v_t\|>\beta_i",
        margin=_shrinking_margin,
        also=no_zero_coordinate,
        proof=_shrinking_proof,
    ),
    repair="a coordinate at 0 stays at 0: the equivalence needs v_{t,i} ≠ 0",
)


def _first_share_margin(at: Instance, n: Numbers) -> Real:
    law, v = Law(at, n), vector(at, n)
    size, moved, worst = law.norm(v), law.step(v), n.of(1)
    for i in range(1, law.size):
        # v²_{t+1,1}/v²_{t+1,i} > v²_{t,1}/v²_{t,i}, cross-multiplied: also right where v_{t+1,i} = 0
        left = moved[0] ** 2 * v[i] ** 2 - v[0] ** 2 * moved[i] ** 2
        agrees = _same_sign(left, law.alpha[i] - size, left_scale=size**4, right_scale=size + law.alpha[i])
        worst = smallest(n, [worst, agrees])
    return worst


def _first_share_proof() -> str:
    import sympy

    lam1, lam, eta, rho, size = sympy.symbols("lam1 lam eta rho N", positive=True)
    a, b = 1 - eta * lam1, 1 - eta * lam
    first, other = a * size - eta * rho * lam1**2, b * size - eta * rho * lam**2
    alpha = eta * rho * (lam1**2 + lam**2) / (a + b)
    split = (eta * (lam1 - lam) * size + eta * rho * (lam1**2 - lam**2)) * (a + b) * (alpha - size)
    return proofs.identities((first**2 - other**2, split)) + ", the first factor positive for λᵢ < λ₁"


LEMMA_5_3 = Statement(
    key="lemma-5.3",
    title="Lemma 5, part 3",
    draw=run,
    hypotheses=lambda at, n: standing(at, n) | no_zero_coordinate(at, n),
    printed=Claim(
        latex=r"v_{t+1,1}^2/v_{t+1,i}^2>v_{t,1}^2/v_{t,i}^2\iff\|v_t\|<\alpha_i",
        margin=_first_share_margin,
        proof=_first_share_proof,
    ),
    scope="with x/0 = ∞ at ‖v_t‖ = γᵢ",
)


def _order_margin(at: Instance, n: Numbers) -> Real:
    law = Law(at, n)
    down = [law.beta[i] - law.beta[i + 1] for i in range(law.size - 1)]
    up = [law.alpha[i] - law.alpha[i + 1] for i in range(law.size - 1)]
    return smallest(n, [*down, *up, law.alpha[-1] - law.beta[0], law.b - law.beta[0]]) / law.b


def _order_proof() -> str:
    import sympy

    lam1, x = sympy.symbols("lam1 x", positive=True)  # in units η = 1, ηρ = 1; x ≤ λ₁ < 1
    beta = x**2 / (2 - x)
    alpha = (lam1**2 + x**2) / (2 - lam1 - x)
    text = proofs.identities(
        (sympy.diff(beta, x), x * (4 - x) / (2 - x) ** 2),
        (sympy.diff(alpha, x), (2 * x * (2 - lam1 - x) + lam1**2 + x**2) / (2 - lam1 - x) ** 2),
        (alpha.subs(x, 0), beta.subs(x, lam1)),
        (alpha.subs(x, lam1), lam1**2 / (1 - lam1)),
        (lam1**2 - beta.subs(x, lam1), lam1**2 * (1 - lam1) / (2 - lam1)),
    )
    return text + ": β and α increase with λ, α(0) = β₁, α(λ₁) = γ₁, b > β₁"


LEMMA_5_4 = Statement(
    key="lemma-5.4",
    title="Lemma 5, part 4",
    draw=lambda draw: quadratic(draw, ties=True),
    hypotheses=convex,
    printed=Claim(
        latex=r"\beta_d\le\cdots\le\beta_1<\alpha_d\le\cdots\le\alpha_1=\gamma_1,\ \beta_1\le b",
        margin=_order_margin,
        proof=_order_proof,
    ),
)


def _ball_draw(draw: Draw) -> Instance:
    at = quadratic(draw, ties=True)
    return at | {"v": gradient(draw, at, 0.001, 1, zeros=True)}


def _ball_margin(at: Instance, n: Numbers) -> Real:
    law, v = Law(at, n), vector(at, n)
    return (law.b - law.norm(law.step(v))) / law.b


def _ball_proof() -> str:
    import sympy

    lam, eta, rho, size, factor, _ = _step_symbols()
    b, room = sympy.symbols("b room", positive=True)
    return (
        proofs.identities(
            (b + factor, (b - eta * rho * lam**2) + (1 - eta * lam) * size),
            ((b - factor).subs(size, b - room), eta * lam * b + (1 - eta * lam) * room + eta * rho * lam**2),
        )
        + ": |factor| ≤ b for ‖v‖ ≤ b, ηρλᵢ² ≤ b and ηλᵢ ≤ 1, for each coordinate, hence for the norm"
    )


LEMMA_5_5 = Statement(
    key="lemma-5.5",
    title="Lemma 5, part 5",
    draw=_ball_draw,
    hypotheses=lambda at, n: defined(at, n) | inside_ball(at, n),
    printed=Claim(latex=r"\|v_t\|\le b\Rightarrow\|v_{t+1}\|\le b", margin=_ball_margin, proof=_ball_proof),
)


STATEMENTS = (LEMMA_5_1, LEMMA_5_2, LEMMA_5_3, LEMMA_5_4, LEMMA_5_5)
