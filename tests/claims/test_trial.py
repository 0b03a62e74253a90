"""The trial itself: what is false is refuted, what is true is not, whoever runs it."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from fractions import Fraction
from functools import partial
from typing import Any

import made_up
import pytest

pytest.importorskip("flint")

from ravine.claims import LEDGER, Claim, audit, find, judge
from ravine.claims.law import Law, vector
from ravine.claims.numbers import rational, smallest


def test_a_false_statement_is_refuted_by_a_rigorous_instance_that_is_simple():
    claim = made_up.beta_below(Fraction(6, 10))
    verdict = judge(made_up.statement(claim), claim, 200, 0)
    assert verdict.status == "refuted"
    assert verdict.instance is not None
    assert verdict.smallest is not None
    h = rational(verdict.instance["eta"]) * rational(verdict.instance["eigenvalues"][0])
    assert h < Fraction(1, 2)
    assert 1 / (2 - h) > Fraction(6, 10)
    assert len(verdict.instance["eigenvalues"]) == 2
    assert verdict.instance["rho"] == 1.0


def test_a_true_statement_is_not_refuted_though_it_is_nearly_tight():
    claim = made_up.beta_below(Fraction(2, 3))
    verdict = judge(made_up.statement(claim), claim, 400, 0)
    assert verdict.status == "not refuted"
    assert verdict.smallest is not None
    assert 0 < verdict.smallest < 0.02


def test_a_claim_that_fails_only_by_rounding_is_not_refuted():
    # (ηλ₁ + 1) − 1 − ηλ₁ is not 0 in floats
    claim = Claim(latex="", margin=lambda at, n: -abs((n.of(at["eta"]) + 1) - 1 - n.of(at["eta"])))
    verdict = judge(made_up.statement(claim), claim, 100, 0)
    assert verdict.status == "not refuted"
    assert verdict.smallest is not None
    assert verdict.smallest < 0


def test_a_thin_violation_is_found_by_the_deep_search():
    def margin(at, n):
        law = Law(at, n)
        return (law.h - n.of(0.3)) ** 2 - n.of(1e-5)

    claim = Claim(latex="", margin=margin)
    assert judge(made_up.statement(claim), claim, 100, 0).status == "refuted"


def test_floats_alone_refute_nothing():
    claim = made_up.beta_below(Fraction(6, 10))
    verdict = judge(
        made_up.statement(claim, exact=False), Claim(latex="", margin=lambda at, n: -n.sqrt(n.of(2))), 50, 0
    )
    assert verdict.status == "not refuted"


def test_a_proof_and_a_counterexample_contradict_each_other_aloud():
    claim = Claim(latex="", margin=made_up.beta_below(Fraction(6, 10)).margin, proof=lambda: "nonsense")
    with pytest.raises(AssertionError, match="counterexample"):
        judge(made_up.statement(claim), claim, 100, 0)


def test_a_seed_that_refutes_is_shown_as_it_stands():
    seed = {"eigenvalues": (3.21, 1.73, 0.91), "eta": 0.1533, "rho": 0.77}
    claim = Claim(latex="", margin=made_up.beta_below(Fraction(51, 100)).margin, seeds=(seed,))
    assert judge(made_up.statement(claim), claim, 10, 0).instance == seed


def test_parameters_of_the_user_are_used_or_reported_as_outside_never_moved():
    given = {"eigenvalues": (1.0, 0.5), "eta": 0.7, "rho": 1.0, "start": (2.0, 2.0)}
    outcomes = audit(find(["lemma-5.2", "ours-descent"]), samples=20, given=given)
    assert outcomes[0].printed is not None
    assert outcomes[0].printed.status == "outside"
    assert outcomes[0].printed.outside == {"ηλ₁ < 1/2": pytest.approx(-0.2)}
    assert outcomes[1].corrected is not None
    assert outcomes[1].corrected.instance is not None
    assert outcomes[1].corrected.instance["eta"] == 0.7
    assert outcomes[1].corrected.instance["v"] == (2.0, 1.0)


def test_verdicts_do_not_depend_on_processes_or_repetition():
    chosen = find(["lemma-18", "eq-9", "lemma-13"])
    first, again = audit(chosen, samples=60), audit(chosen, samples=60)
    assert first == again
    assert audit(chosen, samples=60, jobs=2) == first


def test_a_trial_leaves_nothing_where_it_is_held(tmp_path):
    code = "from ravine.claims import audit, find; print(len(audit(find(['lemma-13', 'eq-4']), samples=30)))"
    out = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert out == "2\n"
    assert list(tmp_path.iterdir()) == []


def test_arguments_out_of_range_are_refused():
    with pytest.raises(ValueError, match="samples"):
        audit(find(["eq-3"]), samples=0)
    with pytest.raises(ValueError, match="seed"):
        audit(find(["eq-3"]), seed=-1)
    with pytest.raises(ValueError, match="'lam'; give some of eigenvalues"):
        audit(find(["eq-3"]), samples=8, given={"lam": (1.0, 0.5)})
    with pytest.raises(ValueError, match="start: give 2 numbers"):
        audit(find(["eq-3"]), samples=8, given={"eigenvalues": (1.0, 0.5), "start": (1.0, 2.0, 3.0)})
    bare: Any = "eq-3"
    with pytest.raises(ValueError, match=r"\['eq-3'\]"):
        find(bare)


@pytest.mark.parametrize(
    "key",
    ["lemma-4", "lemma-5.3", "lemma-5.5", "eq-5", "remark-9.1", "lemma-10.2", "lemma-13", "eq-7", "eq-10", "lemma-20"],
)
def test_a_statement_that_stands_falls_with_the_sign_of_its_margin_turned(key):
    statement = LEDGER[key]
    claim = statement.printed
    assert claim is not None
    turned = dataclasses.replace(claim, margin=lambda at, n: -claim.margin(at, n), proof=None)
    assert judge(statement, turned, 60, 0).status == "refuted"
    assert judge(statement, claim, 60, 0).status == "proved"


def test_a_constant_planted_in_a_statement_that_stands_makes_it_fall():
    statement = LEDGER["lemma-7.3"]
    claim = statement.corrected
    assert claim is not None
    # The corrected bound is ηλ_d/4, and (1−ηλ₁)ηλ_d/2 is reached: ηλ_d/2 is too much.
    planted = dataclasses.replace(claim, margin=partial(_entries, divisor=2), proof=None)
    assert judge(statement, planted, 60, 0).status == "refuted"


def _entries(at, n, *, divisor):
    law, v = Law(at, n), vector(at, n)
    size = law.norm(v)
    floor = law.eta * law.least / divisor
    return smallest(n, [factor / floor - 1 for factor in law.factors(size)])


def test_a_verdict_a_claim_and_a_statement_say_what_they_are():
    claim = made_up.beta_below(Fraction(6, 10))
    statement = made_up.statement(claim)
    assert repr(statement) == "Statement(made-up: as printed)"
    assert repr(claim) == "Claim('', without a proof)"
    verdict = judge(statement, claim, 20, 0)
    assert repr(verdict) == f"Verdict(refuted at {verdict.instance}: {verdict.evidence}, {verdict.instances} instances)"
