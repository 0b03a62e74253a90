"""Runs: the compiled loops against the naive twin and against the oracles; statuses; interrupts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ortho_group

import naive
from ravine import schema, simulate
from ravine.methods import GD, SAM, SGD, USAM, Method
from ravine.objectives import CompiledOracles, Objective, expression, quadratic, section_6
from ravine.schema import Status
from ravine.simulate import ensemble, trajectory


class Plain(Objective):
    """An objective without its compiled form, so that the run goes through the oracles."""

    def __init__(self, inner: Objective) -> None:
        self.inner = inner

    @property
    def dimension(self) -> int:
        return self.inner.dimension

    @property
    def description(self) -> str:
        return self.inner.description

    @property
    def compiled(self) -> CompiledOracles | None:
        return None

    def value(self, w: Any) -> float:
        return self.inner.value(w)

    def grad(self, w: Any) -> Any:
        return self.inner.grad(w)

    def hvp(self, w: Any, u: Any) -> Any:
        return self.inner.hvp(w, u)

    def third(self, w: Any, u: Any) -> Any:
        return self.inner.third(w, u)


def status(run: xr.Dataset, k: int = 0) -> tuple[Status, int]:
    return Status(int(run["status"][k])), int(run["status_step"][k])


def rules(eta: float, rho: float, momentum: float) -> list[Method]:
    return [
        GD(eta=eta, momentum=momentum),
        SAM(eta=eta, rho=rho, momentum=momentum),
        USAM(eta=eta, rho=rho, momentum=momentum),
    ]


spectra = st.lists(st.floats(0.01, 1.0), min_size=1, max_size=6)


@settings(max_examples=40)
@given(
    lam=spectra,
    eta=st.floats(0.01, 0.95),
    rho=st.floats(0.0, 2.0),
    momentum=st.sampled_from([0.0, 0.5, 0.9]),
    seed=st.integers(0, 2**32 - 1),
    rotated=st.booleans(),
)
def test_quadratics_match_the_naive_twin(
    *, lam: list[float], eta: float, rho: float, momentum: float, seed: int, rotated: bool
) -> None:
    d = len(lam)
    generator = np.random.default_rng(seed)
    basis = ortho_group.rvs(d, random_state=generator) if rotated and d > 1 else np.eye(d)
    matrix = basis @ np.diag(lam) @ basis.T
    loss = quadratic(matrix) if rotated else quadratic(lam)
    start = generator.standard_normal(d)
    for rule in rules(eta, rho, momentum):
        run = trajectory(loss, rule, start=start, steps=60)
        expected = naive.run(rule.name, loss.grad, start, 60, eta, rho=rho, momentum=momentum)
        # SAM's map is discontinuous at the minimum: where the two drift apart, it is by rounding passing near it.
        assert np.allclose(run["w"].values[0], expected, rtol=1e-7, atol=1e-9 * (1 + rho))


@settings(max_examples=40)
@given(spectra, st.floats(0.01, 0.95), st.floats(0.01, 2.0), st.integers(0, 2**32 - 1))
def test_one_compiled_step_is_equation_3(lam: list[float], eta: float, rho: float, seed: int) -> None:
    start = np.random.default_rng(seed).standard_normal(len(lam))
    run = trajectory(quadratic(lam), SAM(eta=eta, rho=rho), start=start, steps=1)
    expected = naive.quadratic_sam(np.array(lam), start, eta, rho)
    assert np.allclose(run["w"].values[0, 1], expected, rtol=1e-13, atol=1e-14 * (1 + rho))


@settings(max_examples=25)
@given(st.floats(0.01, 0.4), st.floats(0.0, 1.5), st.sampled_from([0.0, 0.6]), st.floats(-2, 2), st.floats(-2, 2))
def test_formulas_match_the_naive_twin(eta: float, rho: float, momentum: float, x: float, y: float) -> None:
    loss = section_6()
    for rule in rules(eta, rho, momentum):
        run = trajectory(loss, rule, start=[x, y], steps=15)
        expected = naive.run(rule.name, loss.grad, np.array([x, y]), 15, eta, rho=rho, momentum=momentum)
        assert np.allclose(run["w"].values[0], expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("momentum", [0.0, 0.7])
def test_the_oracles_path_is_the_same_run(momentum: float) -> None:
    loss = section_6()
    for rule in [*rules(0.1, 0.4, momentum), SGD(eta=0.1, sigma=0.3, momentum=momentum)]:
        fast = trajectory(loss, rule, start=[0.5, -0.7], steps=50, every=5, seed=3)
        slow = trajectory(Plain(loss), rule, start=[0.5, -0.7], steps=50, every=5, seed=3)
        for name in ("w", "loss", "grad_norm"):
            assert np.allclose(fast[name], slow[name], rtol=1e-9, atol=1e-12), name
        assert fast.drop_vars(["w", "loss", "grad_norm"]).equals(slow.drop_vars(["w", "loss", "grad_norm"]))
        assert fast.attrs == slow.attrs


def test_loss_and_norm_are_those_of_the_iterates() -> None:
    loss = section_6()
    run = trajectory(loss, SAM(eta=0.2, rho=1.0), start=[0.1, 0.1], steps=20)
    for w, value, norm in zip(run["w"].values[0], run["loss"].values[0], run["grad_norm"].values[0], strict=True):
        assert value == pytest.approx(loss.value(w), rel=1e-14)
        assert norm == pytest.approx(float(np.linalg.norm(loss.grad(w))), rel=1e-13)


def test_recording_less_changes_nothing() -> None:
    rule = SAM(eta=0.2, rho=1.0, momentum=0.3)
    whole = trajectory(section_6(), rule, start=[0.1, 0.1], steps=100)
    for every in (1, 3, 7, 100, 101):
        run = trajectory(section_6(), rule, start=[0.1, 0.1], steps=100, every=every)
        assert run["step"].values.tolist() == list(range(0, 101, every))
        assert run["w"].equals(whole["w"].sel(step=run["step"]))


@pytest.mark.parametrize("length", [1, 7, 64])
def test_chunks_do_not_show(monkeypatch: pytest.MonkeyPatch, length: int) -> None:
    def run() -> list[xr.Dataset]:
        rule, noisy = SAM(eta=0.2, rho=1.0, momentum=0.3), SGD(eta=0.2, sigma=0.3)
        return [trajectory(section_6(), r, start=[0.1, 0.1], steps=50, every=3, seed=1) for r in (rule, noisy)]

    whole = run()
    monkeypatch.setattr(simulate, "CHUNK", 2 * length)
    assert all(a.identical(b) for a, b in zip(whole, run(), strict=True))


def test_zero_steps_is_the_start() -> None:
    run = trajectory(section_6(), SAM(eta=0.2, rho=1.0), start=[0.1, 0.2], steps=0)
    assert run["w"].values.tolist() == [[[0.1, 0.2]]]
    assert status(run) == (Status.FINISHED, 0)


def test_rho_zero_is_gradient_descent_to_the_bit() -> None:
    gd = trajectory(section_6(), GD(eta=0.2), start=[0.3, 0.2], steps=100)
    for rule in (SAM(eta=0.2, rho=0.0), USAM(eta=0.2, rho=0.0)):
        assert (trajectory(section_6(), rule, start=[0.3, 0.2], steps=100)["w"] == gd["w"]).all()


# Statuses


def test_a_stationary_start_is_a_result() -> None:
    for loss in (section_6(), Plain(section_6())):
        run = trajectory(loss, SAM(eta=0.2, rho=1.0), start=[0.0, 0.0], steps=10)
        assert status(run) == (Status.GRADIENT_VANISHED, 0)
        assert (run["w"] == 0).all()
    assert schema.statuses(run) == ["gradient vanished at step 0"]


def test_a_gradient_that_vanishes_at_the_last_step_is_seen() -> None:
    for loss in (quadratic([1.0]), Plain(quadratic([1.0]))):
        run = trajectory(loss, GD(eta=1.0), start=[3.0], steps=1)
        assert status(run) == (Status.GRADIENT_VANISHED, 1)


@pytest.mark.parametrize("wrap", [lambda loss: loss, Plain])
def test_divergence_is_a_result(wrap: Callable[[Objective], Objective]) -> None:
    run = trajectory(wrap(quadratic([1.0, 0.5])), SAM(eta=3.0, rho=1.0), start=[1.0, 1.0], steps=5000)
    kind, step = status(run)
    assert kind is Status.DIVERGED
    w = run["w"].values[0]
    assert np.isfinite(w[:step]).all()
    assert not np.isfinite(w[step]).all()
    assert np.isnan(w[step + 1 :]).all()


def test_divergence_at_the_first_gradient() -> None:
    run = trajectory(expression("w1**4"), GD(eta=0.1), start=[1e200], steps=5)
    assert status(run) == (Status.DIVERGED, 0)


def test_leaving_the_domain_is_a_result() -> None:
    run = trajectory(expression("log(w1) + w1"), GD(eta=1.0), start=[1.0], steps=10)
    kind, step = status(run)
    assert kind is Status.GRADIENT_UNDEFINED
    assert np.isfinite(run["w"].values[0, step]).all()
    run = trajectory(expression("abs(w1)"), GD(eta=0.5), start=[1.0], steps=10)
    assert status(run) == (Status.GRADIENT_UNDEFINED, 2)
    assert np.isnan(run["grad_norm"].values[0, 2])


@pytest.mark.parametrize("wrap", [lambda loss: loss, Plain])
def test_underflow_is_exact_zero_and_recorded(wrap: Callable[[Objective], Objective]) -> None:
    run = trajectory(wrap(quadratic([1.0, 0.5])), SAM(eta=0.2, rho=1.0), start=[2.0, 2.0], steps=2000)
    kind, step = status(run)
    assert kind is Status.UNDERFLOWED
    assert run["underflow_step"].values.tolist() == [[-1, step]]
    w = run["w"].values[0, :, 1]
    assert (w[step:] == 0).all()
    assert (np.abs(w[:step]) >= np.finfo(float).smallest_normal).all()


def test_everything_underflows_then_the_gradient_vanishes() -> None:
    run = trajectory(quadratic([1.0, 0.5]), GD(eta=0.2), start=[2.0, 2.0], steps=20_000)
    kind, step = status(run)
    assert kind is Status.GRADIENT_VANISHED
    assert step == run["underflow_step"].values.max()
    assert (run["w"].values[0, step:] == 0).all()


@pytest.mark.parametrize("scale", [1e-300, 1e-200, 1e-140, 1e140, 1e200, 1e300])
def test_sam_is_homogeneous_at_any_scale(scale: float) -> None:
    """On a quadratic, w and ρ scaled together scale the run: also where ‖∇ℓ‖² leaves the floating-point range."""
    unit = trajectory(quadratic([1.0, 0.5]), SAM(eta=0.2, rho=1.0), start=[2.0, 1.5], steps=8)
    scaled = trajectory(quadratic([1.0, 0.5]), SAM(eta=0.2, rho=scale), start=[2 * scale, 1.5 * scale], steps=8)
    assert np.allclose(scaled["w"].values / scale, unit["w"].values, rtol=1e-9, atol=1e-9)
    assert np.allclose(scaled["grad_norm"].values / scale, unit["grad_norm"].values, rtol=1e-9)


def test_small_squares_do_not_hide_a_gradient() -> None:
    run = trajectory(quadratic([1.0]), USAM(eta=0.1, rho=1.0), start=[1e-200], steps=3)
    assert status(run)[0] is Status.FINISHED
    assert run["w"].values[0, :, 0] == pytest.approx(1e-200 * 0.8 ** np.arange(4), rel=1e-13)


# Ensembles


@pytest.mark.parametrize("rule", [SAM(eta=0.2, rho=1.0), SGD(eta=0.2, sigma=0.5), GD(eta=3.0)])
def test_an_ensemble_is_its_trajectories_to_the_bit(rule: Method) -> None:
    starts = np.random.default_rng(0).standard_normal((9, 2))
    runs = [ensemble(section_6(), rule, starts=starts, steps=40, seed=7, workers=n) for n in (1, 2, 5)]
    assert runs[0].identical(runs[1])
    assert runs[0].identical(runs[2])
    first = trajectory(section_6(), rule, start=starts[0], steps=40, seed=7)
    assert first.identical(runs[0].isel(run=[0]))
    if not isinstance(rule, SGD):
        for k in range(9):
            one = trajectory(section_6(), rule, start=starts[k], steps=40, seed=7)
            assert one.identical(runs[0].isel(run=[k]))


def test_noise_is_the_documented_stream() -> None:
    loss, starts = quadratic([1.0, 0.5]), np.ones((3, 2))
    runs = ensemble(loss, SGD(eta=0.1, sigma=0.5), starts=starts, steps=30, seed=11)
    for k in range(3):
        noise = 0.5 * np.random.default_rng([11, k]).standard_normal((30, 2))
        expected = naive.run("gd", loss.grad, starts[k], 30, 0.1, noise=noise)
        assert np.allclose(runs["w"].values[k], expected, rtol=1e-12, atol=1e-14)


def test_a_diverging_run_does_not_stop_its_neighbours() -> None:
    runs = ensemble(expression("w1**4"), GD(eta=0.1), starts=[[0.5], [9.0], [-0.5]], steps=50)
    assert [Status(code) for code in runs["status"].values] == [Status.FINISHED, Status.DIVERGED, Status.FINISHED]
    assert np.isfinite(runs["w"].values[[0, 2]]).all()


# Interrupts and progress


@pytest.mark.parametrize("wrap", [lambda loss: loss, Plain])
def test_an_interrupt_keeps_what_is_done(
    monkeypatch: pytest.MonkeyPatch, wrap: Callable[[Objective], Objective]
) -> None:
    monkeypatch.setattr(simulate, "CHUNK", 20)
    whole = trajectory(section_6(), SAM(eta=0.2, rho=1.0), start=[0.1, 0.1], steps=100)

    def stop(done: int, total: int) -> None:
        if done >= 30:
            raise KeyboardInterrupt

    run = trajectory(wrap(section_6()), SAM(eta=0.2, rho=1.0), start=[0.1, 0.1], steps=100, progress=stop)
    kind, step = status(run)
    assert kind is Status.INTERRUPTED
    assert 20 <= step <= 30
    kept = run.sel(step=slice(0, step))
    assert np.allclose(kept["w"], whole["w"].sel(step=kept["step"]), rtol=1e-12)
    assert np.isnan(run["w"].sel(step=slice(step + 1, None))).all()


def test_an_interrupt_of_an_ensemble_keeps_the_runs_before_and_the_starts_after() -> None:
    def stop(done: int, total: int) -> None:
        assert total == 30
        if done >= 14:
            raise KeyboardInterrupt

    starts = [[0.1, 0.1], [0.2, 0.1], [0.3, 0.1]]
    runs = ensemble(Plain(section_6()), SAM(eta=0.2, rho=1.0), starts=starts, steps=10, progress=stop)
    assert runs["status"].values.tolist() == [Status.FINISHED, Status.INTERRUPTED, Status.INTERRUPTED]
    assert runs["status_step"].values.tolist() == [10, 3, 0]
    assert np.isfinite(runs["w"].values[0]).all()
    assert np.isfinite(runs["w"].values[1, :4]).all()
    assert np.isnan(runs["w"].values[1, 4:]).all()
    assert runs["w"].values[2, 0].tolist() == starts[2]


@pytest.mark.parametrize("wrap", [lambda loss: loss, Plain])
def test_progress_reaches_the_end(wrap: Callable[[Objective], Objective]) -> None:
    seen: list[tuple[int, int]] = []
    trajectory(wrap(section_6()), SAM(eta=0.2, rho=1.0), start=[0.1, 0.1], steps=10, progress=lambda *a: seen.append(a))
    assert seen[-1] == (10, 10)


# Misuse


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"start": [1.0]}, "start"),
        ({"start": [1.0, np.nan]}, "start"),
        ({"start": None}, "start"),
        ({"objective": "w1**2"}, "expression"),
        ({"method": SAM}, "SAM\\(eta="),
        ({"steps": -1}, "steps"),
        ({"steps": 1.5}, "steps"),
        ({"steps": True}, "steps"),
        ({"every": 0}, "every"),
        ({"seed": -1}, "seed"),
        ({"steps": 10**10}, "every="),
    ],
)
def test_misuse_is_refused_before_any_work(options: dict[str, Any], name: str) -> None:
    arguments: dict[str, Any] = {"start": [1.0, 1.0], "steps": 3} | options
    objective, method = arguments.pop("objective", section_6()), arguments.pop("method", SAM(eta=0.2, rho=1.0))
    with pytest.raises(ValueError, match=name) as caught:
        trajectory(objective, method, **arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"starts": [1.0, 1.0]}, "starts"),
        ({"starts": np.empty((0, 2))}, "starts"),
        ({"starts": [[1.0, 1.0], [1.0, np.inf]]}, r"starts\[1\]"),
        ({"starts": "ab"}, "starts"),
        ({"workers": 0}, "workers"),
    ],
)
def test_misuse_of_ensembles(options: dict[str, Any], name: str) -> None:
    arguments: dict[str, Any] = {"starts": [[1.0, 1.0]], "steps": 3} | options
    with pytest.raises(ValueError, match=name):
        ensemble(section_6(), SAM(eta=0.2, rho=1.0), **arguments)
