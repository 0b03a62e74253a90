"""The pure steps, against the naive twin; and what is no parameter."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from typing import Any

import numpy as np
import pytest

import naive
from ravine.methods import GD, METHODS, SAM, SGD, USAM, Method, gradient_norm
from ravine.objectives import section_6


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("method", [GD, SAM, USAM])
def test_steps_are_the_papers(method: Any, momentum: float) -> None:
    loss = section_6()
    options = {} if method is GD else {"rho": 0.3}
    rule: Method = method(eta=0.1, momentum=momentum, **options)
    w, velocity = np.array([0.7, -0.4]), np.zeros(2)
    expected = naive.run(rule.name, loss.grad, w, 20, 0.1, rho=options.get("rho", 0.0), momentum=momentum)
    for t in range(20):
        w, velocity = rule.step(loss.grad, w, loss.grad(w), velocity)
        assert np.allclose(w, expected[t + 1], rtol=1e-12, atol=1e-15)


def test_noise_is_added_to_the_gradient() -> None:
    loss, w, noise = section_6(), np.array([1.0, 1.0]), np.array([0.5, -0.25])
    moved, _ = SGD(eta=0.2, sigma=1.0).step(loss.grad, w, loss.grad(w), np.zeros(2), noise)
    assert np.allclose(moved, w - 0.2 * (loss.grad(w) + noise))


def test_a_step_changes_nothing_but_its_result() -> None:
    loss, w, velocity = section_6(), np.array([1.0, 1.0]), np.array([0.1, 0.2])
    before = w.copy(), velocity.copy()
    SAM(eta=0.2, rho=1.0, momentum=0.5).step(loss.grad, w, loss.grad(w), velocity)
    assert (w == before[0]).all()
    assert (velocity == before[1]).all()


@pytest.mark.parametrize(
    ("method", "options"),
    [
        (GD, {"eta": 0.0}), (GD, {"eta": -1.0}), (GD, {"eta": float("nan")}), (GD, {"eta": float("inf")}),
        (GD, {"eta": "a"}), (GD, {"eta": True}), (GD, {"eta": 0.1, "momentum": 1.0}),
        (GD, {"eta": 0.1, "momentum": -0.1}), (SAM, {"eta": 0.1, "rho": -1e-9}),
        (SAM, {"eta": 0.1, "rho": float("nan")}), (USAM, {"eta": 0.1, "rho": float("inf")}),
        (SGD, {"eta": 0.1, "sigma": -1.0}),
    ],
)  # fmt: skip
def test_parameters_out_of_range(method: Any, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{list(options)[-1]} = .*(must|number)"):
        method(**options)


def test_methods_are_frozen_and_known_by_name() -> None:
    rule = SAM(eta=0.1, rho=1.0)
    with pytest.raises(FrozenInstanceError):
        rule.eta = 0.2  # pyright: ignore[reportAttributeAccessIssue]
    assert METHODS == {"gd": GD, "sgd": SGD, "sam": SAM, "usam": USAM}


@pytest.mark.parametrize("scale", [1e-320, 1e-300, 1e-160, 1.0, 1e160, 1e307])
def test_the_norm_neither_overflows_nor_vanishes(scale: float) -> None:
    assert gradient_norm(np.array([3.0, 4.0]) * scale) == pytest.approx(
        5 * scale, rel=1e-3 if scale < 1e-310 else 1e-14
    )


def test_the_norm_of_nothing_and_of_no_number() -> None:
    assert gradient_norm(np.zeros(3)) == 0
    assert np.isnan(gradient_norm(np.array([1.0, np.nan])))
    assert gradient_norm(np.array([1.0, -np.inf])) == np.inf
