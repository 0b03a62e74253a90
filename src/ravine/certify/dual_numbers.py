"""Dual numbers over balls, and SAM's step on Section 6's loss in them: derivatives without formulas for them."""

from __future__ import annotations

from typing import Any


class Dual:
    """A value with its two partial derivatives, `slope`.

    Examples
    --------
    >>> from ravine.certify.dual_numbers import Dual
    >>> x, y = Dual(3.0, 1, 0), Dual(2.0, 0, 1)
    >>> (x * y).value, (x * y).slope
    (6.0, (2.0, 3.0))
    """

    def __init__(self, value: Any, x: Any = 0, y: Any = 0) -> None:
        self.value, self.slope = value, (x, y)

    def __repr__(self) -> str:
        return f"Dual({self.value}, slope = {self.slope})"

    def __add__(self, other: Any) -> Dual:
        other = other if isinstance(other, Dual) else Dual(other)
        return Dual(self.value + other.value, *(a + b for a, b in zip(self.slope, other.slope, strict=True)))

    def __mul__(self, other: Any) -> Dual:
        other = other if isinstance(other, Dual) else Dual(other)
        pairs = zip(self.slope, other.slope, strict=True)
        return Dual(self.value * other.value, *(a * other.value + self.value * b for a, b in pairs))

    def map(self, value: Any, derivative: Any) -> Dual:
        """A function of this number, from its value and its derivative here."""
        return Dual(value, *(a * derivative for a in self.slope))

    def inverse(self) -> Dual:
        """1/x."""
        return self.map(1 / self.value, -1 / self.value**2)

    def sqrt(self) -> Dual:
        """√x."""
        root = self.value.sqrt()
        return self.map(root, 1 / (2 * root))


def sam_step(x: Dual, y: Dual, eta: Any, rho: Any) -> tuple[Dual, Dual]:
    """A step of SAM on w₁²/(1+w₂²/2) + w₂²/2 from (x, y)."""

    def gradient(p: Dual, q: Dual) -> tuple[Dual, Dual]:
        share = p * (q * q * (eta / eta / 2) + 1).inverse()
        return share * 2, q + q * share * share * -1

    g = gradient(x, y)
    scale = (g[0] * g[0] + g[1] * g[1]).sqrt().inverse() * rho
    g = gradient(x + g[0] * scale, y + g[1] * scale)
    return x + g[0] * -eta, y + g[1] * -eta
