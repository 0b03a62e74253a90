"""Proofs: true of the runs they speak of, made again by nobody, checked by other code, and false when tampered with."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from naive import quadratic_sam, run

pytest.importorskip("flint")

from ravine.certify import Certificate, CouldNotDecide, Invalid, check, prove, prove_section_6
from ravine.certify.certificate import digest

FIGURE_1 = ([1, 0.5], 0.2, 1, [2, 2])


@pytest.fixture(scope="module")
def proof() -> Certificate:
    return prove(*FIGURE_1, 1e-6)


@pytest.fixture(scope="module")
def cycle() -> Certificate:
    return prove_section_6()


def _write(path, data, *, seal: bool):
    if seal:
        data = data | {"digest": digest(data)}
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


def _distances(lam, eta, rho, start, steps):
    lam, w = np.array(lam, float), np.array(start, float)
    axis, found = int(lam.argmax()), []
    half = eta * rho * lam.max() / (2 - eta * lam.max())
    for _ in range(steps):
        off = w.copy()
        off[axis] = abs(off[axis]) - half
        found.append(float(np.linalg.norm(off)))
        w = quadratic_sam(lam, w, eta, rho)
    return np.array(found)


def test_figure_1_arrives_when_the_simulation_says(proof):
    away = _distances(*FIGURE_1, 200)
    assert proof.arrival == int(np.flatnonzero(away > 1e-6)[-1]) + 1
    assert float(proof.data["distance"]) >= away[proof.data["contraction"]]
    assert float(proof.data["factor"]) == pytest.approx(0.8, abs=1e-3)  # the exact local rate there is 0.8


def test_the_enclosure_holds_the_run_step_by_step(proof):
    """The radii hold a run in exact decimals of 60 digits, not one in floats."""
    from decimal import Decimal, localcontext

    with localcontext() as context:
        context.prec = 60
        lam, eta, rho = [Decimal(1), Decimal("0.5")], Decimal("0.2"), Decimal(1)
        true, pseudo = [Decimal(2), Decimal(2)], [Decimal(2), Decimal(2)]
        for norm, radius in zip(proof.data["norms"], proof.data["radii"], strict=False):
            gap = sum(((a - b) ** 2 for a, b in zip(true, pseudo, strict=True)), Decimal(0)).sqrt()
            assert gap <= Decimal(radius) + Decimal("1e-55")
            size = sum(((x * y) ** 2 for x, y in zip(lam, true, strict=True)), Decimal(0)).sqrt()
            true = [w * (1 - eta * x - eta * rho * x * x / size) for w, x in zip(true, lam, strict=True)]
            pseudo = [w * (1 - eta * x - eta * rho * x * x / Decimal(norm)) for w, x in zip(pseudo, lam, strict=True)]


@st.composite
def quadratics(draw):
    ratios = draw(st.lists(st.floats(0.2, 0.9), min_size=1, max_size=4))
    lam = [1.0, *(round(x, 3) for x in ratios)]
    eta = draw(st.sampled_from([0.05, 0.3, 0.8, 1.5, 1.9]))
    start = [
        draw(st.sampled_from([1e-9, -1.0, 3.0])),
        *draw(st.lists(st.sampled_from([0.0, -2.0, 0.5]), min_size=len(ratios), max_size=len(ratios))),
    ]
    return draw(st.permutations(list(zip(lam, start, strict=True)))), eta, draw(st.sampled_from([0.01, 1.0, 50.0]))


@settings(max_examples=40, deadline=None)
@given(quadratics(), st.sampled_from([0.1, 1e-4, 1e-9]))
def test_proofs_are_true_of_runs_in_floats_and_pass_their_check(tmp_path_factory, problem, share):
    pairs, eta, rho = problem
    lam, start = [p[0] for p in pairs], [p[1] for p in pairs]
    within = share * eta * rho / (2 - eta)
    made = prove(lam, eta, rho, start, within)
    path = made.save(tmp_path_factory.mktemp("proofs") / "proof.json")
    assert check(path) == made.claim
    away = _distances(lam, eta, rho, start, made.data["contraction"] + 50)
    if 1e-9 not in start:  # from 1e-9 the floats' own error grows to what the proof must exclude
        assert (away[made.arrival :] <= within * (1 + 1e-5)).all()
        radius = float(made.data["radii"][made.arrival - 1])
        assert made.arrival == 0 or away[made.arrival - 1] + 2 * radius > within * (1 - 1e-5)


def test_precision_is_raised_until_it_suffices_and_no_further():
    assert prove(*FIGURE_1, "1e-6").bits == 64
    fine = prove(*FIGURE_1, "1e-40")
    assert fine.bits == 256
    assert fine.arrival == pytest.approx(63 + 34 * math.log(10) / -math.log(0.8), abs=3)
    with pytest.raises(CouldNotDecide, match="at most 128 bits"):
        prove(*FIGURE_1, "1e-40", most_bits=128)
    tried = []
    with pytest.raises(CouldNotDecide, match="50 steps were not enough"):
        prove(*FIGURE_1, "1e-6", most_steps=50, progress=lambda step, bits: tried.append(bits))
    assert tried == [64]  # more precision makes no more steps


def test_a_run_that_passes_next_to_zero_is_decided_with_more_precision():
    # On the axis and 10⁻²⁵ off ‖Λw₀‖ = γ₁: the next gradient is nearer to 0 than 64 bits can tell.
    assert prove([1, 0.5], 0.2, 1, ["0.2500000000000000000000001", "0"], 1e-3).bits == 128


def test_a_run_that_meets_the_singular_sphere_is_not_decided():
    # ‖Λw₀‖ = γ₁ exactly: the part along e₁ vanishes at the first step, and no precision can tell that from nearly so.
    with pytest.raises(CouldNotDecide):
        prove([1, 0.5], 0.2, 1, [0.15, 0.4], 1e-3, most_bits=256, most_steps=2000)


def test_one_thousand_dimensions():
    lam = np.round(np.linspace(1, 0.6, 1000), 6).tolist()
    made = prove(lam, 0.4, 1, np.round(np.random.default_rng(0).standard_normal(1000), 3).tolist(), 0.01)
    assert len(made.data["norms"]) == made.data["contraction"] > 20


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (([1, 1, 0.5], 0.2, 1, [1, 1, 1], 0.1), "merge"),
        (([1, 0.5], 2.0, 1, [1, 1], 0.1), "η < 2/λ₁"),
        (([1, 0.5], 0.2, 1, [0, 1], 0.1), "no part along"),
        (([1, 0.5], 0.2, 1, [1], 0.1), "give 2 numbers"),
        (([1, 0.5], 0.2, 0, [1, 1], 0.1), "rho"),
        (([1, 0.5], 0.2, 1, [1, 1], "x"), "decimal number"),
        (([1, 0.5], 0.2, 1, [1, float("nan")], 0.1), "finite"),
        (([1, 0], 0.2, 1, [1, 1], 0.1), "flat"),
    ],
)
def test_misuse_says_the_cure(arguments, word):
    with pytest.raises(ValueError, match=word):
        prove(*arguments)


@pytest.mark.parametrize("step", [0, 7, 30, 61])
def test_a_changed_norm_fails_at_its_step(proof, tmp_path, step):
    norms = list(proof.data["norms"])
    norms[step] = str(float(norms[step]) * 1.001)
    path = _write(tmp_path / "p.json", proof.data | {"norms": norms}, seal=True)
    with pytest.raises(Invalid) as failure:
        check(path)
    assert failure.value.step == step


@pytest.mark.parametrize("step", [1, 20, 50])
def test_a_radius_made_smaller_fails_where_it_is_made(proof, tmp_path, step):
    radii = list(proof.data["radii"])
    radii[step] = str(float(radii[step]) / 2)
    with pytest.raises(Invalid) as failure:
        check(_write(tmp_path / "p.json", proof.data | {"radii": radii}, seal=True))
    assert failure.value.step == step - 1


@pytest.mark.parametrize(
    ("change", "step"),
    [
        ({"start": ["2", "2.001"]}, 0),
        ({"eta": "0.21"}, 1),
        ({"eigenvalues": ["1", "0.51"]}, 0),
        ({"eigenvalues": ["1", "1"]}, "hypotheses"),
        ({"arrival": 62}, 62),
        ({"within": "1e-7"}, 63),
        ({"distance": "1e-8"}, 63),
        ({"factor": "0.79"}, 63),
        ({"factor": "1.2"}, 63),
        ({"contraction": 62}, "hypotheses"),
        ({"bits": "many"}, "precision"),
        ({"norms": None}, "reading"),
        ({"rho": "one"}, "reading"),
    ],
)
def test_other_changes_fail_where_they_show(proof, tmp_path, change, step):
    with pytest.raises(Invalid) as failure:
        check(_write(tmp_path / "p.json", proof.data | change, seal=True))
    assert failure.value.step == step


def test_a_proof_of_less_precision_than_its_radii_need_fails_rather_than_passes(proof, tmp_path):
    with pytest.raises(Invalid):
        check(_write(tmp_path / "p.json", proof.data | {"radii": ["0"] * len(proof.data["radii"])}, seal=True))


def test_a_change_that_leaves_every_step_true_is_still_seen(proof, tmp_path):
    with pytest.raises(Invalid) as failure:
        check(_write(tmp_path / "p.json", proof.data | {"claim": "for all t ≥ 0"}, seal=False))
    assert failure.value.step == "digest"


def test_what_is_no_certificate_is_refused(tmp_path):
    for text in ("", "[1]", '{"format": "other"}'):
        path = tmp_path / "p.json"
        path.write_text(text, encoding="utf-8")
        with pytest.raises(ValueError, match=r"p\.json"):
            check(path)
    with pytest.raises(ValueError, match="missing"):
        check(tmp_path / "missing")


def test_another_process_checks_what_this_one_proved(proof, cycle, tmp_path):
    for number, made in enumerate((proof, cycle)):
        path = made.save(tmp_path / f"{number}.json")
        code = f"from ravine.certify import check; print(check({str(path)!r}) == {made.claim!r})"
        out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        assert out == "True\n"
    with pytest.raises(ValueError, match="exists"):
        proof.save(tmp_path / "0.json")


def test_section_6_the_cycle_attracts_where_the_simulation_goes(cycle, tmp_path):
    assert cycle.data["stable"] is True
    assert check(cycle.save(tmp_path / "c.json")) == cycle.claim
    centre = [float(x) for x in cycle.data["centre"]]
    assert centre == pytest.approx([0.2, 0.157967], abs=1e-6)

    def gradient(w):
        a = 1 + w[1] ** 2 / 2
        return np.array([2 * w[0] / a, w[1] * (1 - (w[0] / a) ** 2)])

    iterates = run("sam", gradient, np.array([1.0, 1.0]), 600, 0.2, rho=1.0)
    assert np.abs(np.abs(iterates[-2:]) - centre).max() < 1e-9
    assert iterates[-1, 0] * iterates[-2, 0] < 0


@pytest.mark.parametrize(
    ("rho", "stable"), [("0.5", True), ("0.79", True), ("0.81", True), ("1.5", None), ("2", False)]
)
def test_section_6_on_both_sides_of_the_threshold(rho, stable):
    made = prove_section_6("0.2", rho)
    assert (float(made.data["centre"][1]) > 1e-3) == (float(rho) > 0.8)
    if stable is not None:
        assert made.data["stable"] is stable


def test_section_6_at_the_threshold_itself_nothing_is_decided():
    with pytest.raises(CouldNotDecide):
        prove_section_6("0.2", "0.8")


@pytest.mark.parametrize(
    ("change", "stage"),
    [
        ({"centre": ["0.2001", "0.15796788"]}, "existence"),
        ({"radius": "0.1"}, "existence"),
        ({"eta": "0.21"}, "existence"),
        ({"stable": False}, "stability"),
        ({"preconditioner": [["0", "0"], ["0", "0"]]}, "preconditioner"),
        ({"rho": "-1"}, "hypotheses"),
        ({"centre": ["0.2"]}, "reading"),
    ],
)
def test_section_6_tampered_fails_at_its_stage(cycle, tmp_path, change, stage):
    with pytest.raises(Invalid) as failure:
        check(_write(tmp_path / "c.json", cycle.data | change, seal=True))
    assert failure.value.step == stage


def test_dual_numbers_of_the_check_agree_with_differences():
    from ravine.certify.certificate import precision
    from ravine.certify.dual_numbers import Dual, sam_step

    with precision(200) as flint:
        x, y, eta, rho = (flint.arb(s) for s in ("0.3", "0.4", "0.2", "1"))
        step = flint.arb("1e-25")
        slope = [f.slope for f in sam_step(Dual(x, 1, 0), Dual(y, 0, 1), eta, rho)]
        for j, (dx, dy) in enumerate(((step, 0), (0, step))):
            up = sam_step(Dual(x + dx), Dual(y + dy), eta, rho)
            down = sam_step(Dual(x - dx), Dual(y - dy), eta, rho)
            for i in range(2):
                assert abs((up[i].value - down[i].value) / (2 * step) - slope[i][j]) < flint.arb("1e-20")


def test_without_the_extra_the_error_names_it(monkeypatch):
    from ravine.claims import audit, find
    from ravine.extras import MissingExtra

    monkeypatch.setitem(sys.modules, "flint", None)
    with pytest.raises(MissingExtra, match=r"ravine\[certify\]"):
        prove(*FIGURE_1, 1e-3)
    with pytest.raises(MissingExtra, match=r"ravine\[certify\]"):
        audit(find(["eq-3"]), samples=1)
