"""The potential J on which SAM is gradient descent: Proposition 8, Remark 9, Lemma 10 (arXiv 2210.01513).

With u_t = (−1)ᵗw_t, SAM on ½wᵀΛw is u_{t+1} = u_t − ηρ∇J(u_t), J(u) = ½uᵀCu − ‖Λu‖, C = (2I − ηΛ)/(ηρ). With heavy
ball, u is heavy ball of the same coefficient m, u_{t+1} = u_t − ηρ∇J(u_t) + m(u_t − u_{t−1}), on J with
C = (2(1+m)I − ηΛ)/(ηρ).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ravine.theory.checks import convex_spectrum, fraction, in_words, positive, vector


@dataclass(frozen=True, eq=False, repr=False)
class StationaryPoint:
    """A stationary point ±(βᵢ/λᵢ)eᵢ of J (Remark 9, arXiv 2210.01513); with equal eigenvalues, one of a sphere of them.

    Attributes
    ----------
    u
        The point with the plus sign, shape (d,).
    value
        J there, −βᵢ/2.
    curvatures
        Eigenvalues of ∇²J there, shape (d,), in the order of the coordinates.

    Examples
    --------
    >>> import ravine as rv
    >>> rv.theory.potential([1.0, 0.5], eta=0.2, rho=1.0).stationary_points()[1]
    StationaryPoint(J = -0.0131579, minimum: False, at e2)
    """

    u: np.ndarray
    value: float
    curvatures: np.ndarray

    def __repr__(self) -> str:
        axis = int(np.argmax(self.u)) + 1
        return f"StationaryPoint(J = {self.value:.6g}, minimum: {self.is_minimum}, at e{axis})"

    @property
    def is_minimum(self) -> bool:
        """Whether no curvature is negative: then it is a global minimum (Remark 9)."""
        return bool((self.curvatures >= 0).all())


@dataclass(frozen=True, eq=False, repr=False)
class Potential:
    """J for one spectrum, step size, radius and momentum (Proposition 8, arXiv 2210.01513); made by `potential`.

    Attributes
    ----------
    eigenvalues
        λ, shape (d,).
    eta, rho, momentum
        Step size η, radius ρ, heavy-ball coefficient m.

    Examples
    --------
    >>> import ravine as rv
    >>> rv.theory.potential([1.0, 0.5], eta=0.2, rho=1.0)
    Potential(2 eigenvalues, λ₁ = 1, η = 0.2, ρ = 1, momentum = 0)
    >>> round(rv.theory.potential([1.0, 0.5], eta=0.2, rho=1.0).minimum, 6)
    -0.055556
    """

    eigenvalues: np.ndarray
    eta: float
    rho: float
    momentum: float = 0.0

    def __repr__(self) -> str:
        return f"Potential({in_words(self.eigenvalues, self.eta, self.rho, self.momentum)})"

    @property
    def _distance_to_edge(self) -> np.ndarray:
        return 2 * (1 + self.momentum) - self.eta * self.eigenvalues

    @property
    def _quadratic_part(self) -> np.ndarray:
        return self._distance_to_edge / (self.eta * self.rho)

    def value(self, u: ArrayLike) -> np.ndarray:
        """J(u), for u of shape (…, d)."""
        u = np.asarray(u, dtype=np.float64)
        return 0.5 * (self._quadratic_part * u**2).sum(axis=-1) - np.linalg.norm(self.eigenvalues * u, axis=-1)

    def gradient(self, u: ArrayLike) -> np.ndarray:
        """∇J(u) = Cu − Λ²u/‖Λu‖, for u of shape (…, d); NaN where Λu = 0, at the tip of J."""
        u = np.asarray(u, dtype=np.float64)
        norm = np.linalg.norm(self.eigenvalues * u, axis=-1, keepdims=True)
        with np.errstate(invalid="ignore", divide="ignore"):
            return self._quadratic_part * u - self.eigenvalues**2 * u / norm

    def hessian(self, u: ArrayLike) -> np.ndarray:
        """∇²J(u) = C − ΛP⊥Λ/‖Λu‖, shape (d, d), P⊥ the projector off Λu.

        Raises
        ------
        ValueError
            If Λu = 0, where J has no Hessian.
        """
        u = vector("u", u, self.eigenvalues.size)
        v = self.eigenvalues * u
        norm = np.linalg.norm(v)
        if norm == 0:
            raise ValueError("u: J has no Hessian where Λu = 0; move the point")
        projector = np.eye(v.size) - np.outer(v, v) / norm**2
        return np.diag(self._quadratic_part) - self.eigenvalues[:, None] * projector * self.eigenvalues / norm

    def stationary_points(self) -> list[StationaryPoint]:
        """The stationary points ±(βᵢ/λᵢ)eᵢ, one for each λᵢ > 0 with ηλᵢ < 2(1+m), in the order of the coordinates.

        ∇²J there has eigenvalue λᵢ²/βᵢ along eᵢ and λⱼ²(1/βⱼ − 1/βᵢ) along eⱼ (zero where λⱼ = λᵢ: the
        sphere). Written as (2(1+m)−ηλⱼ)/(ηρ) − λⱼ²/βᵢ, which is finite also in flat directions.
        """
        points = []
        for i, (lam, room) in enumerate(zip(self.eigenvalues, self._distance_to_edge, strict=True)):
            if lam == 0 or room <= 0:
                continue
            beta = self.eta * self.rho * lam**2 / room
            u = np.zeros(self.eigenvalues.size)
            u[i] = beta / lam
            curvatures = np.where(self.eigenvalues == lam, 0.0, self._quadratic_part - self.eigenvalues**2 / beta)
            curvatures[i] = self._quadratic_part[i]
            points.append(StationaryPoint(u, float(-beta / 2), curvatures))
        return points

    def descent_bound(self, u: ArrayLike) -> np.ndarray:
        """Lemma 10's upper bound on J(u_{t+1}) − J(u_t), for u_t of shape (…, d); without momentum only.

        −(1/2ρ) Σ uᵢ²(1 − βᵢ/‖Λu‖)²(2−ηλᵢ)²λᵢ, written through ∇J as −(η²ρ/2) Σ λᵢ(∇J)ᵢ², which also
        stands at ηλᵢ = 2, where βᵢ is infinite.

        Raises
        ------
        ValueError
            If there is momentum: heavy ball may go uphill.
        """
        if self.momentum > 0:
            raise ValueError("descent_bound: with momentum J may rise; make the potential with momentum=0")
        return -(self.eta**2) * self.rho / 2 * (self.eigenvalues * self.gradient(u) ** 2).sum(axis=-1)

    @property
    def minimum(self) -> float:
        """min J = −β₁/2; −∞ for ηλ₁ ≥ 2(1+m)."""
        lam, room = self.eigenvalues.max(), self._distance_to_edge.min()
        return float(-self.eta * self.rho * lam**2 / room / 2) if room > 0 else float("-inf")


def potential(eigenvalues: ArrayLike, eta: float, rho: float, momentum: float = 0.0) -> Potential:
    """The potential J of Proposition 8.

    Parameters
    ----------
    eigenvalues
        λ ≥ 0, shape (d,).
    eta, rho
        Step size η > 0 and radius ρ > 0.
    momentum
        Heavy-ball coefficient m in [0, 1).

    Raises
    ------
    ValueError
        If an eigenvalue is negative or not finite, all are zero, η ≤ 0, ρ ≤ 0 (J is for SAM proper), or m is not in
        [0, 1).
    """
    return Potential(
        convex_spectrum(eigenvalues), positive("eta", eta), positive("rho", rho), fraction("momentum", momentum)
    )
