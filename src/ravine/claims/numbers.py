"""The arithmetics a claim can be evaluated in: floats to search, balls and fractions to decide.

A claim is written once, over `Numbers`. An instance's numbers are the decimals that it shows: balls and fractions
read them as the exact rationals they spell, not as the nearest doubles.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Any, Protocol

from ravine.extras import require

Real = Any  # float, Fraction or flint.arb, by the arithmetic in use


class Undecided(ArithmeticError):  # noqa: N818 (an outcome that a higher precision mends)
    """A comparison that the precision in use cannot settle."""


class Numbers(Protocol):
    """What claims ask of an arithmetic besides + − × ÷."""

    def of(self, value: Any, /) -> Real:
        """The number that `value` spells."""

    def sqrt(self, x: Real, /) -> Real:
        """√x."""

    def log(self, x: Real, /) -> Real:
        """Natural logarithm."""

    def exp(self, x: Real, /) -> Real:
        """eˣ."""

    def lgamma(self, x: Real, /) -> Real:
        """log Γ(x)."""

    def pi(self) -> Real:
        """π."""

    def less(self, a: Real, b: Real, /) -> bool:
        """Whether a < b; raises `Undecided` where that is open."""
        ...

    def largest(self, values: Iterable[Real], /) -> Real:
        """max."""

    def ceil(self, x: Real, /) -> int:
        """⌈x⌉; raises `Undecided` where that is open."""
        ...


def smallest(n: Numbers, values: Iterable[Real]) -> Real:
    """min, from the arithmetic's max."""
    return -n.largest([-value for value in values])


def plus(n: Numbers, x: Real) -> Real:
    """[x]₊ = max(x, 0)."""
    return n.largest([x, n.of(0)])


def is_zero(x: Real) -> bool:
    """Whether x is 0, certainly: a ball that holds more is not."""
    return bool(x == 0)


def norm(n: Numbers, values: Iterable[Real]) -> Real:
    """Euclidean norm."""
    return n.sqrt(sum((x * x for x in values), n.of(0)))


class Floats:
    """Double precision: fast, decides nothing."""

    of = staticmethod(float)
    log = staticmethod(math.log)
    exp = staticmethod(math.exp)
    lgamma = staticmethod(math.lgamma)
    ceil = staticmethod(math.ceil)

    @staticmethod
    def largest(values: Iterable[Real], /) -> Real:
        return max(values)

    @staticmethod
    def pi() -> float:
        return math.pi

    @staticmethod
    def sqrt(x: float) -> float:
        return math.sqrt(x) if x > 0 else 0.0  # a sum of squares that rounding sent below 0

    @staticmethod
    def less(a: float, b: float) -> bool:
        return a < b


class Exact:
    """Fractions, with square roots where they are rational: settles equalities that no ball can."""

    @staticmethod
    def of(value: Any) -> Fraction:
        return rational(value)

    @staticmethod
    def sqrt(x: Fraction) -> Fraction:
        root = Fraction(math.isqrt(x.numerator), math.isqrt(x.denominator))
        if x < 0 or root * root != x:
            raise Undecided("an irrational square root")
        return root

    @staticmethod
    def log(x: Fraction) -> Fraction:
        raise Undecided("a transcendental function")

    exp = log
    lgamma = log

    @staticmethod
    def pi() -> Fraction:
        raise Undecided("π")

    ceil = staticmethod(math.ceil)

    @staticmethod
    def largest(values: Iterable[Real], /) -> Real:
        return max(values)

    @staticmethod
    def less(a: Fraction, b: Fraction) -> bool:
        return a < b


class Balls:
    """Real balls of python-flint at the precision in force: every result holds its true value."""

    def __init__(self) -> None:
        self._flint = require("flint", "certify")

    def of(self, value: Any) -> Real:
        exact = rational(value)
        return self._flint.arb(self._flint.fmpq(exact.numerator, exact.denominator))

    def sqrt(self, x: Real) -> Real:
        return x.nonnegative_part().sqrt()

    def log(self, x: Real) -> Real:
        return x.log()

    def exp(self, x: Real) -> Real:
        return x.exp()

    def lgamma(self, x: Real) -> Real:
        return self._flint.arb(x).lgamma()

    def pi(self) -> Real:
        return self._flint.arb.pi()

    def less(self, a: Real, b: Real) -> bool:
        if a < b:
            return True
        if a >= b:
            return False
        raise Undecided("two balls overlap")

    def largest(self, values: Iterable[Real]) -> Real:
        best: Real = None
        for value in values:
            best = value if best is None else best.max(value)
        return best

    def ceil(self, x: Real) -> int:
        integer = x.ceil().unique_fmpz()
        if integer is None:
            raise Undecided("a ball holds an integer")
        return int(integer)


@contextmanager
def precision(bits: int) -> Iterator[None]:
    """Ball arithmetic at `bits` bits inside the block."""
    context = require("flint", "certify").ctx
    before, context.prec = context.prec, bits
    try:
        yield
    finally:
        context.prec = before


def rational(value: Any) -> Fraction:
    """The rational number that a float's shortest decimal spells; ints and fractions as they are."""
    return Fraction(repr(value)) if isinstance(value, float) else Fraction(value)
