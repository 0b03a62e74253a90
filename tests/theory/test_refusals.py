"""Every refusal of an argument begins with the argument's name, whatever function is asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ravine import theory
from ravine.theory import bounds, drift, section_6

LAW = theory.quadratic([2.0, 1.2], eta=0.2, rho=0.3)
BOUNCE: dict[str, Any] = {"sharpness": 2.0, "eta": 0.2, "rho": 0.3, "momentum": 0.0}
STEP: dict[str, Any] = {"eta": 0.2, "rho": 0.3, "momentum": 0.0}
ALONG: dict[str, Any] = {"eigenvalues": [1.0], "sharpness_gradient": [1.0], "steps": 3}
# What no function takes, by the name of the argument.
WRONG: dict[str, Any] = {
    "delta": 0.0, "density": 0.0, "descent": -1.0, "eigenvalues": "sharp", "eta": 0.0, "excess": 0.0,
    "grad_norm": "long", "log_density": np.inf, "momentum": 1.0, "q": 0.0, "radius": 0.0, "rho": -1.0,
    "sharpness": "flat", "sharpness_gradient": "steep", "start": [1.0], "steps": -1,
    "u": [np.nan, 1.0], "within": 0.0,
}  # fmt: skip


def _of_the_law(statement: Callable[..., object]) -> Callable[..., object]:
    return lambda **arguments: statement(LAW, **arguments)


CALLS: dict[str, tuple[Callable[..., object], dict[str, Any]]] = {
    "amplitude": (theory.amplitude, BOUNCE),
    "sam_edge": (theory.sam_edge, STEP | {"grad_norm": 1.0}),
    "usam_stable": (theory.usam_stable, STEP | {"eigenvalues": 1.0}),
    "quadratic": (theory.quadratic, STEP | {"eigenvalues": [1.0]}),
    "potential": (theory.potential, STEP | {"eigenvalues": [1.0]}),
    "limit": (LAW.limit, {"start": [1.0, 1.0]}),
    "hessian": (theory.potential([2.0, 1.2], eta=0.2, rho=0.3).hessian, {"u": [1.0, 1.0]}),
    "flat_coefficient": (drift.flat_coefficient, BOUNCE),
    "coefficient": (drift.coefficient, BOUNCE | {"eigenvalues": 1.0}),
    "contraction": (drift.contraction, {k: v for k, v in BOUNCE.items() if k != "rho"} | {"eigenvalues": 1.0}),
    "displacement": (drift.displacement, BOUNCE | ALONG),
    "sharpness_change": (drift.sharpness_change, BOUNCE | ALONG),
    "threshold": (section_6.threshold, {"eta": 0.2, "momentum": 0.0}),
    "cycle": (section_6.cycle, STEP),
    "ball_time": (_of_the_law(bounds.ball_time), {"radius": 3.0}),
    "log_clearance": (_of_the_law(bounds.log_clearance), {"radius": 3.0, "log_density": 0.0, "delta": 0.1}),
    "visits": (_of_the_law(bounds.visits), {"excess": 0.1}),
    "arrival_in_gradient": (
        _of_the_law(bounds.arrival_in_gradient), {"log_ratio": 0.0, "descent": 1.0, "within": 0.01},
    ),
    "theorem_3": (
        _of_the_law(bounds.theorem_3), {"radius": 3.0, "density": 1.0, "q": 0.01, "delta": 0.1, "within": 0.01},
    ),
}  # fmt: skip
CASES = [(function, name) for function, (_, good) in CALLS.items() for name in good if name in WRONG]


@pytest.mark.parametrize(("function", "name"), CASES)
def test_a_refusal_begins_with_the_name_of_the_argument(function: str, name: str) -> None:
    call, good = CALLS[function]
    call(**good)
    with pytest.raises(ValueError, match=rf"^{name}( =.*)?: give"):
        call(**good | {name: WRONG[name]})


@pytest.mark.parametrize("name", ["eta", "rho", "momentum"])
@pytest.mark.parametrize("value", ["wide", None, np.nan, np.inf, [1.0, 2.0]])
def test_what_is_no_finite_number_is_refused_as_such(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"^{name} = .*: give a( finite)? number$"):
        theory.quadratic([1.0], **{"eta": 0.2, "rho": 0.3, "momentum": 0.0} | {name: value})  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("name", "value", "cure"),
    [
        ("eta", 0, "eta = 0: give a positive number"), ("rho", -1e-300, "rho = -1e-300: give a number ≥ 0"),
        ("momentum", -0.1, "momentum = -0.1: give a number ≥ 0"),
        ("momentum", 1.0, "momentum = 1.0: give a number in [0, 1)"),
        ("eigenvalues", [], "eigenvalues: pass a vector, not shape (0,)"),
        ("eigenvalues", 1.0, "eigenvalues: pass a vector, not shape ()"),
        ("eigenvalues", [1.0, np.inf], "eigenvalues: give finite numbers"),
        ("eigenvalues", [1.0, -1e-300],
         "eigenvalues: the theory is for a convex quadratic; give numbers ≥ 0, one of them positive"),
        ("eigenvalues", ["a"], "eigenvalues: give a number or an array of them"),
    ],
)  # fmt: skip
def test_the_range_of_each_argument_is_the_cure(name: str, value: object, cure: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        theory.quadratic(**{"eigenvalues": [1.0], "eta": 0.2, "rho": 0.3} | {name: value})  # pyright: ignore[reportArgumentType]
    assert str(caught.value) == cure


@pytest.mark.parametrize("start", ["far", ["a", "b"], [1.0, np.inf], [[1.0, 2.0]], 1.0])
def test_a_start_that_is_no_point_is_refused_by_name(start: object) -> None:
    with pytest.raises(ValueError, match=r"^start: give (2 finite numbers|a number or an array of them)$"):
        LAW.limit(start)  # pyright: ignore[reportArgumentType]


def test_the_least_and_the_most_that_is_taken() -> None:
    law = theory.quadratic([1.0, 0.0], eta=5e-324, rho=0.0, momentum=np.nextafter(1.0, 0.0))
    assert (law.eta, law.rho, law.momentum) == (5e-324, 0.0, np.nextafter(1.0, 0.0))
    assert theory.quadratic([1], eta=np.float32(0.5), rho=0, momentum=0).eigenvalues.dtype == np.float64  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("norm", [-1.0, np.nan, [1.0, -1e-300]])
def test_a_norm_is_not_negative(norm: float | list[float]) -> None:
    with pytest.raises(ValueError, match=r"^grad_norm: a norm is a number ≥ 0$"):
        theory.sam_edge(norm, 0.2, 0.3)


def test_what_momentum_takes_away_is_refused_by_name() -> None:
    law, potential = theory.quadratic([2.0, 1.2], 0.2, 0.3, 0.5), theory.potential([2.0, 1.2], 0.2, 0.3, 0.5)
    with pytest.raises(ValueError, match=r"^descent_bound: with momentum J may rise; make the pot"):
        potential.descent_bound([1.0, 1.0])
    for name in ("gamma", "alpha", "b", "mu"):
        with pytest.raises(ValueError, match=rf"^{name}: known for SAM without momentum only; make"):
            getattr(law, name)
    with pytest.raises(ValueError, match=r"^limit: known for SAM without momentum only"):
        law.limit([1.0, 1.0])


def test_a_law_shows_what_it_is_for() -> None:
    shown = "2 eigenvalues, λ₁ = 2.5, η = 0.2, ρ = 0.3, momentum = 0.1"
    assert repr(theory.quadratic([1.25, 2.5], 0.2, 0.3, 0.1)) == f"QuadraticLaw({shown})"
    assert repr(theory.potential([1.25, 2.5], 0.2, 0.3, 0.1)) == f"Potential({shown})"
