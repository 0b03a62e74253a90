# ruff: noqa: E501 (a formula in LaTeX stands on one line)
"""Section 4.4: alignment with e₁, Definitions 12 and 15, and Lemmas 13, 14 and 16."""

from __future__ import annotations

import math
from collections.abc import Callable

from ravine.claims import proofs
from ravine.claims.law import Law, standing
from ravine.claims.ledger import Claim, Statement, Untested
from ravine.claims.numbers import Numbers, Real, norm, plus, smallest
from ravine.claims.samplers import Draw, Instance, digits, given_gradient, gradient, quadratic
from ravine.claims.statements.descent import LONGEST
from ravine.claims.statements.potential import WATCHED, last_step_proof
from ravine.claims.statements.properties import run, vector

FOLLOWED = f"runs followed to a tenth of the goal's distance from the cycle, in at most {LONGEST} steps"
# A start so far away, and so aligned, that the descent outlasts every count from step 0.
REMOTE: Instance = {"lam": (1.0, 0.9), "eta": 0.49, "rho": 1.0, "v": (1e60, 1e42)}
# Misaligned at T₀ ≈ 400, when the counts of Lemma 14 and (11) have run out.
REMOTER: Instance = REMOTE | {"v": (1e100, 1e88), "eps": 0.1}


def remote(draw: Draw) -> Instance:
    """Starts up to 10¹⁰⁰b away, spectra of small condition: there the counts can be simulated to their end."""
    at = quadratic(draw, step=(0.2, 0.49), condition=1.6)
    b = at["eta"] * at["rho"] * at["lam"][0] ** 2
    length = b * 10 ** digits(draw.pick([0.0, 1.0, 10.0, 100.0]) * draw.unit() - 0.5)
    shape = [1.0, *(draw.signed(1e-30) for _ in at["lam"][1:])]
    size = math.hypot(*shape)
    return at | {"v": given_gradient(draw, at) or tuple(digits(length * x / size) for x in shape)}


def off_axis(at: Instance, n: Numbers) -> dict[str, Real]:
    """The standing hypotheses, and a start with something along e₁."""
    return standing(at, n) | {"v_1 ≠ 0": abs(n.of(at["v"][0]))}


def _no_zero(at: Instance, n: Numbers) -> dict[str, Real]:
    return {"every v_i ≠ 0": smallest(n, [abs(x) for x in vector(at, n)])}


def last_failure(law: Law, v: list[Real], holds: Callable[[list[Real]], bool], near: Real) -> tuple[int, int, Real]:
    """(the last step at which `holds` is false, −1 if none; T₀; the ratio Σvᵢ²/v₁² at T₀).

    The run is followed until it is within `near` of the cycle, where the step contracts, and `holds` stays true.
    """
    n = law.n
    last, descended, ratio = -1, -1, n.of(0)
    for t in range(LONGEST):
        if descended < 0 and not n.less(law.b, law.norm(v)):
            descended, ratio = t, law.ratio(v)
        if not holds(v):
            last = t
        elif descended >= 0 and n.less(law.distance(v), near):
            return last, descended, ratio
        v = law.step(v)
    raise Untested


def _definition12(at: Instance, n: Numbers) -> Real:
    law, v = Law(at, n), vector(at, n)
    delta = 1 - abs(v[0]) / law.norm(v)
    return smallest(n, [delta, 1 - delta, -abs(delta - law.misalignment(v))])


def _definition12_proof() -> str:
    import sympy

    x, y = sympy.symbols("x y", positive=True)
    size = sympy.sqrt(x**2 + y**2)
    return proofs.identities((1 - x / size, y**2 / (size * (size + x)))) + ": 0 ≤ δ ≤ 1, and δ = 0 iff v is along e₁"


def _lemma13(at: Instance, n: Numbers) -> Real:
    law, v = Law(at, n), vector(at, n)
    half = law.ratio(v) / 2
    return (half - law.misalignment(v)) / half


def _lemma13_proof() -> str:
    import sympy

    s = sympy.symbols("s", positive=True)  # s = √(1+α)
    return proofs.identities(((s**2 - 1) / 2 - (1 - 1 / s), (s - 1) ** 2 * (s + 2) / (2 * s)))


