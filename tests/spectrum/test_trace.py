"""XTrace against its definition, and against traces that are known."""

from __future__ import annotations

import numpy as np
import pytest
from quadratics import rotated

from ravine.objectives import quadratic
from ravine.spectrum import Trace, trace


@pytest.mark.parametrize("seed", range(5))
def test_trace(seed: int) -> None:
    lam = np.exp(-np.arange(200) / 8.0)
    loss, _ = rotated(lam, seed)
    found = trace(loss, np.zeros(200), products=40, seed=seed)
    assert found.products == 40
    assert abs(found.value - lam.sum()) <= 5 * found.error
    assert found.error < 0.02 * lam.sum()
    low = quadratic(np.concatenate([np.arange(1.0, 6.0), np.zeros(95)]))
    assert trace(low, np.zeros(100), 20, seed).value == pytest.approx(15.0, rel=1e-9)
    assert trace(quadratic([1.0, 2.0]), np.zeros(2)).value == 3.0


def test_the_trace_of_a_flat_loss_is_zero() -> None:
    assert trace(quadratic(np.zeros(50)), np.zeros(50), products=20) == Trace(0.0, 0.0, 10)


@pytest.mark.parametrize("products", [4, 5, 12, 28])
def test_each_estimate_is_on_the_complement_of_what_the_other_tests_span(products: int) -> None:
    d, n, seed = 15, products // 2, 4
    loss, basis = rotated(np.linspace(-1, 4, d), seed)
    hessian = basis @ np.diag(np.linspace(-1, 4, d)) @ basis.T
    tests = np.random.default_rng([seed, d]).standard_normal((d, n))
    each = []
    for i, test in enumerate(tests.T):
        others, _ = np.linalg.qr(hessian @ np.delete(tests, i, axis=1))
        rest = test - others @ (others.T @ test)
        share = (d - n + 1) / (rest @ rest)
        each.append(np.trace(others.T @ hessian @ others) + share * (rest @ hessian @ rest))
    found = trace(loss, np.zeros(d), products, seed)
    assert found.value == pytest.approx(np.mean(each), rel=1e-9)
    assert found.error == pytest.approx(np.std(each, ddof=1) / np.sqrt(n), rel=1e-9)
    assert found.products == 2 * n


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1.0, 1e12, 1e30])
def test_a_range_smaller_than_the_tests_is_found_whole_in_every_unit(scale: float) -> None:
    values = scale * np.array([5.0, -4.0, 3.0, 2.0, 1e-3])
    loss, _ = rotated(np.concatenate([values, np.zeros(95)]), 1)
    found = trace(loss, np.zeros(100), 20)
    assert found.value == pytest.approx(values.sum(), rel=1e-9)
    assert found.error == pytest.approx(0.0, abs=1e-9 * scale)
    assert found.products == 15


def test_by_default_it_spends_forty_products_and_repeats_itself() -> None:
    loss, w = quadratic(np.linspace(0, 1, 100)), np.zeros(100)
    assert trace(loss, w) == trace(loss, w, products=40, seed=0)
    assert trace(loss, w).products == 40
    assert trace(loss, w, seed=1).value != trace(loss, w).value


def test_where_products_suffice_the_diagonal_is_summed() -> None:
    loss, _ = rotated(np.array([1.0, 2.0, -4.0]), 0)
    found = trace(loss, np.zeros(3), products=6)
    assert (found.value, found.error, found.products) == (pytest.approx(-1.0, rel=1e-13), 0.0, 3)
    assert trace(loss, np.zeros(3), products=5).products == 4
    with pytest.raises(ValueError, match=r"^products = 3: give four at least$"):
        trace(loss, np.zeros(3), 3)
