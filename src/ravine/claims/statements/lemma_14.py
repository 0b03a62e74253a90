# ruff: noqa: E501 (a formula in LaTeX stands on one line)
"""Lemma 14 and equation (7): steps at which the run aligns with e₁, steps at which it may not, and when it has (Section 4.4)."""

from __future__ import annotations

from functools import partial

from ravine.claims import proofs
from ravine.claims.hypotheses import no_zero_coordinate, off_axis
from ravine.claims.law import Law, vector
from ravine.claims.numbers import Numbers, Real, is_zero, norm, plus, smallest
from ravine.claims.runs import FOLLOWED, WATCHED, descent_off_axis, follow
from ravine.claims.samplers import REMOTE, REMOTER, Draw, Instance, gradient, quadratic, remote, run
from ravine.claims.statement import Claim, Statement, Untested
from ravine.claims.statements.lemma_11 import last_inequality_proof


def _ball_draw(draw: Draw) -> Instance:
    at = quadratic(draw)
    return at | {"v": gradient(draw, at, 0.05, 5, zeros=True)}


def _equivalence_margin(at: Instance, n: Numbers) -> Real:
    law, v = Law(at, n), vector(at, n)
    size, mu, h, low = law.norm(v), law.mu, law.h, law.eta * law.least
    level = (2 - h) / (2 - h - (low - mu) - low * mu) * (1 + (1 + mu) * (law.least / law.sharpness) ** 2)
    right = level - size / law.beta[0]
    factors = law.factors(size)
    if any(is_zero(x) for x in v[1:]):
        # 0 < 0 is false: the first statement fails whatever ‖v‖ is.
        return n.of(-1) if n.less(n.of(0), right) else n.of(1)
    left = smallest(n, [factors[0] ** 2 - (1 + mu) ** 2 * f**2 for f in factors[1:]])
    return left * right / ((factors[0] ** 2 + 1) * (level + size / law.beta[0]))


def _equivalence_proof() -> str:
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


LEMMA_14_1 = Statement(
    key="lemma-14.1",
    title="Lemma 14, the equivalence",
    draw=_ball_draw,
    hypotheses=off_axis,
    printed=Claim(
        latex=r"\frac{v_{t+1,i}^2}{v_{t+1,1}^2}<\frac{1}{(1+\mu)^2}\frac{v_{t,i}^2}{v_{t,1}^2}\ \forall i\iff\frac{\|v_t\|}{\beta_1}<\frac{2-\eta\lambda_1}{2-\eta\lambda_1-(\eta\lambda_d-\mu)-\eta\lambda_d\mu}\Big(1+(1+\mu)\frac{\lambda_d^2}{\lambda_1^2}\Big)",
        margin=_equivalence_margin,
    ),
    corrected=Claim(
        latex=r"\text{the same for }v_{t,i}\ne0",
        margin=_equivalence_margin,
        also=no_zero_coordinate,
        proof=_equivalence_proof,
    ),
    repair="a coordinate at 0 has 0 < 0: ask v_{t,i} ≠ 0",
)


def _lost_steps_margin(at: Instance, n: Numbers, *, constant: int, zeros_count: bool) -> Real:
    """T₁ with `constant` for its 3; a coordinate at 0 is misaligned at every step if `zeros_count`."""
    law, v = Law(at, n), vector(at, n)
    bound, count = law.steps_lost * n.of(constant) / 3, 0
    # Fixed at the start: a float that underflows later is not a zero coordinate.
    still = {k for k in range(1, law.size) if is_zero(v[k])}
    for _ in range(WATCHED):
        size = law.norm(v)
        factors = law.factors(size)
        grown = (
            zeros_count if k in still else not n.less((1 + law.mu) ** 2 * factors[k] ** 2, factors[0] ** 2)
            for k in range(1, law.size)
        )
        count += not n.less(law.b, size) and any(grown)
        v = law.step(v)
    return (bound - count) / (1 + bound)


