"""Experiments and the page they are bound into."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from matplotlib.axes import Axes
from pages import Page

from ravine import experiments, plots
from ravine.cli import main
from ravine.cli.reproduce import PAPER
from ravine.experiments import EXPERIMENTS, Check, ExperimentOutcome, Formula, Panel, Picture
from ravine.report import build, provenance


def reproduce(*arguments: str) -> int:
    with pytest.raises(SystemExit) as exit_:
        main(["reproduce", *arguments])
    assert isinstance(exit_.value.code, int)
    return exit_.value.code


def a_line(ax: Axes) -> None:
    ax.plot([0, 1], [0, 1], color=plots.BLUE)


def outcome(*checks: Check, name: str = "figure-1", text: str = "story") -> ExperimentOutcome:
    panels = (Panel(a_line, "A line that rises."),) * 2
    return ExperimentOutcome(
        name, "A title", (text,), Formula("a_1", text), (Picture(name, "A caption", panels),), checks
    )


def replace_experiments(monkeypatch: pytest.MonkeyPatch, odd: dict[str, Callable[[Any], ExperimentOutcome]]) -> None:
    """Put trivial experiments in place of the real ones, except for the odd ones."""
    for name in EXPERIMENTS:
        fine = Check(name, "a quantity", 1.0, 1.0, 0.1, run=name)
        trivial = partial(lambda progress, name, check: outcome(check, name=name), name=name, check=fine)
        monkeypatch.setitem(experiments.EXPERIMENTS, name, odd.get(name, trivial))


def test_the_command_line_knows_every_experiment() -> None:
    from ravine.cli.reproduce import NAMES

    assert tuple(EXPERIMENTS) == NAMES


def test_the_report_of_a_figure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "report"
    assert reproduce("figure-1", "--out", str(out)) == 0
    assert "5 of 5 checks hold" in capsys.readouterr().out
    assert sorted(path.name for path in out.iterdir()) == ["figure-1.png", "figure-1.svg", "index.html", "report.json"]
    record = json.loads((out / "report.json").read_text())
    assert set(record["checks"][0]) == {"experiment", "run", "quantity", "predicted", "measured", "tol", "holds"}
    assert {"ravine", "commit", "machine", "seeds", "command"} <= set(record["provenance"])
    assert record["not_run"] == {}
    for check in record["checks"]:
        assert check["holds"] == (abs(check["measured"] - check["predicted"]) <= check["tol"])


def test_a_check_is_counted_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Figures 4 and 5 measure one run: on the page, in the list and in the sum it stands once."""
    shared = {
        name: outcome(
            Check(name, "shared", 1.0, 1.0, 0.1, run="the same"), Check(name, "own", 2.0, 2.0, 0.1, run=name), name=name
        )
        for name in ("figure-4", "figure-5")
    }
    replace_experiments(monkeypatch, {name: lambda progress, one=one: one for name, one in shared.items()})
    out = tmp_path / "report"
    assert reproduce("paper", "--out", str(out)) == 0
    record = json.loads((out / "report.json").read_text())
    total = len(PAPER) + 1
    assert len(record["checks"]) == total
    assert record["repeated"] == [{"experiment": "figure-5", "quantity": "shared", "counted_in": "figure-4"}]
    page = Page((out / "index.html").read_text())
    assert f"{total} of {total} checks hold" in page.text
    assert page.text.count("shared") == 1
    assert "1 more check is of the same run as in figure-4" in page.text
    printed = capsys.readouterr().out
    assert f"{total} of {total} checks hold" in printed
    assert "1 more repeat" in printed


def test_text_is_escaped(tmp_path: Path) -> None:
    nasty = "<script>alert(1)</script>"
    build([outcome(text=nasty)], {"network": nasty}, provenance(nasty, []), tmp_path / "report", force=False)
    page = Page((tmp_path / "report" / "index.html").read_text())
    assert "script" not in page.tags
    assert page.text.count("alert(1)") == 4


@pytest.mark.parametrize("measured", [1.2, math.nan, math.inf])
def test_a_check_that_fails_is_red_and_fails_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], measured: float
) -> None:
    bad = Check("figure-1", "a quantity", 1.0, measured, 0.1, run="r")
    assert not bad.holds
    monkeypatch.setitem(experiments.EXPERIMENTS, "figure-1", lambda progress: outcome(bad))
    out = tmp_path / "report"
    assert reproduce("figure-1", "--out", str(out)) == 1
    assert "DOES NOT HOLD" in capsys.readouterr().out
    record = json.loads((out / "report.json").read_text())
    assert [check["holds"] for check in record["checks"]] == [False]
    html = (out / "index.html").read_text()
    assert '<tr class="fails">' in html
    assert "0 of 1 checks hold" in Page(html).text


def test_a_crash_costs_only_its_own_experiment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def crash(progress: Any) -> ExperimentOutcome:
        raise RuntimeError("no luck")

    replace_experiments(monkeypatch, {"figure-4": crash})
    out = tmp_path / "report"
    assert reproduce("paper", "--out", str(out)) == 1
    record = json.loads((out / "report.json").read_text())
    assert record["not_run"] == {"figure-4": "RuntimeError: no luck"}
    assert len(record["checks"]) == len(PAPER) - 1
    assert "no luck" in Page((out / "index.html").read_text()).text
    assert "figure-4 is not in the report" in capsys.readouterr().out


def test_an_interrupt_keeps_the_experiments_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(progress: Any) -> ExperimentOutcome:
        raise KeyboardInterrupt

    replace_experiments(monkeypatch, {"figure-3": stop})
    out = tmp_path / "report"
    assert reproduce("paper", "--out", str(out)) == 130
    record = json.loads((out / "report.json").read_text())
    assert list(record["not_run"]) == ["figure-3", "figure-4", "figure-5", "network"]
    assert len(record["checks"]) == 2


def test_folders_are_not_overwritten_unasked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    good = Check("figure-1", "a quantity", 1.0, 1.0, 0.1, run="r")
    monkeypatch.setitem(experiments.EXPERIMENTS, "figure-1", lambda progress: outcome(good))
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.tex").write_text("years of work")
    assert reproduce("figure-1", "--out", str(mine), "--force") == 2
    assert (mine / "thesis.tex").read_text() == "years of work"
    assert reproduce("figure-1", "--out", str(mine / "thesis.tex"), "--force") == 2
    assert reproduce("figure-1", "--out", str(tmp_path / "no" / "report")) == 2
    out = tmp_path / "report"
    assert reproduce("figure-1", "--out", str(out)) == 0
    (out / "old").write_text("")
    assert reproduce("figure-1", "--out", str(out)) == 2
    assert "--force" in capsys.readouterr().err
    assert reproduce("figure-1", "--out", str(out), "--force") == 0
    assert not (out / "old").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "report"]


def test_a_crash_while_writing_leaves_the_old_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "report"
    build([outcome()], {}, provenance("first", []), out, force=False)
    before = (out / "index.html").read_text()
    monkeypatch.setattr(json, "dumps", lambda *a, **k: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        build([outcome()], {}, provenance("second", []), out, force=True)
    assert (out / "index.html").read_text() == before
    assert [path.name for path in tmp_path.iterdir()] == ["report"]


def test_misuse(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert reproduce("figure-9", "--out", str(tmp_path / "report")) == 2
    assert "figure-1" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_json_on_standard_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert reproduce("figure-3", "--out", str(tmp_path / "report"), "--json") == 0
    assert all(check["holds"] for check in json.loads(capsys.readouterr().out)["checks"])
