"""The paper's quantities on a quadratic, in any arithmetic: written from the paper, and from nothing else here."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from ravine.claims.numbers import Numbers, Real, norm
from ravine.claims.samplers import Instance


class Law:
    """λ, η, ρ of an instance, and what Sections 4.1 to 4.4 of arXiv 2210.01513 define of them.

    Attributes
    ----------
    n
        The arithmetic.
    eigenvalues, sharpness, least, size
        λ₁ ≥ … ≥ λ_d of the Hessian, λ₁, λ_d, d.
    eta, rho, h, b
        η, ρ, h = ηλ₁, b = ηρλ₁².

    Examples
    --------
    >>> from ravine.claims.law import Law
    >>> from ravine.claims.numbers import Floats
    >>> law = Law({"eigenvalues": (1.0, 0.5), "eta": 0.2, "rho": 1.0}, Floats())
    >>> law
    Law(λ = 1.0, 0.5; η = 0.2; ρ = 1.0)
    >>> round(law.beta[0], 4), [round(x, 4) for x in law.step([1.0, 1.0])]
    (0.1111, [0.6586, 0.8646])
    """

    def __init__(self, at: Instance, n: Numbers) -> None:
        self.n = n
        self.eigenvalues = [n.of(value) for value in at["eigenvalues"]]
        self.eta, self.rho = n.of(at["eta"]), n.of(at["rho"])
        self.sharpness, self.least = self.eigenvalues[0], self.eigenvalues[-1]
        self.size = len(self.eigenvalues)
        self.h = self.eta * self.sharpness
        self.b = self.eta * self.rho * self.sharpness**2
        self._pull = [self.eta * self.rho * x**2 for x in self.eigenvalues]
        self._keep = [1 - self.eta * x for x in self.eigenvalues]

    def __repr__(self) -> str:
        spectrum = ", ".join(str(x) for x in self.eigenvalues)
        return f"Law(λ = {spectrum}; η = {self.eta}; ρ = {self.rho})"

    @cached_property
    def gamma(self) -> list[Real]:
        """γᵢ = ηρλᵢ²/(1−ηλᵢ)."""
        return [p / k for p, k in zip(self._pull, self._keep, strict=True)]

    @cached_property
    def beta(self) -> list[Real]:
        """βᵢ = ηρλᵢ²/(2−ηλᵢ)."""
        return [p / (1 + k) for p, k in zip(self._pull, self._keep, strict=True)]

    @cached_property
    def alpha(self) -> list[Real]:
        """αᵢ = ((1−ηλ₁)γ₁ + (1−ηλᵢ)γᵢ)/(2−ηλ₁−ηλᵢ)."""
        return [(self.b + p) / (self._keep[0] + k) for p, k in zip(self._pull, self._keep, strict=True)]

    @cached_property
    def mu(self) -> Real:
        """μ = min{ηλ_d, λ₁²/λ₂² − 1} of Lemma 14."""
        gap = (self.sharpness / self.eigenvalues[1]) ** 2 - 1
        return -self.n.largest([-self.eta * self.least, -gap])

    @cached_property
    def steps_lost(self) -> Real:
        """T₁ = 3β₁λ₁³/(ηβ_dλ_d⁴) of Lemma 14."""
        return 3 * self.beta[0] * self.sharpness**3 / (self.eta * self.beta[-1] * self.least**4)

    def norm(self, v: Sequence[Real]) -> Real:
        """‖v‖."""
        return norm(self.n, v)

    def gradient(self, w: Sequence[Real]) -> list[Real]:
        """v = Λw, the gradient at w."""
        return [x * y for x, y in zip(self.eigenvalues, w, strict=True)]

    def point(self, v: Sequence[Real]) -> list[Real]:
        """w = Λ⁻¹v, where the gradient is v."""
        return [x / y for x, y in zip(v, self.eigenvalues, strict=True)]

    def factors(self, size: Real) -> list[Real]:
        """1 − ηλᵢ − ηρλᵢ²/‖v‖, what the step multiplies vᵢ by."""
        inverse = 1 / size
        return [k - p * inverse for k, p in zip(self._keep, self._pull, strict=True)]

    def step(self, v: Sequence[Real]) -> list[Real]:
        """v_{t+1,i} = (1 − ηλᵢ − ηρλᵢ²/‖v_t‖) v_{t,i}."""
        return [m * x for m, x in zip(self.factors(self.norm(v)), v, strict=True)]

    def run(self, v: Sequence[Real], steps: int) -> list[list[Real]]:
        """v₀ … v_steps."""
        states = [list(v)]
        for _ in range(steps):
            states.append(self.step(states[-1]))
        return states

    def until_ball(self, v: Sequence[Real], limit: int) -> list[list[Real]]:
        """v₀ … v_{T₀}, T₀ the first step with ‖v‖ ≤ b; at most `limit` steps."""
        states = [list(v)]
        while self.n.less(self.b, self.norm(states[-1])) and len(states) <= limit:
            states.append(self.step(states[-1]))
        return states

    def potential(self, u: Sequence[Real]) -> Real:
        """J(u) = ½ Σ λᵢ²uᵢ²/βᵢ − ‖Λu‖ (Proposition 8)."""
        v = self.gradient(u)
        return sum((y * y / beta for y, beta in zip(v, self.beta, strict=True)), self.n.of(0)) / 2 - self.norm(v)

    def slope(self, u: Sequence[Real]) -> list[Real]:
        """∇J(u) = Cu − Λ²u/‖Λu‖."""
        size = self.norm(self.gradient(u))
        return [
            (2 - self.eta * x) / (self.eta * self.rho) * y - x * x * y / size
            for x, y in zip(self.eigenvalues, u, strict=True)
        ]

    def misalignment(self, v: Sequence[Real]) -> Real:
        """δ = 1 − |v₁|/‖v‖ (Definition 12), as Σ_{i≥2}vᵢ²/(‖v‖(‖v‖+|v₁|)), which does not cancel."""
        size = self.norm(v)
        rest = sum((x * x for x in v[1:]), self.n.of(0))
        return rest / (size * (size + abs(v[0])))

    def distance(self, v: Sequence[Real]) -> Real:
        """‖v − s β₁e₁‖, s = sign v₁: how far the gradient is from the cycle."""
        return self.norm([abs(v[0]) - self.beta[0], *v[1:]])

    def ratio(self, v: Sequence[Real]) -> Real:
        """Σ_{i≥2} vᵢ²/v₁²."""
        return sum((x * x for x in v[1:]), self.n.of(0)) / v[0] ** 2


def vector(at: Instance, n: Numbers, name: str = "v") -> list[Real]:
    """A tuple of the instance as numbers: v = ∇ℓ(w) unless another is named."""
    return [n.of(x) for x in at[name]]
