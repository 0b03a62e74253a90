"""A formula, read as data: Python's grammar, a whitelist of its nodes, and bounds on size.

Nothing is evaluated. The text becomes a list of operations, each over variables, numbers and earlier
results; everything else is refused with the place where it stands. Constants are folded in floating
point, so that ``9**9**9`` is a number too large and not an hour of exact arithmetic.
"""

from __future__ import annotations

import ast
import math
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

MAX_LENGTH = 1000
MAX_DEPTH = 60
MAX_VARIABLES = 100
MAX_EXPONENT = 64

CONSTANTS = {"pi": math.pi}
FUNCTIONS: dict[str, Callable[[float], float]] = {
    "exp": math.exp,
    "log": math.log,
    "sqrt": math.sqrt,
    "sin": math.sin,
    "cos": math.cos,
    "tan": math.tan,
    "tanh": math.tanh,
    "cosh": math.cosh,
    "sinh": math.sinh,
    "atan": math.atan,
    "abs": abs,
}
_BINARY: dict[type[ast.operator], tuple[str, Callable[[float, float], float]]] = {
    ast.Add: ("+", lambda x, y: x + y),
    ast.Sub: ("-", lambda x, y: x - y),
    ast.Mult: ("*", lambda x, y: x * y),
    ast.Div: ("/", lambda x, y: x / y),
    ast.Pow: ("**", lambda x, y: x**y),
}
_NUMBERED = re.compile(r"w([1-9][0-9]*)")
_LOOKALIKES = {"^": "**", "×": "*", "·": "*", "−": "-", "–": "-", "÷": "/", "²": "**2", "³": "**3"}
_FOREIGN: dict[type[ast.AST], str] = {
    ast.Attribute: "an attribute",
    ast.Subscript: "a subscript",
    ast.Lambda: "a lambda",
    ast.Compare: "a comparison",
    ast.BoolOp: "a logical operator",
    ast.IfExp: "a conditional",
    ast.List: "a list",
    ast.Tuple: "a tuple",
    ast.Dict: "a dictionary",
    ast.Set: "a set",
    ast.NamedExpr: "an assignment",
    ast.JoinedStr: "a string",
    ast.Starred: "a star",
    ast.Await: "an await",
}


class FormulaError(ValueError):
    """A formula that is not one; ``position`` is the offending character's index, from 0.

    Examples
    --------
    >>> import ravine as rv
    >>> try:
    ...     rv.expression("w1 + sgn(w1)")
    ... except rv.FormulaError as error:
    ...     print(error.position)
    5
    """

    def __init__(self, formula: str, position: int, reason: str) -> None:
        self.position = position
        start, stop = max(0, position - 20), position + 20
        excerpt = ("…" if start else "") + formula[start:stop] + ("…" if stop < len(formula) else "")
        excerpt = " ".join(excerpt.split())
        super().__init__(f"formula, character {position + 1}: {reason}; near “{excerpt}”")


@dataclass(frozen=True)
class Number:
    """A constant."""

    value: float


@dataclass(frozen=True)
class Variable:
    """A coordinate, counted from 0."""

    index: int


@dataclass(frozen=True)
class Result:
    """The value of an earlier operation."""

    index: int


Term = Number | Variable | Result


@dataclass(frozen=True)
class Operation:
    """An operator, or a function of `FUNCTIONS`, on its arguments."""

    name: str
    arguments: tuple[Term, ...]


@dataclass(frozen=True)
class Formula:
    """A formula as operations in the order of evaluation, its result, and its variables' names."""

    operations: tuple[Operation, ...]
    result: Term
    variables: tuple[str, ...]


