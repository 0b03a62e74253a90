"""The experiments: what they check, what counts once, and what their pictures show."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from matplotlib.collections import PathCollection
from matplotlib.text import Annotation

import naive
from ravine import plots
from ravine.experiments import EXPERIMENTS, Check, ExperimentOutcome, Formula, Picture, measure, repeated
from ravine.methods import GD, SAM, SGD
from ravine.objectives import quadratic, section_6
from ravine.simulate import trajectory

FIGURES = [name for name in EXPERIMENTS if name not in ("network", "probe")]


@cache
def outcome_of(name: str) -> ExperimentOutcome:
    return EXPERIMENTS[name](lambda stage, share: None)


def picture_of(name: str) -> Picture:
    (picture,) = outcome_of(name).pictures
    return picture


@pytest.fixture(autouse=True)
def _style() -> Iterator[None]:
    with plots.style():
        yield


def of(*checks: Check) -> ExperimentOutcome:
    return ExperimentOutcome(checks[0].experiment, "A title", (), Formula("x", "x"), (), checks)


@pytest.mark.parametrize("name", FIGURES)
def test_every_check_of_the_figures_holds(name: str) -> None:
    done = outcome_of(name)
    assert done.name == name
    assert len(done.checks) >= 5
    assert [check.quantity for check in done.checks if not check.holds] == []
    assert len({check.quantity for check in done.checks}) == len(done.checks)
    cycles = [check for check in done.checks if "cycle" in check.quantity or "‖w_(t+2)" in check.quantity]
    assert all(check.tol <= 1e-9 for check in cycles)
    assert all(picture.caption.startswith("Figure ") for picture in done.pictures)


def test_a_check_holds_up_to_its_tolerance() -> None:
    assert Check("a", "b", 1.0, 1.125, 0.125, run="r").holds
    assert Check("a", "b", 0.0, 0.0, 0.0, run="r").holds
    assert not Check("a", "b", 1.0, 1.126, 0.125, run="r").holds
    assert not Check("a", "b", 1.0, math.nan, 0.125, run="r").holds


def test_figure_5_measures_figure_4s_run_again() -> None:
    """SAM from (1, 1): of the figures' 28 checks four are said twice, so 24 are counted."""
    outcomes = [outcome_of(name) for name in FIGURES]
    again = repeated(outcomes)
    assert set(again.values()) == {"figure-4"}
    assert {check.experiment for check in again} == {"figure-5"}
    assert len({check.run for check in again}) == 1
    assert all(check.quantity.startswith("SAM: ") for check in again)
    assert (sum(len(outcome.checks) for outcome in outcomes), len(again)) == (28, 4)
    assert repeated([outcome_of("figure-5")]) == {}


def test_what_counts_once() -> None:
    first = Check("figure-1", "a quantity", 1.0, 1.05, 0.1, run="r")
    same = replace(first, experiment="figure-2")
    assert repeated([of(first), of(same)]) == {same: "figure-1"}
    assert repeated([of(first), of(same), of(replace(first, experiment="figure-3"))]) == {
        same: "figure-1",
        replace(first, experiment="figure-3"): "figure-1",
    }


@pytest.mark.parametrize(
    "other", [{"run": "s"}, {"quantity": "another"}, {"predicted": 1.01}, {"measured": 1.06}, {"tol": 0.2}]
)
def test_what_counts_twice(other: dict[str, Any]) -> None:
    """Another run, or the same with another result: both stand, however alike the words are."""
    first = Check("figure-1", "a quantity", 1.0, 1.05, 0.1, run="r")
    assert repeated([of(first), of(replace(first, experiment="figure-2", **other))]) == {}


def test_a_check_that_is_no_number_never_counts_as_said_before() -> None:
    first = Check("figure-1", "a quantity", 1.0, float("nan"), 0.1, run="r")
    assert repeated([of(first), of(replace(first, experiment="figure-2", measured=float("nan")))]) == {}