def _lemma13_hypotheses(at: Instance, n: Numbers) -> dict[str, Real]:
    law, v = Law(at, n), vector(at, n)
    return off_axis(at, n) | {"v not along e₁": norm(n, v[1:]), "bound ≤ 1/2": 1 - law.ratio(v)}


def _equivalent(at: Instance, n: Numbers) -> Real:
    law, v = Law(at, n), vector(at, n)
    size, mu, h, low = law.norm(v), law.mu, law.h, law.eta * law.least
    level = (2 - h) / (2 - h - (low - mu) - low * mu) * (1 + (1 + mu) * (law.least / law.top) ** 2)
    right = level - size / law.beta[0]
    factors = law.factors(size)
    if any(bool(x == 0) for x in v[1:]):
        # 0 < 0 is false: the first statement fails whatever ‖v‖ is.
        return n.of(-1) if n.less(n.of(0), right) else n.of(1)
    left = smallest(n, [factors[0] ** 2 - (1 + mu) ** 2 * f**2 for f in factors[1:]])
    return left * right / ((factors[0] ** 2 + 1) * (level + size / law.beta[0]))


def _eq7(at: Instance, n: Numbers) -> Real:
    law, v = Law(at, n), vector(at, n)
    size, moved, worst = law.norm(v), law.step(v), n.of(1)
    grow = (1 + law.mu) ** 2
    for i in range(1, law.size):
        left = moved[0] ** 2 * v[i] ** 2 - grow * moved[i] ** 2 * v[0] ** 2
        right = (1 - law.h) ** 2 * (size - law.gamma[0]) ** 2 - grow * (1 - law.eta * law.lam[i]) ** 2 * (
            size - law.gamma[i]
        ) ** 2
        worst = smallest(n, [worst, left * right / (size**4 * (size + law.gamma[0]) ** 2)])
    return worst


def _eq7_proof() -> str:
    import sympy

    h, x, gamma, other, size, v, w = sympy.symbols("h x gamma1 gamma_i N v1 v_i", positive=True)
    first, second = (1 - h) * (size - gamma) * v / size, (1 - x) * (size - other) * w / size
    return proofs.identities(
        (first**2 * size**2 / v**2, (1 - h) ** 2 * (size - gamma) ** 2),
        (second**2 * size**2 / w**2, (1 - x) ** 2 * (size - other) ** 2),
    )


def _equivalent_proof() -> str:
    import sympy

    # Lemma 4 with a = 1−h, b = (1+μ)(1−x), x = ηλᵢ, in units ηρ/η² = 1: the threshold, that it grows with x, its value at d.
    h, x, mu, size = sympy.symbols("h x mu N", positive=True)
    a, b = 1 - h, (1 + mu) * (1 - x)
    level = (h**2 + (1 + mu) * x**2) / (a + b)
    first, second = a * size - h**2, b * size - (1 + mu) * x**2
    split = ((b - a) * size + h**2 - (1 + mu) * x**2) * (a + b) * (level - size)
    return (
        proofs.identities(
            (first**2 - second**2, split),
            (sympy.diff(level, x), (1 + mu) * (2 * x * (a + b) + h**2 + (1 + mu) * x**2) / (a + b) ** 2),
            (level * (2 - h) / h**2, (2 - h) / (2 - h - (x - mu) - x * mu) * (1 + (1 + mu) * x**2 / h**2)),
        )
        + ": the first factor is positive as λ₁² ≥ (1+μ)λᵢ², the threshold is least at λ_d"
    )


def _equivalent_draw(draw: Draw) -> Instance:
    at = quadratic(draw)
    return at | {"v": gradient(draw, at, 0.05, 5, zeros=True)}


def _bad_steps(strict: bool, share: float):
    def margin(at: Instance, n: Numbers) -> Real:
        law, v = Law(at, n), vector(at, n)
        bound, count = law.steps_lost * n.of(share) / 3, 0
        # Fixed at the start: a float that underflows later is not a zero coordinate.
        still = {k for k in range(1, law.size) if bool(v[k] == 0)}
        for _ in range(WATCHED):
            size = law.norm(v)
            factors = law.factors(size)
            grown = (
                not strict if k in still else not n.less((1 + law.mu) ** 2 * factors[k] ** 2, factors[0] ** 2)
                for k in range(1, law.size)
            )
            count += not n.less(law.b, size) and any(grown)
            v = law.step(v)
        return (bound - count) / (1 + bound)

    return margin


