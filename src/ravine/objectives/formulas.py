"""A loss from a formula: parsed safely, differentiated by SymPy, compiled by Numba."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from ravine import generated
from ravine.objectives.objective import Array, CompiledOracles, Objective
from ravine.objectives.parsing import parse

_NO_DATA = np.empty((1, 0))


class Expression(Objective):
    """The loss that a formula describes; see `expression`.

    Examples
    --------
    >>> import ravine as rv
    >>> loss = rv.expression("w1**2/(1+w2**2/2) + w2**2/2")
    >>> loss
    <Expression: w1**2/(1+w2**2/2) + w2**2/2>
    >>> loss.grad([1.0, 0.0])
    array([2., 0.])
    """

    def __init__(self, formula: str, variables: Sequence[str] | None = None) -> None:
        self.formula = formula
        self._parsed = parse(formula, variables)

    @property
    def variables(self) -> tuple[str, ...]:
        """The coordinates' names, in order."""
        return self._parsed.variables

    @property
    def dimension(self) -> int:
        return len(self._parsed.variables)

    @property
    def description(self) -> str:
        return " ".join(self.formula.split())

    @cached_property
    def _source(self) -> str:
        # SymPy is imported only for a formula that no earlier process has met.
        rules = Path(__file__).with_name("derive.py").read_text(encoding="utf-8")
        return generated.remembered(generated.digest("oracles", repr(self._parsed), rules), self._derive)

    def _derive(self) -> str:
        from ravine.objectives import derive

        return derive.oracles(self._parsed)

    @property
    def compiled(self) -> CompiledOracles:
        return CompiledOracles(self._source, _NO_DATA)

    def value(self, w: Array) -> float:
        return float(generated.load(self._source).value(self.point(w), _NO_DATA))

    def grad(self, w: Array) -> np.ndarray:
        return self._derivative(generated.load(self._source).gradient, self.point(w))

    def hvp(self, w: Array, u: Array) -> np.ndarray:
        return self._derivative(generated.load(self._source).hvp, self.point(w), self.point(u, "u"))

    def third(self, w: Array, u: Array) -> np.ndarray:
        return self._derivative(generated.load(self._source).third, self.point(w), self.point(u, "u"))

    def _derivative(self, function: Callable[..., None], *points: np.ndarray) -> np.ndarray:
        out = np.empty(self.dimension)
        function(*points, _NO_DATA, out)
        if np.isnan(out).any():
            raise ValueError(
                f"w = {points[0].tolist()}: {self.description!r:.80} has no such derivative there "
                "(a kink of abs, or outside the domain of log, sqrt or a power); move the point"
            )
        return out


def expression(formula: str, variables: Sequence[str] | None = None) -> Expression:
    """The loss that a formula describes.

    Parameters
    ----------
    formula
        Numbers, names, ``+ - * / **``, unary minus, parentheses, pi, and the functions exp, log, sqrt, sin,
        cos, tan, tanh, cosh, sinh, atan and abs, such as ``"w1**2/(1+w2**2/2) + w2**2/2"``. It is never
        evaluated as code. Bounds: 1000 characters, 60 levels, 100 variables, exponents up to 64.
    variables
        The coordinates' names in order; by default ``w1, w2, …``.

    Returns
    -------
    Expression
        An `Objective`. Its derivatives raise `ValueError` where they do not exist.

    Raises
    ------
    FormulaError
        A `ValueError` that names the character at which the text stops being a formula.
    """
    return Expression(formula, variables)
