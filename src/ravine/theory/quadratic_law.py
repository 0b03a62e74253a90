"""SAM on a convex quadratic: Sections 3 and 4 of Bartlett, Long and Bousquet (arXiv 2210.01513), and with heavy ball.

ℓ(w) = ½ Σ λᵢwᵢ², v = ∇ℓ(w) = Λw. Coordinates keep the order in which the eigenvalues are given; "1" in λ₁, β₁
means the largest.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from ravine.theory.bounce import amplitude, spectral_radius
from ravine.theory.checks import convex_spectrum, fraction, in_words, non_negative, positive, vector
from ravine.theory.drift import contraction


@dataclass(frozen=True, eq=False, repr=False)
class QuadraticLaw:
    """What theory says of SAM on ½ Σ λᵢwᵢ² (Sections 3 and 4 of arXiv 2210.01513); made by `quadratic`.

    With momentum, what is known only without it (`gamma`, `alpha`, `b`, `mu`, `limit`) raises a `ValueError`.

    Attributes
    ----------
    eigenvalues
        λ, shape (d,), in units of curvature.
    eta, rho
        Step size η (1/λ) and radius ρ (‖w‖).
    momentum
        Heavy-ball coefficient m.

    Examples
    --------
    >>> import ravine as rv
    >>> law = rv.theory.quadratic([1.0, 0.5], eta=0.2, rho=1.0)
    >>> law
    QuadraticLaw(2 eigenvalues, λ₁ = 1, η = 0.2, ρ = 1, momentum = 0)
    >>> law.cycle.round(4).tolist()
    [[0.1111, 0.0], [-0.1111, -0.0]]
    >>> law.rate
    0.8
    """

    eigenvalues: np.ndarray
    eta: float
    rho: float
    momentum: float = 0.0

    def __repr__(self) -> str:
        return f"QuadraticLaw({in_words(self.eigenvalues, self.eta, self.rho, self.momentum)})"

    @cached_property
    def sharpness(self) -> float:
        """λ₁, the largest eigenvalue."""
        return float(self.eigenvalues.max())

    @cached_property
    def smallest(self) -> float:
        """λ_d, the smallest eigenvalue."""
        return float(self.eigenvalues.min())

    @cached_property
    def sharpest(self) -> np.ndarray:
        """Mask (d,) of the coordinates with λᵢ = λ₁; more than one is a tie."""
        return self.eigenvalues == self.sharpness

    @cached_property
    def tie(self) -> bool:
        """Whether λ₁ = λ₂: the limit is then a sphere in the space of e₁ and e₂, not two points."""
        return int(self.sharpest.sum()) > 1

    @cached_property
    def beta(self) -> np.ndarray:
        """βᵢ = ηρλᵢ²/(2(1+m)−ηλᵢ), shape (d,): the gradient norms at which |vᵢ| stands still (Lemma 5).

        At a constant gradient norm g, with momentum too, vᵢ dies out where g > βᵢ and grows where g < βᵢ.
        """
        return self._pull_over(2 * (1 + self.momentum) - self.eta * self.eigenvalues)

    @cached_property
    def gamma(self) -> np.ndarray:
        """γᵢ = ηρλᵢ²/(1−ηλᵢ), shape (d,): the gradient norm at which vᵢ jumps to 0 (Lemma 5); without momentum only."""
        self._refuse_momentum("gamma")
        return self._pull_over(1 - self.eta * self.eigenvalues)

    @cached_property
    def alpha(self) -> np.ndarray:
        """αᵢ, shape (d,): below this gradient norm v₁ grows relative to vᵢ (Lemma 5); without momentum only.

        αᵢ = ((1−ηλ₁)γ₁ + (1−ηλᵢ)γᵢ)/(2−ηλ₁−ηλᵢ), computed as ηρ(λ₁²+λᵢ²)/(2−ηλ₁−ηλᵢ), which has no 0·∞ at ηλ = 1.
        """
        self._refuse_momentum("alpha")
        lam = self.eigenvalues
        with np.errstate(divide="ignore"):
            return self.eta * self.rho * (self.sharpness**2 + lam**2) / (2 - self.eta * self.sharpness - self.eta * lam)

    @cached_property
    def b(self) -> float:
        """b = ηρλ₁²: the ball ‖v‖ ≤ b is absorbing (Lemma 5); without momentum only."""
        self._refuse_momentum("b")
        return self.eta * self.rho * self.sharpness**2

    @cached_property
    def mu(self) -> float:
        """μ = min{ηλ_d, λ₁²/λ₂² − 1} of Lemma 14, by which vᵢ/v₁ shrinks a step; 0 at a tie; without momentum only."""
        self._refuse_momentum("mu")
        others = np.sort(self.eigenvalues)[:-1]
        with np.errstate(divide="ignore"):
            gap = np.min((self.sharpness / others) ** 2 - 1, initial=np.inf)
        return float(min(self.eta * self.smallest, gap))

    @cached_property
    def bounces(self) -> bool:
        """Whether there is a cycle to end in: 0 < ηλ₁ < 2(1+m), where J is bounded below, and ρ > 0."""
        return self.eta * self.sharpness < 2 * (1 + self.momentum) and self.rho > 0

    @cached_property
    def unmet(self) -> tuple[str, ...]:
        """What the law lacks of Theorem 2's hypotheses, each with its cure: η < 1/(2λ₁), λ₁ > λ₂, λᵢ > 0, ρ > 0, m = 0.

        The dynamics is the same beyond η = 1/(2λ₁): J decreases for every η, and the cycle attracts as long as
        ηλ₁ < 2. That bound is needed by the paper's proof.
        """
        h = self.eta * self.sharpness
        m = self.momentum
        hypotheses = (
            (h < 0.5, f"eta·λ₁ = {h:.6g}: the paper's proofs need η < 1/(2λ₁); take a smaller step"),
            (not self.tie, "eigenvalues: the paper's proofs need λ₁ > λ₂; merge equal ones"),
            (self.smallest > 0, "eigenvalues: the paper's proofs need λ_d > 0; leave flat directions out"),
            (self.rho > 0, "rho: without a radius SAM is gradient descent; give ρ > 0"),
            (m == 0, f"momentum = {m:.6g}: the paper's proofs are for SAM without; take momentum=0"),
        )
        return tuple(reason for met, reason in hypotheses if not met)

    @cached_property
    def guaranteed(self) -> bool:
        """Whether the hypotheses of Theorem 2 hold: nothing is `unmet`."""
        return not self.unmet

    @cached_property
    def amplitude(self) -> float:
        """A = β₁/λ₁ = ηρλ₁/(2(1+m)−ηλ₁), the half-width of the bounce in ‖w‖; NaN for ηλ₁ ≥ 2(1+m): SAM diverges."""
        return float(amplitude(self.sharpness, self.eta, self.rho, self.momentum))

    @cached_property
    def bounce_grad_norm(self) -> float:
        """β₁ = λ₁A, the gradient norm on the bounce; NaN as `amplitude`."""
        return self.sharpness * self.amplitude

    @cached_property
    def vanishing_grad_norm(self) -> float:
        """γ₁ = b/(1−ηλ₁), the gradient norm at which v₁ jumps to 0; without momentum only."""
        return float(self.gamma[int(np.argmax(self.eigenvalues))])

    @cached_property
    def cycle(self) -> np.ndarray:
        """The two points ±(β₁/λ₁)e₁ of the limit, shape (2, d) (Theorem 2).

        With a tie the limit is the sphere of radius `amplitude` in the space of the largest eigenvalue, and these are
        two of its points; `limit` gives the pair that belongs to a start. With momentum a run need not end here: for
        ηλ₁ < 2m, and for m and η both large, wider orbits attract as well (`ravine.theory.bounce`).
        """
        direction = np.zeros(self.eigenvalues.size)
        direction[int(np.argmax(self.eigenvalues))] = 1.0
        return self.amplitude * np.stack([direction, -direction])

    @cached_property
    def rate(self) -> float:
        """Exact factor by which the distance to the cycle shrinks each step, near it.

        The largest modulus of the roots of r² − (a+m)r + m, over a = 1−ηλ₁ and, for λⱼ < λ₁,
        a = 1 − ηλⱼ − (λⱼ/λ₁)²(2(1+m)−ηλ₁): the linear part of the step at ‖v‖ = β₁. Without momentum the largest |a|;
        with it never below √m. Along a tie's sphere the factor is 1 and is left out, as is a flat direction (λⱼ = 0),
        in which nothing moves. NaN where there is no cycle.
        """
        if not self.bounces:
            return float("nan")
        others = self.eigenvalues[~self.sharpest & (self.eigenvalues > 0)]
        across = contraction(others, sharpness=self.sharpness, eta=self.eta, momentum=self.momentum)
        return float(spectral_radius(np.append(across, 1 - self.eta * self.sharpness), self.momentum).max())

    def limit(self, start: ArrayLike) -> np.ndarray:
        """The pair of points, shape (2, d), between which SAM ends up from `start`; ties and gaps included.

        Coordinates with equal λ keep their ratio for ever, and a coordinate at zero stays there. So the limit
        lies along the start's projection on the eigenspace of the largest eigenvalue that the start has a part
        in. That is so from almost every such start; an iterate that meets ‖v‖ = γ₁ exactly is an exception.
        Flat coordinates keep their value.

        Raises
        ------
        ValueError
            If `start` is not d finite numbers, or there is momentum: a run may then end in a wider orbit.
        """
        self._refuse_momentum("limit")
        w = vector("start", start, self.eigenvalues.size)
        seen = (w != 0) & (self.eigenvalues > 0)
        flat = np.where(self.eigenvalues == 0, w, 0.0)
        if not seen.any():
            return np.stack([w, w])
        sharpness = float(self.eigenvalues[seen].max())
        direction = np.where(self.eigenvalues == sharpness, w, 0.0)
        half_width = amplitude(sharpness, self.eta, self.rho)
        return half_width * np.outer([1, -1], direction / np.linalg.norm(direction)) + flat

    def _refuse_momentum(self, name: str) -> None:
        if self.momentum > 0:
            raise ValueError(f"{name}: known for SAM without momentum only; make the law with momentum=0")

    def _pull_over(self, denominator: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore"):
            return self.eta * self.rho * self.eigenvalues**2 / denominator


def quadratic(eigenvalues: ArrayLike, eta: float, rho: float, momentum: float = 0.0) -> QuadraticLaw:
    """The law of SAM on the quadratic ½ Σ λᵢwᵢ².

    Parameters
    ----------
    eigenvalues
        λ ≥ 0, shape (d,), in any order. Zeros are flat directions, in which nothing moves.
    eta, rho
        Step size η > 0 and radius ρ ≥ 0. ρ = 0 is gradient descent: the cycle is the minimum.
    momentum
        Heavy-ball coefficient m in [0, 1).

    Raises
    ------
    ValueError
        If an eigenvalue is negative or not finite, all are zero, η ≤ 0, ρ < 0, or m is not in [0, 1).
    """
    return QuadraticLaw(
        convex_spectrum(eigenvalues), positive("eta", eta), non_negative("rho", rho), fraction("momentum", momentum)
    )