def _bad_steps_proof() -> str:
    return f"{_equivalent_proof()}; {last_step_proof()}; so such a step is a visit of Lemma 11 with ε ≥ λ_d²/λ₁²"


def _decay(counted_from_descent: bool):
    def margin(at: Instance, n: Numbers) -> Real:
        law, v = Law(at, n), vector(at, n)
        states = law.until_ball(v, LONGEST)
        if len(states) > LONGEST or bool(states[-1][0] == 0):
            raise Untested
        start, v = len(states) - 1, states[-1]
        if bool(norm(n, v[1:]) == 0):
            raise Untested
        lost, first = law.steps_lost, n.log(law.ratio(v))
        worst: Real = None
        for t in range(start, start + WATCHED):
            v = law.step(v)
            passed = t - start if counted_from_descent else t
            bound = first - n.log(n.of(2)) - 2 * (passed - lost) * n.log(1 + law.mu) + 2 * lost * n.log(2 / law.h)
            if n.less(n.log(n.of(1) / 2), bound):
                continue
            misaligned = law.misalignment(v)
            if bool(misaligned == 0):
                break
            gap = bound - n.log(misaligned)
            worst = gap if worst is None else smallest(n, [worst, gap])
        if worst is None:
            raise Untested
        return worst / (1 + lost)

    return margin


def aligned(counted_from_descent: bool, power: int):
    """Lemma 14's last line (power 1) and (11) (power 2): δ ≤ ε^power from the bound on."""

    def margin(at: Instance, n: Numbers) -> Real:
        law, goal = Law(at, n), n.of(at["eps"]) ** power
        last, start, ratio = last_failure(
            law,
            vector(at, n),
            lambda v: not n.less(goal, law.misalignment(v)),
            smallest(n, [goal, n.of(1) / 100]) * law.beta[0] / 10,
        )
        bound = 2 / law.mu * (law.steps_lost * n.log(4 / law.h) + n.log(ratio / (2 * goal)) / 2)
        if counted_from_descent:
            bound = plus(n, bound) + start
        # The statement is of δ_{T+1} for T ≥ bound: step `last` violates it if last − 1 ≥ bound.
        return (bound - (last - 1)) / (1 + abs(bound)) if last > 0 else n.of(1)

    return margin


def _aligned_draw(draw: Draw) -> Instance:
    return remote(draw) | {"eps": draw.log("eps", 0.01, 0.49)}


def _aligned_hypotheses(at: Instance, n: Numbers) -> dict[str, Real]:
    v = vector(at, n)
    return off_axis(at, n) | {
        "ε > 0": n.of(at["eps"]),
        "ε < 1/2": n.of(1) / 2 - n.of(at["eps"]),
        "v not along e₁": norm(n, v[1:]),
    }


def _definition15(at: Instance, n: Numbers) -> Real:
    """The use the paper makes of s_t: it flips exactly while ‖v_t‖ < γ₁."""
    law, v = Law(at, n), vector(at, n)
    size = law.norm(v)
    return -law.step(v)[0] / v[0] * (law.gamma[0] - size) / (size + law.gamma[0])


def _definition15_proof() -> str:
    import sympy

    h, size, gamma = sympy.symbols("h N gamma", positive=True)
    return proofs.identities((1 - h - (1 - h) * gamma / size, -(1 - h) * (gamma - size) / size))


def _recurrence(sign: int):
    def margin(at: Instance, n: Numbers) -> Real:
        law, v = Law(at, n), vector(at, n)
        s = -1 if n.less(v[0], n.of(0)) else 1
        left = law.step(v)[0] + s * law.beta[0]
        drive = s * law.gamma[0] * law.misalignment(v)
        return -abs(left - sign * (1 - law.h) * (v[0] - s * law.beta[0] + drive)) / (law.norm(v) + law.b)

    return margin


def _eq8(sign: int):
    def margin(at: Instance, n: Numbers) -> Real:
        law, v = Law(at, n), vector(at, n)
        s = -1 if n.less(v[0], n.of(0)) else 1
        left = law.step(v)[0] + s * law.beta[0]
        right = sign * (1 - law.h) * (v[0] - s * law.beta[0]) + s * law.beta[0] * (2 - law.h) * law.misalignment(v)
        return -abs(left - right) / (law.norm(v) + law.b)

    return margin


