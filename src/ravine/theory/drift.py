"""Drift towards wide minima: Section 5, Theorem 21 (arXiv:2210.01513), and the second-order term it leaves out.

At a minimum w_z with Hessian H = Σ λᵢeᵢeᵢᵀ, λ₁ simple, and ε = Ae₁, A = ηρλ₁/(2(1+m) − ηλ₁), a step of SAM from
w_z + sε off the bounce's last iterate w_z − sε is, with heavy ball or without (m = 0),

    w_{t+1} − w_t = −2sε − (η/2)(A+ρ)² ∇λ₁ − (ηρA/(2λ₁)) H P ∇λ₁ + O(ρ³),

∇λ₁ = D³ℓ(w_z)(e₁, e₁, ·), P the projector off e₁. The first two terms are, at m = 0, Theorem 21 as printed (its
coefficient (ηρ²/2)(1 + ηλ₁/(2−ηλ₁))² is the same number, and 2ηρ²/(2−ηλ₁)²); the third comes from the turn of the
gradient's direction at w_t, is of the same order in ρ, and vanishes in flat directions. An offset δ of the bounce's
centre off e₁ then obeys

    δ_{t+1} = μδ_t + m(δ_t − δ_{t−1}) − D,   μ = 1 − ηλ − (2(1+m) − ηλ₁)(λ/λ₁)²,   D = `coefficient`·∂λ₁.

Everything here is per eigendirection: `eigenvalues` are those of the Hessian, and vectors are given by their
components along its eigenvectors.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import index

import numpy as np
from numpy.typing import ArrayLike

from ravine.theory.bounce import amplitude
from ravine.theory.checks import fraction, non_negative, numbers, positive


def flat_coefficient(*, sharpness: float, eta: float, rho: float, momentum: float = 0.0) -> float:
    """The drift a step in flat directions, where it adds up, as a multiple of −∇λ₁: η(A+ρ)²/(2(1−m)).

    Without momentum it is Theorem 21's own coefficient, 2ηρ²/(2−ηλ₁)². With it the drift sets in over the first
    1/(1−m) steps.

    Parameters
    ----------
    sharpness
        λ₁ > 0.
    eta, rho, momentum
        Step size η > 0, radius ρ ≥ 0, heavy-ball coefficient m in [0, 1).

    Raises
    ------
    ValueError
        If a parameter is out of range or ηλ₁ ≥ 2(1+m), where nothing bounces.
    """
    bounce = _bounce(sharpness, eta, rho, momentum)
    return bounce.eta / (2 * (1 - bounce.momentum)) * (bounce.half_width + bounce.rho) ** 2


def coefficient(
    eigenvalues: ArrayLike, *, sharpness: float, eta: float, rho: float, momentum: float = 0.0
) -> np.ndarray:
    """Coefficient of −P∇λ₁ in one step along eigendirections of curvature λ, with the second-order term.

    (η/2)((A+ρ)² + ρAλ/λ₁), at m = 0 2ηρ²/(2−ηλ₁)² + η²ρ²λ/(2(2−ηλ₁)). Momentum carries the push of each step on.

    Raises
    ------
    ValueError
        As `flat_coefficient`.
    """
    return _bounce(sharpness, eta, rho, momentum).push(numbers("eigenvalues", eigenvalues))


def contraction(eigenvalues: ArrayLike, *, sharpness: float, eta: float, momentum: float = 0.0) -> np.ndarray:
    """μ = 1 − ηλ − (2(1+m) − ηλ₁)(λ/λ₁)²: δ ↦ μδ + m(δ_t − δ_{t−1}) is a step of the centre's offset along λ.

    Raises
    ------
    ValueError
        As `flat_coefficient`.
    """
    return 1 - _bounce(sharpness, eta, 0.0, momentum).pull(numbers("eigenvalues", eigenvalues))


def displacement(
    eigenvalues: ArrayLike,
    sharpness_gradient: ArrayLike,
    *,
    sharpness: float,
    eta: float,
    rho: float,
    steps: int,
    momentum: float = 0.0,
) -> np.ndarray:
    """Where the bounce's centre has moved after `steps` steps from the minimum, along each eigendirection but e₁.

    From δ₀ = δ₋₁ = 0, on the bounce: it grows by −D/(1−m) a step where the loss is flat (μ = 1), as soon as the
    velocity is there, and settles at −D/(1−μ) where it is curved.

    Parameters
    ----------
    eigenvalues
        Eigenvalues of the eigendirections off e₁, shape (k,).
    sharpness_gradient
        Components of ∇λ₁ along them, shape (k,).
    sharpness
        λ₁ > 0.
    eta, rho, momentum
        Step size η > 0, radius ρ ≥ 0, heavy-ball coefficient m in [0, 1).
    steps
        t ≥ 0.

    Raises
    ------
    ValueError
        As `flat_coefficient`, and if `steps` is no integer ≥ 0.
    """
    bounce, lam = _bounce(sharpness, eta, rho, momentum), numbers("eigenvalues", eigenvalues)
    grown = _response(bounce.pull(lam), bounce.momentum, steps)
    return -bounce.push(lam) * grown * numbers("sharpness_gradient", sharpness_gradient)


def sharpness_change(
    eigenvalues: ArrayLike,
    sharpness_gradient: ArrayLike,
    *,
    sharpness: float,
    eta: float,
    rho: float,
    steps: int,
    momentum: float = 0.0,
) -> float:
    """λ₁(t) − λ₁(0) predicted from the minimum, to first order: ∇λ₁·δ_t over the eigendirections off e₁.

    Valid while the change is small against λ₁ and against the gap λ₁ − λ₂. Parameters and errors are those of
    `displacement`.
    """
    gradient = numbers("sharpness_gradient", sharpness_gradient)
    moved = displacement(
        eigenvalues, gradient, sharpness=sharpness, eta=eta, rho=rho, steps=steps, momentum=momentum
    )  # fmt: skip
    return float((moved * gradient).sum())


@dataclass(frozen=True)
class _Bounce:
    """λ₁, η, ρ, m, checked, and A."""

    sharpness: float
    eta: float
    rho: float
    momentum: float
    half_width: float

    def push(self, eigenvalues: np.ndarray) -> np.ndarray:
        """D over ∂λ₁, along curvatures λ."""
        turn = self.rho * self.half_width * eigenvalues / self.sharpness
        return self.eta / 2 * ((self.half_width + self.rho) ** 2 + turn)

    def pull(self, eigenvalues: np.ndarray) -> np.ndarray:
        """1 − μ, without the cancellation that 1 − `contraction` has in nearly flat directions."""
        room = 2 * (1 + self.momentum) - self.eta * self.sharpness
        return self.eta * eigenvalues + room * (eigenvalues / self.sharpness) ** 2


def _bounce(sharpness: float, eta: float, rho: float, momentum: float) -> _Bounce:
    sharpness, eta = positive("sharpness", sharpness), positive("eta", eta)
    rho, momentum = non_negative("rho", rho), fraction("momentum", momentum)
    half_width = float(amplitude(sharpness, eta, rho, momentum))
    if not np.isfinite(half_width):
        raise ValueError(f"eta·λ₁ = {eta * sharpness:.6g}: there is no bounce to drift from; take η < 2(1+m)/λ₁")
    return _Bounce(sharpness, eta, rho, momentum, half_width)


def _response(pull: np.ndarray, momentum: float, steps: int) -> np.ndarray:
    """x_t of x_{s+1} = x_s + y_s, y_s = m·y_{s−1} − (1−μ)x_s + 1 from rest; at m = 0 (1−μᵗ)/(1−μ), t where μ = 1."""
    try:
        steps = index(steps)
    except TypeError:
        raise ValueError(f"steps = {steps!r}: give an integer ≥ 0") from None
    if steps < 0:
        raise ValueError(f"steps = {steps}: give an integer ≥ 0")
    step = np.zeros((*pull.shape, 3, 3))
    step[..., 0, :] = step[..., 1, :] = [0, momentum, 1]
    step[..., 0, 0], step[..., 1, 0] = 1 - pull, -pull
    step[..., 2, 2] = 1
    with np.errstate(over="ignore", invalid="ignore"):
        return np.linalg.matrix_power(step, steps)[..., 0, 2]
