"""The bounce on the loss of Section 6 (arXiv:2210.01513), w₁²/(1+w₂²/2) + w₂²/2, in closed form.

The paper shows its runs (Figures 3 to 5) and proves nothing of them. By the loss's symmetry SAM has 2-cycles
(w₁, w₂) ↔ (−w₁, w₂). On the axis w₂ = 0 the loss is w₁² (λ₁ = 2), and the cycle is that of the quadratic. It
loses its stability to w₂ where the ascended point w + ρ∇ℓ/‖∇ℓ‖ passes |w₁| = 1: for ρ > 1 − η. Beyond, w₂ rests when
∂ℓ/∂w₂ = w₂(1 − x²/a²), a = 1+w₂²/2, vanishes at the ascended point: x = a. There ∂ℓ/∂w₁ = 2x/a = 2, and the bounce
2w₁ = η·2 has half-width η exactly. With heavy ball, m, all of this holds with η/(1+m) for η (`ravine.theory.bounce`).
"""

from __future__ import annotations

import math

import numpy as np

from ravine.theory.checks import fraction, positive


def threshold(eta: float, momentum: float = 0.0) -> float:
    """The radius ρ* = 1 − η/(1+m) above which SAM's 2-cycle leaves the axis w₂ = 0, for 0 < η < 1+m.

    Raises
    ------
    ValueError
        If m is not in [0, 1), or η not in (0, 1+m): gradient descent itself diverges along w₁ (λ₁ = 2).
    """
    return 1 - _effective_step(eta, momentum)


def cycle(eta: float, rho: float, momentum: float = 0.0) -> np.ndarray:
    """The symmetric 2-cycle (w₁, w₂), (−w₁, w₂) of SAM, shape (2, 2); w₂ ≥ 0 is one of a mirrored pair.

    Without momentum it attracts up to the threshold on the axis, and beyond it for some way (η = 0.2: at ρ = 1, no
    longer at ρ = 2); that it is a cycle holds for every ρ and m.

    For ρ ≤ 1−η: w₂ = 0, w₁ = ηρ/(1−η). Beyond: w₁ = η, and with g = ∇ℓ(w), a = 1 + w₂²/2, the ascended point
    (a, y) gives η + ρg₁/‖g‖ = 1 + y²/2, y = w₂ + ρg₂/‖g‖: one equation for w₂, solved by bisection to the last bit.
    With momentum, η/(1+m) stands for η.

    Raises
    ------
    ValueError
        If m is not in [0, 1), η not in (0, 1+m), or ρ ≤ 0.
    """
    eta, rho = _effective_step(eta, momentum), positive("rho", rho)
    if rho <= 1 - eta:
        w1, w2 = eta * rho / (1 - eta), 0.0
    else:
        w1, w2 = eta, _height(eta, rho)
    return np.array([[w1, w2], [-w1, w2]])


def sharpness(w2: float) -> float:
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


def _effective_step(eta: float, momentum: float) -> float:
    effective = positive("eta", eta) / (1 + fraction("momentum", momentum))
    if effective >= 1:
        raise ValueError(f"eta = {eta}: along w₁ the loss has curvature 2; take η < 1 + momentum")
    return effective
