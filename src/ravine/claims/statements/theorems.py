# ruff: noqa: E501 (a formula in LaTeX stands on one line)
"""Section 4.5: the counts of steps in one place, and Theorems 1 to 3."""

from __future__ import annotations

import math
from collections.abc import Callable

from ravine.claims.law import Law, standing
from ravine.claims.ledger import Claim, Statement, Untested
from ravine.claims.numbers import Numbers, Real, norm, plus, smallest
from ravine.claims.samplers import Draw, Instance, digits, gradient, quadratic
from ravine.claims.statements.alignment import FOLLOWED, last_failure, off_axis
from ravine.claims.statements.arrival import range19
from ravine.claims.statements.descent import LONGEST, clearance, log_clearance, time_bound
from ravine.claims.statements.properties import vector


def _eq13(rounded: bool):
    def margin(at: Instance, n: Numbers) -> Real:
        law, v = Law(at, n), vector(at, n)
        radius = law.top * n.of(at["R"])
        states = law.until_ball(v, LONGEST)
        if len(states) > LONGEST or bool(states[-1][0] == 0):
            raise Untested
        bound = time_bound(law, radius)
        steps = n.of(max(0, n.ceil(bound))) if rounded else bound
        right = 2 * steps * n.log(2 * radius / clearance(law, states)) + n.log(radius**2 / v[0] ** 2)
        return right - n.log(law.ratio(states[-1]))

    return margin


def _eq13_draw(draw: Draw) -> Instance:
    at = quadratic(draw, step=(0.05, 0.49), condition=10)
    v = gradient(draw, at, *draw.pick([(0.3, 100.0), (1.0, 1.3)]))
    size = math.hypot(*(x / y for x, y in zip(v, at["lam"], strict=True)))
    return at | {"v": v, "R": digits(size * (1.002 + draw.unit() ** 4), 4)}


def _eq13_hypotheses(at: Instance, n: Numbers) -> dict[str, Real]:
    law, v = Law(at, n), vector(at, n)
    size = law.norm([x / y for x, y in zip(v, law.lam, strict=True)])
    return off_axis(at, n) | {"‖w₀‖ < R": n.of(at["R"]) - size, "v not along e₁": norm(n, v[1:])}


def _box_draw(draw: Draw) -> Instance:
    """Starts uniform on the ball of radius τ‖w₀‖ about w₀; scales down to 10⁻³⁰."""
    top = 10 ** digits(draw.pick([0.0, -30.0]) * draw.unit())
    at = quadratic(draw, step=(0.2, 0.49), condition=1.6, scale=3)
    lam = tuple(digits(x * top, 4) for x in at["lam"]) if "lam" not in draw.given else at["lam"]
    eta = float(draw.given.get("eta", digits(at["eta"] / top)))
    amplitude = eta * at["rho"] * lam[0]
    start = draw.given.get("start")
    if start is None:
        shape = [1.0, *(draw.signed(0.1) for _ in lam[1:])]
        length = amplitude * draw.log("", 0.5, 10) / math.hypot(*shape)
        start = tuple(digits(length * x) for x in shape)
    at = {"lam": lam, "eta": eta, "rho": at["rho"], "w": tuple(start), "tau": draw.log("tau", 0.01, 0.1)}
    b = eta * at["rho"] * lam[0] ** 2
    limit = min(math.sqrt(eta * lam[0] / 2), 1 / (2 * at["rho"] * lam[0]), b / 2)
    eps = float(draw.given.get("eps", digits(limit * draw.log("", 0.05, 0.99))))
    return at | {"delta": draw.log("delta", 0.01, 0.4), "eps": eps}


def _box_hypotheses(at: Instance, n: Numbers) -> dict[str, Real]:
    law, eps, w = Law(at, n), n.of(at["eps"]), vector(at, n, "w")
    tau = n.of(at["tau"])
    printed = smallest(n, [n.sqrt(law.h / 2), 1 / (2 * law.rho * law.top), law.b / 2])
    return standing(at, n) | {
        "ε > 0": eps,
        "ε in Theorem 3's range": printed - eps,
        "δ > 0": n.of(at["delta"]),
        "δ < 1/2": n.of(1) / 2 - n.of(at["delta"]),
        "τ > 0": tau,
        "w_{0,1} ≠ 0 on the support": abs(w[0]) - tau * norm(n, w),
    }