def _recurrence_proof() -> str:
    import sympy

    h, b, size, x = sympy.symbols("h b N x", positive=True)  # s = +1, v₁ = x ≤ N
    beta, gamma, delta = b / (2 - h), b / (1 - h), 1 - x / size
    moved = (1 - h - b / size) * x
    return (
        proofs.identities(
            (moved + beta, (1 - h) * (x - beta + gamma * delta)),
            (moved + beta, (1 - h) * (x - beta) + beta * (2 - h) * delta),
        )
        + "; s = −1 by symmetry"
    )


def _ball_draw(draw: Draw) -> Instance:
    at = quadratic(draw)
    return at | {"v": gradient(draw, at, 0.01, 1)}


def _in_ball(at: Instance, n: Numbers) -> dict[str, Real]:
    law = Law(at, n)
    return off_axis(at, n) | {"‖v‖ < b": law.b - law.norm(vector(at, n))}


def _eq9(printed: bool):
    def margin(at: Instance, n: Numbers) -> Real:
        law, v = Law(at, n), vector(at, n)
        bound = (1 - law.h) * law.beta[0] if printed else law.beta[0]
        return (bound - abs(abs(v[0]) - law.beta[0])) / law.beta[0]

    return margin


def _eq9_proof() -> str:
    import sympy

    h, b = sympy.symbols("h b", positive=True)
    return proofs.identities((b - b / (2 - h), (1 - h) * b / (2 - h))) + ": 0 ≤ |v₁| ≤ b and b − β₁ ≤ β₁"


def _eq10(at: Instance, n: Numbers) -> Real:
    law, v = Law(at, n), vector(at, n)
    left = abs(abs(law.step(v)[0]) - law.beta[0])
    right = (1 - law.h) * (abs(abs(v[0]) - law.beta[0]) + law.gamma[0] * law.misalignment(v))
    return (right - left) / law.beta[0]


def _alternates(at: Instance, n: Numbers) -> Real:
    """Lemma 16's inequality along forty steps from v, with the sign that alternates from s_T."""
    law, v = Law(at, n), vector(at, n)
    s, worst = (-1 if n.less(v[0], n.of(0)) else 1), n.of(1)
    for _ in range(40):
        moved = law.step(v)
        bound = (1 - law.h) * (abs(v[0] - s * law.beta[0]) + law.gamma[0] * law.misalignment(v))
        worst = smallest(n, [worst, (bound - abs(moved[0] + s * law.beta[0])) / law.beta[0]])
        v, s = moved, -s
    return worst


def _alternates_also(at: Instance, n: Numbers) -> dict[str, Real]:
    law, v = Law(at, n), vector(at, n)
    worst = law.misalignment(v)
    for _ in range(40):
        v = law.step(v)
        worst = n.largest([worst, law.misalignment(v)])
    return {"δ_t ≤ ηλ₁β₁/2": law.h * law.beta[0] / 2 - worst}


def _alternates_draw(draw: Draw) -> Instance:
    at = quadratic(draw)
    v = gradient(draw, at, 0.01, 1)
    shrink = draw.pick([1.0, 1e-3])
    return at | {"v": given_gradient(draw, at) or (v[0], *(digits(x * shrink) for x in v[1:]))}


def _alternates_proof() -> str:
    return (
        _recurrence_proof()
        + "; on ‖v_t‖ ≤ b < γ₁ the sign flips (Definition 15), so both sides follow by the triangle inequality, whatever δ_t"
    )


