"""Derivatives of formulas, against SymPy's of the whole expression at high precision."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

from ravine.objectives import Objective, expression, section_6

W = sympy.symbols("w1:4", real=True)


def independent(formula: str, w: np.ndarray, u: np.ndarray) -> list[np.ndarray]:
    """Value, gradient, Hu and D³(u, u, ·) by differentiating the whole expression, evaluated to 30 digits."""
    # Our own formulas, not a user's: SymPy's parser evaluates what it reads.
    whole: Any = sympy.sympify(formula, locals={str(s): s for s in W})  # pyright: ignore[reportCallIssue]
    at = dict(zip(W, map(sympy.Float, w, [40] * 3), strict=True))
    along: Any = sum(float(c) * whole.diff(s) for c, s in zip(u, W, strict=True))
    twice: Any = sum(float(c) * along.diff(s) for c, s in zip(u, W, strict=True))
    numbers = [[whole], *([part.diff(s) for s in W] for part in (whole, along, twice))]
    return [np.array([complex(sympy.N(x.subs(at), 30)).real for x in row]) for row in numbers]


def close(measured: np.ndarray, reference: np.ndarray) -> bool:
    return bool(np.allclose(measured, reference, rtol=1e-9, atol=1e-9 * (1 + np.abs(reference).max())))


FORMULAS = [
    "w1**2/(1+w2**2/2) + w2**2/2 + w3",
    "exp(w1*w2) - sin(w3)*cos(w1)",
    "log(2 + w1**2)*sqrt(3 + w2*w3)",
    "tanh(w1 - 2*w2)**3 / (1 + exp(-w3))",
    "tan(w1/3) + atan(w2*w3) + cosh(w1)*sinh(w2)",
    "abs(w1 + 0.3)**3 + abs(w2*w3 - 4)",
    "(1 + w1**2)**0.7 + (2 + w2)**-3 + w3**5",
    "1/(1 + w1**2)/(2 + w2**2) - w3/7",
    "((w1 + w2)**4 + w3)**2",
    "w1*w2*w3*w1*w2 + w1",
    "-w1 + -(-w2**2) - (+w3)",
    "exp(w1)/exp(w1) + w2/w2 + w3",
]


@pytest.mark.parametrize("formula", FORMULAS)
def test_oracles_match_an_independent_derivation(formula: str) -> None:
    loss = expression(formula)
    generator = np.random.default_rng(0)
    for _ in range(3):
        w, u = generator.uniform(-1, 1, (2, 3))
        value, grad, hvp, third = independent(formula, w, u)
        assert close(np.array([loss.value(w)]), value)
        assert close(loss.grad(w), grad)
        assert close(loss.hvp(w, u), hvp)
        assert close(loss.third(w, u), third)


def formulas() -> st.SearchStrategy[str]:
    """Formulas that are smooth near the unit cube."""
    leaves = st.sampled_from(["w1", "w2", "w3", "2", "0.5", "1.25"])

    def extend(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        pair = st.tuples(inner, st.sampled_from("+-*"), inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})")
        call = st.tuples(st.sampled_from(["sin", "cos", "tanh", "atan"]), inner).map(lambda t: f"{t[0]}({t[1]})")
        quotient = st.tuples(inner, inner).map(lambda t: f"({t[0]})/(2 + sin({t[1]}))")
        power = st.tuples(inner, st.sampled_from(["2", "3"])).map(lambda t: f"({t[0]})**{t[1]}")
        return pair | call | quotient | power

    return st.recursive(leaves, extend, max_leaves=7).map(lambda f: f"w1 + w2 + w3 + {f}")


@settings(max_examples=12)
@given(formulas(), st.integers(0, 2**32 - 1))
def test_random_formulas(formula: str, seed: int) -> None:
    loss = expression(formula)
    w, u = np.random.default_rng(seed).uniform(-1, 1, (2, 3))
    value, grad, hvp, third = independent(formula, w, u)
    assert close(np.array([loss.value(w)]), value)
    assert close(loss.grad(w), grad)
    assert close(loss.hvp(w, u), hvp)
    assert close(loss.third(w, u), third)


def test_a_derivative_is_refused_at_the_kink_of_abs() -> None:
    loss = expression("abs(w1) + w2**2")
    at, u = [0.0, 1.0], [1.0, 0.0]
    assert loss.value(at) == 1.0
    for derivative in (loss.grad, lambda w: loss.hvp(w, u), lambda w: loss.third(w, u)):
        with pytest.raises(ValueError, match="kink of abs"):
            derivative(at)
    assert loss.grad([1e-300, 0.0]).tolist() == [1.0, 0.0]
    assert loss.hvp([-2.0, 0.0], u).tolist() == [0.0, 0.0]


@pytest.mark.parametrize(("formula", "at"), [("log(w1)", -1.0), ("sqrt(w1)", -1.0), ("w1**0.5 + w1", -1.0)])
def test_outside_the_domain(formula: str, at: float) -> None:
    loss = expression(formula)
    assert np.isnan(loss.value([at]))
    with pytest.raises(ValueError, match="domain"):
        loss.grad([at])


@pytest.mark.parametrize("w", [[1.0], [1.0, 2.0, 3.0], [np.nan, 0.0], [np.inf, 0.0], "ab", [[1.0, 2.0]]])
def test_points_are_checked(w: object) -> None:
    with pytest.raises(ValueError, match="w: "):
        section_6().grad(w)


def test_an_objective_has_four_oracles_and_no_more() -> None:
    oracles = {"value", "grad", "hvp", "third"}
    assert Objective.__abstractmethods__ == oracles | {"dimension", "description"}


CHILD = """
import sys
import ravine as rv
loss = rv.expression("w1**2 + tanh(w2)*w1 + 0.125")
print(loss.grad([0.5, 0.25]).tolist())
print("sympy" in sys.modules)
"""


def test_compiled_code_is_kept_between_processes(tmp_path: Path) -> None:
    environment = os.environ | {"RAVINE_CACHE_DIR": str(tmp_path / "cache")}

    def run() -> list[str]:
        done = subprocess.run(
            [sys.executable, "-c", CHILD], env=environment, capture_output=True, text=True, check=True
        )
        return done.stdout.splitlines()

    first = run()
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*") if path.is_file()}
    assert any(path.suffix == ".nbc" for path in stamps)
    second = run()
    assert second == [first[0], "False"]
    assert first[1] == "True"
    assert stamps == {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*") if path.is_file()}


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    environment = os.environ | {"RAVINE_CACHE_DIR": str(tmp_path / "file")}
    done = subprocess.run([sys.executable, "-c", CHILD], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("[")