class _Reader:
    def __init__(self, formula: str, variables: Sequence[str] | None) -> None:
        self.formula = formula
        self.named = None if variables is None else {name: k for k, name in enumerate(variables)}
        self.dimension = 0 if variables is None else len(variables)
        self.operations: dict[Operation, Result] = {}

    def result(self, name: str, *arguments: Term) -> Result:
        """The result of an operation; an operation met before is not repeated."""
        return self.operations.setdefault(Operation(name, arguments), Result(len(self.operations)))

    def fail(self, node: ast.expr, reason: str) -> FormulaError:
        return FormulaError(self.formula, node.col_offset, reason)

    def read(self, node: ast.expr, depth: int) -> Term:
        if depth > MAX_DEPTH:
            raise self.fail(node, f"nested more than {MAX_DEPTH} deep; split the formula")
        match node:
            case ast.Constant():
                return self.number(node)
            case ast.Name():
                return self.name(node)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                inner = self.read(operand, depth + 1)
                return Number(-inner.value) if isinstance(inner, Number) else self.result("neg", inner)
            case ast.UnaryOp(op=ast.UAdd(), operand=operand):
                return self.read(operand, depth + 1)
            case ast.BinOp():
                return self.binary(node, depth)
            case ast.Call():
                return self.call(node, depth)
            case _:
                what = _FOREIGN.get(type(node), "this operator")
                raise self.fail(node, f"{what} has no place in a formula; use numbers, names, + - * / ** and functions")

    def number(self, node: ast.Constant) -> Number:
        if isinstance(node.value, bool | None):
            raise self.fail(node, f"{node.value} is not a number")
        if isinstance(node.value, complex):
            raise self.fail(node, "a complex number has no place in a real formula")
        if not isinstance(node.value, int | float):
            raise self.fail(node, "a string has no place in a formula")
        try:
            value = float(node.value)
        except OverflowError:
            value = math.inf
        if not math.isfinite(value):
            raise self.fail(node, "the number is too large for a float")
        return Number(value)

    def name(self, node: ast.Name) -> Term:
        if self.named is not None and node.id in self.named:
            return Variable(self.named[node.id])
        if node.id in CONSTANTS:
            return Number(CONSTANTS[node.id])
        if node.id in FUNCTIONS:
            raise self.fail(node, f"{node.id} is a function; write {node.id}(…)")
        if self.named is None and (numbered := _NUMBERED.fullmatch(node.id)):
            index = int(numbered[1]) if len(numbered[1]) < 6 else MAX_VARIABLES + 1
            if index > MAX_VARIABLES:
                raise self.fail(node, f"at most {MAX_VARIABLES} variables")
            self.dimension = max(self.dimension, index)
            return Variable(index - 1)
        known = "w1, w2, …" if self.named is None else ", ".join(self.named)
        raise self.fail(node, f"unknown name {node.id[:40]!r}; the variables are {known}")

    def binary(self, node: ast.BinOp, depth: int) -> Term:
        # A sum of a hundred terms leans a hundred deep to the left: that is no nesting, and no recursion.
        spine: list[ast.BinOp] = []
        leftmost: ast.expr = node
        while isinstance(leftmost, ast.BinOp):
            if type(leftmost.op) not in _BINARY:
                raise self.fail(leftmost.right, "this operator has no place in a formula; use + - * / **")
            spine.append(leftmost)
            leftmost = leftmost.left
        left = self.read(leftmost, depth + 1)
        for step in reversed(spine):
            left = self.combined(step, left, self.read(step.right, depth + 1))
        return left

    def combined(self, node: ast.BinOp, left: Term, right: Term) -> Term:
        name, fold = _BINARY[type(node.op)]
        if name == "**":
            if not isinstance(right, Number):
                raise self.fail(node.right, "an exponent must be a number; write exp(y*log(x)) for x**y")
            if abs(right.value) > MAX_EXPONENT:
                raise self.fail(node.right, f"exponents are bounded by {MAX_EXPONENT}")
        if name == "/" and right == Number(0.0):
            raise self.fail(node.right, "division by zero")
        if isinstance(left, Number) and isinstance(right, Number):
            return self.folded(node, lambda: fold(left.value, right.value))
        return self.result(name, left, right)

    def call(self, node: ast.Call, depth: int) -> Term:
        if not isinstance(node.func, ast.Name):
            self.read(node.func, depth + 1)
            raise self.fail(node, "only a named function can be called")
        function = node.func.id
        if function not in FUNCTIONS:
            raise self.fail(node, f"unknown function {function[:40]!r}; the functions are {', '.join(FUNCTIONS)}")
        if node.keywords or len(node.args) != 1:
            raise self.fail(node, f"{function} takes one argument")
        argument = self.read(node.args[0], depth + 1)
        if isinstance(argument, Number):
            return self.folded(node, lambda: FUNCTIONS[function](argument.value))
        return self.result(function, argument)

    def folded(self, node: ast.expr, compute: Callable[[], float]) -> Number:
        try:
            value = compute()
        except (OverflowError, ValueError, ZeroDivisionError):
            value = math.nan
        if isinstance(value, complex) or not math.isfinite(value):
            raise self.fail(node, "this constant is not a finite real number")
        return Number(value)


