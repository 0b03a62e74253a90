# ruff: noqa: E501 (a formula in LaTeX stands on one line)
"""Theorem 3 and equations (13) and (14): when w is within ε of its cycle, with probability 1 − 2δ (Section 4.5)."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from ravine.claims.hypotheses import off_axis, standing
from ravine.claims.law import Law, vector
from ravine.claims.numbers import Numbers, Real, norm, plus, smallest
from ravine.claims.runs import FOLLOWED, descent_off_axis, follow
from ravine.claims.samplers import Draw, Instance, digits, gradient, quadratic
from ravine.claims.statement import Claim, Statement
from ravine.claims.statements.lemma_06 import Steps, clearance, ratio_room, time_bound, whole_steps
from ravine.claims.statements.lemma_07 import density_decay, log_clearance
from ravine.claims.statements.lemma_19 import largest_epsilon


def _ratio_draw(draw: Draw) -> Instance:
    at = quadratic(draw, step=(0.05, 0.49), condition=10)
    v = gradient(draw, at, *draw.pick([(0.3, 100.0), (1.0, 1.3)]))
    size = math.hypot(*(x / y for x, y in zip(v, at["eigenvalues"], strict=True)))
    return at | {"v": v, "R": digits(size * (1.002 + draw.unit() ** 4), 4)}


def _ratio_hypotheses(at: Instance, n: Numbers) -> dict[str, Real]:
    law, v = Law(at, n), vector(at, n)
    size = law.norm(law.point(v))
    return off_axis(at, n) | {"‖w₀‖ < R": n.of(at["R"]) - size, "v not along e₁": norm(n, v[1:])}


def _ratio_margin(at: Instance, n: Numbers, *, steps: Steps) -> Real:
    law, v = Law(at, n), vector(at, n)
    radius, states = law.sharpness * n.of(at["R"]), descent_off_axis(law, v)
    return ratio_room(law, states, radius=radius, steps=steps(law, radius), first=radius**2 / v[0] ** 2)


EQUATION_13 = Statement(
    key="eq-13",
    title="(13)",
    draw=_ratio_draw,
    hypotheses=_ratio_hypotheses,
    printed=Claim(
        latex=r"\log\frac{\sum v_{T_0,i}^2}{v_{T_0,1}^2}\le\frac2{\eta\lambda_d}\Big[\log\frac{\lambda_1R}b\Big]_+\log\frac{2\lambda_1R}\Delta+\log\frac{\lambda_1^2R^2}{v_{0,1}^2}",
        margin=partial(_ratio_margin, steps=time_bound),
    ),
    corrected=Claim(
        latex=r"2\lceil T\rceil\text{ for }\tfrac2{\eta\lambda_d}[\ldots]_+",
        margin=partial(_ratio_margin, steps=whole_steps),
    ),
    scope="Δ the run's own",
    repair="T₀ may be ⌈T⌉, as in (4); λ₁‖w₀‖ ≥ ‖v₀‖ leaves slack that has covered it on every run tried",
    cost=2,
)


def _printed_range(law: Law) -> Real:
    """Theorem 3's bound on ε."""
    return smallest(law.n, [law.n.sqrt(law.h / 2), 1 / (2 * law.rho * law.sharpness), law.b / 2])


def _draw(draw: Draw) -> Instance:
    """Starts uniform on the ball of radius τ‖w₀‖ about w₀; scales down to 10⁻³⁰."""
    unit = 10 ** digits(draw.pick([0.0, -30.0]) * draw.unit())
    at = quadratic(draw, step=(0.2, 0.49), condition=1.6, scale=3)
    lam = (
        tuple(digits(x * unit, 4) for x in at["eigenvalues"]) if "eigenvalues" not in draw.given else at["eigenvalues"]
    )
    eta = float(draw.given.get("eta", digits(at["eta"] / unit)))
    amplitude = eta * at["rho"] * lam[0]
    start = draw.given.get("start")
    if start is None:
        shape = [1.0, *(draw.signed(0.1) for _ in lam[1:])]
        length = amplitude * draw.log("", 0.5, 10) / math.hypot(*shape)
        start = tuple(digits(length * x) for x in shape)
    at = {"eigenvalues": lam, "eta": eta, "rho": at["rho"], "w": tuple(start), "tau": draw.log("tau", 0.01, 0.1)}
    b = eta * at["rho"] * lam[0] ** 2
    limit = min(math.sqrt(eta * lam[0] / 2), 1 / (2 * at["rho"] * lam[0]), b / 2)
    eps = float(draw.given.get("eps", digits(limit * draw.log("", 0.05, 0.99))))
    return at | {"delta": draw.log("delta", 0.01, 0.4), "eps": eps}


