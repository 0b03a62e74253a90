"""What a search spends and begins from, and what its answer says beyond values and residuals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ravine.objectives import Objective, quadratic
from ravine.spectrum import Eigenpairs, Krylov, eigenpairs, extremal_eigenpairs, random_start, search, trace
from ravine.spectrum.unseen import SpectrumEnd, Unseen

LAM = np.linspace(0, 1, 200) ** 2
WIDTH = 8 * LAM.size  # bytes of a vector


class Single(Objective):
    """½Σλᵢwᵢ² in float32, whose products are said to be of a relative error of 1e-3."""

    @property
    def dimension(self) -> int:
        return LAM.size

    @property
    def description(self) -> str:
        return "quadratic in float32"

    def value(self, w: Any) -> float:
        return float((LAM * w**2).sum() / 2)

    def grad(self, w: Any) -> np.ndarray:
        return self.hvp(w, w)

    def hvp(self, w: Any, u: Any) -> np.ndarray:
        assert u.dtype == np.float32
        return LAM.astype(np.float32) * u

    def third(self, w: Any, u: Any) -> np.ndarray:
        return np.zeros_like(u)

    def point(self, w: Any, name: str = "w") -> np.ndarray:
        return np.asarray(w, dtype=np.float32)

    def precision_at(self, w: Any) -> float:
        return 1e-3 if w.dtype == np.float32 else 1.0


def _apply(u: np.ndarray) -> np.ndarray:
    return LAM * u


def _same(one: Eigenpairs, other: Eigenpairs) -> None:
    """To what the rounding of sums in another order leaves."""
    assert one.products == other.products
    assert (one.converged == other.converged).all()
    assert one.vectors == pytest.approx(other.vectors, abs=1e-5)
    for name in ("values", "residuals", "gap_bounds", "missed"):
        assert getattr(one, name) == pytest.approx(getattr(other, name), rel=1e-4), name


def test_what_is_asked_for_by_default() -> None:
    lam = np.linspace(-1, 2, 60) ** 3
    loss, w = quadratic(lam), np.zeros(60)
    asked = {"target": "vectors", "products": 20 * 60, "memory": 2 * 2**30, "seed": 0}
    _same(eigenpairs(loss, w), eigenpairs(loss, w, 1, 1e-6, None, end="largest", **asked))
    for one, other in zip(extremal_eigenpairs(loss, w), extremal_eigenpairs(loss, w, 1, 1e-6, **asked), strict=True):
        _same(one, other)
    first = random_start(60, 0, w)
    alone = search(lambda u: lam * u, first, (1, 0), 1e-6, share=1.0)[0]
    _same(eigenpairs(loss, w), alone)
    _same(search(lambda u: lam * u, first, (1, 0), 1e-6)[0], alone)
    # The smallest of these is found before the largest, for which it need not wait.
    lowest = eigenpairs(quadratic(-lam), w, end="smallest")
    _same(lowest, search(lambda u: -lam * u, first, (0, 1), 1e-6)[1])
    assert lowest.products < extremal_eigenpairs(quadratic(-lam), w)[1].products
    assert len(extremal_eigenpairs(loss, w)[1].values) == 1
    assert alone.interrupted is False
    for other in (eigenpairs(loss, w, seed=1), extremal_eigenpairs(loss, w, seed=1)[0]):
        assert other.residuals[0] != pytest.approx(alone.residuals[0], rel=1e-2)
    few = extremal_eigenpairs(loss, w, products=7, seed=1)
    assert few[0].products == few[1].products == 7


def test_how_many_pairs_can_be_asked_for() -> None:
    three, five = quadratic([1.0, 2.0, 4.0]), quadratic(np.arange(1.0, 6.0))
    assert eigenpairs(three, np.zeros(3), 2).values == pytest.approx([4.0, 2.0])
    largest, smallest = extremal_eigenpairs(five, np.zeros(5), 2)
    assert largest.values == pytest.approx([5.0, 4.0])
    assert smallest.values == pytest.approx([1.0, 2.0])
    for k, d in ((0, 5), (-1, 5), (2, 4), (3, 5)):
        with pytest.raises(ValueError, match=f"^k = {k}: 2k eigenpairs, fewer than d = {d}$"):
            extremal_eigenpairs(quadratic(np.arange(1.0, d + 1)), np.zeros(d), k)


def test_the_target_of_values_is_met_with_fewer_products_and_no_worse_bounds() -> None:
    loss, w = quadratic(LAM), np.zeros(LAM.size)
    vectors, values = (eigenpairs(loss, w, 2, 1e-8, target=target) for target in ("vectors", "values"))
    assert vectors.converged.all()
    assert values.converged.all()
    assert (vectors.residuals <= 1e-8).all()
    assert (np.minimum(values.residuals, values.gap_bounds) <= 1e-8).all()
    assert (values.residuals > 1e-8).any()
    assert values.products < vectors.products
    assert (np.abs(values.values - [1.0, LAM[-2]]) <= 1e-8).all()


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_the_tolerance_is_relative_to_the_largest_eigenvalue(scale: float) -> None:
    pairs = eigenpairs(quadratic(scale * LAM), np.zeros(LAM.size), 1, 1e-5)
    reference = eigenpairs(quadratic(LAM), np.zeros(LAM.size), 1, 1e-5)
    assert pairs.products == reference.products
    assert pairs.residuals[0] <= 1e-5 * scale
    assert pairs.missed == pytest.approx(reference.missed, rel=1e-6)


def test_it_gives_up_after_twenty_products_a_dimension() -> None:
    """Products with noise in them never meet a tolerance below it."""
    lam, generator = np.linspace(0, 1, 20), np.random.default_rng(0)
    first = random_start(20, 0, lam)
    pairs = search(
        lambda u: lam * u + 1e-3 * generator.standard_normal(20), first, (1, 0), 1e-9, memory=8 * 20 * 9
    )[0]  # fmt: skip
    assert pairs.products == 400
    assert not pairs.converged.any()
    assert not pairs.interrupted


def test_it_stops_where_the_caller_has_enough() -> None:
    seen = []

    def enough(values: np.ndarray, residuals: np.ndarray) -> bool:
        seen.append(len(values))
        assert (np.diff(values) > 0).all()
        assert values.shape == residuals.shape
        return bool(residuals[-1] < 0.1 * values[-1])

    pairs = search(_apply, random_start(LAM.size, 0, LAM), (1, 0), 1e-9, enough=enough)[0]
    assert seen == list(range(2, pairs.products + 1))
    assert 1e-3 < pairs.residuals[0] < 0.1
    assert not pairs.converged.any()


def test_the_error_of_products_is_in_the_residuals_and_the_tolerance() -> None:
    pairs = eigenpairs(Single(), np.zeros(LAM.size), 1, 1e-6)
    alone = search(
        lambda u: LAM.astype(np.float32) * u, random_start(LAM.size, 0, np.zeros(1, np.float32)), (1, 0), 1e-6,
        precision=1e-3,
    )[0]  # fmt: skip
    _same(pairs, alone)
    rounding = 8e-3 * np.sqrt(pairs.products) * pairs.values[0]
    assert rounding < pairs.residuals[0] <= 2 * rounding * (1 + 1e-6)
    assert pairs.converged.all()
    assert np.linalg.norm(pairs.vectors, axis=1) == pytest.approx([1.0], rel=1e-14)
    summed = trace(Single(), np.zeros(LAM.size), 40)
    assert abs(summed.value - LAM.sum()) <= 5 * summed.error
    warm = eigenpairs(Single(), np.zeros(LAM.size), 1, 1e-6, guess=pairs.vectors)
    assert warm.products < pairs.products


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_the_least_memory_is_named_and_suffices(kind: type) -> None:
    lam, first = LAM.astype(kind), random_start(LAM.size, 0, np.zeros(1, kind))
    needed = np.dtype(kind).itemsize * LAM.size * (2 * 3 + 5)
    with pytest.raises(ValueError, match=f"^memory = {needed - 1}: 3 eigenpairs need {needed} bytes at least$"):
        search(lambda u: lam * u, first, (2, 1), 1e-3, memory=needed - 1)
    largest, smallest = search(lambda u: lam * u, first, (2, 1), 1e-3, memory=needed)
    assert largest.converged.all()
    assert smallest.converged.all()
    assert largest.values == pytest.approx(LAM[:-3:-1], abs=2e-3)
    assert smallest.values == pytest.approx([0.0], abs=2e-3)


def test_one_vector_more_than_there_are_pairs_is_looked_at_before_it_stops() -> None:
    """The space of the start is invariant after two, and holds the values 2 and 1; outside it there is another 2."""
    pairs = eigenpairs(quadratic(np.repeat([1.0, 2.0], 4)), np.zeros(8), 2)
    assert pairs.values == pytest.approx([2.0, 2.0], rel=1e-13)
    # What it meets there is drawn by the seed as well.
    lam = np.repeat([1.0, 2.0], 4)
    for seed in (0, 3):
        seeded = [eigenpairs(quadratic(lam), np.zeros(8), 2, seed=seed)]
        seeded.append(search(lambda u: lam * u, random_start(8, seed, lam), (2, 0), 1e-6, seed=seed)[0])
        assert seeded[0].vectors == pytest.approx(seeded[1].vectors, abs=1e-9)
    default = search(lambda u: lam * u, random_start(8, 0, lam), (2, 0), 1e-6)[0]
    assert default.vectors == pytest.approx(pairs.vectors, abs=1e-9)
    assert pairs.converged.all()


def test_of_all_pairs_that_there_are_each_has_a_gap() -> None:
    lam = np.array([1.0, 2.0, 4.0])
    every, none = search(lambda u: lam * u, random_start(3, 0, lam), (3, 0), 1e-6)
    assert every.values == pytest.approx([4.0, 2.0, 1.0], rel=1e-13)
    assert (every.gap_bounds < 1e-13).all()
    assert every.products == 3
    assert none.values.size == none.missed.size == 0
    few = search(lambda u: lam * u, random_start(3, 0, lam), (2, 0), 1e-6, products=2)[0]
    assert few.gap_bounds[1] == np.inf


def test_small_problems_need_no_more_memory_than_all_their_vectors() -> None:
    pairs = eigenpairs(quadratic([1.0, 2.0, 4.0]), np.zeros(3), 2, memory=8 * 3 * 4)
    assert pairs.values == pytest.approx([4.0, 2.0])


@pytest.mark.parametrize("memory", [WIDTH * 17, 2 * 2**30])
def test_the_chance_of_a_miss_is_that_of_the_steps_before_the_first_restart(memory: int) -> None:
    capacity = min(LAM.size, memory // WIDTH - 1)
    first = random_start(LAM.size, 5, LAM)
    pairs = search(_apply, first, (2, 0), 1e-6, memory=memory, products=28)[0]
    krylov = Krylov(_apply, first, capacity, np.random.default_rng([0, 1]))
    for _ in range(min(capacity, pairs.products)):
        krylov.step()
    unseen = Unseen.of(krylov, krylov.ritz()[0], 1.0)
    end = SpectrumEnd(np.arange(2), pairs.values, pairs.residuals, pairs.gap_bounds, 1)
    assert pairs.products == 28
    assert pairs.missed == pytest.approx(unseen.missed(end, 1e-2 * pairs.values[0]), rel=1e-6)


def test_a_guess_is_begun_from_with_one_per_cent_at_random() -> None:
    """Of several vectors, each counts the same however long it is."""
    loss, w, axes = quadratic(LAM), np.zeros(LAM.size), np.eye(LAM.size, dtype=int)
    rows = np.stack([10**6 * axes[-1], 3 * axes[-2], -axes[7]])
    first = random_start(LAM.size, 0, w)
    start = (axes[-1] + axes[-2] - axes[7]) / np.sqrt(3) + 1e-2 * first
    for guess in (rows, 1e-9 * rows, rows.tolist()):
        pairs = eigenpairs(loss, w, 2, 1e-9, guess=guess, products=25)
        other = search(_apply, start, (2, 0), 1e-9, share=1e-2, products=25)[0]
        assert pairs.missed[1] < 0.5
        assert pairs.values == pytest.approx(other.values, rel=1e-12)
        assert pairs.missed == pytest.approx(other.missed, rel=1e-6)
        assert np.abs(pairs.vectors) == pytest.approx(np.abs(other.vectors), abs=1e-9)
    for wrong in (np.ones(9), np.full(200, np.nan), np.zeros((2, 200)), np.ones((200, 2))):
        with pytest.raises(ValueError, match=r"^guess: give one or more finite vectors of length 200, not all zero$"):
            eigenpairs(loss, w, guess=wrong)


def _pairs(vectors: Any) -> Eigenpairs:
    v = np.array(vectors, dtype=float)
    some = np.zeros(len(v))
    return Eigenpairs(np.arange(len(v), 0.0, -1), v, some + 0.25, some, some, some == 0, 11)


def test_pairs_that_follow_others_take_their_signs_and_what_is_new_keeps_its_own() -> None:
    before = _pairs([[1, 0, 0, 0], [0, 1, 0, 0]])
    after = _pairs([[0, -0.6, 0.8, 0], [0, 0, 0, 1], [0.8, 0, 0, 0.6]])
    kept, origin = after.following(before)
    assert origin.tolist() == [1, -1, 0]
    assert kept.vectors.tolist() == [[0, 0.6, -0.8, 0], [0, 0, 0, 1], [0.8, 0, 0, 0.6]]
    apart, origin = _pairs([[0, 0, 1, 0]]).following(_pairs([[1, 0, 0, 0]]))
    assert apart.vectors.tolist() == [[0, 0, 1, 0]]
    assert origin.tolist() == [0]


def test_a_repr_shows_four_pairs_and_counts_the_rest() -> None:
    many = "<Eigenpairs: 5 ± 2e-01, 4 ± 2e-01, 3 ± 2e-01, 2 ± 2e-01, … 5 in all; 11 products>"
    assert repr(_pairs(np.eye(5))) == many
    assert repr(_pairs(np.eye(4))) == many.replace(", … 5 in all", "").replace("5 ± 2e-01, ", "").replace(
        "2 ± 2e-01", "2 ± 2e-01, 1 ± 2e-01"
    )
    stopped = Eigenpairs(*(np.zeros(0),) * 6, products=3, interrupted=True)
    assert repr(stopped) == "<Eigenpairs: ; 3 products, interrupted>"


def test_an_interrupt_before_the_first_product_is_passed_on() -> None:
    def apply(u: np.ndarray) -> np.ndarray:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search(apply, random_start(9, 0, LAM), (1, 0), 1e-3)


@pytest.mark.parametrize(
    ("arguments", "cure"),
    [
        ({"tol": 0.0}, "tol = 0.0: give a number between 0 and 1"),
        ({"tol": 1.0}, "tol = 1.0: give a number between 0 and 1"),
        ({"target": "both"}, "target = 'both': use vectors or values"),
        ({"products": 0}, "products = 0: give a number ≥ 1"),
        ({"end": "middle"}, "end = 'middle': use largest or smallest; extremal_eigenpairs gives both"),
        ({"k": 9}, "k = 9: between 1 and 8 eigenpairs of a Hessian of size 9"),
    ],
)
def test_refusals_say_the_cure(arguments: dict[str, Any], cure: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        eigenpairs(quadratic(np.arange(9.0)), np.zeros(9), **arguments)
    assert str(caught.value) == cure
    assert eigenpairs(quadratic(np.arange(9.0)), np.zeros(9), products=1).products == 1
