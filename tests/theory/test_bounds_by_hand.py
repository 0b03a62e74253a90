"""Each term of Lemma 19 and Theorem 3, and each cap and condition, from its formula, where no unit is 1."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ravine.theory import bounds, quadratic

LAW = quadratic([2.0, 1.2], eta=0.2, rho=0.3)
H, LOW, MU, BETA, GAMMA, B = 0.4, 0.24, 0.24, 0.15, 0.4, 0.24
SETTING = {"radius": 3.0, "density": 0.7, "q": 0.01, "delta": 0.05, "within": 0.02}


def test_the_law_is_what_is_computed_with() -> None:
    found = (LAW.eta * LAW.sharpness, LAW.eta * LAW.smallest, LAW.mu, LAW.bounce_grad_norm, LAW.vanishing_grad_norm)
    assert (*found, LAW.b) == pytest.approx((H, LOW, MU, BETA, GAMMA, B), rel=1e-15)


def test_the_terms_of_lemma_19() -> None:
    log_ratio, within = 1.5, 0.01
    counts = bounds.arrival_in_gradient(LAW, log_ratio=log_ratio, descent=7, within=within)
    lost = bounds.lost_steps(LAW)
    aligned = within / (2 * (1 + BETA))
    needed = log_ratio - math.log(2 * aligned**2)
    waste, bouncing = 2 / MU * math.log(4 / H), 6 / H * math.log(1 / aligned)
    growth = math.log((1 + MU) * (1 - LOW) / ((1 - H) * H)) / math.log(1 + MU)
    closing = math.log(BETA / aligned) / -math.log(1 - H / 2) + 1
    hand = (
        {"lost": waste * lost.printed, "aligning": needed / MU, "bouncing": bouncing},
        {"descent": 7.0, "lost": waste * lost.corrected, "aligning": needed / MU, "bouncing": bouncing},
        {
            "descent": 7.0, "lost": growth * lost.sharp, "aligning": needed / (2 * math.log(1 + MU)),
            "bouncing": closing,
        },
    )  # fmt: skip
    for count, terms in zip((counts.printed, counts.corrected, counts.sharp), hand, strict=True):
        assert count.terms == pytest.approx(terms, rel=1e-12)
        assert count.total == pytest.approx(sum(terms.values()), rel=1e-12)
        assert count.outside == ()


def test_a_start_on_the_axis_saves_the_steps_that_misalign_and_no_more() -> None:
    counts = bounds.arrival_in_gradient(LAW, log_ratio=-math.inf, descent=7, within=0.01)
    for count in (counts.corrected, counts.sharp):
        assert count.terms["aligning"] == -count.terms["lost"] < 0
        assert count.total == pytest.approx(7 + count.terms["bouncing"], rel=1e-12)
    assert math.isfinite(counts.printed.total)


def test_a_cycle_that_is_all_within_takes_one_step_to_close_in_on() -> None:
    counts = bounds.arrival_in_gradient(LAW, log_ratio=0.0, descent=0, within=1.0)
    assert counts.sharp.terms["bouncing"] == 1.0
    assert counts.sharp.outside


# Of laws in which each condition of Lemma 19 is at some ε the only one that fails or holds.
LAWS = [LAW, quadratic([0.3, 0.2], 0.5, 0.01), quadratic([4.0, 3.0], 0.1, 20.0), quadratic([1.0, 0.9], 0.49, 1.0)]


@pytest.mark.parametrize("law", LAWS)
def test_lemma_19_names_the_conditions_that_are_not_met(law) -> None:
    h = law.eta * law.sharpness
    limits = {
        "√(2ηλ₁β₁/γ₁)": math.sqrt(2 * h * law.bounce_grad_norm / law.vanishing_grad_norm),
        "ηλ₁/(2γ₁)": h / (2 * law.vanishing_grad_norm),
        "2/b": 2 / law.b,
        "β₁": law.bounce_grad_norm,
        "1": 1.0,
    }
    for within in [x * share for x in limits.values() for share in (1 - 1e-6, 1 + 1e-6)] + [1.0]:
        counts = bounds.arrival_in_gradient(law, log_ratio=0.0, descent=1, within=within)
        expected = tuple(
            f"ε = {within:.4g} in the gradient is not below {name} = {x:.4g}"
            for name, x in limits.items()
            if within >= x
        )
        assert counts.printed.outside == counts.corrected.outside == counts.sharp.outside == expected


@pytest.mark.parametrize("law", LAWS)
def test_theorem_3_names_the_conditions_that_are_not_met(law) -> None:
    limits = {
        "√(ηλ₁/2)": math.sqrt(law.eta * law.sharpness / 2),
        "1/(2ρλ₁)": 1 / (2 * law.rho * law.sharpness),
        "ηρλ₁²/2": law.eta * law.rho * law.sharpness**2 / 2,
    }
    for within in [x * share for x in limits.values() for share in (1 - 1e-6, 1 + 1e-6)]:
        counts = bounds.theorem_3(law, **SETTING | {"within": within})
        expected = tuple(f"ε = {within:.4g} is not below {name} = {x:.4g}" for name, x in limits.items() if within > x)
        assert counts.printed.outside == expected
        there = bounds.arrival_in_gradient(law, log_ratio=0.0, descent=1, within=within * law.smallest)
        assert counts.corrected.outside == counts.sharp.outside == there.sharp.outside


@pytest.mark.parametrize("radius", [3.0, 0.2])
def test_the_printed_terms_of_theorem_3(radius: float) -> None:
    printed = bounds.theorem_3(LAW, **SETTING | {"radius": radius}).printed
    unit = 0.2 * 0.3 * 2.0
    away = math.log(radius / unit)
    assert (away < 1) == (radius < 1)
    growth = math.log(9 * radius**3 / unit**3) + 5 * math.log(6 / LOW)
    ring = math.log(4 * away / (0.05 * LOW)) + math.log(math.pi) + math.log(4 * B) + math.log(0.7)
    share = math.log(2 * 2.0 * radius) + away * growth / LOW + ring
    reach = 2 * (1 + B) / (1.2 * 0.02)
    assert printed.terms == pytest.approx(
        {
            "lost": 6 * 2.0**5 / (0.2 * 1.2**6 * MU) * math.log(4 / H),
            "aligning": math.log(reach**2 * radius**2 / 0.01) / MU,
            "clearance": 2 * away / (LOW * MU) * share,
            "bouncing": 6 / H * math.log(reach),
        },
        rel=1e-12,
    )


def test_the_mended_terms_of_theorem_3() -> None:
    """They are Lemma 19's at the worst start, and what the descent may misalign is shown apart."""
    counts = bounds.theorem_3(LAW, **SETTING)
    outer = 2.0 * 3.0
    time = bounds.ball_time(LAW, outer)
    gap = bounds.log_clearance(LAW, radius=outer, log_density=math.log(0.7 / (2.0 * 1.2)), delta=0.05)
    spread = (1 - LOW) / (1 - H)
    for count, steps, log_gap, factor, pace, version in (
        (counts.corrected, time.corrected, gap.corrected, 2.0, MU, "corrected"),
        (counts.sharp, time.sharp, gap.sharp, spread, 2 * math.log(1 + MU), "sharp"),
    ):
        misaligned = 2 * steps * (math.log(factor * outer) - log_gap)
        alone = bounds.arrival_in_gradient(LAW, log_ratio=math.log(900.0), descent=steps, within=1.2 * 0.02)
        hand = getattr(alone, version).terms | {"clearance": misaligned / pace}
        assert count.terms == pytest.approx(hand, rel=1e-10)


