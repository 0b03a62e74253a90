"""The verdicts in print: a page beside the paper, and the plain data behind it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ravine.claims.ledger import LEDGER
from ravine.claims.statement import Claim, Statement
from ravine.claims.verdicts import StatementOutcome, Verdict

MARKS = {"proved": "proved", "refuted": "**refuted**", "not refuted": "stands", "outside": "outside", "untested": "—"}


def headline(verdict: Verdict | None) -> str:
    """A verdict in a few words."""
    if verdict is None:
        return "—"
    if verdict.status == "not refuted":
        return f"not refuted in {verdict.instances}"
    return verdict.status


def evidence(outcome: StatementOutcome) -> str:
    """What the verdicts rest on, one line."""
    parts = []
    for verdict in (outcome.printed, outcome.corrected):
        if verdict is None:
            continue
        if verdict.status == "refuted":
            parts.append(f"{shown(verdict.instance)}: {verdict.evidence}")
        elif verdict.status == "proved":
            parts.append(verdict.evidence)
        elif verdict.status == "not refuted":
            parts.append(f"smallest margin {number(verdict.smallest)}")
        elif verdict.status == "outside":
            parts.append(
                "outside: " + ", ".join(f"{name} fails by {-gap:.3g}" for name, gap in verdict.outside.items())
            )
        else:
            parts.append("nothing to check within the limits")
    return "; ".join(dict.fromkeys(parts))


def title(statement: Statement) -> str:
    """A statement's title, marked where the paper has no such statement."""
    return f"{statement.title} (ours)" if statement.ours else statement.title


def number(value: float | None) -> str:
    """A margin for print; the rounding of an identity in floats as 0."""
    if value is None:
        return "—"
    return "0 to rounding" if abs(value) < 1e-12 else f"{value:.3g}"


def shown(instance: Mapping[str, Any] | None) -> str:
    """An instance on one line, in the paper's letters."""
    letters = {
        "eigenvalues": "λ",
        "eta": "η",
        "rho": "ρ",
        "eps": "ε",
        "delta": "δ",
        "beta1": "β₁",
        "lam1": "λ₁",
        "lam2": "λ₂",
    }
    letters |= {"tau": "τ", "alpha": "α", "beta": "β", "kappa": "κ", "step": "ηλ_d", "ratio": "R/(ηρλ₁)", "w": "w₀"}
    return ", ".join(f"{letters.get(name, name)} = {_as_text(value)}" for name, value in (instance or {}).items())


def _as_text(value: Any) -> str:
    if isinstance(value, tuple):
        return "(" + ", ".join(_as_text(x) for x in value) + ")"
    return f"{value:g}" if float(f"{value:g}") == value else repr(value)


def data(outcomes: Iterable[StatementOutcome]) -> list[dict[str, Any]]:
    """For JSON: each statement's text and verdicts."""
    rows = []
    for outcome in outcomes:
        statement = LEDGER[outcome.key]
        verdicts = outcome.as_dict()
        rows.append(
            {
                "key": outcome.key,
                "title": statement.title,
                "ours": statement.ours,
                "printed": _wording(statement.printed, verdicts["printed"]),
                "corrected": _wording(statement.corrected, verdicts["corrected"]),
                "scope": statement.scope,
                "repair": statement.repair,
            }
        )
    return rows


def _wording(claim: Claim | None, verdict: dict[str, Any] | None) -> dict[str, Any] | None:
    return None if claim is None or verdict is None else {"latex": claim.latex, **verdict}


def summary(outcomes: Iterable[StatementOutcome]) -> dict[str, dict[str, int]]:
    """How many statements have which verdict, by wording."""
    counts: dict[str, dict[str, int]] = {"printed": {}, "corrected": {}}
    for outcome in outcomes:
        for name, verdict in (("printed", outcome.printed), ("corrected", outcome.corrected)):
            if verdict is not None:
                counts[name][verdict.status] = counts[name].get(verdict.status, 0) + 1
    return counts


def markdown(outcomes: list[StatementOutcome]) -> str:
    """The page's generated part: the table, each refuted statement with counterexample and repair, what was checked."""
    lines = ["| statement | as printed | as corrected | key |", "|---|---|---|---|"]
    for outcome in outcomes:
        statement = LEDGER[outcome.key]
        lines.append(
            f"| {title(statement)} | {_cell(outcome.printed)} | {_cell(outcome.corrected)} | `{outcome.key}` |"
        )
    refuted = [o for o in outcomes if o.printed is not None and o.printed.status == "refuted"]
    lines += ["", "### Refuted as printed", ""]
    for outcome in refuted:
        lines += _entry(LEDGER[outcome.key], outcome)
    lines += ["### What was checked of the rest", ""]
    for outcome in outcomes:
        if outcome in refuted:
            continue
        statement = LEDGER[outcome.key]
        claim = statement.printed or statement.corrected
        assert claim is not None
        lines.append(
            f"- **{statement.title}** (`{outcome.key}`): ${claim.latex}$. {_with_full_stop(evidence(outcome))}"
        )
        for text in (statement.scope and f"Checked: {statement.scope}", statement.repair):
            if text:
                lines.append(f"  {_with_full_stop(text)}")
    return "\n".join(lines) + "\n"


def _cell(verdict: Verdict | None) -> str:
    if verdict is None:
        return "—"
    if verdict.status == "not refuted":
        return f"not refuted in {verdict.instances} ({number(verdict.smallest)})"
    return MARKS[verdict.status]


def _entry(statement: Statement, outcome: StatementOutcome) -> list[str]:
    assert statement.printed is not None
    assert outcome.printed is not None
    lines = [
        f"**{statement.title}** (`{statement.key}`): ${statement.printed.latex}$",
        "",
        f"- Counterexample: {shown(outcome.printed.instance)}; {outcome.printed.evidence}.",
    ]
    if statement.repair:
        lines.append(f"- Repair: {_with_full_stop(statement.repair)}")
    if statement.corrected is not None and outcome.corrected is not None:
        how = outcome.corrected.evidence or f"smallest margin {number(outcome.corrected.smallest)}"
        lines.append(f"- Holds: ${statement.corrected.latex}$: {headline(outcome.corrected)}; {_with_full_stop(how)}")
    if statement.scope:
        lines.append(f"- Checked: {_with_full_stop(statement.scope)}")
    return [*lines, ""]


def _with_full_stop(text: str) -> str:
    return text if text.endswith(".") else f"{text}."