def _hypotheses(at: Instance, n: Numbers) -> dict[str, Real]:
    law, eps, w = Law(at, n), n.of(at["eps"]), vector(at, n, "w")
    tau = n.of(at["tau"])
    return standing(at, n) | {
        "ε > 0": eps,
        "ε in Theorem 3's range": _printed_range(law) - eps,
        "δ > 0": n.of(at["delta"]),
        "δ < 1/2": n.of(1) / 2 - n.of(at["delta"]),
        "τ > 0": tau,
        "w_{0,1} ≠ 0 on the support": abs(w[0]) - tau * norm(n, w),
    }


def _lemma_19_range(at: Instance, n: Numbers) -> dict[str, Real]:
    law = Law(at, n)
    return {"λ_dε in Lemma 19's range": largest_epsilon(law) - law.least * n.of(at["eps"])}


class _Starts(NamedTuple):
    """Starts uniform on a ball: its centre w₀, R ≥ ‖w‖, q ≤ w₁², and the log of the density A."""

    centre: list[Real]
    radius: Real
    q: Real
    log_density: Real


def _starts(at: Instance, law: Law) -> _Starts:
    n = law.n
    w, tau = vector(at, n, "w"), n.of(at["tau"])
    size = norm(n, w)
    d = law.size
    volume = n.of(d) / 2 * n.log(n.pi()) - n.lgamma(n.of(d) / 2 + 1) + d * n.log(tau * size)
    return _Starts(w, size * (1 + tau), (abs(w[0]) - tau * size) ** 2, -volume)


def _count_before_14(law: Law, starts: _Starts, *, log_clearance: Real, eps: Real) -> Real:
    """The display before (14): Lemma 19 with (13), counted from step 0."""
    n = law.n
    scale = 2 * (1 + law.beta[0]) / (law.least * eps)
    ratio = plus(n, n.log(law.sharpness * starts.radius / law.b)) / (law.eta * law.least)
    inner = n.log(scale**2 / 2) + 2 * ratio * (n.log(2 * law.sharpness * starts.radius) - log_clearance)
    inner = inner + n.log(starts.radius**2 / starts.q)
    return 2 / law.mu * law.steps_lost * n.log(4 / law.h) + inner / law.mu + 6 / law.h * n.log(scale)


def _gradient_margin(at: Instance, n: Numbers, *, corrected: bool) -> Real:
    """The count against the run from the centre; `corrected`, it starts at T₀ ≤ ⌈T⌉."""
    law, eps = Law(at, n), n.of(at["eps"])
    starts = _starts(at, law)
    v = law.gradient(starts.centre)
    own = clearance(law, descent_off_axis(law, v))
    bound = _count_before_14(law, starts, log_clearance=n.log(own), eps=eps)
    if corrected:
        extra = 2 / law.mu * n.log(2 * law.sharpness * starts.radius / own)
        bound = plus(n, bound + extra) + whole_steps(law, law.sharpness * starts.radius)
    goal = law.least * eps
    last = follow(law, v, lambda state: not n.less(goal, law.distance(state)), goal / 10).last_failure
    return (bound - last) / (1 + abs(bound))