def _range3(at: Instance, n: Numbers) -> dict[str, Real]:
    law = Law(at, n)
    return {"λ_dε in Lemma 19's range": range19(law) - law.least * n.of(at["eps"])}


def _range_implied(at: Instance, n: Numbers) -> Real:
    """λ_d times the least upper bound of Theorem 3's range, against that of Lemma 19's."""
    law = Law(at, n)
    printed = smallest(n, [n.sqrt(law.h / 2), 1 / (2 * law.rho * law.top), law.b / 2])
    return 1 - law.least * printed / range19(law)


def _box(at: Instance, law: Law) -> tuple[list[Real], Real, Real, Real]:
    """w₀, R, q, and log A of the uniform density on the ball about w₀."""
    n = law.n
    w, tau = vector(at, n, "w"), n.of(at["tau"])
    size = norm(n, w)
    d = law.size
    volume = n.of(d) / 2 * n.log(n.pi()) - n.lgamma(n.of(d) / 2 + 1) + d * n.log(tau * size)
    return w, size * (1 + tau), (abs(w[0]) - tau * size) ** 2, -volume


def printed_count(law: Law, radius: Real, q: Real, log_density: Real, delta: Real, eps: Real) -> Real:
    """Theorem 3's lower bound on t, as printed."""
    n, d = law.n, law.size
    low, mu, b = law.eta * law.least, law.mu, law.b
    total = 6 * law.top**5 / (law.eta * law.least**6 * mu) * n.log(4 / law.h)
    total = total + (n.log(4 * (1 + b) ** 2 / (law.least * eps) ** 2) + n.log(radius**2 / q)) / mu
    unit = law.eta * law.rho * law.top
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
        total = total + 2 * ratio / (low * mu) * (n.log(2 * law.top * radius) + ratio * growth / low + last)
    return total + 6 / law.h * n.log(2 * (1 + b) / (law.least * eps))


def eq14_count(law: Law, radius: Real, q: Real, log_gap: Real, eps: Real) -> Real:
    """The display before (14): Lemma 19 with (13), counted from step 0."""
    n = law.n
    scale = 2 * (1 + law.beta[0]) / (law.least * eps)
    ratio = plus(n, n.log(law.top * radius / law.b)) / (law.eta * law.least)
    inner = n.log(scale**2 / 2) + 2 * ratio * (n.log(2 * law.top * radius) - log_gap) + n.log(radius**2 / q)
    return 2 / law.mu * law.steps_lost * n.log(4 / law.h) + inner / law.mu + 6 / law.h * n.log(scale)


def corrected_count(law: Law, radius: Real, q: Real, log_density: Real, delta: Real, eps: Real) -> Real:
    """Theorem 3 with its corrections: from T₀ on, Lemma 7 at v₀ = Λw₀ with the density's true growth, T₁ by 2 for 3."""
    n = law.n
    low = law.eta * law.least
    gradient_density = log_density - sum((n.log(x) for x in law.lam), n.of(0))
    steps = max(0, n.ceil(time_bound(law, law.top * radius)))
    descent = n.of(steps)
    scale = 2 * (1 + law.beta[0]) / (law.least * eps)
    inner = n.log(scale**2 / 2) + n.log(radius**2 / q)
    if steps:
        log_gap = log_clearance(law, law.top * radius, n.exp(gradient_density), delta, least_steps=1, sharp=True)
        caps = [n.exp(log_gap), law.gamma[0] - law.b, law.gamma[0] * low / (2 - low)]
        inner = inner + 2 * steps * n.log(2 * law.top * radius / smallest(n, caps))
    wait = 4 / (3 * law.mu) * law.steps_lost * n.log(4 / law.h) + inner / law.mu
    return descent + plus(n, wait) + 6 / law.h * n.log(scale)


def _theorem3(count: Callable[..., Real]):
    def margin(at: Instance, n: Numbers) -> Real:
        law, eps = Law(at, n), n.of(at["eps"])
        w, radius, q, log_density = _box(at, law)
        bound = count(law, radius, q, log_density, n.of(at["delta"]), eps)
        return _by_step(law, w, n.of(at["tau"]), eps, bound)

    return margin


