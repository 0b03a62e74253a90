"""Spectral measures, the density of eigenvalues and the trace, against sums over known spectra."""

from __future__ import annotations

import numpy as np
import pytest
from quadratics import rotated

from ravine.objectives import quadratic
from ravine.spectrum import density, spectral_measure, trace


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


def test_misuse_of_measures() -> None:
    loss, w = quadratic(np.arange(1.0, 9.0)), np.zeros(8)
    for call, cure in [
        (lambda: spectral_measure(loss, w, np.zeros(8), 3), "zero"),
        (lambda: spectral_measure(loss, w, np.ones(8), 0), "products"),
        (lambda: density(loss, w, vectors=1), "two at least"),
        (lambda: trace(loss, w, 3), "four"),
    ]:
        with pytest.raises(ValueError, match=cure):
            call()