EQUATION_14 = Statement(
    key="eq-14",
    title="(14)",
    draw=_draw,
    hypotheses=_hypotheses,
    printed=Claim(
        latex=r"t\ge\frac{6\beta_1\lambda_1^3}{\eta\mu\beta_d\lambda_d^4}\log\frac4{\eta\lambda_1}+\ldots\Rightarrow\|v_t\mp\beta_1e_1\|\le\lambda_d\epsilon",
        margin=partial(_gradient_margin, corrected=False),
    ),
    corrected=Claim(
        latex=r"t\ge T_0+\ldots,\ \lceil T\rceil\text{ for }T",
        margin=partial(_gradient_margin, corrected=True),
        also=_lemma_19_range,
    ),
    scope=FOLLOWED + "; Δ the run's own",
    repair="T₀ is missing, but the other terms' slack has covered it on every run tried; Lemma 19's range of ε is not "
    "implied by Theorem 3's",
    cost=8,
)


def printed_count(law: Law, *, radius: Real, q: Real, log_density: Real, delta: Real, eps: Real) -> Real:
    """Theorem 3's lower bound on t, as printed."""
    n, d = law.n, law.size
    low, mu, b = law.eta * law.least, law.mu, law.b
    total = 6 * law.sharpness**5 / (law.eta * law.least**6 * mu) * n.log(4 / law.h)
    total = total + (n.log(4 * (1 + b) ** 2 / (law.least * eps) ** 2) + n.log(radius**2 / q)) / mu
    unit = law.eta * law.rho * law.sharpness
    if n.less(unit, radius):
        ratio = n.log(radius / unit)
        growth = n.log(9 * radius**3 / unit**3) + (d + 3) * n.log(6 / low)
        last = (
            n.log(4 * ratio / (delta * low))
            + n.of(d) / 2 * n.log(n.pi())
            + (d - 1) * n.log(4 * b)
            + log_density
            - n.lgamma(n.of(d) / 2)
        )
        total = total + 2 * ratio / (low * mu) * (n.log(2 * law.sharpness * radius) + ratio * growth / low + last)
    return total + 6 / law.h * n.log(2 * (1 + b) / (law.least * eps))


def corrected_count(law: Law, *, radius: Real, q: Real, log_density: Real, delta: Real, eps: Real) -> Real:
    """Theorem 3 with its corrections: from T₀ on, Lemma 7 at v₀ = Λw₀ with the density's true growth, T₁ by 2 for 3."""
    n = law.n
    low = law.eta * law.least
    gradient_density = log_density - sum((n.log(x) for x in law.eigenvalues), n.of(0))
    steps = max(0, n.ceil(time_bound(law, law.sharpness * radius)))
    scale = 2 * (1 + law.beta[0]) / (law.least * eps)
    inner = n.log(scale**2 / 2) + n.log(radius**2 / q)
    if steps:
        density, decay = n.exp(gradient_density), density_decay(law)
        log_gap = log_clearance(law, steps=steps, decay=decay, density=density, delta=delta)
        caps = [n.exp(log_gap), law.gamma[0] - law.b, law.gamma[0] * low / (2 - low)]
        inner = inner + 2 * steps * n.log(2 * law.sharpness * radius / smallest(n, caps))
    wait = 4 / (3 * law.mu) * law.steps_lost * n.log(4 / law.h) + inner / law.mu
    return n.of(steps) + plus(n, wait) + 6 / law.h * n.log(scale)


def _margin(at: Instance, n: Numbers, *, count: Callable[..., Real]) -> Real:
    law, eps, tau = Law(at, n), n.of(at["eps"]), n.of(at["tau"])
    w, radius, q, log_density = _starts(at, law)
    bound = count(law, radius=radius, q=q, log_density=log_density, delta=n.of(at["delta"]), eps=eps)
    if n.less(bound, n.of(0)):
        # The claim is then made of t = 0, for all starts but 2δ of them: every one is at least (1−τ)‖w₀‖ away.
        size = norm(n, w)
        return (eps + law.beta[0] / law.sharpness - (1 - tau) * size) / (size + law.beta[0] / law.sharpness)

    def holds(state: list[Real]) -> bool:
        w = law.point(state)
        return not n.less(eps, norm(n, [abs(w[0]) - law.beta[0] / law.sharpness, *w[1:]]))

    last = follow(law, law.gradient(w), holds, law.least * eps / 10).last_failure
    return (bound - last) / (1 + bound)