def _by_step(law: Law, w: list[Real], tau: Real, eps: Real, bound: Real) -> Real:
    n, size = law.n, norm(law.n, w)
    if n.less(bound, n.of(0)):
        # The claim is then made of t = 0, for all starts but 2δ of them: every one is at least (1−τ)‖w₀‖ away.
        return (eps + law.beta[0] / law.top - (1 - tau) * size) / (size + law.beta[0] / law.top)
    v = [x * y for x, y in zip(law.lam, w, strict=True)]

    def holds(state: list[Real]) -> bool:
        scaled = [x / y for x, y in zip(state, law.lam, strict=True)]
        scaled[0] = abs(scaled[0]) - law.beta[0] / law.top
        return not n.less(eps, norm(n, scaled))

    last, _, _ = last_failure(law, v, holds, law.least * eps / 10)
    return (bound - last) / (1 + bound)


def _eq14(corrected: bool):
    def margin(at: Instance, n: Numbers) -> Real:
        law, eps = Law(at, n), n.of(at["eps"])
        w, radius, q, _ = _box(at, law)
        v = [x * y for x, y in zip(law.lam, w, strict=True)]
        states = law.until_ball(v, LONGEST)
        if len(states) > LONGEST or bool(states[-1][0] == 0):
            raise Untested
        bound = eq14_count(law, radius, q, n.log(clearance(law, states)), eps)
        if corrected:
            steps = n.of(max(0, n.ceil(time_bound(law, law.top * radius))))
            extra = 2 / law.mu * n.log(2 * law.top * radius / clearance(law, states))
            bound = plus(n, bound + extra) + steps
        goal = law.least * eps
        last, _, _ = last_failure(law, v, lambda state: not n.less(goal, law.distance(state)), goal / 10)
        return (bound - last) / (1 + abs(bound))

    return margin


def _theorem1_draw(draw: Draw) -> Instance:
    at = quadratic(draw, step=(0.1, 0.49), condition=4, scale=10)
    v = gradient(draw, at, 0.3, 30)
    return at | {"v": v, "digits": draw.integer("digits", 3, 8)}


def _theorem1(at: Instance, n: Numbers) -> Real:
    law, v = Law(at, n), vector(at, n)
    eps = n.of(1) / 10 ** at["digits"]
    size = norm(n, [x / y for x, y in zip(v, law.lam, strict=True)])
    first = v[0] / law.top
    limit = smallest(n, [1 / law.top, law.least, law.eta, law.rho, 1 / law.rho, 1 / size, first**2, n.of(1) / 10])
    if n.less(limit, eps):
        raise Untested
    kappa = law.top / law.least
    bound = (kappa**5 / (law.eta * law.least * law.mu) + law.size) * 10 * n.log(1 / eps)
    goal = law.least * eps
    last, _, _ = last_failure(law, v, lambda state: not n.less(goal, law.distance(state)), goal / 10)
    return (bound - last) / (1 + bound)


def _implies_draw(draw: Draw) -> Instance:
    return {
        "kappa": draw.uniform("kappa", 1.5, 3),
        "step": draw.log("step", 1e-12, 0.1),
        "ratio": draw.log("ratio", 1.5, 100),
        "d": draw.integer("d", 2, 1000),
    }


def _implies_hypotheses(at: Instance, n: Numbers) -> dict[str, Real]:
    kappa, step = n.of(at["kappa"]), n.of(at["step"])
    return {
        "λ₁ > λ₂": kappa - 1,
        "ηλ_d > 0": step,
        "ηλ₁ < 1/2": n.of(1) / 2 - kappa * step,
        "R > ηρλ₁": n.of(at["ratio"]) - 1,
        "d ≥ 2": n.of(at["d"]) - 1,
    }


def _implies(at: Instance, n: Numbers) -> Real:
    """λ₂ = … = λ_d = 1, λ₁ = κ, ρ = 1/(ηκ): Theorem 3's dimension term alone against Theorem 1's whole count."""
    kappa, step, ratio = n.of(at["kappa"]), n.of(at["step"]), n.log(n.of(at["ratio"]))
    d = at["d"]
    mu = smallest(n, [step, kappa**2 - 1])
    theorem3 = 2 * ratio**2 * (d + 3) * n.log(6 / step) / (step**2 * mu)
    log_eps = 20 * n.log(1 / step)  # ε = (ηλ_d)²⁰, below any p′ of degree 20 in η here
    theorem1 = (kappa**5 / (step * mu) + d) * 100 * log_eps**2
    return (theorem1 - theorem3) / theorem1


