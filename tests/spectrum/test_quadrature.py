"""Spectral measures and the density of eigenvalues, against sums over known spectra."""

from __future__ import annotations

import numpy as np
import pytest

from ravine.objectives import quadratic
from ravine.spectrum import Krylov, density, measure, random_start, spectral_measure


def test_gauss_quadrature_is_exact_to_its_degree() -> None:
    generator = np.random.default_rng(0)
    lam, v = generator.uniform(-1, 1, 40), generator.standard_normal(40)
    found = spectral_measure(quadratic(lam), np.zeros(40), v, 6)
    for degree in range(12):
        assert (found.components**2 * found.nodes**degree).sum() == pytest.approx((v**2 * lam**degree).sum(), abs=1e-11)
    assert abs((found.components**2 * found.nodes**12).sum() - (v**2 * lam**12).sum()) > 1e-9
    assert found.components @ found.vectors == pytest.approx(v, abs=1e-12)


def test_density_and_its_error_bars() -> None:
    lam = np.random.default_rng(0).uniform(-1, 1, 500) ** 3
    seen = density(quadratic(lam), np.zeros(500), m=30, vectors=10, seed=1)
    assert np.trapezoid(seen.value, seen.grid) == pytest.approx(1.0, abs=1e-3)
    # Smoothed by what 30 nodes resolve, it is the true density within its error bars.
    broad = density(quadratic(lam), np.zeros(500), m=30, vectors=10, width=0.15, seed=1)
    bumps = np.exp(-0.5 * ((broad.grid[:, None] - lam) / broad.width) ** 2) / (broad.width * np.sqrt(2 * np.pi))
    assert (np.abs(broad.value - bumps.mean(axis=1)) <= 4 * broad.error + 1e-6).all()
    for function in (lambda x: x, lambda x: x**2, np.exp):
        mean, error = seen.mean(function)
        assert abs(mean - function(lam).mean()) <= 4 * error
    assert seen.products == 300


def test_misuse_of_measures() -> None:
    loss, w = quadratic(np.arange(1.0, 9.0)), np.zeros(8)
    for call, cure in [
        (lambda: spectral_measure(loss, w, np.zeros(8), 3), "zero"),
        (lambda: spectral_measure(loss, w, np.ones(8), 0), "products"),
        (lambda: density(loss, w, vectors=1), "two at least"),
    ]:
        with pytest.raises(ValueError, match=cure):
            call()


def test_one_product_gives_the_mean_and_few_values_are_found_whole() -> None:
    lam = np.repeat([1.0, 3.0, -2.0], 4)
    v = np.random.default_rng(2).standard_normal(12)
    one = spectral_measure(quadratic(lam), np.zeros(12), v, 1)
    assert one.nodes == pytest.approx([(lam * v**2).sum() / (v**2).sum()], rel=1e-13)
    assert one.components == pytest.approx([np.linalg.norm(v)], rel=1e-13)
    assert one.residuals == pytest.approx([np.linalg.norm(lam * v - one.nodes * v) / np.linalg.norm(v)], rel=1e-9)
    whole = spectral_measure(quadratic(lam), np.zeros(12), v, 8)
    assert whole.products == 3
    assert repr(whole) == "<Measure: 3 nodes from -2 to 3; 3 products>"
    assert whole.nodes == pytest.approx([-2.0, 1.0, 3.0], rel=1e-13)
    parts = [np.linalg.norm(v[lam == node]) for node in (-2.0, 1.0, 3.0)]
    assert whole.components == pytest.approx(parts, rel=1e-12)
    assert (whole.residuals < 1e-12).all()


@pytest.mark.parametrize("scale", [1e-200, 1.0, 1e200])
def test_components_and_vectors_are_of_one_sign_and_of_the_length_of_the_vector(scale: float) -> None:
    lam, v = np.linspace(-1, 1, 30) ** 3, np.random.default_rng(0).standard_normal(30)
    found = measure(lambda u: lam * u, scale * v, 7)
    assert (found.components > 0).all()
    assert found.components @ found.vectors == pytest.approx(scale * v, rel=1e-10, abs=1e-12 * scale)
    assert found.vectors @ found.vectors.T == pytest.approx(np.eye(7), abs=1e-13)
    assert found.vectors @ v * scale == pytest.approx(found.components, rel=1e-9)
    true = np.linalg.norm(found.vectors * lam - found.nodes[:, None] * found.vectors, axis=1)
    assert found.residuals == pytest.approx(true, rel=1e-6)


def test_the_error_of_the_products_is_in_the_residuals_of_a_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    lam, v = np.linspace(1, 2, 30), np.ones(30)

    loss = quadratic(lam)
    exact = spectral_measure(loss, np.zeros(30), v, 4)
    rounding = 8e-3 * 2 * exact.nodes.max()
    monkeypatch.setattr(loss, "precision_at", lambda w: 1e-3 if w.shape == (30,) else 0.0)
    for coarse in (
        measure(lambda u: lam * u, v, 4, 1e-3), spectral_measure(loss, np.zeros(30), v, 4),
    ):  # fmt: skip
        assert coarse.residuals - exact.residuals == pytest.approx(np.full(4, rounding), rel=1e-9)


