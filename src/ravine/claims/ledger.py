"""What a statement is: its text, where it should hold, and its claim as a margin that is negative where it fails."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

from ravine.claims.numbers import Numbers, Real
from ravine.claims.samplers import Draw, Instance

Margin = Callable[[Instance, Numbers], Real]
Hypotheses = Callable[[Instance, Numbers], Mapping[str, Real]]


class Untested(Exception):  # noqa: N818 (it is an outcome, not an error)
    """An instance on which a claim says nothing that could be checked within the limits."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One wording of a statement.

    Attributes
    ----------
    latex
        The wording.
    margin
        Relative to the statement's own scale: ≥ 0 where it holds, < 0 where it fails, 0 for an identity.
    also
        Hypotheses that this wording adds: names and numbers that must be positive.
    proof
        Where there is one: carries it out and returns in words what it did; raises `proofs.Unproved`.
    seeds
        Instances that the search starts from: edge cases that a random draw would not meet.
    """

    latex: str
    margin: Margin
    also: Hypotheses | None = None
    proof: Callable[[], str] | None = None
    seeds: tuple[Instance, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Statement:
    """A numbered statement on trial.

    Attributes
    ----------
    key, title
        Its name on the command line, and in print.
    draw
        Sampler of instances that meet `hypotheses`.
    hypotheses
        Names and numbers that must be positive.
    printed, corrected
        The claim as the paper prints it (None for ours), and as it holds (None where the print stands).
    scope
        What is checked of it, and how, where that is less than the statement says.
    repair
        Why the print fails and what mends it, in words.
    ours
        Whether the paper leaves it open.
    exact
        Whether balls can evaluate it; figures drawn by chance cannot.
    cost
        It is tried on so many times fewer instances than asked: for those that simulate long runs.
    single
        Whether it is of one run, and there is nothing to search.
    """

    key: str
    title: str
    draw: Callable[[Draw], Instance]
    hypotheses: Hypotheses
    printed: Claim | None = None
    corrected: Claim | None = None
    scope: str = ""
    repair: str = ""
    ours: bool = False
    exact: bool = True
    cost: int = 1
    single: bool = False


@cache
def ledger() -> dict[str, Statement]:
    """Every statement by its key, in the order of the paper."""
    from ravine.claims.statements import (
        alignment,
        arrival,
        descent,
        drift,
        ours,
        potential,
        properties,
        section6,
        theorems,
    )

    statements: dict[str, Statement] = {}
    for module in (properties, descent, potential, alignment, arrival, theorems, drift, section6, ours):
        for statement in module.STATEMENTS:
            if statement.key in statements:
                raise AssertionError(f"{statement.key} is listed twice")
            statements[statement.key] = statement
    return statements


def find(names: list[str] | tuple[str, ...]) -> list[Statement]:
    """The statements named; a name stands for its parts too: lemma-5 for lemma-5.1, lemma-5.2, ….

    Raises
    ------
    ValueError
        For a name that names none; it lists the known ones.
    """
    known = ledger()
    if not names:
        return list(known.values())
    found: dict[str, Statement] = {}
    for name in names:
        matches = {key: s for key, s in known.items() if key == name or key.startswith(f"{name}.")}
        if not matches:
            raise ValueError(f"no statement is called {name!r}; the known ones are {', '.join(known)}")
        found |= matches
    return [statement for key, statement in known.items() if key in found]
