"""Eigenpairs against dense eigenvalues, and the bounds they carry."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quadratics import rotated

from ravine.objectives import Objective, quadratic
from ravine.spectrum import Krylov, eigenpairs, extremal_eigenpairs, random_start, search


@pytest.mark.parametrize("seed", range(3))
def test_against_the_dense_spectrum(seed: int) -> None:
    lam = np.sort(np.random.default_rng(seed).uniform(-1, 3, 30))[::-1]
    loss, basis = rotated(lam, seed)
    pairs = eigenpairs(loss, np.zeros(30), k=3, tol=1e-10)
    assert pairs.values == pytest.approx(lam[:3], rel=1e-9)
    assert np.abs((pairs.vectors * basis.T[:3]).sum(axis=1)) == pytest.approx(np.ones(3), rel=1e-6)
    for value, residual in zip(pairs.values, pairs.residuals, strict=True):
        assert np.abs(lam - value).min() <= residual + 1e-13
    assert 3 < pairs.products < 200


def test_a_loose_tolerance_still_bounds_its_error() -> None:
    lam = np.linspace(1, 2, 60)
    pairs = eigenpairs(quadratic(lam), np.zeros(60), k=2, tol=1e-1)
    for value, residual in zip(pairs.values, pairs.residuals, strict=True):
        assert np.abs(lam - value).min() <= residual + 1e-13


@settings(max_examples=50)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([5, 20, 60]),
    st.sampled_from([1e-1, 1e-3, 1e-8, 1e-14]),
    st.sampled_from(["uniform", "decay", "clusters"]),
    st.integers(1, 3),
)
def test_bounds_are_never_understated(seed: int, d: int, tol: float, kind: str, k: int) -> None:
    generator = np.random.default_rng(seed)
    lam = {
        "uniform": lambda: generator.uniform(-1, 1, d),
        "decay": lambda: np.exp(-generator.uniform(0, 20, d)) * generator.choice([1, 1, 1, -1], d),
        "clusters": lambda: generator.choice([1.0, 0.5, 0.0], d) + generator.uniform(0, 1e-4, d),
    }[kind]()
    loss = quadratic(lam)
    for pairs in (eigenpairs(loss, np.zeros(d), k, tol, seed=seed % 7), *_both(loss, d, tol)):
        nearest = np.abs(pairs.values[:, None] - lam[None, :]).min(axis=1)
        assert (nearest <= pairs.residuals).all()
        true = np.array(
            [np.linalg.norm(lam * v - value * v) for value, v in zip(pairs.values, pairs.vectors, strict=True)]
        )
        assert (true <= pairs.residuals).all()
        assert pairs.converged.all()
        # The gap bound presupposes that one eigenvalue lies within the gap.
        gaps = pairs.residuals**2 / np.maximum(pairs.gap_bounds, 1e-300)
        alone = np.array([(np.abs(lam - v) < gap).sum() == 1 for v, gap in zip(pairs.values, gaps, strict=True)])
        assert (nearest[alone] <= pairs.gap_bounds[alone]).all()


def _both(loss: Objective, d: int, tol: float) -> list:
    return list(extremal_eigenpairs(loss, np.zeros(d), 2, tol)) if d > 5 else []


def test_both_ends() -> None:
    lam = np.sort(np.random.default_rng(0).uniform(-2, 3, 80))
    largest, smallest = extremal_eigenpairs(quadratic(lam), np.zeros(80), 2, tol=1e-10)
    assert largest.values == pytest.approx(lam[::-1][:2], rel=1e-9)
    assert smallest.values == pytest.approx(lam[:2], rel=1e-9)
    assert largest.products == smallest.products
    alone = eigenpairs(quadratic(lam), np.zeros(80), 2, 1e-10, end="smallest")
    assert alone.values == pytest.approx(lam[:2], rel=1e-9)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("seed", range(3))
def test_the_basis_stays_orthonormal(seed: int, kind: type) -> None:
    generator = np.random.default_rng(seed)
    # Eigenvalues over many orders, on which Lanczos without reorthogonalisation loses it in a few steps.
    lam = np.concatenate([np.geomspace(1e-6, 1e3, 150), 1e3 * (1 + 1e-9 * np.arange(50))]).astype(kind)
    krylov = Krylov(lambda u: lam * u, generator.standard_normal(200).astype(kind), 60, np.random.default_rng(0))
    for _ in range(60):
        krylov.step()
    basis = krylov.basis[: krylov.size].astype(np.float64)
    assert np.abs(basis @ basis.T - np.eye(krylov.size)).max() < 50 * np.finfo(kind).eps


def test_restarts_keep_the_bounds_and_the_memory() -> None:
    lam = np.sort(np.random.default_rng(0).uniform(0, 1, 300))[::-1]
    free = eigenpairs(quadratic(lam), np.zeros(300), 2, 1e-8)
    bound = eigenpairs(quadratic(lam), np.zeros(300), 2, 1e-8, memory=8 * 300 * 16)
    for pairs in (free, bound):
        assert pairs.converged.all()
        assert (np.abs(pairs.values - lam[:2]) <= pairs.residuals).all()
    assert bound.products > free.products
    with pytest.raises(ValueError, match="memory"):
        eigenpairs(quadratic(lam), np.zeros(300), 2, memory=8 * 300 * 4)


@pytest.mark.parametrize("products", [15, 16, 18, 20])
def test_bounds_hold_where_it_stops_at_a_restart(products: int) -> None:
    """Of 16 basis vectors the last one fills the space: the pairs that a restart would keep are the answer."""
    lam = np.linspace(0, 1, 300) ** 2
    pairs = eigenpairs(quadratic(lam), np.zeros(300), 3, 1e-8, products=products, memory=8 * 300 * 17)
    true = np.linalg.norm(pairs.vectors * lam - pairs.values[:, None] * pairs.vectors, axis=1)
    assert (true > 1e-3).all()
    assert (true <= pairs.residuals).all()
    assert pairs.residuals == pytest.approx(true, rel=1e-6)


@pytest.mark.parametrize("stop", range(13, 21))
def test_bounds_hold_after_an_interrupt_around_a_restart(stop: int) -> None:
    lam, calls = np.linspace(0, 1, 300) ** 2, 0

    def apply(u: np.ndarray) -> np.ndarray:
        nonlocal calls
        calls += 1
        if calls == stop:
            raise KeyboardInterrupt
        return lam * u

    first = random_start(300, 0, np.zeros(300))
    pairs = search(apply, first, (3, 0), 1e-8, memory=8 * 300 * 17)[0]
    assert pairs.interrupted
    true = np.linalg.norm(pairs.vectors * lam - pairs.values[:, None] * pairs.vectors, axis=1)
    assert pairs.residuals == pytest.approx(true, rel=1e-6)


def test_the_probability_of_a_miss_is_a_bound() -> None:
    """A large eigenvalue stands apart from a cluster: runs that have not seen it must say so, and are that rare."""
    d, starts = 400, 300
    lam = np.concatenate([[1.5], np.linspace(0.0, 1.0, d - 1)])
    loss = quadratic(lam)
    probabilities = []
    for seed in range(starts):
        pairs = eigenpairs(loss, np.zeros(d), 1, tol=0.3, products=3, seed=seed)
        if pairs.values[0] + max(pairs.residuals[0], 0.3 * abs(pairs.values[0])) < 1.5:
            probabilities.append(pairs.missed[0])
    assert probabilities, "no run missed it: the test tests nothing"
    for level in (0.01, 0.05, 0.2):
        share = (np.array(probabilities) <= level).sum() / starts
        assert share <= level + 3 * np.sqrt(level / starts)
    sure = eigenpairs(loss, np.zeros(d), 1, tol=1e-6)
    assert sure.missed[0] < 1e-3


def test_a_guess_saves_products() -> None:
    lam = np.linspace(0, 1, 200) ** 3
    cold = eigenpairs(quadratic(lam), np.zeros(200))
    warm = eigenpairs(quadratic(lam), np.zeros(200), guess=cold.vectors[0] + 1e-6)
    assert warm.products < cold.products
    assert warm.values == pytest.approx(cold.values)


def test_a_guess_of_the_wrong_vector_finds_the_right_one() -> None:
    lam = np.linspace(0, 1, 50)
    wrong = np.zeros(50)
    wrong[10] = 1.0
    pairs = eigenpairs(quadratic(lam), np.zeros(50), tol=1e-6, guess=wrong)
    # At the first product the residual is that of the random part, and too large to stop at.
    assert pairs.values[0] == pytest.approx(1.0, abs=1e-9)


def test_following_through_a_crossing() -> None:
    before = eigenpairs(quadratic([3.0, 2.0, 1.0, 0.5, 0.1]), np.zeros(5), 2)
    after = eigenpairs(quadratic([2.0, 3.0, 1.0, 0.5, 0.1]), np.zeros(5), 2, seed=3)
    kept, origin = after.following(before)
    assert origin.tolist() == [1, 0]
    assert (np.sum(kept.vectors * before.vectors[origin], axis=1) > 0.99).all()


def test_an_interrupt_keeps_what_there_is() -> None:
    lam = np.linspace(0, 1, 100)
    calls = 0

    def matvec(u: np.ndarray) -> np.ndarray:
        nonlocal calls
        calls += 1
        if calls > 7:
            raise KeyboardInterrupt
        return lam * u

    first = random_start(100, 0, np.zeros(1))
    pairs, _ = search(matvec, first, (2, 0), 1e-12)
    assert pairs.interrupted
    assert pairs.products == 7
    assert not pairs.converged.all()
    for value, residual in zip(pairs.values, pairs.residuals, strict=True):
        assert np.abs(lam - value).min() <= residual


def test_fewer_products_than_needed() -> None:
    pairs = eigenpairs(quadratic(np.linspace(0, 1, 100)), np.zeros(100), 1, 1e-12, products=5)
    assert pairs.products == 5
    assert not pairs.converged[0]


def test_invariant_subspaces_and_ties() -> None:
    lam = np.array([1.0, 1.0, 0.5, 0.0, 0.0, 0.0])
    pairs = eigenpairs(quadratic(lam), np.zeros(6), 1)
    assert pairs.values[0] == pytest.approx(1.0, abs=1e-14)
    # A space of three vectors holds one copy of each value; for four pairs it must go outside.
    more = eigenpairs(quadratic(lam), np.zeros(6), 4)
    assert more.values == pytest.approx(lam[:4], abs=1e-12)


@pytest.mark.parametrize("k", [0, 3, -1])
def test_misuse(k: int) -> None:
    with pytest.raises(ValueError, match="eigenpairs"):
        eigenpairs(quadratic([1.0, 2.0, 3.0]), np.zeros(3), k=k)


def test_more_misuse() -> None:
    loss, w = quadratic(np.arange(1.0, 9.0)), np.zeros(8)
    for call, cure in [
        (lambda: eigenpairs(loss, w, tol=0.0), "tol"),
        (lambda: eigenpairs(loss, w, products=0), "products"),
        (lambda: eigenpairs(loss, w, end="middle"), "largest"),  # pyright: ignore[reportArgumentType]
        (lambda: eigenpairs(loss, w, target="both"), "vectors"),  # pyright: ignore[reportArgumentType]
        (lambda: eigenpairs(loss, w, guess=np.zeros(8)), "guess"),
        (lambda: extremal_eigenpairs(loss, w, 4), "fewer than"),
    ]:
        with pytest.raises(ValueError, match=cure):
            call()
