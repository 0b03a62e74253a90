"""The commands audit, certify and bound, through a command line of their own."""

from __future__ import annotations

import json

import pytest
import typer
from typer.testing import CliRunner

pytest.importorskip("flint")

from ravine.cli import audit, bound, certify

EXAMPLE = ["--quadratic", "1,0.5", "--eta", "0.2", "--rho", "1"]


@pytest.fixture(scope="module")
def ravine():
    app = typer.Typer()
    for name, module in (("audit", audit), ("certify", certify), ("bound", bound)):
        app.command(name)(module.command)

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
        (["certify"], "one of"),
        (["certify", "--section-6", "--quadratic", "1,0.5"], "one of"),
        (["certify", *EXAMPLE, "--within", "1e-3"], "--start"),
        (["certify", *EXAMPLE, "--start", "0,1", "--within", "1e-3"], "no part along"),
        (
            ["bound", *EXAMPLE, "--radius", "3", "--density", "1", "--q", "0.01", "--delta", "0.7", "--within", "0.01"],
            "δ < 1/2",
        ),
    ],
)
def test_misuse_is_a_value_error_with_the_cure(ravine, arguments, word):
    result = ravine(*arguments)
    assert isinstance(result.exception, ValueError)
    assert word in str(result.exception)


def test_certify_writes_a_proof_that_checks_and_names_the_step_of_a_tampered_one(ravine, tmp_path):
    path = tmp_path / "proof.json"
    made = ravine("certify", *EXAMPLE, "--start", "2,2", "--within", "1e-6", "--out", str(path))
    assert made.exit_code == 0
    assert "for all t ≥ 63" in made.output
    checked = ravine("certify", "--check", str(path))
    assert checked.exit_code == 0
    assert checked.output.startswith("holds: ")
    data = json.loads(path.read_text(encoding="utf-8"))
    data["norms"][40] = "0.1"
    path.write_text(json.dumps(data), encoding="utf-8")
    tampered = ravine("certify", "--check", str(path))
    assert tampered.exit_code == 1
    assert "step 40" in tampered.output
    again = ravine("certify", *EXAMPLE, "--start", "2,2", "--within", "1e-6", "--out", str(path))
    assert "--force" in str(again.exception)


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


def test_certify_says_what_it_could_not_decide(ravine):
    result = ravine("certify", "--section-6", "--eta", "0.2", "--rho", "0.8")
    assert result.exit_code == 1
    assert "no box" in result.output


def test_bound_stands_beside_the_runs(ravine):
    example = [*EXAMPLE, "--radius", "3", "--density", "1", "--q", "0.01", "--delta", "0.05", "--within", "0.01"]
    report = json.loads(ravine("bound", *example, "--starts", "50", "--json").stdout)
    assert report["certified"] == report["simulated"]
    assert report["simulated"] < report["counts"]["sharp"]["total"] < report["counts"]["printed"]["total"]
    shown = ravine("bound", *example, "--starts", "50").output
    assert "515,168.9" in shown
    assert "the slowest of 50 starts arrives at step" in shown
