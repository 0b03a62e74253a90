"""Edges of stability: how sharp a direction may be before it grows."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ravine.theory.checks import fraction, non_negative, numbers, positive


def sam_edge(grad_norm: ArrayLike, eta: float, rho: float, momentum: float = 0.0) -> np.ndarray:
    """SAM-edge(g): the curvature above which a direction grows at gradient norm g (arXiv:2309.12488).

    The root λ of ηλ(1 + ρλ/g) = 2(1+m); 2(1+m)/η at ρ = 0, the edge of gradient descent with heavy ball.
    It is g/(2ρ)·(√(1+x) − 1), x = 8(1+m)ρ/(ηg), computed as (4(1+m)/η)/(√(1+x) + 1), which loses no digits for
    small ρ and needs no case for ρ = 0. ‖v‖ > βᵢ of Lemma 5 is the same as λᵢ < SAM-edge(‖v‖).

    Parameters
    ----------
    grad_norm
        ‖∇ℓ(w)‖ ≥ 0, any shape. At 0 the edge is 0 (for ρ > 0).
    eta, rho, momentum
        Step size η > 0, radius ρ ≥ 0, heavy-ball coefficient m in [0, 1).

    Raises
    ------
    ValueError
        If a parameter is out of range.
    """
    eta, rho, momentum = positive("eta", eta), non_negative("rho", rho), fraction("momentum", momentum)
    g = numbers("grad_norm", grad_norm)
    if not (g >= 0).all():
        raise ValueError("grad_norm: a norm is a number ≥ 0")
    with np.errstate(divide="ignore", invalid="ignore"):
        x = 8 * (1 + momentum) * rho / (eta * g) if rho > 0 else np.zeros_like(g)
    return 4 * (1 + momentum) / eta / (np.sqrt(1 + x) + 1)


def usam_stable(eigenvalues: ArrayLike, eta: float, rho: float, momentum: float = 0.0) -> np.ndarray:
    """Whether SAM without normalization contracts along curvatures λ ≥ 0, of any shape: ηλ(1+ρλ) < 2(1+m).

    Raises
    ------
    ValueError
        If a parameter is out of range.
    """
    lam = numbers("eigenvalues", eigenvalues)
    eta, rho, momentum = positive("eta", eta), non_negative("rho", rho), fraction("momentum", momentum)
    return eta * lam * (1 + rho * lam) < 2 * (1 + momentum)
