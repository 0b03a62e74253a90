"""An objective written from the docstring of `Objective` alone, over NumPy and over torch, beside its compiled twin."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import ravine as rv
from ravine.arrays import as_numpy

TWIN = "w1**2/(1+w2**2/2) + w3**2/4 + w4**2/8"
START = [0.3, -1.0, 0.2, 0.4]
SAM = rv.SAM(eta=0.2, rho=0.05)


class Valley(rv.Objective):
    """w₁²/(1+w₂²/2) + w₃²/4 + w₄²/8: what every objective must implement, and no more."""

    stack = staticmethod(np.stack)

    @property
    def dimension(self) -> int:
        return 4

    @property
    def description(self) -> str:
        return "a valley that widens"

    def value(self, w: Any) -> float:
        return float(w[0] ** 2 * width(w)[0] + w[2] ** 2 / 4 + w[3] ** 2 / 8)

    def grad(self, w: Any) -> Any:
        f, slope, *_ = width(w)
        return self.stack([2 * w[0] * f, w[0] ** 2 * slope, w[2] / 2, w[3] / 4])

    def hvp(self, w: Any, u: Any) -> Any:
        f, slope, bend, _ = width(w)
        along = 2 * f * u[0] + 2 * w[0] * slope * u[1]
        across = 2 * w[0] * slope * u[0] + w[0] ** 2 * bend * u[1]
        return self.stack([along, across, u[2] / 2, u[3] / 4])

    def third(self, w: Any, u: Any) -> Any:
        _, slope, bend, turn = width(w)
        along = 4 * slope * u[0] * u[1] + 2 * w[0] * bend * u[1] ** 2
        across = 2 * slope * u[0] ** 2 + 4 * w[0] * bend * u[0] * u[1] + w[0] ** 2 * turn * u[1] ** 2
        return self.stack([along, across, 0 * w[2], 0 * w[3]])


def width(w: Any) -> tuple[Any, Any, Any, Any]:
    """1/(1+w₂²/2) and its derivatives."""
    x, q = w[1], 1 + w[1] ** 2 / 2
    return 1 / q, -x / q**2, 2 * x**2 / q**3 - 1 / q**2, 6 * x / q**3 - 6 * x**3 / q**4


class TorchValley(Valley):
    """The same over torch's vectors, with a start of its own: two of the defaults replaced."""

    stack = staticmethod(torch.stack)

    def point(self, w: Any, name: str = "w") -> torch.Tensor:
        vector = torch.as_tensor(w, dtype=torch.float64)
        if vector.shape != (4,) or not bool(torch.isfinite(vector).all()):
            raise ValueError(f"{name}: give 4 finite numbers")
        return vector

    @property
    def start(self) -> torch.Tensor:
        return torch.tensor(START, dtype=torch.float64)


@pytest.fixture(params=[Valley, TorchValley])
def loss(request: pytest.FixtureRequest) -> rv.Objective:
    return request.param()


@pytest.fixture
def twin() -> rv.Objective:
    return rv.expression(TWIN)


def test_its_oracles_are_the_twins(loss: rv.Objective, twin: rv.Objective) -> None:
    w, u = np.random.default_rng(0).standard_normal((2, 4))
    own_w, own_u = loss.point(w), loss.point(u, "u")
    assert loss.value(own_w) == pytest.approx(twin.value(w))
    assert as_numpy(loss.grad(own_w)) == pytest.approx(twin.grad(w))
    assert as_numpy(loss.hvp(own_w, own_u)) == pytest.approx(twin.hvp(w, u))
    assert as_numpy(loss.third(own_w, own_u)) == pytest.approx(twin.third(w, u))


@pytest.mark.parametrize("method", [SAM, rv.GD(eta=0.2, momentum=0.5), rv.SGD(eta=0.1, sigma=0.2)])
def test_trajectory(loss: rv.Objective, twin: rv.Objective, method: rv.Method) -> None:
    run, expected = (rv.trajectory(one, method, start=START, steps=50, every=5, seed=3) for one in (loss, twin))
    for name in ("w", "loss", "grad_norm"):
        assert np.allclose(run[name], expected[name], rtol=1e-9, atol=1e-12), name
    assert rv.statuses(run) == rv.statuses(expected)
    assert run.attrs["objective"] == "a valley that widens"


