"""The paper's a-priori bounds on steps, as printed, as corrected, and sharper: Lemmas 6, 7, 11, 14, 17, 19, Theorem 3.

All are for ½ Σ λᵢwᵢ² with λ₁ > λ₂ ≥ … ≥ λ_d > 0 and η < 1/(2λ₁). 'Printed' is the paper's number, whether or not it
holds; 'corrected' holds by the paper's proof with its errors mended; 'sharp' holds by the same proof with nothing
given away that it need not give. What fails, and where, is the ledger's business (`ravine.claims`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from ravine.theory import checks

T = TypeVar("T")


@dataclass(frozen=True)
class Versions(Generic[T]):
    """One bound three ways."""

    printed: T
    corrected: T
    sharp: T


@dataclass(frozen=True)
class Count:
    """A bound on a step, term by term.

    Attributes
    ----------
    terms
        What is added, by name.
    outside
        The conditions of the statement that the parameters do not meet; a count with any is a number and no bound.
    """

    terms: dict[str, float]
    outside: tuple[str, ...] = field(default=())

    @property
    def total(self) -> float:
        """The step from which the statement holds."""
        return float(sum(self.terms.values()))


@dataclass(frozen=True)
class Spectrum:
    """λ, η, ρ and the paper's constants; made by `spectrum`.

    Attributes
    ----------
    lam
        λ₁ > λ₂ ≥ … ≥ λ_d > 0, shape (d,).
    h, low
        ηλ₁ and ηλ_d.
    b, beta, gamma
        ηρλ₁²; β₁ and β_d; γ₁ = b/(1−ηλ₁).
    mu
        min{ηλ_d, λ₁²/λ₂² − 1} of Lemma 14.
    """

    lam: np.ndarray
    eta: float
    rho: float

    @property
    def h(self) -> float:
        return float(self.eta * self.lam[0])

    @property
    def low(self) -> float:
        return float(self.eta * self.lam[-1])

    @property
    def b(self) -> float:
        return float(self.eta * self.rho * self.lam[0] ** 2)

    @property
    def beta(self) -> tuple[float, float]:
        return self.b / (2 - self.h), float(self.eta * self.rho * self.lam[-1] ** 2 / (2 - self.low))

    @property
    def gamma(self) -> float:
        return self.b / (1 - self.h)

    @property
    def mu(self) -> float:
        return float(min(self.low, (self.lam[0] / self.lam[1]) ** 2 - 1))


def spectrum(eigenvalues: ArrayLike, eta: float, rho: float) -> Spectrum:
    """The setting of Section 4.

    Raises
    ------
    ValueError
        If fewer than two eigenvalues are given, one is not positive, the two largest are equal, η ≥ 1/(2λ₁) or ρ ≤ 0.
    """
    lam = np.sort(checks.spectrum(eigenvalues))[::-1]
    eta, rho = checks.positive("eta", eta), checks.positive("rho", rho)
    if lam.size < 2:
        raise ValueError("eigenvalues: the bounds are for two or more; give λ₁ and λ₂")
    if lam[-1] <= 0:
        raise ValueError("eigenvalues: the bounds divide by λ_d; give positive ones")
    if lam[0] == lam[1]:
        raise ValueError("eigenvalues: the bounds need λ₁ > λ₂; merge equal ones")
    if eta * lam[0] >= 0.5:
        raise ValueError(f"eta·λ₁ = {eta * lam[0]:.6g}: the paper's bounds need η < 1/(2λ₁)")
    return Spectrum(lam, eta, rho)


def ball_time(law: Spectrum, radius: float) -> Versions[float]:
    """Lemma 6: ‖v_t‖ ≤ b from this step on, if ‖v₀‖ ≤ `radius`.

    Printed [log(R/b)]₊/(ηλ_d), corrected its ceiling, sharp ⌈log(R/b)/(−log(1−ηλ_d))⌉.

    Raises
    ------
    ValueError
        If the radius is not positive.
    """
    away = max(0.0, math.log(checks.positive("radius", radius) / law.b))
    printed = away / law.low
    return Versions(printed, float(math.ceil(printed)), float(math.ceil(away / -math.log1p(-law.low))))


def log_clearance(law: Spectrum, radius: float, density: float, delta: float) -> Versions[float]:
    """Lemma 7: log Δ with |‖v_t‖ − γ₁| ≥ Δ for all t, with probability ≥ 1 − 2δ.

    Parameters
    ----------
    radius
        R with Pr[‖v₀‖ > R] ≤ δ, in units of the gradient.
    density
        Bound A on the density of v₀ = Λw₀, not of w₀.
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
        If a parameter is out of range.
    """
    radius, density = checks.positive("radius", radius), checks.positive("density", density)
    delta = _probability(delta)
    return _log_clearance(law, radius, math.log(density), delta)


def _log_clearance(law: Spectrum, radius: float, log_density: float, delta: float) -> Versions[float]:
    d = law.lam.size
    time = ball_time(law, radius)
    grown = (d + 3) * math.log(law.low / 6) + math.log(law.gamma**3 / (9 * radius**3))

    def log_gap(steps: float, growth: float) -> float:
        if steps == 0:
            return math.inf
        surface = math.lgamma(d / 2) - d / 2 * math.log(math.pi) - (d - 1) * math.log(2 * law.gamma)
        return surface + math.log(delta / 4) - math.log(steps) - log_density + steps * growth

    cap = min(math.log(law.low * law.gamma / (2 - law.low)), math.log(law.gamma - law.b))
    return Versions(
        log_gap(time.corrected, grown),
        min(cap, log_gap(max(1.0, time.corrected), grown)),
        min(cap, log_gap(max(1.0, time.sharp), d * math.log(law.low / 4))),
    )


def visits(law: Spectrum, excess: float) -> Versions[float]:
    """Lemma 11: how many steps in the ball ‖v‖ ≤ b can have ‖v_t‖ ≥ (1+ε)β₁, ε = `excess`.

    Printed 3β₁/(ηε²λ₁β_d), which holds though its proof does not; corrected with 2 for 3; sharp
    (1/(aηε²λ₁)) max{1, a²β₁/β_d − 2a + 1}, a = 2−ηλ₁.

    Raises
    ------
    ValueError
        If ε ≤ 0.
    """
    excess = checks.positive("excess", excess)
    unit = 1 / (law.h * excess**2)
    ratio, a = law.beta[0] / law.beta[1], 2 - law.h
    return Versions(3 * unit * ratio, 2 * unit * ratio, unit / a * max(1.0, a * a * ratio - 2 * a + 1))


def lost_steps(law: Spectrum) -> Versions[float]:
    """T₁ of Lemma 14: the steps in the ball at which some vᵢ/v₁ does not shrink by 1/(1+μ).

    Printed 3β₁λ₁³/(ηβ_dλ_d⁴); corrected with 2 for 3; sharp by Lemma 11's sharp count at Lemma 14's own threshold.
    """
    share = (law.lam[-1] / law.lam[0]) ** 2
    loose = visits(law, float(share))
    mu = law.mu
    level = (2 - law.h) / (2 - law.h - (law.low - mu) - law.low * mu) * (1 + (1 + mu) * share)
    return Versions(loose.printed, loose.corrected, visits(law, float(level - 1)).sharp)


def arrival_in_gradient(law: Spectrum, log_ratio: float, descent: float, within: float) -> Versions[Count]:
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
        If ε ≤ 0 or T₀ < 0.
    """
    within, descent = checks.positive("within", within), checks.non_negative("descent", descent)
    lost, scale = lost_steps(law), 2 * (1 + law.beta[0]) / within
    needed = max(-1e300, log_ratio) + math.log(scale**2 / 2)  # log of ratio/(2ε'²), ε' = ε/(2(1+β₁))
    outside = _outside_lemma_19(law, within)
    waits = {
        "lost": 2 / law.mu * lost.printed * math.log(4 / law.h),
        "aligning": needed / law.mu,
    }
    corrected = {"lost": 2 / law.mu * lost.corrected * math.log(4 / law.h), "aligning": needed / law.mu}
    growth = math.log((1 + law.mu) * (1 - law.low) / ((1 - law.h) * law.h))
    rate = math.log1p(law.mu)
    sharp = {"lost": lost.sharp * growth / rate, "aligning": needed / 2 / rate}
    bounce = 6 / law.h * math.log(scale)
    closing = max(0.0, math.log(law.beta[0] * scale) / -math.log1p(-law.h / 2)) + 1
    return Versions(
        Count(waits | {"bouncing": bounce}, outside),
        Count({"descent": descent} | _not_below_zero(corrected) | {"bouncing": bounce}, outside),
        Count({"descent": descent} | _not_below_zero(sharp) | {"bouncing": closing}, outside),
    )


