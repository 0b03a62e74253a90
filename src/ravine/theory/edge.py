"""Edges of stability: how sharp a direction may be before it grows."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ravine.theory import checks


def sam_edge(grad_norm: ArrayLike, eta: float, rho: float, momentum: float = 0.0) -> np.ndarray:
    """SAM-edge(g): the curvature above which a direction grows at gradient norm g (Long and Bartlett).

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
    eta, rho = checks.positive("eta", eta), checks.non_negative("rho", rho)
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum = {momentum!r}: the momentum must lie in [0, 1)")
    g = np.asarray(grad_norm, dtype=np.float64)
    if not (g >= 0).all():
        raise ValueError("grad_norm: a norm is a number ≥ 0")
    with np.errstate(divide="ignore", invalid="ignore"):
        x = 8 * (1 + momentum) * rho / (eta * g) if rho > 0 else np.zeros_like(g)
    return 4 * (1 + momentum) / eta / (np.sqrt(1 + x) + 1)


def usam_stable(lam: ArrayLike, eta: float, rho: float) -> np.ndarray:
    """Whether SAM without normalisation contracts along curvature λ ≥ 0: ηλ(1+ρλ) < 2.

    Raises
    ------
    ValueError
        If η ≤ 0 or ρ < 0.
    """
    lam = np.asarray(lam, dtype=np.float64)
    return checks.positive("eta", eta) * lam * (1 + checks.non_negative("rho", rho) * lam) < 2


def heavy_ball_amplitude(lam: float, eta: float, rho: float, momentum: float) -> float:
    """Half-width ηρλ/(2(1+m) − ηλ) of the bounce of SAM with heavy ball, in ‖w‖; NaN where ηλ ≥ 2(1+m).

    From −A = A − ηλ(A+ρ) + m(A − (−A)). The 2-cycle attracts its neighbourhood for every m < 1; from about m = 0.4 on,
    wider orbits (+ + − −, and longer) attract as well, so that a run need not end in it.

    Raises
    ------
    ValueError
        If a parameter is out of range.
    """
    lam, eta, rho = checks.positive("lam", lam), checks.positive("eta", eta), checks.non_negative("rho", rho)
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum = {momentum!r}: the momentum must lie in [0, 1)")
    room = 2 * (1 + momentum) - eta * lam
    return eta * rho * lam / room if room > 0 else float("nan")
