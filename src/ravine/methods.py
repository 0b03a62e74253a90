"""How an iterate moves: one frozen dataclass a rule, each with one pure step."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from array_api_compat import array_namespace

Array = Any
Gradient = Callable[[Array], Array]


def gradient_norm(g: Array) -> float:
    """‖g‖, right also where the sum of squares would overflow or vanish."""
    xp = array_namespace(g)
    largest = float(xp.max(xp.abs(g)))
    if largest == 0.0 or not math.isfinite(largest):
        return largest
    return largest * float(xp.linalg.vector_norm(g / largest))


def _check(name: str, value: float, admissible: Callable[[float], bool], cure: str) -> None:
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not (math.isfinite(value) and admissible(value))
    ):
        raise ValueError(f"{name} = {value!r}: {cure}")


@dataclass(frozen=True, kw_only=True)
class Method(ABC):
    """An update rule w ← w − ηb, b ← mb + d: heavy ball over a descent direction d.

    Attributes
    ----------
    eta
        Step size η > 0, in units of 1/λ.
    momentum
        Heavy-ball coefficient m in [0, 1).

    Examples
    --------
    >>> import ravine as rv
    >>> rule = rv.SAM(eta=0.1, rho=0.05, momentum=0.9)
    >>> rule, isinstance(rule, rv.Method)
    (SAM(eta=0.1, momentum=0.9, rho=0.05), True)
    """

    name: ClassVar[str]
    eta: float
    momentum: float = 0.0

    def __post_init__(self) -> None:
        _check("eta", self.eta, lambda eta: eta > 0, "the step size must be a positive number")
        _check("momentum", self.momentum, lambda m: 0 <= m < 1, "the momentum must lie in [0, 1)")

    @abstractmethod
    def descent(self, grad: Gradient, w: Array, g: Array) -> Array:
        """The direction d at w, where g = ∇ℓ(w)."""

    def step(
        self, grad: Gradient, w: Array, g: Array, velocity: Array, noise: Array | None = None
    ) -> tuple[Array, Array]:
        """One step from w: the next iterate and the next velocity b.

        Parameters
        ----------
        grad
            ∇ℓ, called at the points that the rule needs besides w.
        w, g, velocity
            The iterate, ∇ℓ(w), and b, each of shape (d,); b starts at zero.
        noise
            What is added to the direction; for `SGD`, the sample.
        """
        direction = self.descent(grad, w, g)
        if noise is not None:
            direction = direction + noise
        velocity = self.momentum * velocity + direction
        return w - self.eta * velocity, velocity


@dataclass(frozen=True, kw_only=True)
class GD(Method):
    """Gradient descent, w ← w − η∇ℓ(w).

    Examples
    --------
    >>> import ravine as rv
    >>> run = rv.trajectory(rv.quadratic([1.0]), rv.GD(eta=0.5), start=[1.0], steps=3)
    >>> run["w"].values.ravel().tolist()
    [1.0, 0.5, 0.25, 0.125]
    """

    name: ClassVar[str] = "gd"

    def descent(self, grad: Gradient, w: Array, g: Array) -> Array:
        return g


@dataclass(frozen=True, kw_only=True)
class SGD(Method):
    """Gradient descent with noise, w ← w − η(∇ℓ(w) + σξ), ξ ~ 𝒩(0, I): Figure 5 of arXiv 2210.01513.

    Attributes
    ----------
    sigma
        The noise's scale σ ≥ 0, in units of the gradient.

    Examples
    --------
    >>> import ravine as rv
    >>> run = rv.trajectory(rv.quadratic([1.0]), rv.SGD(eta=0.5, sigma=0.1), start=[1.0], steps=3, seed=1)
    >>> run["sigma"].values
    array([0.1])
    """

    name: ClassVar[str] = "sgd"
    sigma: float

    def __post_init__(self) -> None:
        super().__post_init__()
        _check("sigma", self.sigma, lambda sigma: sigma >= 0, "the noise's scale must be a number ≥ 0")

    def descent(self, grad: Gradient, w: Array, g: Array) -> Array:
        return g


@dataclass(frozen=True, kw_only=True)
class SAM(Method):
    """Sharpness-aware minimization, w ← w − η∇ℓ(w + ρ∇ℓ(w)/‖∇ℓ(w)‖).

    Foret et al. 2021 (arXiv 2010.01412); equation (2) of arXiv 2210.01513. At ∇ℓ(w) = 0 the rule is undefined;
    the iterate then stays where it is, and the Run says so. ρ = 0 is gradient descent.

    Attributes
    ----------
    rho
        The neighbourhood's radius ρ ≥ 0, in units of ‖w‖.

    Examples
    --------
    >>> import ravine as rv
    >>> run = rv.trajectory(rv.quadratic([1.0]), rv.SAM(eta=0.2, rho=1.0), start=[1.0], steps=100)
    >>> abs(run["w"].values[0, -2:, 0]).round(6)  # it bounces at ηρ/(2−η)
    array([0.111111, 0.111111])
    """

    name: ClassVar[str] = "sam"
    rho: float

    def __post_init__(self) -> None:
        super().__post_init__()
        _check("rho", self.rho, lambda rho: rho >= 0, "the radius must be a number ≥ 0")

    def descent(self, grad: Gradient, w: Array, g: Array) -> Array:
        norm = gradient_norm(g)
        # g/‖g‖ first: ρ/‖g‖ overflows where ‖g‖ is tiny.
        return g if self.rho == 0 or norm == 0 else grad(w + self.rho * (g / norm))


@dataclass(frozen=True, kw_only=True)
class USAM(Method):
    """SAM without normalization, w ← w − η∇ℓ(w + ρ∇ℓ(w)).

    Andriushchenko and Flammarion 2022 (arXiv 2206.06232).

    Attributes
    ----------
    rho
        The ascent's step ρ ≥ 0, in units of 1/λ.

    Examples
    --------
    >>> import ravine as rv
    >>> run = rv.trajectory(rv.quadratic([1.0]), rv.USAM(eta=0.2, rho=1.0), start=[1.0], steps=2)
    >>> run["w"].values.ravel().round(12).tolist()  # by a factor 1 − ηλ(1 + ρλ) a step
    [1.0, 0.6, 0.36]
    """

    name: ClassVar[str] = "usam"
    rho: float

    def __post_init__(self) -> None:
        super().__post_init__()
        _check("rho", self.rho, lambda rho: rho >= 0, "the ascent step must be a number ≥ 0")

    def descent(self, grad: Gradient, w: Array, g: Array) -> Array:
        return g if self.rho == 0 else grad(w + self.rho * g)


METHODS: dict[str, type[Method]] = {method.name: method for method in (GD, SGD, SAM, USAM)}
