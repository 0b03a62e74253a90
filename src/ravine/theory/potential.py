"""The potential J on which SAM is gradient descent: Proposition 8, Remark 9, Lemma 10.

With u_t = (−1)ᵗw_t, SAM on ½wᵀΛw is u_{t+1} = u_t − ηρ∇J(u_t), J(u) = ½uᵀCu − ‖Λu‖, C = (2I − ηΛ)/(ηρ).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ravine.theory import checks


@dataclass(frozen=True)
class StationaryPoint:
    """A stationary point ±(βᵢ/λᵢ)eᵢ of J; with equal eigenvalues, one of a sphere of them.

    Attributes
    ----------
    u
        The point with the plus sign, shape (d,).
    value
        J there, −βᵢ/2.
    curvatures
        Eigenvalues of ∇²J there, shape (d,), in the order of the coordinates.
    """

    u: np.ndarray
    value: float
    curvatures: np.ndarray

    @property
    def is_minimum(self) -> bool:
        """Whether no curvature is negative: then it is a global minimum (Remark 9)."""
        return bool((self.curvatures >= 0).all())


@dataclass(frozen=True)
class Potential:
    """J for one spectrum, step size and radius; made by `potential`."""

    eigenvalues: np.ndarray
    eta: float
    rho: float

    @property
    def _c(self) -> np.ndarray:
        return (2 - self.eta * self.eigenvalues) / (self.eta * self.rho)

    def value(self, u: ArrayLike) -> np.ndarray:
        """J(u), for u of shape (…, d)."""
        u = np.asarray(u, dtype=np.float64)
        return 0.5 * (self._c * u**2).sum(axis=-1) - np.linalg.norm(self.eigenvalues * u, axis=-1)

    def gradient(self, u: ArrayLike) -> np.ndarray:
        """∇J(u) = Cu − Λ²u/‖Λu‖, for u of shape (…, d); NaN where Λu = 0, at the tip of J."""
        u = np.asarray(u, dtype=np.float64)
        norm = np.linalg.norm(self.eigenvalues * u, axis=-1, keepdims=True)
        with np.errstate(invalid="ignore", divide="ignore"):
            return self._c * u - self.eigenvalues**2 * u / norm

    def hessian(self, u: ArrayLike) -> np.ndarray:
        """∇²J(u) = C − ΛP⊥Λ/‖Λu‖, shape (d, d), P⊥ the projector off Λu.

        Raises
        ------
        ValueError
            If Λu = 0, where J has no Hessian.
        """
        u = checks.vector("u", u, self.eigenvalues.size)
        v = self.eigenvalues * u
        norm = np.linalg.norm(v)
        if norm == 0:
            raise ValueError("u: J has no Hessian where Λu = 0; move the point")
        projector = np.eye(v.size) - np.outer(v, v) / norm**2
        return np.diag(self._c) - self.eigenvalues[:, None] * projector * self.eigenvalues / norm

    def stationary_points(self) -> list[StationaryPoint]:
        """The stationary points ±(βᵢ/λᵢ)eᵢ, one for each λᵢ > 0 with ηλᵢ < 2, in the order of the coordinates.

        ∇²J there has eigenvalue λᵢ²/βᵢ along eᵢ and λⱼ²(1/βⱼ − 1/βᵢ) along eⱼ (zero where λⱼ = λᵢ: the
        sphere). Written as (2−ηλⱼ)/(ηρ) − λⱼ²/βᵢ, which is finite also in flat directions.
        """
        points = []
        for i, lam in enumerate(self.eigenvalues):
            if lam == 0 or self.eta * lam >= 2:
                continue
            beta = self.eta * self.rho * lam**2 / (2 - self.eta * lam)
            u = np.zeros(self.eigenvalues.size)
            u[i] = beta / lam
            curvatures = np.where(self.eigenvalues == lam, 0.0, self._c - self.eigenvalues**2 / beta)
            curvatures[i] = self._c[i]
            points.append(StationaryPoint(u, -beta / 2, curvatures))
        return points

    def descent_bound(self, u: ArrayLike) -> np.ndarray:
        """Lemma 10's upper bound on J(u_{t+1}) − J(u_t), for u_t of shape (…, d).

        −(1/2ρ) Σ uᵢ²(1 − βᵢ/‖Λu‖)²(2−ηλᵢ)²λᵢ, written through ∇J as −(η²ρ/2) Σ λᵢ(∇J)ᵢ², which also
        stands at ηλᵢ = 2, where βᵢ is infinite.
        """
        return -(self.eta**2) * self.rho / 2 * (self.eigenvalues * self.gradient(u) ** 2).sum(axis=-1)

    @property
    def minimum(self) -> float:
        """min J = −β₁/2; −∞ for ηλ₁ ≥ 2."""
        top = self.eigenvalues.max()
        if self.eta * top >= 2:
            return float("-inf")
        return float(-self.eta * self.rho * top**2 / (2 - self.eta * top) / 2)


def potential(eigenvalues: ArrayLike, eta: float, rho: float) -> Potential:
    """The potential J of Proposition 8.

    Parameters
    ----------
    eigenvalues
        λ ≥ 0, shape (d,).
    eta, rho
        Step size η > 0 and radius ρ > 0.

    Raises
    ------
    ValueError
        If an eigenvalue is negative or not finite, all are zero, η ≤ 0, or ρ ≤ 0 (J is for SAM proper).
    """
    return Potential(checks.spectrum(eigenvalues), checks.positive("eta", eta), checks.positive("rho", rho))
