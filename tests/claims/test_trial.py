"""The trial itself: what is false is refuted, what is true is not, and only exact arithmetic refutes."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest

pytest.importorskip("flint")

from ravine.claims import Claim, Statement, audit, find, judge, ledger
from ravine.claims.law import Law, convex
from ravine.claims.numbers import Balls, Exact, Floats, Undecided, precision, rational
from ravine.claims.proofs import Unproved, identities, positive_on
from ravine.claims.samplers import Draw, quadratic
from ravine.claims.trial import certify, shrink


def _statement(claim: Claim, **options) -> Statement:
    return Statement(key="made-up", title="", draw=quadratic, hypotheses=convex, printed=claim, **options)


def _beta_below(share: Fraction) -> Claim:
    """β₁ ≤ share·b: true iff 1/(2−ηλ₁) ≤ share, that is for share ≥ 2/3 under ηλ₁ < 1/2."""

    def margin(at, n):
        law = Law(at, n)
        return n.of(share) - law.beta[0] / law.b

    return Claim(latex="", margin=margin)


def test_a_false_statement_is_refuted_by_a_rigorous_instance_that_is_simple():
    claim = _beta_below(Fraction(6, 10))
    verdict = judge(_statement(claim), claim, 200, 0)
    assert verdict.status == "refuted"
    assert verdict.instance is not None
    assert verdict.smallest is not None
    h = rational(verdict.instance["eta"]) * rational(verdict.instance["lam"][0])
    assert h < Fraction(1, 2)
    assert 1 / (2 - h) > Fraction(6, 10)
    assert len(verdict.instance["lam"]) == 2
    assert verdict.instance["rho"] == 1.0


def test_a_true_statement_is_not_refuted_though_it_is_nearly_tight():
    claim = _beta_below(Fraction(2, 3))
    verdict = judge(_statement(claim), claim, 400, 0)
    assert verdict.status == "not refuted"
    assert verdict.smallest is not None
    assert 0 < verdict.smallest < 0.02


def test_a_claim_that_fails_only_by_rounding_is_not_refuted():
    # (ηλ₁ + 1) − 1 − ηλ₁ is not 0 in floats
    claim = Claim(latex="", margin=lambda at, n: -abs((n.of(at["eta"]) + 1) - 1 - n.of(at["eta"])))
    verdict = judge(_statement(claim), claim, 100, 0)
    assert verdict.status == "not refuted"
    assert verdict.smallest is not None
    assert verdict.smallest < 0


def test_a_thin_violation_is_found_by_the_deep_search():
    def margin(at, n):
        law = Law(at, n)
        return (law.h - n.of(0.3)) ** 2 - n.of(1e-5)

    claim = Claim(latex="", margin=margin)
    assert judge(_statement(claim), claim, 100, 0).status == "refuted"


def test_floats_alone_refute_nothing():
    claim = _beta_below(Fraction(6, 10))
    verdict = judge(_statement(claim, exact=False), Claim(latex="", margin=lambda at, n: -n.sqrt(n.of(2))), 50, 0)
    assert verdict.status == "not refuted"


def test_a_proof_and_a_counterexample_contradict_each_other_aloud():
    claim = Claim(latex="", margin=_beta_below(Fraction(6, 10)).margin, proof=lambda: "nonsense")
    with pytest.raises(AssertionError, match="counterexample"):
        judge(_statement(claim), claim, 100, 0)


def test_an_instance_outside_the_hypotheses_refutes_nothing():
    claim = _beta_below(Fraction(6, 10))
    assert certify(_statement(claim), claim, {"lam": (1.0, 0.5), "eta": 0.6, "rho": 1.0}) is None
    assert certify(_statement(claim), claim, {"lam": (1.0, 0.5), "eta": 0.45, "rho": 1.0}) is not None


def test_shrinking_keeps_a_tenth_of_the_violation():
    claim = _beta_below(Fraction(51, 100))
    statement = _statement(claim)
    found = certify(statement, claim, {"lam": (3.21, 1.73, 0.91), "eta": 0.1533, "rho": 0.77})
    assert found is not None
    small = shrink(statement, claim, found)
    assert small.bound <= found.bound / 10
    assert len(small.instance["lam"]) == 2


def test_a_seed_that_refutes_is_shown_as_it_stands():
    seed = {"lam": (3.21, 1.73, 0.91), "eta": 0.1533, "rho": 0.77}
    claim = Claim(latex="", margin=_beta_below(Fraction(51, 100)).margin, seeds=(seed,))
    assert judge(_statement(claim), claim, 10, 0).instance == seed


def test_parameters_of_the_user_are_used_or_reported_as_outside_never_moved():
    given = {"lam": (1.0, 0.5), "eta": 0.7, "rho": 1.0, "start": (2.0, 2.0)}
    outcomes = audit(find(["lemma-5.2", "ours-descent"]), samples=20, given=given)
    assert outcomes[0].printed is not None
    assert outcomes[0].printed.status == "outside"
    assert outcomes[0].printed.outside == {"ηλ₁ < 1/2": pytest.approx(-0.2)}
    assert outcomes[1].corrected is not None
    assert outcomes[1].corrected.instance is not None
    assert outcomes[1].corrected.instance["eta"] == 0.7
    assert outcomes[1].corrected.instance["v"] == (2.0, 1.0)


@pytest.mark.parametrize("statement", ledger().values(), ids=lambda s: s.key)
def test_every_sampler_takes_what_the_user_fixes(statement):
    given = {"lam": (1.0, 0.5), "eta": 0.2, "rho": 1.5, "start": (2.0, 3.0), "eps": 0.02}
    instance = statement.draw(Draw(iter(np.random.default_rng(2).random(30).tolist()), given))
    if statement.key.startswith("figure") or statement.key in {"ours-rate", "ours-rate-measured"}:
        given["start"] = None  # of one run, or of starts near the cycle
    for name in ("lam", "eta", "rho", "eps"):
        if name in instance and not (statement.key.startswith("figure") and name in ("lam", "eta", "rho")):
            assert instance[name] == given[name]
    if "v" in instance and given["start"] is not None:
        assert instance["v"] == (2.0, 1.5)


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


def test_unknown_statements_list_the_known_ones_and_a_name_stands_for_its_parts():
    with pytest.raises(ValueError, match=r"lemma-99.*lemma-4.*theorem-2"):
        find(["lemma-99"])
    assert [s.key for s in find(["lemma-16"])] == ["lemma-16.1", "lemma-16.2"]
    with pytest.raises(ValueError, match="lemma-1"):
        find(["lemma-1"])  # not lemma-10, lemma-11, …


def test_arguments_out_of_range_are_refused():
    with pytest.raises(ValueError, match="samples"):
        audit(find(["eq-3"]), samples=0)
    with pytest.raises(ValueError, match="seed"):
        audit(find(["eq-3"]), seed=-1)


def test_balls_hold_the_truth_and_know_when_they_do_not_know():
    with precision(64):
        balls = Balls()
        assert balls.of(0.1).contains(balls.of(1) / 10)
        assert balls.less(balls.of(0.1), balls.of(0.2))
        with pytest.raises(Undecided):
            balls.less(balls.sqrt(balls.of(2)) ** 2, balls.of(2))
        assert balls.ceil(balls.of(2.5)) == 3
        assert float(balls.largest([balls.of(1), balls.of(3), balls.of(2)])) == 3


def test_fractions_take_roots_that_are_rational_and_refuse_the_others():
    assert Exact.sqrt(Fraction(9, 16)) == Fraction(3, 4)
    with pytest.raises(Undecided):
        Exact.sqrt(Fraction(2))
    assert rational(0.1) == Fraction(1, 10)


def test_the_proofs_refuse_what_is_not_so():
    import sympy

    x = sympy.symbols("x")
    with pytest.raises(Unproved):
        identities(((x + 1) ** 2, x**2 + 1))
    with pytest.raises(Unproved):
        positive_on(lambda y: y - y * y, [(Fraction(1, 2), 2)])
    assert "pieces" in positive_on(lambda y: y - y * y, [(Fraction(1, 10), Fraction(9, 10))])


@pytest.mark.parametrize("statement", ledger().values(), ids=lambda s: s.key)
def test_every_sampler_meets_its_own_hypotheses_and_its_margin_is_a_number(statement):
    rng, floats, met = np.random.default_rng(1), Floats(), 0
    for _ in range(40):
        instance = statement.draw(Draw(iter(rng.random(30).tolist())))
        met += all(value > 0 for value in statement.hypotheses(instance, floats).values())
        json.dumps(instance)
    assert met >= 5


@pytest.mark.parametrize("statement", ledger().values(), ids=lambda s: s.key)
def test_every_statement_has_a_claim_and_a_repair_where_the_print_falls(statement):
    assert statement.printed or statement.corrected
    assert statement.ours == (statement.printed is None)
    if statement.printed is not None and statement.corrected is not None:
        assert statement.repair


def test_law_agrees_with_the_closed_forms():
    from ravine import theory

    at = {"lam": (2.0, 1.2, 0.3), "eta": 0.2, "rho": 0.7}
    law, closed = Law(at, Floats()), theory.quadratic(at["lam"], 0.2, 0.7)
    for name in ("alpha", "beta", "gamma"):
        np.testing.assert_allclose(getattr(law, name), getattr(closed, name), rtol=1e-14)
    u = [0.3, -0.2, 0.9]
    assert law.potential(u) == pytest.approx(float(theory.potential(at["lam"], 0.2, 0.7).value(u)), rel=1e-13)
    assert law.misalignment([3.0, 4.0]) == pytest.approx(1 - 3 / 5)
    assert math.isclose(law.b, closed.b, rel_tol=1e-14)
