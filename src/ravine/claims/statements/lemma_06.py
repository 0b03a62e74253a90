# ruff: noqa: E501 (a formula in LaTeX stands on one line)
"""Lemma 6 and equations (4) and (5): the descent into the ball ‖v‖ ≤ b, and what it costs in alignment (Section 4.2)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from ravine.claims import proofs
from ravine.claims.hypotheses import standing
from ravine.claims.law import Law, vector
from ravine.claims.numbers import Numbers, Real, plus, smallest
from ravine.claims.runs import LONGEST, descent, descent_off_axis
from ravine.claims.samplers import Draw, Instance, digits, gradient, quadratic
from ravine.claims.statement import Claim, Statement

Steps = Callable[[Law, Real], Real]  # of the law and R: `time_bound`, or `whole_steps`


def time_bound(law: Law, radius: Real) -> Real:
    """T = [log(R/b)]₊/(ηλ_d) of Lemma 6."""
    return plus(law.n, law.n.log(radius / law.b)) / (law.eta * law.least)


def whole_steps(law: Law, radius: Real) -> Real:
    """⌈T⌉, which an integer T₀ may need."""
    return law.n.of(max(0, law.n.ceil(time_bound(law, radius))))


def clearance(law: Law, states: list[list[Real]]) -> Real:
    """The largest Δ with |‖v_t‖ − γ₁| ≥ Δ for all t; once ‖v_t‖ ≤ b it is at least γ₁ − b."""
    gaps = [abs(law.norm(v) - law.gamma[0]) for v in states[:-1]]
    return smallest(law.n, [*gaps, law.gamma[0] - law.b])


def ratio_room(law: Law, states: list[list[Real]], *, radius: Real, steps: Real, first: Real) -> Real:
    """log of (2R/Δ)^(2·steps)·first, less the log of Σᵢ≥₂vᵢ²/v₁² at T₀, where `states` ends; Δ is the run's own."""
    n = law.n
    growth = 2 * steps * n.log(2 * radius / clearance(law, states))
    return growth + n.log(first) - n.log(law.ratio(states[-1]))


def _draw(draw: Draw) -> Instance:
    """A start with ‖v₀‖ from b/3 to 100b, and R ≥ ‖v₀‖."""
    at = quadratic(draw, step=(0.05, 0.49), condition=10)
    v = gradient(draw, at, *draw.pick([(0.3, 100.0), (1.0, 1.3)]))
    size = sum(x * x for x in v) ** 0.5
    return at | {"v": v, "R": digits(size * (1.002 + draw.unit() ** 4), 4)}


def _within_radius(at: Instance, n: Numbers) -> dict[str, Real]:
    """Standing hypotheses, ‖v₀‖ < R and v_{0,1} ≠ 0."""
    law, v = Law(at, n), vector(at, n)
    return standing(at, n) | {"‖v₀‖ < R": n.of(at["R"]) - law.norm(v), "v_{0,1} ≠ 0": abs(v[0])}


def _ratio_margin(at: Instance, n: Numbers, *, steps: Steps) -> Real:
    law, radius = Law(at, n), n.of(at["R"])
    states = descent_off_axis(law, vector(at, n))
    return ratio_room(law, states, radius=radius, steps=steps(law, radius), first=law.ratio(states[0]))


def _ratio_proof() -> str:
    import sympy

    size, gamma, h, low = sympy.symbols("N gamma h low", positive=True)
    return (
        proofs.identities(
            (size**2 - (size - gamma) ** 2, gamma * (2 * size - gamma)), (2 * (1 - h) - (1 - low), (1 - 2 * h) + low)
        )
        + ": while ‖v_t‖ > b ≥ γᵢ/2 each step multiplies vᵢ²/v₁² by at most (2R/Δ)², 2R/Δ ≥ 1, and there are T₀ ≤ ⌈T⌉ such steps"
    )


EQUATION_4 = Statement(
    key="eq-4",
    title="(4)",
    draw=_draw,
    hypotheses=_within_radius,
    printed=Claim(
        latex=r"\frac{\sum_{i\ge2}v_{T_0,i}^2}{v_{T_0,1}^2}\le\left(\frac{2R}{\Delta}\right)^{2T}\frac{\sum_{i\ge2}v_{0,i}^2}{v_{0,1}^2}",
        margin=partial(_ratio_margin, steps=time_bound),
    ),
    corrected=Claim(
        latex=r"\ldots\le\left(\frac{2R}{\Delta}\right)^{2\lceil T\rceil}\frac{\sum_{i\ge2}v_{0,i}^2}{v_{0,1}^2}",
        margin=partial(_ratio_margin, steps=whole_steps),
        proof=_ratio_proof,
    ),
    scope=f"T₀ the first step in the ball, Δ the run's own; runs that reach it in {LONGEST} steps",
    repair="T₀ is an integer: it may be ⌈T⌉, one more factor (2R/Δ)² than T allows",
    cost=2,
)


def _outside_draw(draw: Draw) -> Instance:
    at = quadratic(draw)
    return at | {"v": gradient(draw, at, 1.01, 1000)}


