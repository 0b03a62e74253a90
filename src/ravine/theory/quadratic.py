"""SAM on a convex quadratic: Sections 3 and 4 of Bartlett, Long and Bousquet (2023).

ℓ(w) = ½ Σ λᵢwᵢ², v = ∇ℓ(w) = Λw. Coordinates keep the order in which the eigenvalues are given; "1" in λ₁, β₁
means the largest.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from ravine.theory import checks


@dataclass(frozen=True)
class QuadraticLaw:
    """What theory says of SAM on ½ Σ λᵢwᵢ²; made by `quadratic`.

    Attributes
    ----------
    eigenvalues
        λ, shape (d,), in units of curvature.
    eta, rho
        Step size η (1/λ) and radius ρ (‖w‖).
    """

    eigenvalues: np.ndarray
    eta: float
    rho: float

    @cached_property
    def top(self) -> float:
        """λ₁, the largest eigenvalue."""
        return float(self.eigenvalues.max())

    @cached_property
    def top_space(self) -> np.ndarray:
        """Mask (d,) of the coordinates with λᵢ = λ₁; more than one is a tie."""
        return self.eigenvalues == self.top

    @cached_property
    def tie(self) -> bool:
        """Whether λ₁ = λ₂: the limit is then a sphere in the top eigenspace, not two points."""
        return int(self.top_space.sum()) > 1

    @cached_property
    def beta(self) -> np.ndarray:
        """βᵢ = ηρλᵢ²/(2−ηλᵢ), shape (d,): the gradient norms at which |vᵢ| stands still (Lemma 5)."""
        return self._over(2 - self.eta * self.eigenvalues)

    @cached_property
    def gamma(self) -> np.ndarray:
        """γᵢ = ηρλᵢ²/(1−ηλᵢ), shape (d,): the gradient norm at which vᵢ jumps to 0 (Lemma 5)."""
        return self._over(1 - self.eta * self.eigenvalues)

    @cached_property
    def alpha(self) -> np.ndarray:
        """αᵢ, shape (d,): below this gradient norm v₁ grows relative to vᵢ (Lemma 5).

        αᵢ = ((1−ηλ₁)γ₁ + (1−ηλᵢ)γᵢ)/(2−ηλ₁−ηλᵢ), computed as ηρ(λ₁²+λᵢ²)/(2−ηλ₁−ηλᵢ), which has no 0·∞ at ηλ = 1.
        """
        lam = self.eigenvalues
        with np.errstate(divide="ignore"):
            return self.eta * self.rho * (self.top**2 + lam**2) / (2 - self.eta * self.top - self.eta * lam)

    @cached_property
    def b(self) -> float:
        """b = ηρλ₁²: the ball ‖v‖ ≤ b is absorbing (Lemma 5)."""
        return self.eta * self.rho * self.top**2

    @cached_property
    def bounces(self) -> bool:
        """Whether there is a cycle to end in: 0 < ηλ₁ < 2, where the potential J is bounded below, and ρ > 0."""
        return self.eta * self.top < 2 and self.rho > 0

    @cached_property
    def guaranteed(self) -> bool:
        """Whether the hypotheses of Theorem 2 hold: η < 1/(2λ₁), λ₁ > λ₂, every λᵢ > 0, ρ > 0.

        The dynamics is the same beyond η = 1/(2λ₁): J decreases for every η, and the cycle attracts as long as
        ηλ₁ < 2. The bound is needed by the paper's proof.
        """
        return self.eta * self.top < 0.5 and not self.tie and bool((self.eigenvalues > 0).all()) and self.rho > 0

    @cached_property
    def amplitude(self) -> float:
        """β₁/λ₁ = ηρλ₁/(2−ηλ₁), the half-width of the bounce in ‖w‖; NaN for ηλ₁ ≥ 2, where SAM diverges."""
        if self.eta * self.top >= 2:
            return float("nan")
        return self.eta * self.rho * self.top / (2 - self.eta * self.top)

    @cached_property
    def cycle(self) -> np.ndarray:
        """The two points ±(β₁/λ₁)e₁ of the limit, shape (2, d) (Theorem 2).

        With a tie the limit is the sphere of radius `amplitude` in the top eigenspace, and these are two of
        its points; `limit` gives the pair that belongs to a start.
        """
        direction = np.zeros(self.eigenvalues.size)
        direction[int(np.argmax(self.eigenvalues))] = 1.0
        return self._pair(direction)

    @cached_property
    def rate(self) -> float:
        """Exact factor by which the distance to the cycle shrinks each step, near it.

        r = max{|1−ηλ₁|, max over λⱼ < λ₁ of |1 − ηλⱼ − (λⱼ/λ₁)²(2−ηλ₁)|}: the linear part of the step at
        ‖v‖ = β₁. Along a tie's sphere the factor is 1 and is left out, as is a flat direction (λⱼ = 0), in which
        nothing moves. NaN where there is no cycle.
        """
        if not self.bounces:
            return float("nan")
        lam = self.eigenvalues[(~self.top_space) & (self.eigenvalues > 0)]
        across = np.abs(1 - self.eta * lam - (lam / self.top) ** 2 * (2 - self.eta * self.top))
        return float(max(abs(1 - self.eta * self.top), across.max(initial=0.0)))

    def limit(self, start: ArrayLike) -> np.ndarray:
        """The pair of points, shape (2, d), between which SAM ends up from `start`; ties and gaps included.

        Coordinates with equal λ keep their ratio for ever, and a coordinate at zero stays there. So the limit
        lies along the start's projection on the eigenspace of the largest eigenvalue that the start has a part
        in. That is so from almost every such start; an iterate that meets ‖v‖ = γ₁ exactly is an exception.
        Flat coordinates keep their value.

        Raises
        ------
        ValueError
            If `start` is not d finite numbers.
        """
        w = checks.vector("start", start, self.eigenvalues.size)
        seen = (w != 0) & (self.eigenvalues > 0)
        flat = np.where(self.eigenvalues == 0, w, 0.0)
        if not seen.any():
            return np.stack([w, w])
        top = self.eigenvalues[seen].max()
        direction = np.where(self.eigenvalues == top, w, 0.0)
        law = quadratic(self.eigenvalues[seen], self.eta, self.rho)
        return law.amplitude * np.outer([1, -1], direction / np.linalg.norm(direction)) + flat

    def _pair(self, direction: np.ndarray) -> np.ndarray:
        return self.amplitude * np.stack([direction, -direction])

    def _over(self, denominator: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore"):
            return self.eta * self.rho * self.eigenvalues**2 / denominator


def quadratic(eigenvalues: ArrayLike, eta: float, rho: float) -> QuadraticLaw:
    """The law of SAM on the quadratic ½ Σ λᵢwᵢ².

    Parameters
    ----------
    eigenvalues
        λ ≥ 0, shape (d,), in any order. Zeros are flat directions, in which nothing moves.
    eta, rho
        Step size η > 0 and radius ρ ≥ 0. ρ = 0 is gradient descent: the cycle is the minimum.

    Raises
    ------
    ValueError
        If an eigenvalue is negative or not finite, all are zero, η ≤ 0, or ρ < 0.
    """
    return QuadraticLaw(checks.spectrum(eigenvalues), checks.positive("eta", eta), checks.non_negative("rho", rho))
