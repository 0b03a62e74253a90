"""Two ways to a proof: an identity that SymPy reduces to zero, an inequality that balls cover piece by piece."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ravine.claims.numbers import rational
from ravine.extras import require


class Unproved(ArithmeticError):  # noqa: N818 (it is an outcome)
    """A proof that did not go through."""


def identities(*pairs: tuple[Any, Any]) -> str:
    """Reduce every left − right to zero.

    Raises
    ------
    Unproved
        If one does not reduce.
    """
    import sympy

    for left, right in pairs:
        rest = sympy.simplify(sympy.together(sympy.sympify(left) - sympy.sympify(right)))
        if rest != 0:
            raise Unproved(f"{left} − ({right}) leaves {rest}")
    return f"SymPy reduces {'an identity' if len(pairs) == 1 else f'{len(pairs)} identities'} to 0"


def coefficients_positive(expression: Any, *symbols: Any) -> str:
    """Show a polynomial positive for positive symbols: no coefficient is negative, and one is not zero.

    Raises
    ------
    Unproved
        If a coefficient is negative.
    """
    import sympy

    terms = sympy.Poly(sympy.expand(expression), *symbols).coeffs()
    if not terms or any(term < 0 for term in terms):
        raise Unproved(f"{expression} has a negative coefficient")
    return "SymPy expands a polynomial without negative coefficients"


def positive_on(f: Callable[..., Any], box: Sequence[tuple[Any, Any]], limit: int = 20000) -> str:
    """Show f > 0 on a box of rational bounds: balls over its pieces, halved until each is decided.

    Raises
    ------
    Unproved
        If a piece is certainly not positive, or `limit` pieces do not suffice.
    """
    flint = require("flint", "certify")
    half = flint.fmpq(1, 2)
    pieces = [[(flint.fmpq(*_ratio(low)), flint.fmpq(*_ratio(high))) for low, high in box]]
    done = 0
    while pieces:
        piece = pieces.pop()
        done += 1
        if done > limit:
            raise Unproved(f"{limit} pieces were not enough")
        value = f(*(flint.arb((low + high) * half, flint.arb((high - low) * half).upper()) for low, high in piece))
        if value > 0:
            continue
        if value <= 0:
            raise Unproved(f"not positive on {piece}")
        widest = max(range(len(piece)), key=lambda k: piece[k][1] - piece[k][0])
        low, high = piece[widest]
        for part in ((low, (low + high) * half), ((low + high) * half, high)):
            pieces.append([*piece[:widest], part, *piece[widest + 1 :]])  # noqa: PERF401 (read as halves)
    return f"balls cover a compact range in {done} pieces"


def _ratio(value: Any) -> tuple[int, int]:
    exact = rational(value)
    return exact.numerator, exact.denominator