def _outside(at: Instance, n: Numbers) -> dict[str, Real]:
    law = Law(at, n)
    return standing(at, n) | {"‖v_t‖ > b": law.norm(vector(at, n)) - law.b}


def _outside_margin(at: Instance, n: Numbers) -> Real:
    law, v = Law(at, n), vector(at, n)
    size = law.norm(v)
    return ((1 - law.eta * law.least) * size - law.norm(law.step(v))) / size


def _outside_proof() -> str:
    import sympy

    # factor = (1−x)N − p with p = ηρλᵢ², x = ηλᵢ, N = b + s, b = p + q (p ≤ b), and x ≤ h < 1/2
    p, q, s, x, k = sympy.symbols("p q s x k", positive=True)
    size = p + q + s
    factor = (1 - x) * size - p
    room = (1 - 2 * x) * p + 2 * (1 - x) * (q + s)  # (1−x)N + factor
    return (
        proofs.identities(
            ((1 - x) * size + factor, room),
            ((1 - x + k) * size - factor, k * size + p),  # ηλ_d = x − k ≤ x
        )
        + ": |(1−ηλᵢ)N − ηρλᵢ²| ≤ (1−ηλ_d)N for N ≥ b, ηλ₁ ≤ 1/2"
    )


EQUATION_5 = Statement(
    key="eq-5",
    title="(5)",
    draw=_outside_draw,
    hypotheses=_outside,
    printed=Claim(
        latex=r"\|v_t\|\ge b\Rightarrow\|v_{t+1}\|^2\le(1-\eta\lambda_d)^2\|v_t\|^2",
        margin=_outside_margin,
        proof=_outside_proof,
    ),
)


def _arrival_margin(at: Instance, n: Numbers) -> Real:
    """Steps from T₀ to ⌈T⌉."""
    law = Law(at, n)
    return whole_steps(law, n.of(at["R"])) - (len(descent(law, vector(at, n))) - 1)


def _arrival_proof() -> str:
    import sympy

    x = sympy.symbols("x", positive=True)
    text = proofs.identities((sympy.diff(-sympy.log(1 - x) - x, x), x / (1 - x)))
    return text + ": (1−ηλ_d)ᵗ ≤ exp(−ηλ_d t), with (5) outside the ball and Lemma 5.5 inside; T₀ is an integer"


LEMMA_6_1 = Statement(
    key="lemma-6.1",
    title="Lemma 6, the ball",
    draw=_draw,
    hypotheses=_within_radius,
    printed=Claim(
        latex=r"t\ge T=[\log(R/b)]_+/(\eta\lambda_d)\Rightarrow\|v_t\|\le b",
        margin=_arrival_margin,
        proof=_arrival_proof,
    ),
    scope="for integer t; all later t by Lemma 5.5",
    cost=2,
)


def _unrounded_arrival_margin(at: Instance, n: Numbers) -> Real:
    """Steps from T₀ to T."""
    law = Law(at, n)
    bound = time_bound(law, n.of(at["R"]))
    return (bound - (len(descent(law, vector(at, n))) - 1)) / (1 + bound)


LEMMA_6_2 = Statement(
    key="lemma-6.2",
    title="Lemma 6, T₀",
    draw=_draw,
    hypotheses=_within_radius,
    printed=Claim(latex=r"\exists T_0\le T:\ \|v_{T_0}\|\le b", margin=_unrounded_arrival_margin),
    corrected=Claim(
        latex=r"\exists T_0\le\lceil T\rceil:\ \|v_{T_0}\|\le b", margin=_arrival_margin, proof=_arrival_proof
    ),
    repair="T need not be an integer; T₀ ≤ ⌈T⌉",
    cost=2,
)


def _logarithm_margin(at: Instance, n: Numbers, *, steps: Steps) -> Real:
    law, radius = Law(at, n), n.of(at["R"])
    states = descent_off_axis(law, vector(at, n))
    first = radius**2 / states[0][0] ** 2
    return ratio_room(law, states, radius=radius, steps=steps(law, radius), first=first)


LEMMA_6_3 = Statement(
    key="lemma-6.3",
    title="Lemma 6, the logarithm",
    draw=_draw,
    hypotheses=_within_radius,
    printed=Claim(
        latex=r"\log\frac{\sum_{i\ge2}v_{T_0,i}^2}{v_{T_0,1}^2}\le\frac{2}{\eta\lambda_d}\left[\log\frac Rb\right]_+\log\frac{2R}{\Delta}+\log\frac{R^2}{v_{0,1}^2}",
        margin=partial(_logarithm_margin, steps=time_bound),
    ),
    corrected=Claim(
        latex=r"\ldots\le2\lceil T\rceil\log\frac{2R}{\Delta}+\log\frac{R^2}{v_{0,1}^2}",
        margin=partial(_logarithm_margin, steps=whole_steps),
        proof=_ratio_proof,
    ),
    scope="Δ the run's own",
    repair="as (4): ⌈T⌉ for T",
    cost=2,
)


STATEMENTS = (EQUATION_4, EQUATION_5, LEMMA_6_1, LEMMA_6_2, LEMMA_6_3)
