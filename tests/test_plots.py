"""Pictures read Runs and are written whole."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

import ravine as rv
from ravine import plots


def runs() -> list[tuple[rv.Objective, list[float]]]:
    return [(rv.section_6(), [0.1, 0.1]), (rv.quadratic([1.0, 0.5, 0.1]), [1.0] * 3), (rv.expression("0-w1**2"), [0.1])]


@pytest.mark.parametrize("case", range(3))
@pytest.mark.parametrize("ending", ["svg", "png", "pdf"])
def test_a_run_of_any_dimension_is_drawn(tmp_path: Path, case: int, ending: str) -> None:
    loss, start = runs()[case]
    run = rv.trajectory(loss, rv.SAM(eta=0.2, rho=1.0), start=start, steps=10)
    path = tmp_path / f"run.{ending}"
    with plots.style():
        plots.save(plots.figure_of(run, loss), path)
    assert path.stat().st_size > 1000
    if ending == "svg":
        assert ElementTree.parse(path).getroot().tag.endswith("svg")


def test_equal_runs_give_equal_pictures(tmp_path: Path) -> None:
    loss, start = runs()[0]
    run = rv.trajectory(loss, rv.SAM(eta=0.2, rho=1.0), start=start, steps=10)
    for name in ("a.svg", "b.svg"):
        with plots.style():
            plots.save(plots.figure_of(run, loss), tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_a_picture_shows_the_run() -> None:
    loss, start = runs()[0]
    run = rv.trajectory(loss, rv.SAM(eta=0.2, rho=1.0), start=start, steps=10)
    with plots.style():
        figure = plots.figure_of(run, loss)
    plane, decay = figure.axes
    (path,) = plane.lines
    assert (path.get_xydata() == run["w"].values[0]).all()
    assert [line.get_ydata().tolist() for line in decay.lines] == [  # pyright: ignore[reportAttributeAccessIssue]
        run[name].values[0].tolist() for name in ("grad_norm", "loss")
    ]
    assert decay.get_yscale() == "log"
    assert plane.get_xlim()[0] < run["w"].values[0, :, 0].min() < run["w"].values[0, :, 0].max() < plane.get_xlim()[1]


@pytest.mark.parametrize(
    ("eta", "start", "words", "scale"),
    [(3.0, [1.0, 1.0], "diverged at step", "log"), (0.2, [0.0, 0.0], "gradient vanished at step 0", "linear")],
)
def test_diverged_and_stationary_runs_are_drawn(eta: float, start: list[float], words: str, scale: str) -> None:
    loss = rv.quadratic([1.0, 0.5])
    run = rv.trajectory(loss, rv.SAM(eta=eta, rho=1.0), start=start, steps=3000)
    with plots.style():
        figure = plots.figure_of(run, loss)
        figure.canvas.draw()
    plane, decay = figure.axes
    # All but what has left every picture lies within its limits, and what a logarithm cannot show is on a linear axis.
    w = run["w"].values[0]
    shown = w[(np.abs(w) < 1e99).all(axis=1)]
    low, high = np.array([plane.get_xlim(), plane.get_ylim()]).T
    assert np.isfinite([low, high]).all()
    assert ((shown >= low) & (shown <= high)).all()
    assert np.array_equal(plane.lines[0].get_xydata(), w, equal_nan=True)
    assert words in figure.get_suptitle()
    assert decay.get_yscale() == scale


def test_a_forecast_is_shaded_past_its_horizon() -> None:
    loss, method = rv.expression("w1**2/2 + w1**4/4 + w2**2/20 + w3**2/100"), rv.GD(eta=0.2)
    seen = rv.forecast(loss, method, start=[0.5, 1.0, 1.0], steps=200, products=3, drift=False)
    assert 0 < seen.horizon < 200
    with plots.style():
        figure = plots.forecast_figure(seen.run, seen.horizon, edge=10.0)
    for ax in figure.axes:
        (shade,) = ax.patches
        assert shade.get_extents().transformed(ax.transData.inverted()).intervalx == pytest.approx([seen.horizon, 200])
    assert np.array_equal(figure.axes[0].lines[0].get_ydata(), seen.run["grad_norm"].values)


def test_misuse(tmp_path: Path) -> None:
    with plots.style():
        figure = plots.new_figure(1, 1)
        with pytest.raises(ValueError, match=r"\.svg"):
            plots.save(figure, tmp_path / "run.gif")
        plots.save(figure, tmp_path / "run.svg")
        with pytest.raises(ValueError, match="exists"):
            plots.save(figure, tmp_path / "run.svg")
