"""The verdicts on the paper: what is printed and falls, and that each repair stands on the same search."""

from __future__ import annotations

import pytest

pytest.importorskip("flint")

from ravine.claims import LEDGER, audit, find
from ravine.claims.page import markdown, summary

FALLEN = [
    "lemma-5.1", "lemma-5.2", "eq-4", "lemma-6.2", "lemma-6.3", "lemma-7.1", "lemma-7.2", "eq-6", "lemma-7.5",
    "lemma-7.6", "proposition-8.3", "remark-9.2", "lemma-11.2", "lemma-14.1", "lemma-14.2", "lemma-14.3",
    "lemma-14.4", "lemma-16.1", "eq-8", "eq-9", "eq-11", "lemma-17", "lemma-18", "lemma-19", "theorem-1.2",
    "theorem-2", "theorem-3", "theorem-3.2", "theorem-21.1", "eq-17", "section-6.2", "section-6.3",
]  # fmt: skip


@pytest.fixture(scope="module")
def outcomes():
    return {outcome.key: outcome for outcome in audit(list(LEDGER.values()), samples=300)}


def test_every_numbered_statement_is_in_the_ledger():
    equations = {f"eq-{k}" for k in range(1, 19)}
    lemmas = {f"lemma-{k}" for k in (4, 5, 6, 7, 10, 11, 13, 14, 16, 17, 18, 19, 20)}
    others = {
        "theorem-1",
        "theorem-2",
        "theorem-3",
        "theorem-21",
        "proposition-8",
        "remark-9",
        "definition-12",
        "definition-15",
    }
    figures = {f"figure-{k}" for k in range(1, 6)} | {"section-6"}
    for name in equations | lemmas | others | figures:
        assert any(statement.printed is not None for statement in find([name])), name


@pytest.mark.parametrize("key", FALLEN)
def test_what_falls_has_a_certified_counterexample(outcomes, key):
    verdict = outcomes[key].printed
    assert verdict.status == "refuted"
    assert verdict.smallest < 0
    assert "balls" in verdict.evidence or "fractions" in verdict.evidence


def test_nothing_else_falls(outcomes):
    assert sorted(k for k, o in outcomes.items() if o.printed and o.printed.status == "refuted") == sorted(FALLEN)


@pytest.mark.parametrize("key", [s.key for s in LEDGER.values() if s.corrected is not None])
def test_every_repair_stands_where_the_print_falls(outcomes, key):
    verdict = outcomes[key].corrected
    assert verdict.status in ("proved", "not refuted")
    assert verdict.instances >= 5


def test_the_page_has_every_statement_and_every_counterexample(outcomes):
    text = markdown(list(outcomes.values()))
    for key in LEDGER:
        assert f"`{key}`" in text
    assert text.count("- Counterexample: ") == len(FALLEN)
    counts = summary(outcomes.values())
    assert counts["printed"]["refuted"] == len(FALLEN)
    assert set(counts["corrected"]) == {"proved", "not refuted"}


def test_the_documentation_page_agrees_with_the_trial(outcomes):
    from pathlib import Path

    page = (Path(__file__).parents[2] / "docs" / "ledger.md").read_text(encoding="utf-8")
    rows = {line.split("`")[-2]: line for line in page.splitlines() if line.startswith("| ") and line.endswith("` |")}
    assert set(rows) == set(LEDGER)
    for key, line in rows.items():
        assert ("**refuted**" in line) == (key in FALLEN)
