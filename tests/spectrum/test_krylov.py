"""The Lanczos process itself: its recursion, its rounding, invariant spaces, restarts and inserted vectors."""

from __future__ import annotations

import numpy as np
import pytest

from ravine.spectrum import Krylov, random_start

EPS = float(np.finfo(np.float64).eps)


def _krylov(lam: np.ndarray, capacity: int, seed: int = 0, precision: float = 0.0) -> Krylov:
    start = random_start(lam.size, seed, lam)
    return Krylov(lambda u: lam * u, start, capacity, np.random.default_rng(7), precision)


def _assert_recursion(krylov: Krylov, lam: np.ndarray) -> None:
    """HQ = Q(upper + lower) + βqeᵀ and QᵀQ = I, to rounding."""
    m, room = krylov.size, 100 * EPS * np.abs(lam).max()
    q = krylov.basis[: m + 1].T
    assert np.abs(q.T @ q - np.eye(m + 1)).max() < 100 * EPS
    left = np.outer(q[:, m], np.eye(m)[-1]) * krylov.beta
    whole = krylov.upper[:m, :m] + krylov.lower[:m, :m]
    assert np.abs(lam[:, None] * q[:, :m] - q[:, :m] @ whole - left).max() < room
    assert np.abs(krylov.projected() - q[:, :m].T @ (lam[:, None] * q[:, :m])).max() < room


def _true_residuals(krylov: Krylov, lam: np.ndarray) -> np.ndarray:
    values, columns, _ = krylov.ritz()
    vectors = krylov.vectors(columns)
    return np.linalg.norm(lam * vectors - values[:, None] * vectors, axis=1)


def test_the_recursion_and_the_residuals() -> None:
    lam = np.linspace(-1, 3, 40) ** 3
    krylov = _krylov(lam, 12)
    assert (krylov.size, krylov.products, krylov.beta, krylov.full) == (0, 0, np.inf, False)
    for m in range(1, 13):
        krylov.step()
        assert (krylov.size, krylov.products, krylov.full) == (m, m, m == 12)
        _assert_recursion(krylov, lam)
        values, _, residuals = krylov.ritz()
        assert (np.diff(values) > 0).all()
        assert krylov.rounding(values) == pytest.approx(8 * EPS * np.sqrt(m) * np.abs(values).max(), rel=1e-14, abs=0)
        assert residuals - krylov.rounding(values) == pytest.approx(_true_residuals(krylov, lam), rel=1e-9, abs=1e-13)
    assert np.exp(krylov.log_betas) == pytest.approx([*np.diag(krylov.lower, -1)[:11], krylov.beta], rel=1e-14)
    assert krylov.exhausted is False


def test_the_error_of_the_products_goes_into_the_rounding() -> None:
    lam = np.linspace(1, 2, 20)
    exact, coarse = _krylov(lam, 5), _krylov(lam, 5, precision=1e-3)
    single = Krylov(lambda u: u, np.ones(3, dtype=np.float32), 1, np.random.default_rng(0), 1e-12)
    assert (exact.epsilon, coarse.epsilon) == (EPS, 1e-3)
    assert single.epsilon == np.finfo(np.float32).eps
    for krylov in (exact, coarse):
        for _ in range(5):
            krylov.step()
    values = coarse.ritz()[0]
    assert coarse.rounding(values) == pytest.approx(8e-3 * np.sqrt(5) * values[-1], rel=1e-12)
    assert (coarse.ritz()[2] > exact.ritz()[2]).all()


def test_a_product_that_is_not_symmetric_is_in_the_residuals() -> None:
    """Each residual has what `upper` and `lower` differ by, pair by pair."""
    lam, tilt = np.linspace(1, 2, 30), 1e-3 * np.random.default_rng(1).standard_normal((30, 30))
    krylov = Krylov(lambda u: lam * u + tilt @ u, random_start(30, 0, lam), 6, np.random.default_rng(0))
    for _ in range(6):
        krylov.step()
    values, columns, residuals = krylov.ritz()
    vectors = krylov.vectors(columns)
    true = np.linalg.norm(vectors * lam + vectors @ tilt.T - values[:, None] * vectors, axis=1)
    assert residuals == pytest.approx(true, rel=1e-9)
    assert true.max() > 1.01 * true.min()


def test_what_the_operator_returns_stays_its_own() -> None:
    lam, given = np.linspace(1, 2, 10), []

    def apply(u: np.ndarray) -> np.ndarray:
        given.append((lam * u, lam * u))
        return given[-1][0]

    krylov = Krylov(apply, random_start(10, 0, lam), 6, np.random.default_rng(0))
    for _ in range(6):
        krylov.step()
    assert all((held == kept).all() for held, kept in given)