def parse(formula: str, variables: Sequence[str] | None = None) -> Formula:
    """Read a formula into a list of operations.

    Parameters
    ----------
    formula
        Numbers, names, ``+ - * / **``, unary minus, parentheses, and the functions of `FUNCTIONS`.
        At most `MAX_LENGTH` characters, `MAX_DEPTH` levels; exponents are numbers of size at most
        `MAX_EXPONENT`.
    variables
        The names of the coordinates, in order. By default ``w1, w2, …``; the highest one that
        occurs gives the dimension.

    Raises
    ------
    FormulaError
        With the character at which the text stops being such a formula.
    """
    if not isinstance(formula, str):
        raise ValueError(f"a formula is a string, not {type(formula).__name__}")
    if len(formula) > MAX_LENGTH:
        raise FormulaError(formula, MAX_LENGTH, f"the formula has {len(formula)} characters, at most {MAX_LENGTH}")
    if variables is not None:
        _check_names(variables)
    _check_characters(formula)
    reader = _Reader(formula, variables)
    result = reader.read(_syntax_tree(formula), 0)
    if reader.dimension == 0:
        raise FormulaError(formula, 0, "the formula has no variable; name them w1, w2, …")
    names = tuple(variables) if variables is not None else tuple(f"w{k + 1}" for k in range(reader.dimension))
    return Formula(tuple(reader.operations), result, names)


def _check_characters(formula: str) -> None:
    for position, character in enumerate(formula):
        if character in _LOOKALIKES:
            raise FormulaError(formula, position, f"{character} is not understood; write {_LOOKALIKES[character]}")
        if not (character.isascii() and (character.isprintable() or character in "\t\n")):
            raise FormulaError(formula, position, f"the character {character!r} is not understood")
    if "#" in formula:
        raise FormulaError(formula, formula.index("#"), "a comment has no place in a formula")


def _syntax_tree(formula: str) -> ast.expr:
    """Python's tree of the formula, each node with its column in the text as given."""
    # In one line, so that the parser's column is the character's index; leading blanks would be an indent.
    text = re.sub(r"\s", " ", formula)
    blanks = len(text) - len(text.lstrip())
    if blanks == len(text):
        raise FormulaError(formula, 0, "the formula is empty")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            body = ast.parse(text[blanks:], mode="eval").body
    except SyntaxError as error:
        if not error.offset:
            raise FormulaError(formula, len(formula.rstrip()) - 1, "the formula ends too early") from None
        position = min(blanks + error.offset, len(formula)) - 1
        raise FormulaError(formula, position, f"not a formula ({error.msg})") from None
    except (RecursionError, MemoryError, ValueError):
        raise FormulaError(formula, 0, f"nested too deeply; at most {MAX_DEPTH} levels") from None
    for node in ast.walk(body):
        if isinstance(node, ast.expr):
            node.col_offset += blanks
    return body


def _check_names(variables: Sequence[str]) -> None:
    if isinstance(variables, str) or not all(isinstance(name, str) for name in variables):
        raise ValueError("variables: pass a list of names, such as ['x', 'y']")
    if not 1 <= len(variables) <= MAX_VARIABLES:
        raise ValueError(f"variables: between 1 and {MAX_VARIABLES} names, not {len(variables)}")
    for name in variables:
        if not (name.isascii() and name.isidentifier()) or name in FUNCTIONS or name in CONSTANTS:
            raise ValueError(f"variables: {name!r} cannot name a coordinate")
    if len(set(variables)) != len(variables):
        raise ValueError("variables: a name stands twice")