_TINY: Instance = {
    "eigenvalues": (1e-30, 9e-31, 9e-31, 9e-31), "eta": 4.5e29, "rho": 1.0,
    "w": (3.0, 1.0, 1.0, 1.0), "tau": 0.05, "delta": 0.1, "eps": 1e-31,
}  # fmt: skip


THEOREM_3 = Statement(
    key="theorem-3",
    title="Theorem 3",
    draw=_draw,
    hypotheses=_hypotheses,
    printed=Claim(
        latex=r"t\ge\frac{6\lambda_1^5}{\eta\lambda_d^6\mu}\log\frac4{\eta\lambda_1}+\cdots+\frac6{\eta\lambda_1}\ln\frac{2(1+\eta\rho\lambda_1^2)}{\lambda_d\epsilon}\Rightarrow\|w_t\mp\tfrac{\eta\rho\lambda_1}{2-\eta\lambda_1}e_1\|\le\epsilon\text{ w.p. }1-2\delta",
        margin=partial(_margin, count=printed_count),
        seeds=(_TINY,),
    ),
    corrected=Claim(
        latex=r"t\ge\lceil T\rceil+\tfrac{4}{\mu}\tfrac{\beta_1\lambda_1^3}{\eta\beta_d\lambda_d^4}\log\tfrac4{\eta\lambda_1}+\tfrac1\mu(\log\tfrac{2(1+\beta_1)^2}{\lambda_d^2\epsilon^2}+\log\tfrac{R^2}q+2\lceil T\rceil\log\tfrac{2\lambda_1R}{\Delta})+\tfrac6{\eta\lambda_1}\ln\tfrac{2(1+\beta_1)}{\lambda_d\epsilon},\ \Delta\text{ of lemma-7.5 with }A/\textstyle\prod\lambda_i",
        margin=partial(_margin, count=corrected_count),
        also=_lemma_19_range,
    ),
    scope="starts uniform on a small ball about w₀: the run from its centre; where the count is negative, t = 0 for "
    "every start of the ball; " + FOLLOWED,
    repair="the density of v₀ = Λw₀ is A/∏λᵢ; T₀ is missing; ε's range must be Lemma 19's at λ_dε. The first term's 6 "
    "stands: with lemma-11.2's 2 it is 4(2−ηλ_d)/(2−ηλ₁) ≤ 16/3",
    cost=8,
)


def _range_margin(at: Instance, n: Numbers) -> Real:
    """λ_d times the least upper bound of Theorem 3's range, against that of Lemma 19's."""
    law = Law(at, n)
    return 1 - law.least * _printed_range(law) / largest_epsilon(law)


THEOREM_3_2 = Statement(
    key="theorem-3.2",
    title="Theorem 3, the range of ε",
    draw=lambda draw: quadratic(draw, step=(0.02, 0.49), scale=1000),
    hypotheses=standing,
    printed=Claim(
        latex=r"\epsilon<\min\{\sqrt{\eta\lambda_1/2},\tfrac1{2\rho\lambda_1},\tfrac{\eta\rho\lambda_1^2}2\}\Rightarrow\lambda_d\epsilon\text{ in Lemma 19's range}",
        margin=_range_margin,
    ),
    scope="that the proof of Theorem 3 may use Lemma 19 at λ_dε for every ε the theorem allows",
    repair="ask λ_dε < min{√(2ηλ₁β₁/γ₁), (1−ηλ₁)/(2ρλ₁), 2/b, β₁, 1}, Lemma 19's own range",
)


STATEMENTS = (EQUATION_13, EQUATION_14, THEOREM_3, THEOREM_3_2)