def _theorem2_draw(draw: Draw) -> Instance:
    at = quadratic(draw, step=(0.1, 0.49), condition=5)
    return at | {"v": gradient(draw, at, 0.03, 30), "eps": draw.log("eps", 1e-6, 0.01)}


def _theorem2(at: Instance, n: Numbers) -> Real:
    law, v = Law(at, n), vector(at, n)
    if bool(law.step(v)[0] == 0):
        return n.of(-1)  # v_{1,1} = 0, and stays 0: the run ends in another cycle, at distance ≥ β₁/λ₁
    goal = n.of(at["eps"]) * law.beta[0]
    last, _, _ = last_failure(law, v, lambda state: not n.less(goal, law.distance(state)), goal / 10)
    return 1 - n.of(last) / LONGEST


_ON_SPHERE: Instance = {"lam": (1.0, 0.5), "eta": 0.2, "rho": 1.0, "v": (0.15, 0.2), "eps": 0.001}
_TINY: Instance = {
    "lam": (1e-30, 9e-31, 9e-31, 9e-31),
    "eta": 4.5e29,
    "rho": 1.0,
    "w": (3.0, 1.0, 1.0, 1.0),
    "tau": 0.05,
    "delta": 0.1,
    "eps": 1e-31,
}

STATEMENTS = (
    Statement(
        key="eq-13",
        title="(13)",
        draw=_eq13_draw,
        hypotheses=_eq13_hypotheses,
        printed=Claim(
            latex=r"\log\frac{\sum v_{T_0,i}^2}{v_{T_0,1}^2}\le\frac2{\eta\lambda_d}\Big[\log\frac{\lambda_1R}b\Big]_+\log\frac{2\lambda_1R}\Delta+\log\frac{\lambda_1^2R^2}{v_{0,1}^2}",
            margin=_eq13(False),
        ),
        corrected=Claim(latex=r"2\lceil T\rceil\text{ for }\tfrac2{\eta\lambda_d}[\ldots]_+", margin=_eq13(True)),
        scope="Δ the run's own",
        repair="T₀ may be ⌈T⌉, as in (4); λ₁‖w₀‖ ≥ ‖v₀‖ leaves slack that has covered it on every run tried",
        cost=2,
    ),
    Statement(
        key="eq-14",
        title="(14)",
        draw=_box_draw,
        hypotheses=_box_hypotheses,
        printed=Claim(
            latex=r"t\ge\frac{6\beta_1\lambda_1^3}{\eta\mu\beta_d\lambda_d^4}\log\frac4{\eta\lambda_1}+\ldots\Rightarrow\|v_t\mp\beta_1e_1\|\le\lambda_d\epsilon",
            margin=_eq14(False),
        ),
        corrected=Claim(latex=r"t\ge T_0+\ldots,\ \lceil T\rceil\text{ for }T", margin=_eq14(True), also=_range3),
        scope=FOLLOWED + "; Δ the run's own",
        repair="T₀ is missing, but the other terms' slack has covered it on every run tried; Lemma 19's range of ε is not "
        "implied by Theorem 3's",
        cost=8,
    ),
    Statement(
        key="theorem-3",
        title="Theorem 3",
        draw=_box_draw,
        hypotheses=_box_hypotheses,
        printed=Claim(
            latex=r"t\ge\frac{6\lambda_1^5}{\eta\lambda_d^6\mu}\log\frac4{\eta\lambda_1}+\cdots+\frac6{\eta\lambda_1}\ln\frac{2(1+\eta\rho\lambda_1^2)}{\lambda_d\epsilon}\Rightarrow\|w_t\mp\tfrac{\eta\rho\lambda_1}{2-\eta\lambda_1}e_1\|\le\epsilon\text{ w.p. }1-2\delta",
            margin=_theorem3(printed_count),
            seeds=(_TINY,),
        ),
        corrected=Claim(
            latex=r"t\ge\lceil T\rceil+\tfrac{4}{\mu}\tfrac{\beta_1\lambda_1^3}{\eta\beta_d\lambda_d^4}\log\tfrac4{\eta\lambda_1}+\tfrac1\mu(\log\tfrac{2(1+\beta_1)^2}{\lambda_d^2\epsilon^2}+\log\tfrac{R^2}q+2\lceil T\rceil\log\tfrac{2\lambda_1R}{\Delta})+\tfrac6{\eta\lambda_1}\ln\tfrac{2(1+\beta_1)}{\lambda_d\epsilon},\ \Delta\text{ of lemma-7.5 with }A/\textstyle\prod\lambda_i",
            margin=_theorem3(corrected_count),
            also=_range3,
        ),
        scope="starts uniform on a small ball about w₀: the run from its centre; where the count is negative, t = 0 for "
        "every start of the ball; " + FOLLOWED,
        repair="the density of v₀ = Λw₀ is A/∏λᵢ; T₀ is missing; ε's range must be Lemma 19's at λ_dε. The first term's 6 "
        "stands: with lemma-11.2's 2 it is 4(2−ηλ_d)/(2−ηλ₁) ≤ 16/3",
        cost=8,
    ),
    Statement(
        key="theorem-3.2",
        title="Theorem 3, the range of ε",
        draw=lambda draw: quadratic(draw, step=(0.02, 0.49), scale=1000),
        hypotheses=standing,
        printed=Claim(
            latex=r"\epsilon<\min\{\sqrt{\eta\lambda_1/2},\tfrac1{2\rho\lambda_1},\tfrac{\eta\rho\lambda_1^2}2\}\Rightarrow\lambda_d\epsilon\text{ in Lemma 19's range}",
            margin=_range_implied,
        ),
        scope="that the proof of Theorem 3 may use Lemma 19 at λ_dε for every ε the theorem allows",
        repair="ask λ_dε < min{√(2ηλ₁β₁/γ₁), (1−ηλ₁)/(2ρλ₁), 2/b, β₁, 1}, Lemma 19's own range",
    ),
    Statement(
        key="theorem-1.1",
        title="Theorem 1",
        draw=_theorem1_draw,
        hypotheses=off_axis,
        printed=Claim(
            latex=r"t\ge\Big(\frac{\kappa^5}{\eta\lambda_d\min\{\eta\lambda_d,\lambda_1^2/\lambda_2^2-1\}}+d\Big)p(\log\tfrac1\epsilon)\Rightarrow\|w_t\mp\ldots\|\le\epsilon",
            margin=_theorem1,
        ),
        scope="it asks for some polynomials p, p′: checked with p(x) = 10x and ε at most the least of p′'s arguments, on "
        "single starts; " + FOLLOWED,
        cost=8,
    ),
    Statement(
        key="theorem-1.2",
        title="Theorem 3 implies Theorem 1",
        draw=_implies_draw,
        hypotheses=_implies_hypotheses,
        printed=Claim(
            latex=r"\text{Theorem 3's count}\le\Big(\frac{\kappa^5}{\eta\lambda_d\mu}+d\Big)p(\log\tfrac1\epsilon)",
            margin=_implies,
            seeds=({"kappa": 2.0, "step": 1e-12, "ratio": 10.0, "d": 10},),
        ),
        scope="with p(x) = 100x² and ε = (ηλ_d)²⁰; the ratio grows like 1/(ηλ_d) up to logarithms, so no p and p′ do",
        repair="the dimension enters Theorem 3 as d/((ηλ_d)²μ), not as + d: Theorem 1 needs another proof",
    ),
    Statement(
        key="theorem-2",
        title="Theorem 2",
        draw=_theorem2_draw,
        hypotheses=lambda at, n: off_axis(at, n) | {"ε > 0": n.of(at["eps"])},
        printed=Claim(
            latex=r"w_0\text{ continuous},\ \mathbf E\|w_0\|^2<\infty\Rightarrow\text{a.s. }w_t\to\pm\tfrac{\eta\rho\lambda_1}{2-\eta\lambda_1}e_1\text{ alternately}",
            margin=_theorem2,
            seeds=(_ON_SPHERE,),
        ),
        corrected=Claim(
            latex=r"w_0\text{ absolutely continuous, no moment}\Rightarrow\ldots",
            margin=_theorem2,
            also=lambda at, n: {"‖v₀‖ ≠ γ₁": abs(Law(at, n).gamma[0] - norm(n, vector(at, n)))},
        ),
        scope="single starts, followed until within ε of the cycle; the counterexample stands for every start on the sphere "
        "‖Λw₀‖ = γ₁, which carries atomless laws. Starts that meet ‖v_t‖ = γ₁ later are met with probability 0",
        repair="atomless laws may sit on ‖Λw₀‖ = γ₁, whence v_{1,1} = 0. With 'continuous' for 'has a density' the print stands; the moment "
        "is not needed",
        cost=8,
    ),
)