def test_ensemble(loss: rv.Objective, twin: rv.Objective) -> None:
    starts = np.random.default_rng(0).standard_normal((3, 4))
    noisy = rv.SGD(eta=0.1, sigma=0.2)
    runs, expected = (rv.ensemble(one, noisy, starts=starts, steps=30, seed=5) for one in (loss, twin))
    assert np.allclose(runs["w"], expected["w"], rtol=1e-9, atol=1e-12)
    for k, one in enumerate(rv.ensemble(loss, SAM, starts=starts, steps=30)["w"].values):
        assert (one == rv.trajectory(loss, SAM, start=starts[k], steps=30)["w"].values[0]).all()
    with pytest.raises(ValueError, match=r"starts\[1\]"):
        rv.ensemble(loss, SAM, starts=[[1.0] * 4, [np.nan] * 4], steps=3)


def test_where_it_begins() -> None:
    told = rv.trajectory(TorchValley(), SAM, start=START, steps=5)
    assert rv.trajectory(TorchValley(), SAM, steps=5).identical(told)
    for begin in (rv.trajectory, rv.forecast):
        with pytest.raises(ValueError, match="start: give 4 numbers"):
            begin(Valley(), SAM, steps=5)


def test_forecast(loss: rv.Objective, twin: rv.Objective) -> None:
    seen, expected = (rv.forecast(one, SAM, start=START, steps=60, products=12) for one in (loss, twin))
    assert (seen.horizon, seen.products, seen.gradients) == (expected.horizon, expected.products, expected.gradients)
    assert seen.horizon > 8
    # Later what rounding differs in has grown, as it does in the runs.
    for name in ("grad_norm", "loss", "sharpness", "gradient_alignment"):
        assert np.allclose(seen.run[name][:9], expected.run[name][:9], rtol=1e-5), name
    real = rv.trajectory(loss, SAM, start=START, steps=seen.horizon)["grad_norm"].values[0]
    assert np.abs(seen.valid["grad_norm"].values / real - 1).max() <= seen.tol


def test_spectrum(loss: rv.Objective, twin: rv.Objective) -> None:
    room, v = rv.spectrum, np.array([1.0, 2.0, -1.0, 0.5])
    for end in ("largest", "smallest"):
        found, expected = (room.eigenpairs(one, START, 2, end=end) for one in (loss, twin))
        assert found.values == pytest.approx(expected.values, abs=1e-9)
    assert room.trace(loss, START).value == pytest.approx(room.trace(twin, START).value)
    for measured in (
        lambda one: room.spectral_measure(one, START, v, 3).nodes,
        lambda one: room.density(one, START).value,
    ):
        assert measured(loss) == pytest.approx(measured(twin), rel=1e-6, abs=1e-9)


def test_observations(loss: rv.Objective, twin: rv.Objective) -> None:
    room, minimum = rv.observations, np.array([0.0, -1.0, 0.0, 0.0])
    seen = []
    for one in (loss, twin):
        run = rv.trajectory(one, SAM, start=START, steps=101)
        sharp = room.sharpness(one, run, [0, 100])
        pairs = rv.spectrum.eigenpairs(one, minimum, 1, 1e-12)
        e = one.point(pairs.vectors[0])
        drift = room.drift(
            one, minimum, eigenvector=e, sharpness_gradient=one.third(one.point(minimum), e),
            sharpness=float(pairs.values[0]), eta=0.2, rho=0.05,
        )  # fmt: skip
        flat = room.flat_part(one, minimum, np.ones(4), float(pairs.values[0]))
        seen.append((sharp["eigenvalues"].values, sharp["alignment"].values, drift.moved, drift.flat, flat))
    for own, expected in zip(*seen, strict=True):
        assert own == pytest.approx(expected, rel=1e-6, abs=1e-9)
    assert flat == pytest.approx([0, 1, 0, 0], abs=1e-9)


def test_what_it_says_of_itself(loss: rv.Objective) -> None:
    assert repr(loss) == f"<{type(loss).__name__}: a valley that widens>"
    assert loss.precision_at(loss.point(START)) == 0
    assert loss.compiled is None
    with pytest.raises(ValueError, match="start: give"):
        rv.trajectory(loss, SAM, start=[1.0], steps=3)