def test_a_runs_identity_tells_runs_apart() -> None:
    loss, other = section_6(), quadratic([2.0, 1.0])
    runs = [
        trajectory(loss, SAM(eta=0.2, rho=1.0), start=(1.0, 1.0), steps=5),
        trajectory(loss, SAM(eta=0.2, rho=1.0), start=(1.0, 1.0), steps=6),
        trajectory(loss, SAM(eta=0.2, rho=1.0), start=(1.0, np.nextafter(1.0, 2.0)), steps=5),
        trajectory(loss, SAM(eta=0.1, rho=1.0), start=(1.0, 1.0), steps=5),
        trajectory(loss, SAM(eta=0.2, rho=0.5), start=(1.0, 1.0), steps=5),
        trajectory(loss, SAM(eta=0.2, rho=1.0, momentum=0.5), start=(1.0, 1.0), steps=5),
        trajectory(other, SAM(eta=0.2, rho=1.0), start=(1.0, 1.0), steps=5),
        trajectory(loss, GD(eta=0.2), start=(1.0, 1.0), steps=5),
        trajectory(loss, SGD(eta=0.2, sigma=0.5), start=(1.0, 1.0), steps=5, seed=1),
        trajectory(loss, SGD(eta=0.2, sigma=0.5), start=(1.0, 1.0), steps=5, seed=2),
        trajectory(loss, SGD(eta=0.2, sigma=0.4), start=(1.0, 1.0), steps=5, seed=1),
    ]
    names = [measure.identity(run) for run in runs]
    assert len(set(names)) == len(names)
    again = trajectory(loss, SAM(eta=0.2, rho=1.0), start=(1.0, 1.0), steps=5)
    assert measure.identity(again) == names[0]


def gradient(w: np.ndarray) -> np.ndarray:
    a = 1 + w[1] ** 2 / 2
    return np.array([2 * w[0] / a, w[1] * (1 - (w[0] / a) ** 2)])


def largest_eigenvalue(w: np.ndarray) -> float:
    """Of the Hessian of w₁²/(1+w₂²/2) + w₂²/2, written out."""
    a = 1 + w[1] ** 2 / 2
    mixed = -2 * w[0] * w[1] / a**2
    other = 1 - w[0] ** 2 / a**2 + 2 * w[0] ** 2 * w[1] ** 2 / a**3
    middle, half = (2 / a + other) / 2, (2 / a - other) / 2
    return float(middle + math.hypot(half, mixed))


def curves(name: str) -> dict[str, np.ndarray]:
    """What the panel of λ_max shows, by its legend."""
    figure = picture_of(name).alone(1)
    return {str(line.get_label()): np.asarray(line.get_ydata(), dtype=float) for line in figure.axes[0].lines}


@pytest.mark.parametrize(
    ("name", "start"), [("figure-3", (0.1, 0.1)), ("figure-4", (1.0, 1.0)), ("figure-5", (1.0, 1.0))]
)
def test_the_sharpness_beside_figures_3_to_5_is_that_of_the_run(name: str, start: tuple[float, float]) -> None:
    shown = curves(name)
    w = naive.run("sam", gradient, np.array(start), shown["SAM"].size, 0.2, rho=1.0)
    expected = [largest_eigenvalue((here + there) / 2) for here, there in pairwise(w)]
    np.testing.assert_allclose(shown["SAM"], expected, atol=1e-12)
    if name != "figure-5":
        w = naive.run("gd", gradient, np.array(start), shown["gradient descent"].size - 1, 0.2)
        np.testing.assert_allclose(shown["gradient descent"], [largest_eigenvalue(one) for one in w], atol=1e-12)
        assert shown["gradient descent"][-1] == pytest.approx(2.0, abs=1e-4)
    else:
        w = trajectory(section_6(), SGD(eta=0.2, sigma=1 / 1.8), start=start, steps=25, seed=5)["w"].values[0]
        np.testing.assert_allclose(shown["SGD"], [largest_eigenvalue(one) for one in w], atol=1e-12)


@pytest.mark.parametrize("name", ["figure-3", "figure-4", "figure-5"])
def test_the_levels_and_the_caption_say_where_the_sharpness_ends(name: str) -> None:
    w = naive.run("sam", gradient, np.array([0.1, 0.1]), 2000, 0.2, rho=1.0)
    limit = largest_eigenvalue((w[-1] + w[-2]) / 2)
    shown = curves(name)
    levels = {label: values for label, values in shown.items() if label[:2] in ("at", "SA") and ":" in label}
    assert levels.keys() == {"at the minimum: 2", f"SAM's limit: {limit:.4g}"}
    np.testing.assert_allclose(levels["at the minimum: 2"], largest_eigenvalue(np.zeros(2)), rtol=1e-15)
    np.testing.assert_allclose(levels[f"SAM's limit: {limit:.4g}"], limit, rtol=1e-12)
    assert abs(shown["SAM"][-1] - limit) < 1e-4
    assert f"2 → {limit:.4g}" in picture_of(name).caption


