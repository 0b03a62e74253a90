# ruff: noqa: E501 (a formula in LaTeX stands on one line)
"""Lemma 11: how often ‖v‖ can be above (1+ε)β₁ once the run is in the ball (Section 4.3)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from ravine.claims import proofs
from ravine.claims.hypotheses import convex
from ravine.claims.law import Law, vector
from ravine.claims.numbers import Numbers, Real, plus
from ravine.claims.runs import WATCHED
from ravine.claims.samplers import Draw, Instance, digits, gradient, quadratic
from ravine.claims.statement import Claim, Statement


def visits(law: Law, v: list[Real], eps: Real) -> int:
    """How many of the steps watched have ‖v_t‖ ≥ (1+ε)β₁."""
    n, level, count = law.n, (1 + eps) * law.beta[0], 0
    for _ in range(WATCHED):
        count += not n.less(law.norm(v), level)
        v = law.step(v)
    return count


def room(law: Law) -> Real:
    """max_{‖Λw‖≤b} J − min J; the maximum is at ‖Λw‖ = 0 or b, along e_d."""
    return plus(law.n, law.b**2 / (2 * law.beta[-1]) - law.b) + law.beta[0] / 2


def _visits_draw(draw: Draw) -> Instance:
    at = quadratic(draw, step=(0.02, 0.49), condition=20)
    v = gradient(draw, at, 0.05, 1)
    return at | {"v": v, "eps": digits(draw.log("eps", 0.01, 1))}


def _visits_hypotheses(at: Instance, n: Numbers) -> dict[str, Real]:
    law = Law(at, n)
    return convex(at, n) | {
        "ε > 0": n.of(at["eps"]),
        "‖v_{T₀}‖ < b": law.b - law.norm(vector(at, n)),
        "v ≠ 0": law.norm(vector(at, n)),
    }


def _visits_margin(at: Instance, n: Numbers, *, bound: Callable[[Law, Real], Real]) -> Real:
    law, eps = Law(at, n), n.of(at["eps"])
    most = bound(law, eps)
    return (most - visits(law, vector(at, n), eps)) / (1 + most)


def _room_bound(law: Law, eps: Real) -> Real:
    return 2 * room(law) / (law.eta * eps**2 * law.sharpness * law.beta[0])


def _visits_proof() -> str:
    import sympy

    x, eta, rho, lam, eps = sympy.symbols("x eta rho lam eps", positive=True)
    beta = eta * rho * lam**2 / (2 - eta * lam)
    return (
        proofs.identities(
            ((2 - eta * lam) * lam / beta, (2 - eta * lam) ** 2 / (eta * rho * lam)),
            (sympy.diff((2 - x) ** 2 / x, x), -(4 - x**2) / x**2),
            (1 - 1 / (1 + eps), eps / (1 + eps)),
            (
                eta / 2 * (2 - eta * lam) * lam / beta * eps**2 * beta**2,
                (2 - eta * lam) * eta * eps**2 * lam * beta / 2,
            ),
        )
        + ": by Lemma 10 a visit costs J at least (2−ηλ₁)ηε²λ₁β₁/2, and J has max J − min J to lose"
    )


LEMMA_11_1 = Statement(
    key="lemma-11.1",
    title="Lemma 11, first bound",
    draw=_visits_draw,
    hypotheses=_visits_hypotheses,
    printed=Claim(
        latex=r"|\{t\ge T_0:\|v_t\|\ge(1+\epsilon)\beta_1\}|\le\frac{2}{\eta\epsilon^2\lambda_1\beta_1}(\max J-\min J)",
        margin=partial(_visits_margin, bound=_room_bound),
        proof=_visits_proof,
    ),
    scope=f"visits among {WATCHED} steps",
    cost=4,
)


def _printed_inequality_margin(at: Instance, n: Numbers) -> Real:
    """Times ηε²λ₁β₁, whatever ε: the paper's chain has 2β₁²/β_d + β₁/2 ≤ 3β₁²/(2β_d)."""
    law = Law(at, n)
    right = 3 * law.beta[0] ** 2 / law.beta[-1]
    return (right - 2 * room(law)) / right


