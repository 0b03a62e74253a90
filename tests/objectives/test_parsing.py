"""A formula is data: what is one, what is not, and where it stops being one."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ravine.objectives import FormulaError, expression, parsing


@pytest.mark.parametrize(
    ("formula", "position", "reason"),
    [
        ("foo(w1)", 0, "unknown function"),
        ("w1 + eval(w1)", 5, "unknown function"),
        ("w1 + __import__('os')", 5, "unknown function"),
        ("w1.real", 0, "attribute"),
        ("w1 + w1.__class__", 5, "attribute"),
        ("w1[0]", 0, "subscript"),
        ("2*(lambda: 1)", 3, "lambda"),
        ("w1 + 'a'", 5, "string"),
        ("w1 + f'{w1}'", 5, "string"),
        ("w1 + b'a'", 5, "string"),
        ("w1 + x", 5, "unknown name"),
        ("w1 + w0", 5, "unknown name"),
        ("w1 + w01", 5, "unknown name"),
        ("w1 + exp", 5, "write exp"),
        ("exp(w1, w1)", 0, "one argument"),
        ("exp(x=w1)", 0, "one argument"),
        ("exp()", 0, "one argument"),
        ("w1.f(2)", 0, "attribute"),
        ("w1 if w1 else w1", 0, "conditional"),
        ("w1 < 2", 0, "comparison"),
        ("w1 and w1", 0, "logical"),
        ("[w1]", 0, "list"),
        ("w1, w2", 0, "tuple"),
        ("{w1}", 0, "set"),
        ("not w1", 0, "operator"),
        ("w1 // 2", 6, "operator"),
        ("w1 % 2", 5, "operator"),
        ("w1 @ w2", 5, "operator"),
        ("True*w1", 0, "not a number"),
        ("w1 + 1j", 5, "complex"),
        ("w1^2", 2, "write **"),
        ("w1 − 1", 3, "write -"),
        ("w1·w2", 2, "write *"),
        ("wé", 1, "not understood"),
        ("w1 + 1e999", 5, "too large"),
        ("w1 + 9**9**9", 8, "bounded"),
        ("w1**65", 4, "bounded"),
        ("w1**-65", 4, "bounded"),
        ("w1**w2", 4, "must be a number"),
        ("2**w1", 3, "must be a number"),
        ("w1/0", 3, "division by zero"),
        ("w1/(1-1)", 4, "division by zero"),
        ("w1 + log(0)", 5, "not a finite real"),
        ("w1 + sqrt(-1)", 5, "not a finite real"),
        ("w1 + (-8)**0.5", 5, "not a finite real"),
        ("w1 + exp(1000)", 5, "not a finite real"),
        ("w101", 0, "at most 100"),
        ("w99999999999999999999", 0, "at most 100"),
        ("1 + 2", 0, "no variable"),
        ("", 0, "empty"),
        ("  ", 0, "empty"),
        ("w1 +", 3, "ends too early"),
        ("w1 w2", 3, "not a formula"),
        ("w1)", 2, "not a formula"),
        ("w1) + (w2", 2, "not a formula"),
        ("w1 # and more", 3, "comment"),
        ("w1; w2", 2, "not a formula"),
        ("w1 := 2", 3, "not a formula"),
        ("yield", 0, "not a formula"),
    ],
)
def test_what_is_no_formula_is_refused_at_its_character(formula: str, position: int, reason: str) -> None:
    with pytest.raises(FormulaError) as caught:
        expression(formula)
    message = str(caught.value)
    assert caught.value.position == position, message
    assert reason in message
    assert "\n" not in message
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    "formula",
    [
        "(" * 200 + "w1" + ")" * 200,
        "-" * 900 + "w1",
        "exp(" * 150 + "w1" + ")" * 150,
        "w1" + "**1" * 300,
        "w1+" * 5000 + "w1",
        "9" * 999 + "*w1",
        "((w1**64)**64)**64" + "+1" * 100,
    ],
)
def test_hostile_sizes_end_quickly(formula: str) -> None:
    try:
        loss = expression(formula)
    except FormulaError:
        return
    assert loss.dimension == 1


def test_long_sums_are_no_nesting() -> None:
    loss = expression("+".join(f"w{k}**2" for k in range(1, 101)))
    assert loss.dimension == 100
    assert loss.value([1.0] * 100) == 100.0


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=60))
@example("w1\\")
@example("w1\x00")
@example("0x1for w1")
def test_any_text_is_a_formula_or_refused(text: str) -> None:
    try:
        parsed = parsing.parse(text)
    except FormulaError as error:
        assert 0 <= error.position <= max(len(text) - 1, 0)
    else:
        assert 1 <= len(parsed.variables) <= parsing.MAX_VARIABLES


@given(st.text(alphabet="w12+-*/() .e,xplogsqrt", max_size=40))
def test_nearly_formulas_too(text: str) -> None:
    try:
        parsing.parse(text)
    except FormulaError as error:
        assert 0 <= error.position <= max(len(text) - 1, 0)


def test_names_of_ones_own() -> None:
    loss = expression("x**2 + 3*y", variables=["y", "x"])
    assert loss.variables == ("y", "x")
    assert loss.value([2.0, 5.0]) == 25 + 6
    with pytest.raises(FormulaError, match="the variables are y, x"):
        expression("x + w1", variables=["y", "x"])


@pytest.mark.parametrize("names", [["exp"], ["pi"], ["a", "a"], [], ["2x"], "xy", ["é"], [1]])
def test_names_that_cannot_be(names: list[str]) -> None:
    with pytest.raises(ValueError, match="variables"):
        expression("x", variables=names)


def test_constants_and_precedence() -> None:
    assert expression("-w1**2").value([3.0]) == -9
    assert expression("2**3**2*w1").value([1.0]) == 512
    assert expression("w1 - 1 - 2").value([0.0]) == -3
    assert expression("w1/2/4").value([8.0]) == 1
    assert expression("pi*w1").value([1.0]) == math.pi
    assert expression("  w1 +\n 1").value([1.0]) == 2


def test_not_a_string() -> None:
    with pytest.raises(ValueError, match="string"):
        expression(3)  # pyright: ignore[reportArgumentType]
