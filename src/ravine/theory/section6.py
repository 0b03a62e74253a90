"""The bounce on the loss of Section 6, ℓ(w) = w₁²/(1+w₂²/2) + w₂²/2, in closed form.

The paper shows its runs (Figures 3 to 5) and proves nothing of them. By the loss's symmetry SAM has 2-cycles
(w₁, w₂) ↔ (−w₁, w₂). On the axis w₂ = 0 the loss is w₁² (λ₁ = 2), and the cycle is that of the quadratic. It
loses its stability to w₂ where the ascended point w + ρ∇ℓ/‖∇ℓ‖ passes |w₁| = 1: for ρ > 1 − η. Beyond, w₂ rests when
∂ℓ/∂w₂ = w₂(1 − x²/a²), a = 1+w₂²/2, vanishes at the ascended point: x = a. There ∂ℓ/∂w₁ = 2x/a = 2, and the bounce
2w₁ = η·2 has half-width η exactly.
"""

from __future__ import annotations

import math

import numpy as np

from ravine.theory import checks


def threshold(eta: float) -> float:
    """The radius ρ* = 1 − η above which SAM's 2-cycle leaves the axis w₂ = 0, for 0 < η < 1.

    Raises
    ------
    ValueError
        If η is not in (0, 1), where gradient descent itself diverges along w₁ (λ₁ = 2).
    """
    return 1 - _step_size(eta)


def cycle(eta: float, rho: float) -> np.ndarray:
    """The symmetric 2-cycle (w₁, w₂), (−w₁, w₂) of SAM, shape (2, 2); w₂ ≥ 0 is one of a mirrored pair.

    It attracts up to the threshold on the axis, and beyond it for some way (η = 0.2: at ρ = 1, no longer at
    ρ = 2); that it is a cycle holds for every ρ.

    For ρ ≤ 1−η: w₂ = 0, w₁ = ηρ/(1−η). Beyond: w₁ = η, and with g = ∇ℓ(w), a = 1 + w₂²/2, the ascended point
    (a, y) gives η + ρg₁/‖g‖ = 1 + y²/2, y = w₂ + ρg₂/‖g‖: one equation for w₂, solved by bisection to the last bit.

    Raises
    ------
    ValueError
        If η is not in (0, 1) or ρ ≤ 0.
    """
    eta, rho = _step_size(eta), checks.positive("rho", rho)
    if rho <= threshold(eta):
        w1, w2 = eta * rho / (1 - eta), 0.0
    else:
        w1, w2 = eta, _height(eta, rho)
    return np.array([[w1, w2], [-w1, w2]])


def top_curvature(w2: float) -> float:
    """The Hessian's largest eigenvalue at (0, w₂): max{2/(1+w₂²/2), 1}, the Hessian being diagonal there."""
    return max(2 / (1 + w2**2 / 2), 1.0)


def _height(eta: float, rho: float) -> float:
    def excess(w2: float) -> float:
        a = 1 + w2**2 / 2
        g1, g2 = 2 * eta / a, w2 * (1 - (eta / a) ** 2)
        norm = math.hypot(g1, g2)
        return eta + rho * g1 / norm - 1 - (w2 + rho * g2 / norm) ** 2 / 2

    low, high = 0.0, 1.0
    while excess(high) > 0:
        high *= 2
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if excess(middle) > 0 else (low, middle)
    return low


def _step_size(eta: float) -> float:
    eta = checks.positive("eta", eta)
    if eta >= 1:
        raise ValueError(f"eta = {eta}: along w₁ the loss has curvature 2; take η < 1")
    return eta
