"""From a formula to the source of its four oracles.

The formula becomes a straight-line program, one operation a line, equal subexpressions once. SymPy
differentiates each operation; the chain rule runs over the program, backwards for the gradient and
forwards for the derivatives along a direction. So each oracle's length is a fixed multiple of the
formula's, where differentiating the whole expression would multiply it with every level of nesting:

- ``gradient``: reverse sweep;
- ``hvp``: derivative of the gradient's program along u;
- ``third``: the second derivative of the gradient's program along u, D³ℓ(u, u, ·).
"""

from __future__ import annotations

import math
from typing import Any

import sympy
from sympy.printing.pycode import PythonCodePrinter

from ravine.objectives.parsing import Formula, Number, Result, Term, Variable

# SymPy's own annotations contradict each other (an applied function is a type to them).
Expr = Any

_HEADER = '''
from __future__ import annotations

from math import atan, cos, cosh, exp, log, nan, sin, sinh, sqrt, tan, tanh

from numba import njit

DIMENSION = {dimension}


@njit(cache=True, nogil=True, error_model="numpy")
def log_slope(x):
    """The derivative of log x; not a number outside its domain."""
    return 1.0 / x if x > 0.0 else nan


@njit(cache=True, nogil=True, error_model="numpy")
def sign(x):
    """The derivative of |x|; not a number at the kink, where there is none."""
    if x > 0.0:
        return 1.0
    return -1.0 if x < 0.0 else nan


@njit(cache=True, nogil=True, error_model="numpy")
def kink(x):
    """The derivative of `sign`: zero, and not a number at the kink."""
    return 0.0 if x > 0.0 or x < 0.0 else nan
'''


class _reciprocal(sympy.Function):
    nargs = 1

    def fdiff(self, argindex: int = 1) -> Expr:
        return -(self**2)


class _log_slope(sympy.Function):
    nargs = 1

    def fdiff(self, argindex: int = 1) -> Expr:
        return -(self**2)


class _log(sympy.Function):
    """The logarithm, with a derivative on its domain only: SymPy's 1/x would lead an iterate across 0."""

    nargs = 1

    def fdiff(self, argindex: int = 1) -> Expr:
        return _log_slope(self.args[0])


class _kink(sympy.Function):
    nargs = 1

    def fdiff(self, argindex: int = 1) -> Expr:
        return self


class _sign(sympy.Function):
    nargs = 1

    def fdiff(self, argindex: int = 1) -> Expr:
        return _kink(self.args[0])


class _abs(sympy.Function):
    """|x| without SymPy's rewriting of it, which may lose the kink."""

    nargs = 1

    def fdiff(self, argindex: int = 1) -> Expr:
        return _sign(self.args[0])


def _inverse(x: Expr) -> Expr:
    return 1 / x if x.is_Number else _reciprocal(x)


_OPERATIONS = {
    "+": lambda x, y: x + y,
    "-": lambda x, y: x - y,
    "*": lambda x, y: x * y,
    "/": lambda x, y: x * _inverse(y),
    "**": lambda x, y: x**y if y >= 0 else _inverse(x) ** -y,
    "neg": lambda x: -x,
    "exp": sympy.exp,
    "log": _log,
    "sqrt": sympy.sqrt,
    "sin": sympy.sin,
    "cos": sympy.cos,
    "tan": sympy.tan,
    "tanh": sympy.tanh,
    "cosh": sympy.cosh,
    "sinh": sympy.sinh,
    "atan": sympy.atan,
    "abs": _abs,
}


class _Printer(PythonCodePrinter):
    """Python over bare function names; integer powers as products, which compile to multiplications."""

    _kf = {
        **{name: name for name in ("exp", "sin", "cos", "tan", "tanh", "cosh", "sinh", "atan")},
        "_log": "log",
        "_log_slope": "log_slope",
        "_sign": "sign",
        "_kink": "kink",
        "_abs": "abs",
    }

    def _print_Function(self, expr: Expr) -> str:
        return f"{self._kf[type(expr).__name__]}({self._print(expr.args[0])})"

    _print_exp = _print_sin = _print_cos = _print_tan = _print_Function
    _print_tanh = _print_cosh = _print_sinh = _print_atan = _print_Function
    _print__log = _print__log_slope = _print__sign = _print__kink = _print__abs = _print_Function

    def _print_Rational(self, expr: Expr) -> str:
        return repr(float(expr))

    _print_Integer = _print_Half = _print_One = _print_NegativeOne = _print_Zero = _print_Rational

    def _print__reciprocal(self, expr: Expr) -> str:
        return f"(1.0 / ({self._print(expr.args[0])}))"

    def _print_Pow(self, expr: Expr, rational: bool = False) -> str:
        base, exponent = f"({self._print(expr.base)})", expr.exp
        if exponent.is_Integer and exponent > 0:
            return f"({base}**{int(exponent)})"
        if exponent == sympy.Rational(1, 2):
            return f"sqrt{base}"
        if exponent == -sympy.Rational(1, 2):
            return f"(1.0 / sqrt{base})"
        return f"({base}**({float(exponent)!r}))"


