"""Lemmas 6, 7, 11 and 14: steps to the ball, clearance from the singular sphere, steps that are lost."""

from __future__ import annotations

import math

from ravine.theory.bounds.counts import Versions
from ravine.theory.checks import finite, positive
from ravine.theory.quadratic_law import QuadraticLaw


def require_section_4(law: QuadraticLaw) -> None:
    """Refuse a law outside the setting of Section 4, which is that of Theorem 2 with two eigenvalues or more.

    Raises
    ------
    ValueError
        Naming what is missing, and its cure.
    """
    if law.eigenvalues.size < 2:
        raise ValueError("eigenvalues: the bounds are for two or more; give λ₁ and λ₂")
    if law.unmet:
        raise ValueError(law.unmet[0])


def half_probability(delta: float) -> float:
    """δ in (0, 1/2), else a `ValueError` with the cure."""
    delta = positive("delta", delta)
    if delta >= 0.5:
        raise ValueError(f"delta = {delta}: with probability 1 − 2δ nothing is claimed; take δ < 1/2")
    return delta


def ball_time(law: QuadraticLaw, radius: float) -> Versions[float]:
    """Lemma 6: ‖v_t‖ ≤ b from this step on, if ‖v₀‖ ≤ `radius`.

    Printed [log(R/b)]₊/(ηλ_d), corrected its ceiling, sharp ⌈log(R/b)/(−log(1−ηλ_d))⌉.

    Raises
    ------
    ValueError
        If the radius is not positive, or the law is outside Section 4.
    """
    require_section_4(law)
    away = max(0.0, math.log(positive("radius", radius) / law.b))
    slowest = law.eta * law.smallest
    printed = away / slowest
    return Versions(printed, float(math.ceil(printed)), float(math.ceil(away / -math.log1p(-slowest))))


def log_clearance(law: QuadraticLaw, *, radius: float, log_density: float, delta: float) -> Versions[float]:
    """Lemma 7: log Δ with |‖v_t‖ − γ₁| ≥ Δ for all t, with probability ≥ 1 − 2δ.

    Parameters
    ----------
    radius
        R with Pr[‖v₀‖ > R] ≤ δ, in units of the gradient.
    log_density
        log A, A a bound on the density of v₀ = Λw₀, not of w₀.
    delta
        δ in (0, 1/2).

    Returns
    -------
    Versions
        Printed, −∞ excluded: +∞ where T̄₀ = 0, by which it divides. Corrected has T̄₀ ≥ 1 and Δ capped by
        ηλ_dγ₁/(2−ηλ_d) and γ₁ − b, on which its proof rests. Sharp grows the density by 4/(ηλ_d) a dimension and step.

    Raises
    ------
    ValueError
        If a parameter is out of range, or the law is outside Section 4.
    """
    d, delta, log_density = law.eigenvalues.size, half_probability(delta), finite("log_density", log_density)
    time = ball_time(law, radius)
    slowest, gamma = law.eta * law.smallest, law.vanishing_grad_norm
    grown = (d + 3) * math.log(slowest / 6) + math.log(gamma**3 / (9 * radius**3))

    def log_gap(steps: float, growth: float) -> float:
        if steps == 0:
            return math.inf
        surface = math.lgamma(d / 2) - d / 2 * math.log(math.pi) - (d - 1) * math.log(2 * gamma)
        return surface + math.log(delta / 4) - math.log(steps) - log_density + steps * growth

    cap = min(math.log(slowest * gamma / (2 - slowest)), math.log(gamma - law.b))
    return Versions(
        log_gap(time.corrected, grown),
        min(cap, log_gap(max(1.0, time.corrected), grown)),
        min(cap, log_gap(max(1.0, time.sharp), d * math.log(slowest / 4))),
    )


def visits(law: QuadraticLaw, excess: float) -> Versions[float]:
    """Lemma 11: how many steps in the ball ‖v‖ ≤ b can have ‖v_t‖ ≥ (1+ε)β₁, ε = `excess`.

    Printed 3β₁/(ηε²λ₁β_d), which holds though its proof does not; corrected with 2 for 3; sharp
    (1/(aηε²λ₁)) max{1, a²β₁/β_d − 2a + 1}, a = 2−ηλ₁.

    Raises
    ------
    ValueError
        If ε ≤ 0, or the law is outside Section 4.
    """
    require_section_4(law)
    h = law.eta * law.sharpness
    unit = 1 / (h * positive("excess", excess) ** 2)
    ratio, a = law.bounce_grad_norm / float(law.beta.min()), 2 - h
    return Versions(3 * unit * ratio, 2 * unit * ratio, unit / a * max(1.0, a * a * ratio - 2 * a + 1))


def lost_steps(law: QuadraticLaw) -> Versions[float]:
    """T₁ of Lemma 14: the steps in the ball at which some vᵢ/v₁ does not shrink by 1/(1+μ).

    Printed 3β₁λ₁³/(ηβ_dλ_d⁴); corrected with 2 for 3; sharp by Lemma 11's sharp count at Lemma 14's own threshold.

    Raises
    ------
    ValueError
        If the law is outside Section 4.
    """
    share = (law.smallest / law.sharpness) ** 2
    loose = visits(law, share)
    h, slowest, mu = law.eta * law.sharpness, law.eta * law.smallest, law.mu
    level = (2 - h) / (2 - h - (slowest - mu) - slowest * mu) * (1 + (1 + mu) * share)
    return Versions(loose.printed, loose.corrected, visits(law, level - 1).sharp)