def test_a_start_in_the_ball_has_no_descent_to_be_misaligned_by() -> None:
    for radius in (B / 2.0, 0.1):
        counts = bounds.theorem_3(LAW, **SETTING | {"radius": radius, "q": 0.001})
        assert [c.terms["clearance"] for c in (counts.printed, counts.corrected, counts.sharp)] == [0.0, 0.0, 0.0]
        assert counts.corrected.terms["descent"] == counts.sharp.terms["descent"] == 0.0


def test_a_start_may_lie_on_the_axis_and_no_further_out() -> None:
    assert bounds.theorem_3(LAW, **SETTING | {"q": 9.0}).sharp.total > 0
    for q in (9.1, 5.0):
        with pytest.raises(
            ValueError, match=rf"^q = {q}: .* R = {math.sqrt(q) - 0.01} exclude each other; take q ≤ R²"
        ):
            bounds.theorem_3(LAW, **SETTING | {"q": q, "radius": math.sqrt(q) - 0.01})


@given(st.floats(0.01, 0.49), st.floats(-3.0, 3.0), st.sampled_from([0.5, 1.0, 1.3, 10.0]))
def test_the_clearance_of_lemma_7(delta: float, log_density: float, reach: float) -> None:
    radius = reach * B
    gap = bounds.log_clearance(LAW, radius=radius, log_density=log_density, delta=delta)
    time = bounds.ball_time(LAW, radius)
    once = math.log(delta / (4 * math.pi)) - log_density - math.log(2 * GAMMA)
    each = 5 * math.log(LOW / 6) + math.log(GAMMA**3 / (9 * radius**3))
    cap = math.log(LOW * GAMMA / (2 - LOW))
    corrected, sharp = max(1.0, time.corrected), max(1.0, time.sharp)
    hand = once - math.log(corrected) + corrected * each
    assert gap.printed == (pytest.approx(hand, rel=1e-12) if time.corrected else math.inf)
    assert gap.corrected == pytest.approx(min(cap, hand), rel=1e-12)
    assert gap.sharp == pytest.approx(min(cap, once - math.log(sharp) + 2 * sharp * math.log(LOW / 4)), rel=1e-12)