@pytest.mark.parametrize("scale", [1.0, 1e-12, 1e12])
def test_where_the_space_is_exhausted_it_goes_on_outside(scale: float) -> None:
    lam = scale * np.repeat([1.0, 2.0, 5.0], 3)
    krylov = _krylov(lam, 20)
    assert krylov.capacity == 9
    for m in range(1, 10):
        krylov.step()
        assert krylov.exhausted == (m >= 3)
        if m == 3:
            assert krylov.ritz()[0] == pytest.approx(lam[::3], rel=1e-13)
    assert krylov.ritz()[0] == pytest.approx(lam, rel=1e-13)
    assert krylov.lower[3, 2] == 0
    # The probability of a miss is reckoned with the random start's own space, and with no β below what rounding leaves.
    floor = 10 * EPS * np.abs(krylov.upper[:3, :3]).max()
    assert len(krylov.log_betas) == 3
    assert krylov.log_betas[2] == pytest.approx(np.log(floor), rel=1e-12)
    assert krylov.beta <= 10 * EPS * lam.max()
    basis = krylov.basis[:9]
    assert np.abs(basis @ basis.T - np.eye(9)).max() < 100 * EPS


def test_of_the_zero_operator_every_beta_is_as_small_as_can_be_written() -> None:
    krylov = _krylov(np.zeros(5), 3)
    krylov.step()
    assert krylov.exhausted
    assert krylov.log_betas == [np.log(1e-300)]


def test_a_product_that_is_not_finite_is_refused() -> None:
    krylov = Krylov(lambda u: u * np.inf, np.ones(3), 3, np.random.default_rng(0))
    with (
        np.errstate(invalid="ignore"),
        pytest.raises(ValueError, match=r"^hvp: a Hessian-vector product is not finite"),
    ):
        krylov.step()


@pytest.mark.parametrize("keep", [[9], [8, 9], [0, 1, 8, 9]])
def test_a_restart_keeps_pairs_with_their_residuals_and_goes_on_as_if_they_were_its_own(keep: list[int]) -> None:
    lam = np.linspace(-1, 3, 60) ** 3
    krylov = _krylov(lam, 10)
    for _ in range(10):
        krylov.step()
    values, _, residuals = krylov.ritz()
    for restarts in (1, 2):
        krylov.restart(np.array(keep))
        assert (krylov.size, krylov.restarts, krylov.full) == (len(keep), restarts, False)
        kept, _, still = krylov.ritz()
        assert kept == pytest.approx(values[keep], rel=1e-13)
        assert still == pytest.approx(residuals[keep], rel=1e-6)
        assert still == pytest.approx(_true_residuals(krylov, lam), rel=1e-6)
        for _ in range(10 - len(keep)):
            krylov.step()
            _assert_recursion(krylov, lam)
        values, _, residuals = krylov.ritz()
        assert residuals == pytest.approx(_true_residuals(krylov, lam), rel=1e-6)
    # They tell of a random start, which a restarted space has not.
    assert len(krylov.log_betas) == 10
    assert krylov.products == 10 + 2 * (10 - len(keep))


def test_an_inserted_vector_is_gone_on_from_as_far_as_it_is_new() -> None:
    lam = np.linspace(1, 2, 30)
    krylov = _krylov(lam, 8)
    for _ in range(3):
        krylov.step()
    known = krylov.basis[:3].copy()
    v = np.random.default_rng(3).standard_normal(30)
    assert not krylov.insert(known[0] + 2 * known[2])
    assert not krylov.insert(known[1] + 1e-14 * v)
    assert krylov.insert(known[1] + 1e-9 * v)
    # Whether it is new is a question of its direction, not of its length.
    assert not krylov.insert(1e6 * known[1] + 1e-8 * v)
    assert krylov.insert(1e-9 * v)
    assert krylov.insert(v)
    new = v - (known @ v) @ known
    assert krylov.basis[3] == pytest.approx(new / np.linalg.norm(new), abs=1e-14)
    assert (krylov.basis[:3] == known).all()
    for m in (4, 5, 6):
        krylov.step()
        q = krylov.basis[:m]
        assert np.abs(q @ q.T - np.eye(m)).max() < 100 * EPS
        assert krylov.projected() == pytest.approx(q @ (lam * q).T, abs=1e-14)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_a_random_start_is_drawn_in_its_own_precision_and_belongs_to_the_caller(kind: type) -> None:
    like = np.zeros(1, dtype=kind)
    first = random_start(50, 3, like)
    drawn = np.random.default_rng([3, 50]).standard_normal(50, dtype=kind)
    assert first.dtype == kind
    assert (first == drawn / np.linalg.norm(drawn)).all()
    kept = first.copy()
    first[:] = 0.0
    assert (random_start(50, 3, like) == kept).all()
    assert np.abs(random_start(50, 4, like) - kept).max() > 0.01
    krylov = Krylov(lambda u: 2 * u, kept, 4, np.random.default_rng(0))
    krylov.step()
    krylov.step()
    assert krylov.basis.dtype == krylov.vectors(np.eye(2)).dtype == kind
    assert repr(krylov) == "<Krylov: 2 of at most 4 vectors in 50 dimensions>"