def _lost_steps_proof() -> str:
    return f"{_equivalence_proof()}; {last_inequality_proof()}; so such a step is a visit of Lemma 11 with ε ≥ λ_d²/λ₁²"


LEMMA_14_2 = Statement(
    key="lemma-14.2",
    title="Lemma 14, T₁",
    draw=_ball_draw,
    hypotheses=off_axis,
    printed=Claim(
        latex=r"|\{t:\|v_t\|\le b,\ \exists i\ \ldots\ge\ldots\}|\le T_1=\frac{3\beta_1\lambda_1^3}{\eta\beta_d\lambda_d^4}",
        margin=partial(_lost_steps_margin, constant=3, zeros_count=True),
        seeds=({"eigenvalues": (1.0, 0.9), "eta": 0.4, "rho": 1.0, "v": (0.1, 0.0)},),
    ),
    corrected=Claim(
        latex=r"\ldots\le\frac{2\beta_1\lambda_1^3}{\eta\beta_d\lambda_d^4}\text{ for }v_{t,i}\ne0",
        margin=partial(_lost_steps_margin, constant=2, zeros_count=False),
        also=no_zero_coordinate,
        proof=_lost_steps_proof,
    ),
    scope=f"steps counted among {WATCHED}",
    repair="a coordinate at 0 counts at every step; else T₁ stands, and by lemma-11.2 with 2 for 3",
    cost=8,
)


def _decay_margin(at: Instance, n: Numbers, *, from_descent: bool) -> Real:
    """The bound on δ_{T+1}, its exponent counted from T₀ or from step 0, for T from T₀ on."""
    law = Law(at, n)
    states = descent_off_axis(law, vector(at, n))
    start, v = len(states) - 1, states[-1]
    if is_zero(norm(n, v[1:])):
        raise Untested
    lost, first = law.steps_lost, n.log(law.ratio(v))
    worst: Real = None
    for t in range(start, start + WATCHED):
        v = law.step(v)
        passed = t - start if from_descent else t
        bound = first - n.log(n.of(2)) - 2 * (passed - lost) * n.log(1 + law.mu) + 2 * lost * n.log(2 / law.h)
        if n.less(n.log(n.of(1) / 2), bound):
            continue
        misaligned = law.misalignment(v)
        if is_zero(misaligned):
            break
        gap = bound - n.log(misaligned)
        worst = gap if worst is None else smallest(n, [worst, gap])
    if worst is None:
        raise Untested
    return worst / (1 + lost)


LEMMA_14_3 = Statement(
    key="lemma-14.3",
    title="Lemma 14, decay of δ",
    draw=remote,
    hypotheses=off_axis,
    printed=Claim(
        latex=r"\delta_{T+1}\le\frac12\Big(\frac1{1+\mu}\Big)^{2(T-T_1)}\Big(\frac2{\eta\lambda_1}\Big)^{2T_1}\frac{\sum_{i\ge2}v_{T_0,i}^2}{v_{T_0,1}^2}\text{ once below }\tfrac12",
        margin=partial(_decay_margin, from_descent=False),
        seeds=(REMOTE,),
    ),
    corrected=Claim(
        latex=r"\ldots\Big(\frac1{1+\mu}\Big)^{2(T-T_0-T_1)}\ldots", margin=partial(_decay_margin, from_descent=True)
    ),
    scope=f"T₀ ≤ T < T₀ + {WATCHED}",
    repair="steps are counted from 0 where they must be counted from T₀",
    cost=8,
)


def _alignment_draw(draw: Draw) -> Instance:
    return remote(draw) | {"eps": draw.log("eps", 0.01, 0.49)}


def _alignment_hypotheses(at: Instance, n: Numbers) -> dict[str, Real]:
    v = vector(at, n)
    return off_axis(at, n) | {
        "ε > 0": n.of(at["eps"]),
        "ε < 1/2": n.of(1) / 2 - n.of(at["eps"]),
        "v not along e₁": norm(n, v[1:]),
    }