def test_a_density_is_the_sum_of_its_quadratures() -> None:
    lam = np.linspace(-1, 2, 60) ** 3
    seen = density(quadratic(lam), np.zeros(60), m=6, vectors=4, points=50, width=0.2, seed=3)
    each = []
    for k, (nodes, weights) in enumerate(zip(seen.nodes, seen.weights, strict=True)):
        krylov = Krylov(lambda u: lam * u, random_start(60, 3 + k, lam), 6, np.random.default_rng(0))
        for _ in range(6):
            krylov.step()
        values, columns, _ = krylov.ritz()
        assert nodes == pytest.approx(values, rel=1e-9, abs=1e-12)
        assert weights == pytest.approx(columns[0] ** 2, rel=1e-9)
        bumps = np.exp(-((seen.grid[:, None] - values) ** 2) / (2 * 0.2**2)) / np.sqrt(2 * np.pi * 0.2**2)
        each.append(bumps @ columns[0] ** 2)
    assert seen.value == pytest.approx(np.mean(each, axis=0), rel=1e-9, abs=1e-15)
    assert seen.error == pytest.approx(np.std(each, axis=0, ddof=1) / 2, rel=1e-6, abs=1e-15)
    assert seen.grid == pytest.approx(np.linspace(seen.nodes.min() - 1, seen.nodes.max() + 1, 50), rel=1e-12)
    assert (seen.width, seen.products) == (0.2, 24)
    squares = (seen.weights * seen.nodes**2).sum(axis=1)
    assert seen.mean(np.square) == pytest.approx((squares.mean(), squares.std(ddof=1) / 2), rel=1e-12)


def test_a_density_by_default() -> None:
    lam = np.linspace(-1, 2, 60) ** 3
    seen = density(quadratic(lam), np.zeros(60))
    assert (seen.nodes.shape, seen.grid.shape, seen.products) == ((8, 40), (400,), 320)
    assert seen.width == pytest.approx(0.01 * (seen.nodes.max() - seen.nodes.min()), rel=1e-12)
    assert seen.nodes[0] == pytest.approx(density(quadratic(lam), np.zeros(60), vectors=2, seed=0).nodes[0], abs=1e-12)
    least = density(quadratic(lam), np.zeros(60), m=2, vectors=2)
    assert (least.nodes.shape, least.products) == ((2, 2), 4)
    for m, vectors in ((1, 2), (2, 1)):
        with pytest.raises(ValueError, match=f"^m = {m}, vectors = {vectors}: give two at least of each$"):
            density(quadratic(lam), np.zeros(60), m=m, vectors=vectors)


def test_nodes_that_are_not_there_have_no_weight_and_lie_on_the_last() -> None:
    lam = np.repeat([-3.0, -2.0], 5)
    seen = density(quadratic(lam), np.zeros(10), m=30, vectors=3)
    assert seen.nodes.shape == seen.weights.shape == (3, 10)
    assert seen.products == 6
    assert repr(seen) == "<Density: 3 quadratures of 10 nodes from -3 to -2; 6 products>"
    assert seen.nodes == pytest.approx(np.tile([-3.0] + [-2.0] * 9, (3, 1)), rel=1e-13)
    assert (seen.weights[:, 2:] == 0).all()
    assert seen.weights.sum(axis=1) == pytest.approx(np.ones(3), rel=1e-14)
    assert seen.width == pytest.approx(0.01, rel=1e-12)


@pytest.mark.parametrize(("value", "width"), [(-4.0, 4e-12), (4.0, 4e-12), (0.0, 1e-300)])
def test_a_spectrum_of_one_value_has_a_width_to_be_shown_with(value: float, width: float) -> None:
    seen = density(quadratic(np.full(6, value)), np.zeros(6), vectors=2)
    assert seen.width == pytest.approx(width, rel=1e-3)
    # The spacing of numbers near 4 is far below the width, so that the grid resolves it.
    assert np.trapezoid(seen.value, seen.grid) == pytest.approx(1.0, rel=1e-2)


def test_a_measure_of_the_wrong_vector_is_refused_by_name() -> None:
    loss, w = quadratic(np.arange(1.0, 9.0)), np.zeros(8)
    with pytest.raises(ValueError, match=r"^v: give a vector of length 8, not length 7$"):
        spectral_measure(loss, w, np.ones(7), 3)
    with pytest.raises(ValueError, match=r"^v: the vector is zero; its spectral measure is empty$"):
        spectral_measure(loss, w, np.zeros(8), 3)
    with pytest.raises(ValueError, match=r"^m = 0: give a number of products ≥ 1$"):
        spectral_measure(loss, w, np.ones(8), 0)
