"""The commands certify and bound, through a command line of their own."""

from __future__ import annotations

import json

import pytest
import typer
from typer.testing import CliRunner

pytest.importorskip("flint")

from ravine.cli import bound, certify

EXAMPLE = ["--quadratic", "1,0.5", "--eta", "0.2", "--rho", "1"]


@pytest.fixture(scope="module")
def ravine():
    app = typer.Typer()
    app.command("certify")(certify.command)
    app.command("bound")(bound.command)

    def call(*arguments: str):
        return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "160"})

    return call


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["certify"], "one of"),
        (["certify", "--section-6", "--within", "1e-3"], "leave them out"),
        (["certify", "--section-6", "--quadratic", "1,0.5"], "one of"),
        (["certify", *EXAMPLE, "--within", "1e-3"], "--start"),
        (["certify", *EXAMPLE, "--start", "0,1", "--within", "1e-3"], "no part along"),
        (
            ["bound", *EXAMPLE, "--radius", "3", "--density", "1", "--q", "0.01", "--delta", "0.7", "--within", "0.01"],
            "δ < 1/2",
        ),
        (
            ["bound", "--quadratic", "1,1", *EXAMPLE[2:], "--radius", "3", "--density", "1", "--q", "0.01",
             "--delta", "0.05", "--within", "0.01"],
            "merge",
        ),
    ],
)  # fmt: skip
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
    assert json.loads(ravine("bound", *example, "--starts", "50", "--json").stdout)["start"] == report["start"]
