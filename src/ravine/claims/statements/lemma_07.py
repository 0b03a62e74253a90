# ruff: noqa: E501 (a formula in LaTeX stands on one line)
"""Lemma 7: a run keeps clear of the sphere ‖v‖ = γ₁, with probability; its proof's steps are in `lemma_07_proof`."""

from __future__ import annotations

import math
from functools import partial

from ravine.claims.hypotheses import standing
from ravine.claims.law import Law
from ravine.claims.numbers import Numbers, Real, smallest
from ravine.claims.samplers import Draw, Instance, digits, quadratic
from ravine.claims.statement import Claim, Statement, Untested
from ravine.claims.statements.lemma_06 import time_bound


def _draw(draw: Draw) -> Instance:
    at = quadratic(draw, step=(0.05, 0.49), condition=10)
    b = at["eta"] * at["rho"] * at["eigenvalues"][0] ** 2
    radius = digits(b * draw.log("", 0.3, 100), 4)
    d = len(at["eigenvalues"])
    volume = 3.1415926535 ** (d / 2) / math.gamma(d / 2 + 1) * radius**d
    return at | {"R": radius, "A": digits(1.001 / volume, 5), "delta": draw.log("delta", 1e-6, 0.49)}


def _hypotheses(at: Instance, n: Numbers) -> dict[str, Real]:
    return standing(at, n) | {
        "R > 0": n.of(at["R"]),
        "A > 0": n.of(at["A"]),
        "δ > 0": n.of(at["delta"]),
        "δ < 1/2": n.of(1) / 2 - n.of(at["delta"]),
        # The uniform start on the ball of radius R has density at most A.
        "A ≥ 1/vol": n.log(n.of(at["A"]))
        + _log_volume(len(at["eigenvalues"]), n)
        + len(at["eigenvalues"]) * n.log(n.of(at["R"])),
    }


def _log_volume(d: int, n: Numbers) -> Real:
    return n.of(d) / 2 * n.log(n.pi()) - n.lgamma(n.of(d) / 2 + 1)


def descent_steps(law: Law, radius: Real) -> int:
    """T̄₀ = ⌈T⌉ of Lemma 6, at least 1."""
    return max(1, law.n.ceil(time_bound(law, radius)))


def _printed_decay(law: Law, radius: Real) -> Real:
    """log of (ηλ_d)^(d+3)γ₁³/(9·6^(d+3)R³), what the print allows a density to lose by a step."""
    n, x = law.n, law.eta * law.least
    return (law.size + 3) * n.log(x / 6) + n.log(law.gamma[0] ** 3 / (9 * radius**3))


def density_decay(law: Law) -> Real:
    """log of (ηλ_d/4)^d, the same by the density's true growth (lemma-7.4)."""
    return law.size * law.n.log(law.eta * law.least / 4)


def log_clearance(law: Law, *, steps: int, decay: Real, density: Real, delta: Real) -> Real:
    """log Δ of Lemma 7 for a density of v₀ that is at most `density`, over `steps` steps of log `decay` each."""
    n, d = law.n, law.size
    return (
        n.lgamma(n.of(d) / 2)
        + n.log(delta / 4)
        - n.of(d) / 2 * n.log(n.pi())
        - (d - 1) * n.log(2 * law.gamma[0])
        - n.log(steps * density)
        + steps * decay
    )


def _clear_margin(at: Instance, n: Numbers, gap: Real) -> Real:
    """Step 0's share of the union bound, and Δ ≤ ε, on which the later steps' shares rest."""
    law, radius, delta = Law(at, n), n.of(at["R"]), n.of(at["delta"])
    x = law.eta * law.least
    d, ring = law.size, n.of(0)
    if n.less(law.gamma[0] - gap, radius):
        outer = smallest(n, [radius, law.gamma[0] + gap])
        ring = (outer**d - (law.gamma[0] - gap) ** d) / radius**d
    return smallest(n, [delta - ring, (law.gamma[0] * x / (2 - x) - gap) / law.gamma[0]])


def _printed_clearance_margin(at: Instance, n: Numbers) -> Real:
    law, radius = Law(at, n), n.of(at["R"])
    steps = n.ceil(time_bound(law, radius))
    if steps == 0:
        return n.of(-1)  # Δ divides by T̄₀ = 0, and no number is ≥ ∞
    decay = _printed_decay(law, radius)
    gap = n.exp(log_clearance(law, steps=steps, decay=decay, density=n.of(at["A"]), delta=n.of(at["delta"])))
    return _clear_margin(at, n, gap)


