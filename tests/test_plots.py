"""Pictures read Runs and are written whole."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

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


def test_diverged_and_stationary_runs_are_drawn(tmp_path: Path) -> None:
    loss = rv.quadratic([1.0, 0.5])
    for k, (eta, start) in enumerate([(3.0, [1.0, 1.0]), (0.2, [0.0, 0.0])]):
        run = rv.trajectory(loss, rv.SAM(eta=eta, rho=1.0), start=start, steps=50)
        with plots.style():
            plots.save(plots.figure_of(run, loss), tmp_path / f"{k}.svg")


def test_misuse(tmp_path: Path) -> None:
    with plots.style():
        figure = plots.new_figure(1, 1)
        with pytest.raises(ValueError, match=r"\.svg"):
            plots.save(figure, tmp_path / "run.gif")
        plots.save(figure, tmp_path / "run.svg")
        with pytest.raises(ValueError, match="exists"):
            plots.save(figure, tmp_path / "run.svg")