def _inequality_margin(at: Instance, n: Numbers) -> Real:
    law = Law(at, n)
    right = 2 * law.beta[0] ** 2 / law.beta[-1]
    return (right - 2 * room(law) / (2 - law.h)) / right


def last_inequality_proof() -> str:
    """Lemma 11's last inequality with the factor a = 2−ηλ₁ kept: max{1, a²k − 2a + 1}/a ≤ 2k, k = β₁/β_d."""
    import sympy

    a, k = sympy.symbols("a k", positive=True)  # k = β₁/β_d ≥ 1, 3/2 < a < 2
    branch = (a * a * k - 2 * a + 1) / a
    x, y = sympy.symbols("x y", positive=True)
    # 2k − branch at a = 3/2 + … : (2 − a)k + 2 − 1/a > 0 for a < 2; and max{1,…}/a ≤ 1 < 2k
    text = proofs.identities((2 * k - branch, (2 - a) * k + (2 * a - 1) / a))
    positive = proofs.coefficients_positive(
        ((2 - a) * k + 2 - 1 / a).subs(a, 1 + x / (x + y)).together().as_numer_denom()[0], x, y, k
    )
    return f"{text}; {positive} (1 < a < 2); the branch 1/a is below 1"


LEMMA_11_2 = Statement(
    key="lemma-11.2",
    title="Lemma 11, last inequality",
    draw=lambda draw: quadratic(draw, condition=100),
    hypotheses=convex,
    printed=Claim(
        latex=r"\frac{2}{\eta\epsilon^2\lambda_1\beta_1}(\max J-\min J)\le\frac{3\beta_1}{\eta\epsilon^2\lambda_1\beta_d}",
        margin=_printed_inequality_margin,
        seeds=({"eigenvalues": (1.0, 0.1), "eta": 0.1, "rho": 1.0},),
    ),
    corrected=Claim(
        latex=r"\frac{2}{(2-\eta\lambda_1)\eta\epsilon^2\lambda_1\beta_1}(\max J-\min J)\le\frac{2\beta_1}{\eta\epsilon^2\lambda_1\beta_d}",
        margin=_inequality_margin,
        proof=last_inequality_proof,
    ),
    repair="2β₁²/β_d + β₁/2 exceeds 3β₁²/(2β_d). But the proof drops a factor 2−ηλ₁ > 3/2; kept, it gives even 2 for 3",
)


def _printed_bound(law: Law, eps: Real) -> Real:
    return 3 * law.beta[0] / (law.eta * eps**2 * law.sharpness * law.beta[-1])


def sharp_visits(law: Law, eps: Real) -> Real:
    """(1/(aηε²λ₁)) max{1, a²β₁/β_d − 2a + 1}, a = 2−ηλ₁: Lemma 11 with the factor a kept."""
    a = 2 - law.h
    room = law.n.largest([law.n.of(1), a * a * law.beta[0] / law.beta[-1] - 2 * a + 1])
    return room / (a * law.eta * eps**2 * law.sharpness)


LEMMA_11_3 = Statement(
    key="lemma-11.3",
    title="Lemma 11, end to end",
    draw=_visits_draw,
    hypotheses=_visits_hypotheses,
    printed=Claim(
        latex=r"|\{t\ge T_0:\|v_t\|\ge(1+\epsilon)\beta_1\}|\le\frac{3\beta_1}{\eta\epsilon^2\lambda_1\beta_d}",
        margin=partial(_visits_margin, bound=_printed_bound),
        proof=lambda: f"{_visits_proof()}; {last_inequality_proof()}; and 2 ≤ 3",
    ),
    corrected=Claim(
        latex=r"|\{\ldots\}|\le\frac{1}{a\eta\epsilon^2\lambda_1}\max\{1,a^2\tfrac{\beta_1}{\beta_d}-2a+1\}\le\frac{2\beta_1}{\eta\epsilon^2\lambda_1\beta_d},\ a=2-\eta\lambda_1",
        margin=partial(_visits_margin, bound=sharp_visits),
        proof=_visits_proof,
    ),
    scope=f"visits among {WATCHED} steps",
    repair="the end-to-end bound stands, by the corrected proof of lemma-11.2, with room to spare",
    cost=4,
)


STATEMENTS = (LEMMA_11_1, LEMMA_11_2, LEMMA_11_3)