def test_the_rate_in_figure_2_is_that_of_the_fall() -> None:
    figure = picture_of("figure-2").alone(1)
    shown = {str(line.get_label()): np.asarray(line.get_ydata(), dtype=float) for line in figure.axes[0].lines}
    fall, rate = shown["SAM"], shown["predicted rate"]
    assert (np.diff(fall) < 0).all()
    assert rate[-1] == fall[-1]
    assert fall[-1] / fall[-2] == pytest.approx(rate[-1] / rate[-2], rel=0.01)


@pytest.mark.parametrize("name", ["figure-1", "figure-2", "figure-3", "figure-4", "figure-5"])
def test_the_start_is_marked_and_the_path_is_in_order(name: str) -> None:
    figure = picture_of(name).alone(0)
    (word,) = [text for text in figure.axes[0].texts if text.get_text() == "start"]
    assert isinstance(word, Annotation)
    starts = {"figure-1": (2.0, 2.0), "figure-2": (0.244, 0.0224), "figure-3": (0.1, 0.1)}
    assert word.xy == pytest.approx(starts.get(name, (1.0, 1.0)))
    if name != "figure-2":
        (dots,) = [one for one in figure.axes[0].collections if isinstance(one, PathCollection)]
        assert np.asarray(dots.get_offsets())[0] == pytest.approx(word.xy)
        steps = np.asarray(dots.get_array())
        assert (steps == np.arange(steps.size)).all()
        assert "step" in {ax.get_ylabel() for ax in figure.axes}


def test_figure_2_has_haloed_crosses_and_an_inset() -> None:
    ax = picture_of("figure-2").alone(0).axes[0]
    (inset,) = ax.child_axes
    for one in (ax, inset):
        (crosses,) = [line for line in one.lines if line.get_marker() == "+"]
        assert crosses.get_path_effects()
        assert np.asarray(crosses.get_xydata()).shape == (4, 2)
    minimum = 0.2 / 1.8
    assert inset.get_xlim()[0] < minimum < inset.get_xlim()[1]


def test_the_shade_of_figure_5_is_the_density_of_the_long_run() -> None:
    """Its centre and spread are those that the noise's law gives: w₁ and w₂ of curvature 2 and 1, to some per cent."""
    (shade,) = picture_of("figure-5").alone(0).axes[0].images
    left, right, bottom, top = shade.get_extent()
    weight = np.asarray(shade.get_array())[..., 3]
    weight = weight / weight.sum()
    for axis, (low, high), curvature in ((0, (left, right), 2.0), (1, (bottom, top), 1.0)):
        centres = low + (np.arange(weight.shape[1 - axis]) + 0.5) * (high - low) / weight.shape[1 - axis]
        share = weight.sum(axis=axis)
        mean = float(share @ centres)
        variance = 0.2 * (1 / 1.8) ** 2 / (curvature * (2 - 0.2 * curvature))
        assert abs(mean) < 0.01
        assert float(share @ (centres - mean) ** 2) == pytest.approx(variance, rel=0.06)


@pytest.mark.parametrize("name", FIGURES)
def test_legends_lie_beside_the_data_and_nothing_is_cut_off(name: str) -> None:
    picture = picture_of(name)
    drawn = [picture.whole(), *(picture.alone(k) for k in range(len(picture.panels)))]
    for figure in drawn:
        figure.draw_without_rendering()
        legends = [legend for ax in figure.axes if (legend := ax.get_legend()) is not None]
        assert legends
        for legend in legends:
            box = legend.get_window_extent()
            assert not any(box.overlaps(ax.get_window_extent()) for ax in figure.axes)
        for box in [legend.get_window_extent() for legend in legends] + [ax.get_tightbbox() for ax in figure.axes]:
            assert box is not None
            assert box.x0 >= figure.bbox.x0 - 1
            assert box.x1 <= figure.bbox.x1 + 1
            assert box.y0 >= figure.bbox.y0 - 1
            assert box.y1 <= figure.bbox.y1 + 1


@pytest.mark.parametrize("name", FIGURES)
def test_axes_say_what_they_show(name: str) -> None:
    for k, panel in enumerate(picture_of(name).panels):
        ax = picture_of(name).alone(k).axes[0]
        assert ax.get_title(loc="left")
        assert ax.get_xlabel()
        assert ax.get_ylabel()
        assert len(panel.description) > 20
