"""Every statement of the paper by its key."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from ravine.claims.statement import Statement
from ravine.claims.statements import (
    equations_01_03,
    figures_1_2,
    lemma_04,
    lemma_05,
    lemma_06,
    lemma_07,
    lemma_07_proof,
    lemma_10,
    lemma_11,
    lemma_13,
    lemma_14,
    lemma_16,
    lemma_17,
    lemma_18,
    lemma_19,
    lemma_20,
    ours,
    proposition_08,
    remark_09,
    section_6,
    theorem_01,
    theorem_02,
    theorem_03,
    theorem_21,
)

# In the order in which the paper proves them: Theorem 3 before the Theorems 1 and 2 that it is to imply.
_IN_ORDER = (
    equations_01_03, lemma_04, lemma_05, lemma_06, lemma_07_proof, lemma_07, proposition_08, remark_09, lemma_10,
    lemma_11, lemma_13, lemma_14, lemma_16, lemma_17, lemma_18, lemma_19, lemma_20, theorem_03, theorem_01, theorem_02,
    theorem_21, figures_1_2, section_6, ours,
)  # fmt: skip


def _index(statements: Iterable[Statement]) -> Mapping[str, Statement]:
    known: dict[str, Statement] = {}
    for statement in statements:
        if statement.key in known:
            raise AssertionError(f"{statement.key} is listed twice")
        known[statement.key] = statement
    return MappingProxyType(known)


LEDGER: Mapping[str, Statement] = _index(statement for module in _IN_ORDER for statement in module.STATEMENTS)


def find(names: list[str] | tuple[str, ...]) -> list[Statement]:
    """The statements named; a name stands for its parts too: lemma-5 for lemma-5.1, lemma-5.2, ….

    The numbers are those of arXiv 2210.01513; no names stand for all.

    Raises
    ------
    ValueError
        For a name that names none; it lists the known ones. For a bare string.

    Examples
    --------
    >>> from ravine.claims import find
    >>> [statement.title for statement in find(["theorem-1"])]
    ['Theorem 1', 'Theorem 3 implies Theorem 1']
    """
    if isinstance(names, str):
        raise ValueError(f"names: give a list, such as [{names!r}]")
    if not names:
        return list(LEDGER.values())
    found: set[str] = set()
    for name in names:
        matches = {key for key in LEDGER if key == name or key.startswith(f"{name}.")}
        if not matches:
            raise ValueError(f"no statement is called {name!r}; the known ones are {', '.join(LEDGER)}")
        found |= matches
    return [statement for key, statement in LEDGER.items() if key in found]