class _Program:
    """Assignments ``symbol = operation``, each over earlier symbols, numbers and inputs."""

    def __init__(self) -> None:
        self.lines: dict[sympy.Symbol, Expr] = {}
        self._known: dict[Expr, sympy.Symbol] = {}
        self._count = 0

    def assign(self, operation: Expr) -> Expr:
        """The symbol that holds `operation`.

        What was computed before is not computed again, also inside `operation`: the derivative of
        exp(x) finds its exp(x). A multiple of a symbol stays as it is, so that ½·(2x) becomes x; for the
        same reason a common power of two is taken out of a sum, which rounds nothing.
        """
        operation = operation.xreplace(self._known)
        if operation.is_Add:
            content, rest = operation.as_content_primitive()
            if content != 1 and math.frexp(content.p)[0] == 0.5 and math.frexp(content.q)[0] == 0.5:
                return content * self.assign(rest)
        if operation.is_Number or operation.as_coeff_Mul()[1].is_Symbol:
            return operation
        if operation in self._known:
            return self._known[operation]
        symbol = sympy.Symbol(f"t{self._count}")
        self._count += 1
        self.lines[symbol] = operation
        self._known[operation] = symbol
        return symbol

    def needed(self, outputs: list[Expr]) -> dict[sympy.Symbol, Expr]:
        """The lines that the outputs depend on, in order."""
        alive = set().union(*(output.free_symbols for output in outputs))
        for symbol, operation in reversed(self.lines.items()):
            if symbol in alive:
                alive |= operation.free_symbols
        return {symbol: operation for symbol, operation in self.lines.items() if symbol in alive}

    def prune(self, outputs: list[Expr]) -> None:
        """Drop the lines that the outputs do not depend on."""
        self.lines = self.needed(outputs)
        self._known = {operation: symbol for symbol, operation in self.lines.items()}


def _forward(formula: Formula, inputs: list[sympy.Symbol]) -> tuple[_Program, Expr]:
    program = _Program()
    results: list[Expr] = []

    def read(term: Term) -> Expr:
        match term:
            case Number(value):
                # The float's exact value: SymPy then folds constants without rounding.
                return sympy.Rational(value)
            case Variable(index):
                return inputs[index]
            case Result(index):
                return results[index]

    for operation in formula.operations:
        value = _OPERATIONS[operation.name](*(read(argument) for argument in operation.arguments))
        results.append(program.assign(value))
    return program, read(formula.result)


def _gradient(program: _Program, output: Expr, inputs: list[sympy.Symbol]) -> list[Expr]:
    """Append the reverse sweep to `program`; return the derivative of `output` by each input."""
    adjoint: dict[sympy.Symbol, Expr] = {symbol: output.coeff(symbol) for symbol in output.free_symbols}
    for symbol, operation in reversed(list(program.lines.items())):
        outer = adjoint.get(symbol)
        if outer is None:
            continue
        for argument in sorted(operation.free_symbols, key=str):
            inner = program.assign(sympy.diff(operation, argument))
            term = program.assign(outer * inner)
            adjoint[argument] = program.assign(adjoint.get(argument, sympy.Integer(0)) + term)
    return [adjoint.get(symbol, sympy.Integer(0)) for symbol in inputs]


def _derivatives_along(
    program: _Program, outputs: list[Expr], direction: dict[sympy.Symbol, sympy.Symbol]
) -> list[Expr]:
    """Append the derivative of every line along `direction`; return that of the outputs."""
    tangent: dict[sympy.Symbol, Expr] = dict(direction)
    for symbol, operation in list(program.lines.items()):
        total: Expr = sympy.Integer(0)
        for argument in sorted(operation.free_symbols, key=str):
            if tangent.get(argument, 0) != 0:
                inner = program.assign(sympy.diff(operation, argument))
                total = program.assign(total + program.assign(inner * tangent[argument]))
        tangent[symbol] = total
    return [
        sum((output.coeff(symbol) * tangent.get(symbol, 0) for symbol in output.free_symbols), sympy.Integer(0))
        for output in outputs
    ]


def _function(signature: str, prologue: list[str], program: _Program, outputs: list[Expr], epilogue: list[str]) -> str:
    printer = _Printer()
    lines = [f"{symbol} = {printer.doprint(operation)}" for symbol, operation in program.needed(outputs).items()]
    lines += [text.format(printer.doprint(output)) for text, output in zip(epilogue, outputs, strict=True)]
    body = "\n".join("    " + line for line in prologue + lines)
    return f'\n\n@njit(cache=True, nogil=True, error_model="numpy")\ndef {signature}:\n{body}\n'


def oracles(formula: Formula) -> str:
    """Source text of ``value(w, data)``, and of ``gradient``, ``hvp`` and ``third`` that write to ``out``."""
    dimension = len(formula.variables)
    inputs = [sympy.Symbol(f"w{k}") for k in range(dimension)]
    ways = [sympy.Symbol(f"u{k}") for k in range(dimension)]
    read = [f"{symbol} = w[{k}]" for k, symbol in enumerate(inputs)]
    read_both = read + [f"{symbol} = u[{k}]" for k, symbol in enumerate(ways)]
    write = [f"out[{k}] = {{}}" for k in range(dimension)]

    program, output = _forward(formula, inputs)
    text = _HEADER.format(dimension=dimension)
    text += _function("value(w, data)", read, program, [output], ["return {}"])
    gradient = _gradient(program, output, inputs)
    text += _function("gradient(w, data, out)", read, program, gradient, write)
    # Dead lines would be differentiated too.
    program.prune(gradient)
    direction = dict(zip(inputs, ways, strict=True))
    product = _derivatives_along(program, gradient, direction)
    text += _function("hvp(w, u, data, out)", read_both, program, product, write)
    program.prune(product)
    third = _derivatives_along(program, product, direction)
    text += _function("third(w, u, data, out)", read_both, program, third, write)
    return text