def test_the_clearance_is_capped_by_what_its_proof_rests_on() -> None:
    gap = bounds.log_clearance(LAW, radius=3.0, log_density=-1e4, delta=0.1)
    assert gap.printed > 0
    assert gap.corrected == gap.sharp == pytest.approx(math.log(LOW * GAMMA / (2 - LOW)), rel=1e-12)


@given(st.floats(0.1, 100.0))
def test_the_time_to_the_ball_of_lemma_6(reach: float) -> None:
    time = bounds.ball_time(LAW, reach * B)
    away = max(0.0, math.log(reach))
    assert time.printed == pytest.approx(away / LOW, rel=1e-9, abs=1e-12)
    assert time.corrected == math.ceil(time.printed)
    assert time.sharp == math.ceil(max(0.0, math.log(reach * B / LAW.b)) / -math.log1p(-LAW.eta * LAW.smallest))


@given(st.floats(0.01, 2.0), st.sampled_from([1.2, 1.9]))
def test_the_visits_of_lemma_11_and_the_lost_steps_of_lemma_14(excess: float, smallest: float) -> None:
    law = quadratic([2.0, smallest], eta=0.2, rho=0.3)
    visits, lost = bounds.visits(law, excess), bounds.lost_steps(law)
    low, mu, share = 0.2 * smallest, min(0.2 * smallest, (2.0 / smallest) ** 2 - 1), (smallest / 2.0) ** 2
    ratio, unit = BETA / (0.2 * 0.3 * smallest**2 / (2 - low)), 1 / (H * excess**2)
    assert (visits.printed, visits.corrected) == pytest.approx((3 * ratio * unit, 2 * ratio * unit), rel=1e-12)
    assert visits.sharp == pytest.approx(max(1.0, 1.6**2 * ratio - 2.2) * unit / 1.6, rel=1e-12)
    whole = ratio / (H * share**2)
    assert (lost.printed, lost.corrected) == pytest.approx((3 * whole, 2 * whole), rel=1e-12)
    level = 1.6 / (1.6 - (low - mu) - low * mu) * (1 + (1 + mu) * share)
    assert lost.sharp == pytest.approx(bounds.visits(law, level - 1).sharp, rel=1e-12)


def test_lemma_11_counts_no_more_than_one_visit_in_a_unit_where_the_curvatures_are_near() -> None:
    law = quadratic([1.0, 0.999], eta=0.49, rho=1.0)
    ratio = law.bounce_grad_norm / law.beta[1]
    a = 2 - 0.49
    assert a * a * ratio - 2 * a + 1 < 1
    assert bounds.visits(law, 0.5).sharp == pytest.approx(1 / (a * 0.49 * 0.25), rel=1e-12)