def _not_below_zero(terms: dict[str, float]) -> dict[str, float]:
    """A start that is aligned already saves steps of alignment, never of descent."""
    lost, aligning = terms["lost"], terms["aligning"]
    return {"lost": lost, "aligning": max(-lost, aligning)}


def _outside_lemma_19(law: Spectrum, within: float) -> tuple[str, ...]:
    limits = {
        "√(2ηλ₁β₁/γ₁)": math.sqrt(2 * law.h * law.beta[0] / law.gamma),
        "ηλ₁/(2γ₁)": law.h / (2 * law.gamma),
        "2/b": 2 / law.b,
        "β₁": law.beta[0],
        "1": 1.0,
    }
    shown = f"ε = {within:.4g} in the gradient"
    return tuple(f"{shown} is not below {name} = {x:.4g}" for name, x in limits.items() if within >= x)


def theorem_3(
    law: Spectrum, *, radius: float, density: float, q: float, delta: float, within: float
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
        If a parameter is out of its own range. ε outside a statement's range is in the count's `outside`.
    """
    radius, density, q = checks.positive("radius", radius), checks.positive("density", density), checks.positive("q", q)
    delta, within = _probability(delta), checks.positive("within", within)
    if q > radius**2:
        raise ValueError(f"q = {q}: w₀₁² ≥ q and ‖w₀‖ ≤ R = {radius} exclude each other; take q ≤ R²")
    top, d = float(law.lam[0]), law.lam.size
    goal = float(law.lam[-1]) * within
    outer = top * radius
    log_v_density = math.log(density) - float(np.log(law.lam).sum())
    time, gap = ball_time(law, outer), _log_clearance(law, outer, log_v_density, delta)
    first = math.log(radius**2 / q)

    def repaired(steps: float, log_gap: float, factor: float, sharp: bool) -> Count:
        misaligned = 2 * steps * (math.log(factor * outer) - log_gap) if steps else 0.0
        counts = arrival_in_gradient(law, first + misaligned, steps, goal)
        whole = counts.sharp if sharp else counts.corrected
        per_log = 1 / (2 * math.log1p(law.mu)) if sharp else 1 / law.mu
        terms = whole.terms | {
            "aligning": whole.terms["aligning"] - misaligned * per_log, "clearance": misaligned * per_log
        }  # fmt: skip
        return Count(terms, whole.outside)

    return Versions(
        _theorem_3_printed(law, radius, math.log(density), first, delta, within, d),
        repaired(time.corrected, gap.corrected, 2.0, False),
        repaired(time.sharp, gap.sharp, (1 - law.low) / (1 - law.h), True),
    )


def _theorem_3_printed(
    law: Spectrum, radius: float, log_density: float, first: float, delta: float, within: float, d: int
) -> Count:
    top, least = float(law.lam[0]), float(law.lam[-1])
    unit = law.eta * law.rho * top
    away, clearance = max(0.0, math.log(radius / unit)), 0.0
    if away > 0:
        growth = math.log(9 * radius**3 / unit**3) + (d + 3) * math.log(6 / law.low)
        ring = math.log(4 * away / (delta * law.low)) + d / 2 * math.log(math.pi) - math.lgamma(d / 2)
        ring += (d - 1) * math.log(4 * law.b) + log_density
        clearance = 2 * away / (law.low * law.mu) * (math.log(2 * top * radius) + away * growth / law.low + ring)
    limits = {"√(ηλ₁/2)": math.sqrt(law.h / 2), "1/(2ρλ₁)": 1 / (2 * law.rho * top), "ηρλ₁²/2": law.b / 2}
    outside = tuple(f"ε = {within:.4g} is not below {name} = {x:.4g}" for name, x in limits.items() if within >= x)
    reach = 2 * (1 + law.b) / (least * within)
    return Count(
        {
            "lost": 6 * top**5 / (law.eta * least**6 * law.mu) * math.log(4 / law.h),
            "aligning": (2 * math.log(reach) + first) / law.mu,
            "clearance": clearance,
            "bouncing": 6 / law.h * math.log(reach),
        },
        outside,
    )


def _probability(delta: float) -> float:
    delta = checks.positive("delta", delta)
    if delta >= 0.5:
        raise ValueError(f"delta = {delta}: with probability 1 − 2δ nothing is claimed; take δ < 1/2")
    return delta
