"""Drift towards wide minima: Section 5, Theorem 21, and the second-order term it leaves out.

At a minimum w_z with Hessian H = Σ λᵢeᵢeᵢᵀ, λ₁ simple, and ε = (β₁/λ₁)e₁, SAM's step from w_z + sε is

    w_{t+1} − w_t = −2sε − (2ηρ²/(2−ηλ₁)²) ∇λ₁ − (η²ρ²/(2(2−ηλ₁))) H P ∇λ₁ + O(ρ³),

∇λ₁ = D³ℓ(w_z)(e₁, e₁, ·), P the projector off e₁. The first two terms are Theorem 21 as printed (its coefficient
(ηρ²/2)(1 + ηλ₁/(2−ηλ₁))² is the same number); the third comes from the turn of the gradient's direction at w_t, is of
the same order in ρ, and vanishes in flat directions.

Everything here is per eigendirection: `lam` are the Hessian's eigenvalues, and vectors are given by their
components along its eigenvectors.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ravine.theory import checks


def _admissible(top: float, eta: float, rho: float) -> tuple[float, float, float]:
    top, eta, rho = checks.positive("top", top), checks.positive("eta", eta), checks.non_negative("rho", rho)
    if eta * top >= 2:
        raise ValueError(f"eta·λ₁ = {eta * top:.6g}: there is no bounce to drift from; take η < 2/λ₁")
    return top, eta, rho


def printed_coefficient(top: float, eta: float, rho: float) -> float:
    """Theorem 21's coefficient of −∇λ₁, (ηρ²/2)(1 + ηλ₁/(2−ηλ₁))² = 2ηρ²/(2−ηλ₁)².

    Raises
    ------
    ValueError
        If λ₁ = `top` or η is not positive, ρ < 0, or ηλ₁ ≥ 2.
    """
    top, eta, rho = _admissible(top, eta, rho)
    return 2 * eta * rho**2 / (2 - eta * top) ** 2


def coefficient(lam: ArrayLike, top: float, eta: float, rho: float) -> np.ndarray:
    """Coefficient of −P∇λ₁ along eigendirections of curvature λ, with the second-order term.

    2ηρ²/(2−ηλ₁)² + η²ρ²λ/(2(2−ηλ₁)); in flat directions (λ = 0) Theorem 21's own.

    Raises
    ------
    ValueError
        As `printed_coefficient`.
    """
    first = printed_coefficient(top, eta, rho)
    return first + eta**2 * rho**2 * np.asarray(lam, dtype=np.float64) / (2 * (2 - eta * top))


def contraction(lam: ArrayLike, top: float, eta: float) -> np.ndarray:
    """μ = 1 − ηλ − (2−ηλ₁)(λ/λ₁)²: factor per step on an offset of the bounce's centre along curvature λ.

    Raises
    ------
    ValueError
        As `printed_coefficient`.
    """
    top, eta, _ = _admissible(top, eta, 0.0)
    lam = np.asarray(lam, dtype=np.float64)
    return 1 - eta * lam - (2 - eta * top) * (lam / top) ** 2


def displacement(
    lam: ArrayLike, sharpness_gradient: ArrayLike, top: float, eta: float, rho: float, steps: int
) -> np.ndarray:
    """Where the bounce's centre has moved after `steps` steps from the minimum, along each eigendirection but e₁.

    The offset obeys δ_{t+1} = μδ_t − D, D = `coefficient`·∂λ₁: it grows by −D a step where the loss is flat
    (μ = 1) and settles at −D/(1−μ) where it is curved.

    Parameters
    ----------
    lam
        Eigenvalues of the eigendirections off e₁, shape (k,).
    sharpness_gradient
        Components of ∇λ₁ along them, shape (k,).
    top, eta, rho
        λ₁, η, ρ.
    steps
        t ≥ 0.

    Raises
    ------
    ValueError
        As `printed_coefficient`.
    """
    return -_response(lam, top, eta, rho, steps) * np.asarray(sharpness_gradient, dtype=np.float64)


def sharpness_change(
    lam: ArrayLike, sharpness_gradient: ArrayLike, top: float, eta: float, rho: float, steps: int
) -> float:
    """λ₁(t) − λ₁(0) foreseen from the minimum, to first order: ∇λ₁·δ_t over the eigendirections off e₁.

    −Σᵢ f_t(λᵢ)(∂ᵢλ₁)², f_t(λ) = `coefficient`·(1−μᵗ)/(1−μ), and t·`coefficient` where μ = 1. Valid while the change is
    small against λ₁ and against the gap λ₁ − λ₂.

    Parameters and errors are those of `displacement`.
    """
    gradient = np.asarray(sharpness_gradient, dtype=np.float64)
    return float(-(_response(lam, top, eta, rho, steps) * gradient**2).sum())


def _response(lam: ArrayLike, top: float, eta: float, rho: float, steps: int) -> np.ndarray:
    if steps < 0:
        raise ValueError(f"steps = {steps}: give a number ≥ 0")
    mu = contraction(lam, top, eta)
    # 1 − μ without the cancellation that 1 − contraction(…) has for flat directions.
    lam = np.asarray(lam, dtype=np.float64)
    away = eta * lam + (2 - eta * top) * (lam / top) ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        # (1 − μᵗ)/(1 − μ), through expm1 where μ > 0 so that it tends to t, not to 0/0.
        grown = np.where(mu > 0, -np.expm1(steps * np.log1p(-np.minimum(away, 1.0))), 1 - mu**steps)
        total = np.where(away == 0, float(steps), grown / away)
    return coefficient(lam, top, eta, rho) * total
