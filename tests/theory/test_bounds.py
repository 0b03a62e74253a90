"""A-priori bounds: valid where they are corrected, printed as the paper has them, and how loose."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from naive import quadratic_sam
from ravine.theory import QuadraticLaw, bounds, quadratic

LAM = np.array([1.0, 0.9, 0.8])


def _arrival(law: QuadraticLaw, w: np.ndarray, within: float) -> int:
    """The last simulated step outside ε of the cycle, plus one."""
    last, half = -1, law.amplitude
    for t in range(20_000):
        away = math.hypot(abs(w[0]) - half, *w[1:])
        if away > within:
            last = t
        elif away < within / 10:
            return last + 1
        w = quadratic_sam(law.eigenvalues, w, law.eta, law.rho)
    raise AssertionError("the run did not arrive")


def _range_of_lemma_19(law: QuadraticLaw) -> float:
    h, beta, gamma = law.eta * law.sharpness, law.bounce_grad_norm, law.vanishing_grad_norm
    return min(math.sqrt(2 * h * beta / gamma), h / (2 * gamma), 2 / law.b, beta, 1.0)


def _lemma_19(law: QuadraticLaw, v: np.ndarray, descent: int, within: float) -> bounds.Versions[bounds.Count]:
    log_ratio = math.log((v[1:] @ v[1:]) / v[0] ** 2)
    return bounds.arrival_in_gradient(law, log_ratio=log_ratio, descent=descent, within=within)


@st.composite
def runs(draw):
    sharpness = draw(st.sampled_from([0.3, 1.0, 4.0]))
    ratios = sorted(draw(st.lists(st.floats(0.6, 0.97), min_size=1, max_size=3)), reverse=True)
    lam = sharpness * np.array([1.0, *ratios])
    law = quadratic(lam, draw(st.floats(0.2, 0.49)) / sharpness, draw(st.sampled_from([0.1, 1.0, 3.0])))
    shape = np.array(draw(st.lists(st.floats(0.05, 1.0), min_size=lam.size, max_size=lam.size)))
    v = shape / np.linalg.norm(shape) * law.b * draw(st.sampled_from([0.5, 1.1, 20.0]))
    return law, v / lam


@settings(max_examples=60, deadline=None)
@given(runs())
def test_no_run_reaches_the_ball_later_than_lemma_6(run):
    law, w = run
    size = float(np.linalg.norm(law.eigenvalues * w))
    time = bounds.ball_time(law, size)
    assert time.sharp <= time.corrected
    for _ in range(int(time.sharp)):
        w = quadratic_sam(law.eigenvalues, w, law.eta, law.rho)
    assert np.linalg.norm(law.eigenvalues * w) <= law.b * (1 + 1e-12)


@settings(max_examples=60, deadline=None)
@given(runs(), st.sampled_from([0.9, 0.1, 0.01]))
def test_no_run_arrives_later_than_lemma_19_corrected_or_sharp(run, share):
    law, w = run
    limit = _range_of_lemma_19(law)
    within, u, descent = share * limit, w.copy(), 0
    while np.linalg.norm(law.eigenvalues * u) > law.b:
        u, descent = quadratic_sam(law.eigenvalues, u, law.eta, law.rho), descent + 1
    v = law.eigenvalues * u
    counts = _lemma_19(law, v, descent, within)
    assert counts.corrected.outside == counts.sharp.outside == ()
    arrival = _arrival(
        law, w, within / law.eigenvalues[0]
    )  # ‖v − p‖ ≤ ε follows from ‖w − p/λ‖ ≤ ε/λ₁: later, if anything
    slack = math.log(law.eigenvalues[0] / law.eigenvalues[-1]) / -math.log1p(-(law.eta * law.sharpness) / 2) + 1
    assert arrival <= counts.corrected.total + slack
    assert arrival <= counts.sharp.total + slack
    assert counts.sharp.total <= counts.corrected.total + 1


def test_lemma_19_printed_fails_for_a_start_far_away_and_aligned():
    law = quadratic([1, 0.9], 0.49, 1)
    w, within = np.array([1e60, 1e42 / 0.9]), 0.01
    u, descent = w.copy(), 0
    while np.linalg.norm(law.eigenvalues * u) > law.b:
        u, descent = quadratic_sam(law.eigenvalues, u, law.eta, law.rho), descent + 1
    v = law.eigenvalues * u
    counts = _lemma_19(law, v, descent, within)
    assert descent > counts.printed.total  # the count is over before the ball is reached
    assert _arrival(law, w, within) <= counts.sharp.total


@settings(max_examples=40, deadline=None)
@given(runs(), st.floats(0.02, 0.9))
def test_visits_are_counted_by_lemma_11(run, excess):
    law, w = run
    w = w * min(1.0, law.b / float(np.linalg.norm(law.eigenvalues * w)))
    bound, count = bounds.visits(law, excess), 0
    for _ in range(300):
        count += bool(np.linalg.norm(law.eigenvalues * w) >= (1 + excess) * law.bounce_grad_norm)
        w = quadratic_sam(law.eigenvalues, w, law.eta, law.rho)
    assert count <= bound.sharp <= bound.corrected < bound.printed


@settings(max_examples=30, deadline=None)
@given(runs(), st.sampled_from([0.5, 0.05]))
def test_no_start_of_a_uniform_ball_arrives_later_than_theorem_3_corrected(run, share):
    law, w = run
    radius, q = float(np.linalg.norm(w)) * 1.01, float(w[0] ** 2) * 0.99
    d = law.eigenvalues.size
    volume = math.pi ** (d / 2) / math.gamma(d / 2 + 1) * radius**d
    limit = _range_of_lemma_19(law)
    within = share * limit / float(law.eigenvalues[-1])
    counts = bounds.theorem_3(law, radius=radius, density=1 / volume, q=q, delta=0.1, within=within)
    assert counts.sharp.outside == ()
    arrival = _arrival(law, w, within)
    assert arrival <= counts.sharp.total <= counts.corrected.total


@settings(max_examples=40, deadline=None)
@given(runs())
def test_steps_that_misalign_are_counted_by_lemma_14(run):
    law, w = run
    bound, count = bounds.lost_steps(law), 0
    for _ in range(400):
        size = float(np.linalg.norm(law.eigenvalues * w))
        factors = np.abs(1 - law.eta * law.eigenvalues - law.eta * law.rho * law.eigenvalues**2 / size)
        count += bool(size <= law.b and (factors[1:] * (1 + law.mu) >= factors[0]).any())
        w = quadratic_sam(law.eigenvalues, w, law.eta, law.rho)
    assert count <= bound.sharp <= bound.corrected < bound.printed


@pytest.mark.parametrize("delta", [0.4, 0.05])
@pytest.mark.parametrize("reach", [0.9, 2.5, 30.0])
def test_few_starts_pass_the_singular_sphere_closer_than_lemma_7_allows(delta, reach):
    """Uniform starts: at most a share 2δ comes within Δ of ‖v‖ = γ₁, though from outside the ball some come near."""
    law = quadratic([1.0, 0.8], 0.45, 1.0)
    radius = law.b * reach
    rng = np.random.default_rng(0)
    v = rng.standard_normal((20_000, 2))
    v *= radius * np.sqrt(rng.random((len(v), 1))) / np.linalg.norm(v, axis=1, keepdims=True)
    gap = bounds.log_clearance(law, radius=radius, log_density=-math.log(math.pi * radius**2), delta=delta)
    assert gap.corrected <= gap.sharp
    nearest = np.full(len(v), np.inf)
    for _ in range(60):
        size = np.linalg.norm(v, axis=1, keepdims=True)
        nearest = np.minimum(nearest, np.abs(size[:, 0] - law.vanishing_grad_norm))
        v = (1 - law.eta * law.eigenvalues - law.eta * law.rho * law.eigenvalues**2 / size) * v
    assert (nearest < math.exp(gap.sharp)).mean() <= 2 * delta
    assert (nearest < law.vanishing_grad_norm / 100).any() == (reach > 1)


def test_theorem_3_by_hand():
    """The example of the command, each printed term from its formula."""
    law = quadratic([1, 0.5], 0.2, 1)
    printed = bounds.theorem_3(law, radius=3, density=1, q=0.01, delta=0.05, within=0.01).printed
    mu, low, away = 0.1, 0.1, math.log(3 / 0.2)
    assert printed.terms["lost"] == pytest.approx(6 / (0.2 * 0.5**6 * mu) * math.log(20), rel=1e-12)
    aligning = (math.log(4 * 1.2**2 / (0.5 * 0.01) ** 2) + math.log(9 / 0.01)) / mu
    assert printed.terms["aligning"] == pytest.approx(aligning, rel=1e-12)
    growth = math.log(9 * 6**5 * 27 / (low**5 * 0.2**3))
    ring = math.log(4 * math.pi * (4 * 0.2) * away * 1 / (math.gamma(1) * 0.05 * low))
    clearance = 2 * away / (low * mu) * (math.log(6) + away * growth / low + ring)
    assert printed.terms["clearance"] == pytest.approx(clearance, rel=1e-12)
    assert printed.terms["bouncing"] == pytest.approx(6 / 0.2 * math.log(2 * 1.2 / (0.5 * 0.01)), rel=1e-12)
    assert printed.outside == ()


def test_looseness_of_the_example_is_what_the_documentation_says():
    law = quadratic([1, 0.5], 0.2, 1)
    counts = bounds.theorem_3(law, radius=3, density=1, q=0.01, delta=0.05, within=0.01)
    assert [round(c.total) for c in (counts.printed, counts.corrected, counts.sharp)] == [515169, 519173, 62610]
    slowest = max(_arrival(law, np.array(w), 0.01) for w in ((2.0, 2.0), (0.115816, -2.48241), (2.9, 0.1), (0.1, 0.1)))
    assert slowest < 62610 / 1000


def test_clearance_divides_by_zero_as_printed_and_is_capped_as_corrected():
    law = quadratic([1, 0.5], 0.2, 1)
    gap = bounds.log_clearance(law, radius=0.1, log_density=math.log(32.0), delta=0.1)
    assert gap.printed == math.inf
    cap = min(
        (law.eta * law.smallest) * law.vanishing_grad_norm / (2 - (law.eta * law.smallest)),
        law.vanishing_grad_norm - law.b,
    )
    assert math.exp(gap.corrected) <= cap
    assert gap.corrected < gap.sharp


def test_bounds_agree_with_the_ledger():
    pytest.importorskip("flint")
    from ravine.claims.law import Law
    from ravine.claims.numbers import Floats
    from ravine.claims.statements.lemma_11 import sharp_visits
    from ravine.claims.statements.theorem_03 import corrected_count, printed_count

    at = {"eigenvalues": (1.0, 0.7, 0.6), "eta": 0.3, "rho": 0.8}
    law, other = quadratic(at["eigenvalues"], 0.3, 0.8), Law(at, Floats())
    setting = {"radius": 5.0, "density": 0.02, "q": 0.3, "delta": 0.05, "within": 0.03}
    counts = bounds.theorem_3(law, **setting)
    arguments = {"radius": 5.0, "q": 0.3, "log_density": math.log(0.02), "delta": 0.05, "eps": 0.03}
    assert counts.printed.total == pytest.approx(printed_count(other, **arguments), rel=1e-12)
    assert bounds.visits(law, 0.2).sharp == pytest.approx(sharp_visits(other, 0.2), rel=1e-12)
    # The ledger's corrected count already has the density's true growth; only its clearance is smaller.
    rest = counts.corrected.total - counts.corrected.terms["clearance"]
    assert rest < corrected_count(other, **arguments) < counts.corrected.total


STATEMENTS = {
    "lemma 6": lambda law: bounds.ball_time(law, 3.0),
    "lemma 7": lambda law: bounds.log_clearance(law, radius=3.0, log_density=0.0, delta=0.05),
    "lemma 11": lambda law: bounds.visits(law, 0.5),
    "lemma 14": bounds.lost_steps,
    "lemma 19": lambda law: bounds.arrival_in_gradient(law, log_ratio=1.0, descent=3, within=0.01),
    "theorem 3": lambda law: bounds.theorem_3(law, radius=3, density=1, q=0.01, delta=0.05, within=0.01),
}


@pytest.mark.parametrize("statement", STATEMENTS.values(), ids=STATEMENTS)
@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (([1, 1], 0.2, 1), "merge"),
        (([1, 0.5], 0.5, 1), r"1/\(2λ₁\)"),
        (([1], 0.2, 1), "^eigenvalues: the bounds are for two or more; give λ₁ and λ₂$"),
        (([1, 0], 0.2, 1), "λ_d"),
        (([1, 0.5], 0.2, 0), "rho"),
        (([1, 0.5], 0.2, 1, 0.1), "momentum=0"),
    ],
)
def test_laws_outside_section_4_are_refused_with_the_cure(statement, arguments, word):
    law = quadratic(*arguments)
    with pytest.raises(ValueError, match=word):
        statement(law)
    with pytest.raises(ValueError, match=word):
        bounds.require_section_4(law)


@pytest.mark.parametrize("statement", STATEMENTS.values(), ids=STATEMENTS)
def test_the_order_of_the_eigenvalues_changes_no_bound(statement):
    lam = [0.5, 1.0, 0.8]
    assert statement(quadratic(lam, 0.2, 1)) == statement(quadratic(sorted(lam, reverse=True), 0.2, 1))


def test_ranges_of_theorem_3_are_reported_or_refused():
    law = quadratic([1, 0.5], 0.2, 1)
    good = {"radius": 3.0, "density": 1.0, "q": 0.01, "delta": 0.05, "within": 0.01}
    assert "is not below" in bounds.theorem_3(law, **good | {"within": 0.2}).printed.outside[0]
    with pytest.raises(ValueError, match="exclude each other"):
        bounds.theorem_3(law, **good | {"q": 10.0})
    with pytest.raises(ValueError, match="δ < 1/2"):
        bounds.theorem_3(law, **good | {"delta": 0.5})