STATEMENTS = (
    Statement(
        key="definition-12",
        title="Definition 12",
        draw=run,
        hypotheses=off_axis,
        printed=Claim(latex=r"\delta_t=1-|v_{t,1}|/\|v_t\|", margin=_definition12, proof=_definition12_proof),
        scope="that it measures what Section 4.4 says: 0 ≤ δ_t ≤ 1, 0 only along e₁",
    ),
    Statement(
        key="lemma-13",
        title="Lemma 13",
        draw=run,
        hypotheses=_lemma13_hypotheses,
        printed=Claim(
            latex=r"\delta_t\le\frac12\sum_{i\ge2}v_{t,i}^2/v_{t,1}^2\text{ whenever this is at most }1/2",
            margin=_lemma13,
            proof=_lemma13_proof,
        ),
        scope="the proof needs no 'whenever': (s−1)²(s+2)/(2s) ≥ 0",
    ),
    Statement(
        key="lemma-14.1",
        title="Lemma 14, the equivalence",
        draw=_equivalent_draw,
        hypotheses=off_axis,
        printed=Claim(
            latex=r"\frac{v_{t+1,i}^2}{v_{t+1,1}^2}<\frac{1}{(1+\mu)^2}\frac{v_{t,i}^2}{v_{t,1}^2}\ \forall i\iff\frac{\|v_t\|}{\beta_1}<\frac{2-\eta\lambda_1}{2-\eta\lambda_1-(\eta\lambda_d-\mu)-\eta\lambda_d\mu}\Big(1+(1+\mu)\frac{\lambda_d^2}{\lambda_1^2}\Big)",
            margin=_equivalent,
        ),
        corrected=Claim(
            latex=r"\text{the same for }v_{t,i}\ne0", margin=_equivalent, also=_no_zero, proof=_equivalent_proof
        ),
        repair="a coordinate at 0 has 0 < 0: ask v_{t,i} ≠ 0",
    ),
    Statement(
        key="lemma-14.2",
        title="Lemma 14, T₁",
        draw=_equivalent_draw,
        hypotheses=off_axis,
        printed=Claim(
            latex=r"|\{t:\|v_t\|\le b,\ \exists i\ \ldots\ge\ldots\}|\le T_1=\frac{3\beta_1\lambda_1^3}{\eta\beta_d\lambda_d^4}",
            margin=_bad_steps(False, 3),
            seeds=({"lam": (1.0, 0.9), "eta": 0.4, "rho": 1.0, "v": (0.1, 0.0)},),
        ),
        corrected=Claim(
            latex=r"\ldots\le\frac{2\beta_1\lambda_1^3}{\eta\beta_d\lambda_d^4}\text{ for }v_{t,i}\ne0",
            margin=_bad_steps(True, 2),
            also=_no_zero,
            proof=_bad_steps_proof,
        ),
        scope=f"steps counted among {WATCHED}",
        repair="a coordinate at 0 counts at every step; else T₁ stands, and by lemma-11.2 with 2 for 3",
        cost=8,
    ),
    Statement(
        key="lemma-14.3",
        title="Lemma 14, decay of δ",
        draw=remote,
        hypotheses=off_axis,
        printed=Claim(
            latex=r"\delta_{T+1}\le\frac12\Big(\frac1{1+\mu}\Big)^{2(T-T_1)}\Big(\frac2{\eta\lambda_1}\Big)^{2T_1}\frac{\sum_{i\ge2}v_{T_0,i}^2}{v_{T_0,1}^2}\text{ once below }\tfrac12",
            margin=_decay(False),
            seeds=(REMOTE,),
        ),
        corrected=Claim(latex=r"\ldots\Big(\frac1{1+\mu}\Big)^{2(T-T_0-T_1)}\ldots", margin=_decay(True)),
        scope=f"T₀ ≤ T < T₀ + {WATCHED}",
        repair="steps are counted from 0 where they must be counted from T₀",
        cost=8,
    ),
    Statement(
        key="lemma-14.4",
        title="Lemma 14, the count",
        draw=_aligned_draw,
        hypotheses=_aligned_hypotheses,
        printed=Claim(
            latex=r"T\ge\frac2\mu\Big(T_1\log\frac4{\eta\lambda_1}+\frac12\log\frac{\sum_{i\ge2}v_{T_0,i}^2}{2\epsilon v_{T_0,1}^2}\Big)\Rightarrow\delta_{T+1}\le\epsilon",
            margin=aligned(False, 1),
            seeds=(REMOTER,),
        ),
        corrected=Claim(latex=r"T\ge T_0+[\ldots]_+\Rightarrow\delta_{T+1}\le\epsilon", margin=aligned(True, 1)),
        scope=FOLLOWED,
        repair="add T₀ ≤ ⌈[log(R/b)]₊/(ηλ_d)⌉",
        cost=8,
    ),
    Statement(
        key="definition-15",
        title="Definition 15",
        draw=run,
        hypotheses=off_axis,
        printed=Claim(latex=r"s_t=\mathrm{sign}(v_{t,1})", margin=_definition15, proof=_definition15_proof),
        scope="that it flips exactly where ‖v_t‖ < γ₁, on which Lemma 16 rests; s = 0 at v_{t,1} = 0",
    ),
    Statement(
        key="lemma-16.1",
        title="Lemma 16, the recurrence",
        draw=run,
        hypotheses=off_axis,
        printed=Claim(
            latex=r"v_{t+1,1}-(-s_t\beta_1)=-(1-\eta\lambda_1)(v_{t,1}-s_t\beta_1+s_t\gamma_1\delta_t)",
            margin=_recurrence(-1),
        ),
        corrected=Claim(
            latex=r"v_{t+1,1}+s_t\beta_1=(1-\eta\lambda_1)(v_{t,1}-s_t\beta_1+s_t\gamma_1\delta_t)",
            margin=_recurrence(1),
            proof=_recurrence_proof,
        ),
        repair="the sign on the right is +",
    ),
    Statement(
        key="eq-8",
        title="(8)",
        draw=run,
        hypotheses=off_axis,
        printed=Claim(
            latex=r"v_{t+1,1}+s_t\beta_1=-(1-\eta\lambda_1)(v_{t,1}-s_t\beta_1)+s_t\beta_1(2-\eta\lambda_1)\delta_t",
            margin=_eq8(-1),
        ),
        corrected=Claim(
            latex=r"v_{t+1,1}+s_t\beta_1=(1-\eta\lambda_1)(v_{t,1}-s_t\beta_1)+s_t\beta_1(2-\eta\lambda_1)\delta_t",
            margin=_eq8(1),
            proof=_recurrence_proof,
        ),
        repair="the sign again; the line before (8) has it right",
    ),
    Statement(
        key="lemma-16.2",
        title="Lemma 16, the inequality",
        draw=_alternates_draw,
        hypotheses=_in_ball,
        printed=Claim(
            latex=r"\delta_t\le\tfrac{\eta\lambda_1\beta_1}2\ \forall t\ge T\Rightarrow|v_{t+1,1}-(-1)^{t+1-T}s_T\beta_1|\le(1-\eta\lambda_1)(|v_{t,1}-(-1)^{t-T}s_T\beta_1|+\gamma_1\delta_t)",
            margin=_alternates,
            also=_alternates_also,
        ),
        corrected=Claim(
            latex=r"\text{the same without the condition on }\delta_t", margin=_alternates, proof=_alternates_proof
        ),
        scope="forty steps from v_T; all later ones by Lemma 5.5",
        repair="the print stands; its condition on δ_t is not needed",
        cost=2,
    ),
    Statement(
        key="eq-9",
        title="(9)",
        draw=_ball_draw,
        hypotheses=_in_ball,
        printed=Claim(latex=r"|v_{t,1}-s_t\beta_1|\le(1-\eta\lambda_1)\beta_1", margin=_eq9(True)),
        corrected=Claim(latex=r"|v_{t,1}-s_t\beta_1|\le\beta_1", margin=_eq9(False), proof=_eq9_proof),
        repair="near v_{t,1} = 0 the distance is β₁",
    ),
    Statement(
        key="eq-10",
        title="(10)",
        draw=_ball_draw,
        hypotheses=_in_ball,
        printed=Claim(
            latex=r"|v_{t+1,1}-s_{t+1}\beta_1|\le(1-\eta\lambda_1)(|v_{t,1}-s_t\beta_1|+\gamma_1\delta_t)",
            margin=_eq10,
            proof=_alternates_proof,
        ),
    ),
    Statement(
        key="eq-7",
        title="(7)",
        draw=run,
        hypotheses=lambda at, n: off_axis(at, n) | _no_zero(at, n),
        printed=Claim(
            latex=r"\frac{v_{t+1,i}^2}{v_{t+1,1}^2}<\frac1{(1+\mu)^2}\frac{v_{t,i}^2}{v_{t,1}^2}\iff(1-\eta\lambda_1)^2(\|v_t\|-\gamma_1)^2>(1+\mu)^2(1-\eta\lambda_i)^2(\|v_t\|-\gamma_i)^2",
            margin=_eq7,
            proof=_eq7_proof,
        ),
        scope="cross-multiplied; v_{t,i} ≠ 0",
    ),
)