def _clearance_margin(at: Instance, n: Numbers) -> Real:
    law = Law(at, n)
    steps, decay = descent_steps(law, n.of(at["R"])), density_decay(law)
    gap = n.exp(log_clearance(law, steps=steps, decay=decay, density=n.of(at["A"]), delta=n.of(at["delta"])))
    x = law.eta * law.least
    return _clear_margin(at, n, smallest(n, [gap, law.gamma[0] - law.b, law.gamma[0] * x / (2 - x)]))


LEMMA_7_5 = Statement(
    key="lemma-7.5",
    title="Lemma 7",
    draw=_draw,
    hypotheses=_hypotheses,
    printed=Claim(
        latex=r"\Pr[\forall t:|\|v_t\|-\gamma_1|\ge\Delta]\ge1-2\delta,\ \Delta=\frac{\Gamma(d/2)\delta}{4\pi^{d/2}(2\gamma_1)^{d-1}\bar T_0A}\left(\frac{(\eta\lambda_d)^{d+3}\gamma_1^3}{9\cdot6^{d+3}R^3}\right)^{\bar T_0}",
        margin=_printed_clearance_margin,
        seeds=({"eigenvalues": (1.0, 0.5), "eta": 0.2, "rho": 1.0, "R": 0.1, "A": 32.0, "delta": 0.1},),
    ),
    corrected=Claim(
        latex=r"\Delta=\min\left\{\frac{\Gamma(d/2)\delta}{4\pi^{d/2}(2\gamma_1)^{d-1}\bar T_0A}\left(\frac{\eta\lambda_d}{4}\right)^{d\bar T_0},\frac{\eta\lambda_d\gamma_1}{2-\eta\lambda_d},\gamma_1-b\right\},\ \bar T_0\ge1",
        margin=_clearance_margin,
    ),
    scope="starts uniform on ‖v₀‖ ≤ R: the ring's probability at step 0, exactly, and Δ ≤ ε; the later steps rest on "
    "the density's growth, lemma-7.4, by the union bound",
    repair="for R ≤ b, T̄₀ = 0 and Δ = 1/0; take T̄₀ ≥ 1 and cap Δ. The repaired density makes Δ far larger",
)


def _logarithm_margin(at: Instance, n: Numbers, *, added_steps: int) -> Real:
    """The display with T + `added_steps` for T̄₀, against log 1/Δ at T̄₀ = ⌈T⌉."""
    law, radius, density, delta = Law(at, n), n.of(at["R"]), n.of(at["A"]), n.of(at["delta"])
    if not n.less(law.b, radius):
        raise Untested
    x, d = law.eta * law.least, law.size
    steps = n.log(radius / law.b) / x + added_steps
    per_step = n.log(9 * radius**3 / law.gamma[0] ** 3) + (d + 3) * n.log(6 / x)
    surface = n.of(d) / 2 * n.log(n.pi()) + (d - 1) * n.log(2 * law.gamma[0]) - n.lgamma(n.of(d) / 2)
    claimed = steps * per_step + n.log(4 * steps * density / delta) + surface
    whole, decay = descent_steps(law, radius), _printed_decay(law, radius)
    exact = -log_clearance(law, steps=whole, decay=decay, density=density, delta=delta)
    return (claimed - exact) / (1 + abs(exact))


LEMMA_7_6 = Statement(
    key="lemma-7.6",
    title="Lemma 7, log 1/Δ",
    draw=_draw,
    hypotheses=_hypotheses,
    printed=Claim(
        latex=r"\log\frac1\Delta\le\frac{[\log(R/b)]_+\log\frac{9\cdot6^{d+3}R^3}{(\eta\lambda_d)^{d+3}\gamma_1^3}}{\eta\lambda_d}+\log\frac{4\pi^{d/2}(2\gamma_1)^{d-1}[\log(R/b)]_+A}{\Gamma(d/2)\delta\eta\lambda_d}",
        margin=partial(_logarithm_margin, added_steps=0),
    ),
    corrected=Claim(
        latex=r"\text{the same with }1+\log(R/b)/(\eta\lambda_d)\text{ for }[\log(R/b)]_+/(\eta\lambda_d),\ R>b",
        margin=partial(_logarithm_margin, added_steps=1),
    ),
    repair="T̄₀ = ⌈T⌉ is at least T, not at most: it is below T + 1",
)


STATEMENTS = (LEMMA_7_5, LEMMA_7_6)