def alignment_margin(at: Instance, n: Numbers, *, power: int, from_descent: bool) -> Real:
    """δ ≤ ε^`power` from a count on, of steps after T₀ or from step 0: Lemma 14's last line (1), and (11) (2)."""
    law, goal = Law(at, n), n.of(at["eps"]) ** power
    followed = follow(
        law,
        vector(at, n),
        lambda v: not n.less(goal, law.misalignment(v)),
        smallest(n, [goal, n.of(1) / 100]) * law.beta[0] / 10,
    )
    bound = 2 / law.mu * (law.steps_lost * n.log(4 / law.h) + n.log(followed.ratio / (2 * goal)) / 2)
    if from_descent:
        bound = plus(n, bound) + followed.descended
    # The statement is of δ_{T+1} for T ≥ bound: the last failure violates it if it comes after bound + 1.
    return (bound - (followed.last_failure - 1)) / (1 + abs(bound)) if followed.last_failure > 0 else n.of(1)


LEMMA_14_4 = Statement(
    key="lemma-14.4",
    title="Lemma 14, the count",
    draw=_alignment_draw,
    hypotheses=_alignment_hypotheses,
    printed=Claim(
        latex=r"T\ge\frac2\mu\Big(T_1\log\frac4{\eta\lambda_1}+\frac12\log\frac{\sum_{i\ge2}v_{T_0,i}^2}{2\epsilon v_{T_0,1}^2}\Big)\Rightarrow\delta_{T+1}\le\epsilon",
        margin=partial(alignment_margin, power=1, from_descent=False),
        seeds=(REMOTER,),
    ),
    corrected=Claim(
        latex=r"T\ge T_0+[\ldots]_+\Rightarrow\delta_{T+1}\le\epsilon",
        margin=partial(alignment_margin, power=1, from_descent=True),
    ),
    scope=FOLLOWED,
    repair="add T₀ ≤ ⌈[log(R/b)]₊/(ηλ_d)⌉",
    cost=8,
)


def _squares_margin(at: Instance, n: Numbers) -> Real:
    law, v = Law(at, n), vector(at, n)
    size, moved, worst = law.norm(v), law.step(v), n.of(1)
    grow = (1 + law.mu) ** 2
    for i in range(1, law.size):
        left = moved[0] ** 2 * v[i] ** 2 - grow * moved[i] ** 2 * v[0] ** 2
        right = (1 - law.h) ** 2 * (size - law.gamma[0]) ** 2 - grow * (1 - law.eta * law.eigenvalues[i]) ** 2 * (
            size - law.gamma[i]
        ) ** 2
        worst = smallest(n, [worst, left * right / (size**4 * (size + law.gamma[0]) ** 2)])
    return worst


def _squares_proof() -> str:
    import sympy

    h, x, gamma, other, size, v, w = sympy.symbols("h x gamma1 gamma_i N v1 v_i", positive=True)
    first, second = (1 - h) * (size - gamma) * v / size, (1 - x) * (size - other) * w / size
    return proofs.identities(
        (first**2 * size**2 / v**2, (1 - h) ** 2 * (size - gamma) ** 2),
        (second**2 * size**2 / w**2, (1 - x) ** 2 * (size - other) ** 2),
    )


EQUATION_7 = Statement(
    key="eq-7",
    title="(7)",
    draw=run,
    hypotheses=lambda at, n: off_axis(at, n) | no_zero_coordinate(at, n),
    printed=Claim(
        latex=r"\frac{v_{t+1,i}^2}{v_{t+1,1}^2}<\frac1{(1+\mu)^2}\frac{v_{t,i}^2}{v_{t,1}^2}\iff(1-\eta\lambda_1)^2(\|v_t\|-\gamma_1)^2>(1+\mu)^2(1-\eta\lambda_i)^2(\|v_t\|-\gamma_i)^2",
        margin=_squares_margin,
        proof=_squares_proof,
    ),
    scope="cross-multiplied; v_{t,i} ≠ 0",
)


STATEMENTS = (LEMMA_14_1, LEMMA_14_2, LEMMA_14_3, LEMMA_14_4, EQUATION_7)
