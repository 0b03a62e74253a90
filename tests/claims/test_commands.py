"""The command audit, through a command line of its own."""

from __future__ import annotations

import json

import pytest
import typer
from typer.testing import CliRunner

pytest.importorskip("flint")

from ravine.cli import audit


@pytest.fixture(scope="module")
def ravine():
    app = typer.Typer()
    app.command("audit")(audit.command)
    app.callback()(lambda: None)  # so that the command is called by its name

    def call(*arguments: str):
        return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "160"})

    return call


def test_audit_prints_verdicts(ravine):
    result = ravine("audit", "lemma-11", "--samples", "40", "--jobs", "1")
    assert result.exit_code == 0
    assert "as printed: 2 proved, 1 refuted" in result.output


def test_audit_as_json_says_which_instance(ravine):
    result = ravine("audit", "lemma-18", "--samples", "40", "--seed", "1", "--json", "--jobs", "1")
    report = json.loads(result.stdout)
    (row,) = report["statements"]
    assert report["seed"] == 1
    assert report["complete"] is True
    assert row["printed"]["status"] == "refuted"
    assert row["printed"]["instance"]["eps"] > 0.5996
    assert row["corrected"]["status"] == "proved"


def test_audit_reports_parameters_outside_hypotheses_by_statement(ravine):
    result = ravine(
        "audit", "lemma-5.4", "ours-rate", "--quadratic", "1,0.5", "--eta", "0.6", "--samples", "8", "--json"
    )
    by_key = {row["key"]: row for row in json.loads(result.stdout)["statements"]}
    assert by_key["lemma-5.4"]["printed"]["status"] == "outside"
    assert by_key["lemma-5.4"]["printed"]["outside"] == {"ηλ₁ < 1/2": pytest.approx(-0.1)}
    assert by_key["ours-rate"]["corrected"]["status"] == "proved"


def test_audit_writes_between_the_marks_of_a_page_and_nothing_else(ravine, tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- verdicts: begin -->\nstale\n<!-- verdicts: end -->\nafter\n", encoding="utf-8")
    assert ravine("audit", "eq-9", "--samples", "20", "--page", str(page)).exit_code == 0
    text = page.read_text(encoding="utf-8")
    assert text.startswith("before\n<!-- verdicts: begin -->\n| statement |")
    assert text.endswith("<!-- verdicts: end -->\nafter\n")
    assert "stale" not in text
    assert "- Counterexample: λ = (" in text


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["audit", "lemma-99"], "lemma-4"),
        (["audit", "--quadratic", "1,x"], "separated by commas"),
        (["audit", "--quadratic", "1"], "two eigenvalues"),
        (["audit", "--start", "1,2"], "--quadratic"),
        (["audit", "--samples", "0", "eq-3"], "samples"),
        (["audit", "--page", "nowhere.md", "eq-3"], "nowhere.md"),
    ],
)
def test_misuse_is_a_value_error_with_the_cure(ravine, arguments, word):
    result = ravine(*arguments)
    assert isinstance(result.exception, ValueError)
    assert word in str(result.exception)


def test_an_interrupted_audit_prints_what_is_done_and_leaves_the_page(ravine, tmp_path, monkeypatch):
    from ravine import claims
    from ravine.claims import trial

    def stops(statements, *, progress, **options):
        (first,) = trial.audit(statements[:1], **options)
        progress(first)
        raise KeyboardInterrupt

    page = tmp_path / "page.md"
    page.write_text("<!-- verdicts: begin -->\nstale\n<!-- verdicts: end -->", encoding="utf-8")
    monkeypatch.setattr(claims, "audit", stops)
    result = ravine("audit", "eq-9", "eq-10", "--samples", "20", "--json", "--page", str(page))
    assert result.exit_code == 130
    report = json.loads(result.stdout)
    assert report["complete"] is False
    assert [row["key"] for row in report["statements"]] == ["eq-9"]
    assert "stale" in page.read_text(encoding="utf-8")
