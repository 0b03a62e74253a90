"""Lemma 19 and Theorem 3: the step from which a run is within ε of its cycle."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ravine.theory.bounds.counts import Count, Versions
from ravine.theory.bounds.lemmas import ball_time, half_probability, log_clearance, lost_steps, require_section_4
from ravine.theory.checks import non_negative, positive
from ravine.theory.quadratic_law import QuadraticLaw


def arrival_in_gradient(law: QuadraticLaw, *, log_ratio: float, descent: float, within: float) -> Versions[Count]:
    """Lemma 19: from this step on ‖v_t ∓ β₁e₁‖ ≤ ε.

    Parameters
    ----------
    log_ratio
        log of Σ_{i≥2}vᵢ²/v₁² at T₀, the first step with ‖v‖ ≤ b (−∞ on the axis).
    descent
        T₀, which the print leaves out.
    within
        ε, in units of the gradient.

    Raises
    ------
    ValueError
        If ε ≤ 0 or T₀ < 0, or the law is outside Section 4.
    """
    require_section_4(law)
    within, descent = positive("within", within), non_negative("descent", descent)
    h, slowest, mu = law.eta * law.sharpness, law.eta * law.smallest, law.mu
    lost, scale = lost_steps(law), 2 * (1 + law.bounce_grad_norm) / within
    needed = max(-1e300, log_ratio) + math.log(scale**2 / 2)  # log of ratio/(2ε'²), ε' = ε/(2(1+β₁))
    waste, aligning = 2 / mu * math.log(4 / h), needed / mu
    growth, rate = math.log((1 + mu) * (1 - slowest) / ((1 - h) * h)), math.log1p(mu)
    bouncing = 6 / h * math.log(scale)
    closing = max(0.0, math.log(law.bounce_grad_norm * scale) / -math.log1p(-h / 2)) + 1
    outside = _outside_lemma_19(law, within)

    def mended(lost: float, aligning: float, bouncing: float) -> Count:
        # A start that is aligned already saves steps of alignment, never of descent.
        terms = {"descent": descent, "lost": lost, "aligning": max(-lost, aligning), "bouncing": bouncing}
        return Count(terms, outside)

    return Versions(
        Count({"lost": waste * lost.printed, "aligning": aligning, "bouncing": bouncing}, outside),
        mended(waste * lost.corrected, aligning, bouncing),
        mended(lost.sharp * growth / rate, needed / 2 / rate, closing),
    )


def _outside_lemma_19(law: QuadraticLaw, within: float) -> tuple[str, ...]:
    h, beta, gamma = law.eta * law.sharpness, law.bounce_grad_norm, law.vanishing_grad_norm
    limits = {
        "√(2ηλ₁β₁/γ₁)": math.sqrt(2 * h * beta / gamma),
        "ηλ₁/(2γ₁)": h / (2 * gamma),
        "2/b": 2 / law.b,
        "β₁": beta,
        "1": 1.0,
    }
    return _limits_exceeded(f"{within:.4g} in the gradient", within, limits)


def _limits_exceeded(shown: str, within: float, limits: dict[str, float]) -> tuple[str, ...]:
    return tuple(f"ε = {shown} is not below {name} = {x:.4g}" for name, x in limits.items() if within >= x)


@dataclass(frozen=True)
class _Start:
    """What Theorem 3 asks of the law of w₀, checked."""

    radius: float
    log_density: float
    q: float
    delta: float
    within: float

    @property
    def log_ratio(self) -> float:
        """log of the bound R²/q on ‖w₀‖²/w₀₁²."""
        return math.log(self.radius**2 / self.q)


def theorem_3(
    law: QuadraticLaw, *, radius: float, density: float, q: float, delta: float, within: float
) -> Versions[Count]:
    """Theorem 3: from this step on ‖w_t ∓ (β₁/λ₁)e₁‖ ≤ ε, with probability ≥ 1 − 2δ over w₀.

    Parameters
    ----------
    radius, q
        R and q with ‖w₀‖ ≤ R and w₀₁² ≥ q, with probability ≥ 1 − δ.
    density
        Bound A on the density of w₀. The corrected and sharp counts use A/∏λᵢ, that of v₀.
    delta
        δ in (0, 1/2).
    within
        ε, in units of w.

    Returns
    -------
    Versions
        Counts with terms 'lost' (steps that misalign), 'aligning', 'clearance' (what the descent may have misaligned),
        'bouncing', and, but for the print, 'descent'.

    Raises
    ------
    ValueError
        If a parameter is out of its own range, or the law is outside Section 4. ε outside a statement's range is in
        the count's `outside`.
    """
    require_section_4(law)
    radius, density, q = positive("radius", radius), positive("density", density), positive("q", q)
    if q > radius**2:
        raise ValueError(f"q = {q}: w₀₁² ≥ q and ‖w₀‖ ≤ R = {radius} exclude each other; take q ≤ R²")
    start = _Start(radius, math.log(density), q, half_probability(delta), positive("within", within))
    log_v_density = start.log_density - float(np.log(law.eigenvalues).sum())
    outer = law.sharpness * radius
    time = ball_time(law, outer)
    log_gap = log_clearance(law, radius=outer, log_density=log_v_density, delta=start.delta)
    spread = (1 - law.eta * law.smallest) / (1 - law.eta * law.sharpness)

    def mended(steps: float, misaligned: float, per_log: float, version: Callable[[Versions[Count]], Count]) -> Count:
        whole = version(
            arrival_in_gradient(
                law, log_ratio=start.log_ratio + misaligned, descent=steps, within=law.smallest * start.within
            )
        )
        clearance = misaligned * per_log
        terms = whole.terms | {"aligning": whole.terms["aligning"] - clearance, "clearance": clearance}
        return Count(terms, whole.outside)

    def misaligned(steps: float, log_gap: float, factor: float) -> float:
        return 2 * steps * (math.log(factor * outer) - log_gap) if steps else 0.0

    loose, sharp = time.corrected, time.sharp
    return Versions(
        _theorem_3_printed(law, start),
        mended(loose, misaligned(loose, log_gap.corrected, 2.0), 1 / law.mu, lambda counts: counts.corrected),
        mended(
            sharp, misaligned(sharp, log_gap.sharp, spread), 1 / (2 * math.log1p(law.mu)), lambda counts: counts.sharp
        ),
    )


def _theorem_3_printed(law: QuadraticLaw, start: _Start) -> Count:
    d, h, slowest = law.eigenvalues.size, law.eta * law.sharpness, law.eta * law.smallest
    unit = law.eta * law.rho * law.sharpness
    away, clearance = max(0.0, math.log(start.radius / unit)), 0.0
    if away > 0:
        growth = math.log(9 * start.radius**3 / unit**3) + (d + 3) * math.log(6 / slowest)
        ring = math.log(4 * away / (start.delta * slowest)) + d / 2 * math.log(math.pi) - math.lgamma(d / 2)
        ring += (d - 1) * math.log(4 * law.b) + start.log_density
        share = math.log(2 * law.sharpness * start.radius) + away * growth / slowest + ring
        clearance = 2 * away / (slowest * law.mu) * share
    limits = {"√(ηλ₁/2)": math.sqrt(h / 2), "1/(2ρλ₁)": 1 / (2 * law.rho * law.sharpness), "ηρλ₁²/2": law.b / 2}
    reach = 2 * (1 + law.b) / (law.smallest * start.within)
    return Count(
        {
            "lost": 6 * law.sharpness**5 / (law.eta * law.smallest**6 * law.mu) * math.log(4 / h),
            "aligning": (2 * math.log(reach) + start.log_ratio) / law.mu,
            "clearance": clearance,
            "bouncing": 6 / h * math.log(reach),
        },
        _limits_exceeded(f"{start.within:.4g}", start.within, limits),
    )
