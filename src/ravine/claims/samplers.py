"""Where admissible instances come from: one sampler a statement, fed by a stream of numbers in [0, 1].

The stream is random for breadth, Hypothesis's for odd shapes, and a point of the unit cube for an optimizer. Numbers
are drawn with three digits, so that an instance can be read, and checked by hand.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Instance = dict[str, Any]

# The parameters that a user may fix.
GIVEN = ("eigenvalues", "eta", "rho", "start", "eps")

# A start so far away, and so aligned, that the descent outlasts every count from step 0.
REMOTE: Instance = {"eigenvalues": (1.0, 0.9), "eta": 0.49, "rho": 1.0, "v": (1e60, 1e42)}
# Misaligned at T₀ ≈ 400, when the counts of Lemma 14 and (11) have run out.
REMOTER: Instance = REMOTE | {"v": (1e100, 1e88), "eps": 0.1}


def digits(value: float, count: int = 3) -> float:
    """`value` to `count` significant decimal digits."""
    return float(f"{value:.{count - 1}e}")


class Draw:
    """A source of instances: units in [0, 1], and the parameters that the user has fixed.

    Attributes
    ----------
    given
        Parameters by name (`eigenvalues`, `eta`, `rho`, `start`, `eps`, …) that no draw changes.
    used
        How many units have been drawn: the dimension of the search cube.

    Examples
    --------
    >>> from ravine.claims.samplers import Draw
    >>> draw = Draw(iter([0.0, 1.0]), {"rho": 2.0})
    >>> draw.uniform("eta", 0.1, 0.4), draw.log("rho", 0.01, 100), draw
    (0.1, 2.0, Draw(2 units used; given rho))
    """

    def __init__(self, units: Iterator[float], given: Mapping[str, Any] | None = None) -> None:
        self._units = units
        self.given = dict(given or {})
        self.used = 0

    def __repr__(self) -> str:
        return f"Draw({self.used} units used; given {', '.join(self.given) or 'nothing'})"

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


def spectrum(draw: Draw, *, condition: float, ties: bool, scale: float) -> tuple[float, ...]:
    """Two to four eigenvalues λ₁ > λ₂ ≥ … ≥ λ_d > 0, λ₁/λ_d ≤ `condition`; with `ties`, λ₁ = λ₂ now and then."""
    size, sharpness = draw.integer("", 2, 4), draw.log("", 1 / scale, scale)
    shares = [draw.unit() for _ in range(3)]
    tie = ties and draw.unit() < 0.5
    if "eigenvalues" in draw.given:
        return tuple(draw.given["eigenvalues"])
    shrink = sorted(condition ** -(0.002 + 0.998 * share) for share in shares[: size - 1])[::-1]
    values = [sharpness, *(digits(sharpness * factor, 4) for factor in shrink)]
    if tie and size > 1:
        values[1] = sharpness
    return tuple(values)


def quadratic(
    draw: Draw,
    *,
    step: tuple[float, float] = (0.01, 0.49),
    condition: float = 30.0,
    ties: bool = False,
    scale: float = 100.0,
) -> Instance:
    """A quadratic loss and SAM's parameters: λ, η with ηλ₁ in the range `step`, ρ."""
    eigenvalues = spectrum(draw, condition=condition, ties=ties, scale=scale)
    portion = draw.unit()
    eta = digits((step[0] + (step[1] - step[0]) * portion) / eigenvalues[0])
    rho = draw.log("rho", 1 / scale, scale)
    return {"eigenvalues": eigenvalues, "eta": float(draw.given.get("eta", eta)), "rho": rho}


def given_gradient(draw: Draw, at: Instance) -> tuple[float, ...] | None:
    """Λw₀ of the start that the user gave, if any.

    Raises
    ------
    ValueError
        If it has another length than the eigenvalues.
    """
    if "start" not in draw.given:
        return None
    if len(draw.given["start"]) != len(at["eigenvalues"]):
        raise ValueError(f"start: give {len(at['eigenvalues'])} numbers, one for each eigenvalue")
    return tuple(x * w for x, w in zip(at["eigenvalues"], draw.given["start"], strict=True))


def gradient(draw: Draw, at: Instance, low: float, high: float, *, zeros: bool = False) -> tuple[float, ...]:
    """v = Λw with ‖v‖ about b = ηρλ₁² times a number in [low, high]; with `zeros`, some coordinate 0 at times."""
    size = len(at["eigenvalues"])
    b = at["eta"] * at["rho"] * at["eigenvalues"][0] ** 2
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


def run(draw: Draw) -> Instance:
    """A quadratic with λ₁ > λ₂ and v, ‖v‖ from b/100 to 100b."""
    at = quadratic(draw)
    return at | {"v": gradient(draw, at, 0.01, 100)}


def run_with_ties(draw: Draw) -> Instance:
    """The same with ties and zero coordinates."""
    at = quadratic(draw, ties=True)
    return at | {"v": gradient(draw, at, 0.01, 100, zeros=True)}


def remote(draw: Draw) -> Instance:
    """Starts up to 10¹⁰⁰b away, spectra of small condition: there the counts can be simulated to their end."""
    at = quadratic(draw, step=(0.2, 0.49), condition=1.6)
    b = at["eta"] * at["rho"] * at["eigenvalues"][0] ** 2
    length = b * 10 ** digits(draw.pick([0.0, 1.0, 10.0, 100.0]) * draw.unit() - 0.5)
    shape = [1.0, *(draw.signed(1e-30) for _ in at["eigenvalues"][1:])]
    size = math.hypot(*shape)
    return at | {"v": given_gradient(draw, at) or tuple(digits(length * x / size) for x in shape)}
