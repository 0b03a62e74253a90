"""Every statement of the ledger: its file, its sampler, its wordings."""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
from types import ModuleType

import numpy as np
import pytest

pytest.importorskip("flint")

from ravine.claims import LEDGER, Statement, find, statements
from ravine.claims.numbers import Floats
from ravine.claims.samplers import Draw

PREFIXES = {"equations": "eq", "figures": "figure"}
FILES = [module.name for module in pkgutil.iter_modules(statements.__path__)]


def _file(name: str) -> ModuleType:
    return importlib.import_module(f"{statements.__name__}.{name}")


@pytest.mark.parametrize("name", FILES)
def test_a_file_holds_the_statements_that_its_name_and_its_first_words_name(name):
    held: tuple[Statement, ...] = _file(name).STATEMENTS
    keys = [statement.key for statement in held]
    kind, *rest = name.split("_")
    for number in (int(word) for word in rest if word.isdigit()):
        stem = f"{PREFIXES.get(kind, kind)}-{number}"
        assert any(key == stem or key.startswith(f"{stem}.") for key in keys), stem
    first = (_file(name).__doc__ or "").split("\n\n", maxsplit=1)[0]
    for statement in held:
        if statement.ours:
            assert kind == "ours"
        elif statement.title.startswith("("):
            assert statement.title in first
        else:
            word, number = re.findall(r"[A-Z][a-z]+|\d+", statement.title)[:2]
            assert word in first
            assert re.search(rf"\b{number}\b", first), statement.title


def test_the_ledger_has_each_statement_of_the_files_once():
    held = [statement for name in FILES for statement in _file(name).STATEMENTS]
    assert len(held) == len(LEDGER)
    assert all(LEDGER[statement.key] is statement for statement in held)


def test_each_number_of_the_paper_is_in_one_file():
    homes: dict[str, set[str]] = {}
    for name in FILES:
        for statement in _file(name).STATEMENTS:
            homes.setdefault(statement.key.split(".")[0], set()).add(name)
    apart = {key: files for key, files in homes.items() if len(files) > 1}
    assert apart == {"lemma-7": {"lemma_07", "lemma_07_proof"}}  # the lemma, and the displays of its long proof


@pytest.mark.parametrize("statement", LEDGER.values(), ids=lambda s: s.key)
def test_every_sampler_takes_what_the_user_fixes(statement):
    given = {"eigenvalues": (1.0, 0.5), "eta": 0.2, "rho": 1.5, "start": (2.0, 3.0), "eps": 0.02}
    instance = statement.draw(Draw(iter(np.random.default_rng(2).random(30).tolist()), given))
    if statement.key.startswith("figure") or statement.key in {"ours-rate", "ours-rate-measured"}:
        given["start"] = None  # of one run, or of starts near the cycle
    for name in ("eigenvalues", "eta", "rho", "eps"):
        if name in instance and not (statement.key.startswith("figure") and name in ("eigenvalues", "eta", "rho")):
            assert instance[name] == given[name]
    if "v" in instance and given["start"] is not None:
        assert instance["v"] == (2.0, 1.5)


@pytest.mark.parametrize("statement", LEDGER.values(), ids=lambda s: s.key)
def test_every_sampler_meets_its_own_hypotheses_and_its_margin_is_a_number(statement):
    rng, floats, met = np.random.default_rng(1), Floats(), 0
    for _ in range(40):
        instance = statement.draw(Draw(iter(rng.random(30).tolist())))
        met += all(value > 0 for value in statement.hypotheses(instance, floats).values())
        json.dumps(instance)
    assert met >= 5


@pytest.mark.parametrize("statement", LEDGER.values(), ids=lambda s: s.key)
def test_every_statement_has_a_claim_and_a_repair_where_the_print_falls(statement):
    assert statement.printed or statement.corrected
    assert statement.ours == (statement.printed is None)
    if statement.printed is not None and statement.corrected is not None:
        assert statement.repair


def test_unknown_statements_list_the_known_ones_and_a_name_stands_for_its_parts():
    with pytest.raises(ValueError, match=r"lemma-99.*lemma-4.*theorem-2"):
        find(["lemma-99"])
    assert [s.key for s in find(["lemma-16"])] == ["lemma-16.1", "lemma-16.2"]
    with pytest.raises(ValueError, match="lemma-1"):
        find(["lemma-1"])  # not lemma-10, lemma-11, …
