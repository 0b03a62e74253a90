"""The bounce along the sharpest direction, and how heavy ball changes it.

With momentum m, w_{t+1} = w_t − ηd(w_t) + m(w_t − w_{t−1}). On a 2-cycle w_{t−1} = w_{t+1}, so that the step is
w_{t+1} − w_t = −η/(1+m)·d(w_t): on every loss, the 2-cycles of SAM with momentum m are those of SAM without it at step
size η/(1+m). What differs is how the neighbourhood moves. On a quadratic the 2-cycle attracts it for every m < 1, but a
run need not come near: for ηλ₁ < 2m, and only then, there is along e₁ also the orbit a, b, −a, −b with
a = ηρ(p+q)/(p²+q²), b = ηρ(q−p)/(p²+q²), p = 1−m, q = 1+m−ηλ₁, and it attracts along e₁ as well. Longer ones join it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ravine.theory.checks import fraction, non_negative, numbers, positive


def amplitude(sharpness: ArrayLike, eta: float, rho: float, momentum: float = 0.0) -> np.ndarray:
    """Half-width A = ηρλ₁/(2(1+m) − ηλ₁) of the bounce, in ‖w‖ (Theorem 2; with momentum from −A = A − ηλ₁(A+ρ) + 2mA).

    Parameters
    ----------
    sharpness
        λ₁, any shape.
    eta, rho, momentum
        Step size η > 0 (1/λ), radius ρ ≥ 0 (‖w‖), heavy-ball coefficient m in [0, 1).

    Returns
    -------
    numpy.ndarray
        Of the shape of `sharpness`; NaN where nothing bounces: λ₁ ≤ 0 or ηλ₁ ≥ 2(1+m).

    Raises
    ------
    ValueError
        If a parameter is out of range or `sharpness` is no number.
    """
    lam = numbers("sharpness", sharpness)
    eta, rho = positive("eta", eta), non_negative("rho", rho)
    room = 2 * (1 + fraction("momentum", momentum)) - eta * lam
    bounces = (lam > 0) & (room > 0)
    # A subnormal room has an infinite amplitude, which is as good an answer as any.
    with np.errstate(over="ignore"):
        return np.divide(eta * rho * lam, room, out=np.full(lam.shape, np.nan), where=bounces)[()]


def spectral_radius(factor: ArrayLike, momentum: float) -> np.ndarray:
    """Factor per step of the linear recursion x_{t+1} = a·x_t + m(x_t − x_{t−1}), for a of any shape.

    The larger modulus of the roots of r² − (a+m)r + m: √m where they are complex, and nowhere below it.
    """
    half = (np.asarray(factor, dtype=np.float64) + momentum) / 2
    apart = half**2 - momentum
    return np.where(apart >= 0, np.abs(half) + np.sqrt(np.maximum(apart, 0)), np.sqrt(momentum))
