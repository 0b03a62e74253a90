"""Where admissible instances come from: one sampler a statement, fed by a stream of numbers in [0, 1].

The stream is random for breadth, Hypothesis's for odd shapes, and a point of the unit cube for an optimiser. Numbers
are drawn with three digits, so that an instance can be read, and checked by hand.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Instance = dict[str, Any]


def digits(value: float, count: int = 3) -> float:
    """`value` to `count` significant decimal digits."""
    return float(f"{value:.{count - 1}e}")


class Draw:
    """A source of instances: units in [0, 1], and the parameters that the user has fixed.

    Attributes
    ----------
    used
        How many units have been drawn: the dimension of the search cube.
    """

    def __init__(self, units: Iterator[float], given: Mapping[str, Any] | None = None) -> None:
        self._units = units
        self.given = dict(given or {})
        self.used = 0

    def unit(self) -> float:
        """The next number in [0, 1]; 1/2 when the stream has run dry."""
        self.used += 1
        return next(self._units, 0.5)

    def uniform(self, name: str, low: float, high: float) -> float:
        """A number in [low, high], or what the user gave for it."""
        unit = self.unit()
        return float(self.given[name]) if name in self.given else digits(low + (high - low) * unit)

    def log(self, name: str, low: float, high: float) -> float:
        """A number in [low, high], uniform in its logarithm, or what the user gave for it."""
        unit = self.unit()
        return float(self.given[name]) if name in self.given else digits(low * (high / low) ** unit)

    def integer(self, name: str, low: int, high: int) -> int:
        """An integer in [low, high], or what the user gave for it."""
        unit = self.unit()
        return int(self.given[name]) if name in self.given else min(high, low + int((high - low + 1) * unit))

    def pick(self, options: Sequence[Any]) -> Any:
        """One of `options`."""
        return options[min(len(options) - 1, int(len(options) * self.unit()))]

    def signed(self, low: float = 1e-3) -> float:
        """A number in ±[low, 1], uniform in the logarithm of its size."""
        unit = self.unit()
        side, place = (-1.0, 1 - 2 * unit) if unit < 0.5 else (1.0, 2 * unit - 1)
        return side * digits(low ** (1 - place))


def spectrum(
    draw: Draw, *, most: int = 4, least: int = 2, condition: float = 30.0, ties: bool = False, scale: float = 100.0
) -> tuple[float, ...]:
    """Eigenvalues λ₁ > λ₂ ≥ … ≥ λ_d > 0, λ₁/λ_d ≤ `condition`; with `ties`, λ₁ = λ₂ now and then."""
    size, top = draw.integer("", least, most), draw.log("", 1 / scale, scale)
    shares = [draw.unit() for _ in range(most - 1)]
    tie = ties and draw.unit() < 0.5
    if "lam" in draw.given:
        return tuple(draw.given["lam"])
    shrink = sorted(condition ** -(0.002 + 0.998 * share) for share in shares[: size - 1])[::-1]
    values = [top, *(digits(top * factor, 4) for factor in shrink)]
    if tie and size > 1:
        values[1] = top
    return tuple(values)


def quadratic(
    draw: Draw, *, step: tuple[float, float] = (0.01, 0.49), scale: float = 100.0, **options: Any
) -> Instance:
    """A quadratic loss and SAM's parameters: λ, η with ηλ₁ in the range `step`, ρ."""
    lam = spectrum(draw, scale=scale, **options)
    portion = draw.unit()
    eta = digits((step[0] + (step[1] - step[0]) * portion) / lam[0])
    rho = draw.log("rho", 1 / scale, scale)
    return {"lam": lam, "eta": float(draw.given.get("eta", eta)), "rho": rho}


def given_gradient(draw: Draw, at: Instance) -> tuple[float, ...] | None:
    """Λw₀ of the start that the user gave, if any.

    Raises
    ------
    ValueError
        If it has another length than the eigenvalues.
    """
    if "start" not in draw.given:
        return None
    if len(draw.given["start"]) != len(at["lam"]):
        raise ValueError(f"start: give {len(at['lam'])} numbers, one for each eigenvalue")
    return tuple(lam * w for lam, w in zip(at["lam"], draw.given["start"], strict=True))


def gradient(draw: Draw, at: Instance, low: float, high: float, *, zeros: bool = False) -> tuple[float, ...]:
    """v = Λw with ‖v‖ about b = ηρλ₁² times a number in [low, high]; with `zeros`, some coordinate 0 at times."""
    size = len(at["lam"])
    b = at["eta"] * at["rho"] * at["lam"][0] ** 2
    length = draw.log("", low, high) * b
    shape = [draw.signed() for _ in range(size)]
    dropped = zeros and size > 1 and draw.unit() < 0.3
    given = given_gradient(draw, at)
    if given is not None:
        return given
    if dropped:
        shape[-1] = 0.0
    whole = math.sqrt(sum(x * x for x in shape))
    return tuple(digits(length * x / whole) for x in shape)
