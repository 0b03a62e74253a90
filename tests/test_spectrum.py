"""Top eigenpairs against dense eigenvalues, and the bounds they carry."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ortho_group

from ravine.objectives import quadratic
from ravine.spectrum import top_eigenpairs


@pytest.mark.parametrize("seed", range(3))
def test_against_the_dense_spectrum(seed: int) -> None:
    basis = ortho_group.rvs(30, random_state=seed)
    lam = np.sort(np.random.default_rng(seed).uniform(-1, 3, 30))[::-1]
    loss = quadratic(basis @ np.diag(lam) @ basis.T)
    pairs = top_eigenpairs(loss, np.zeros(30), k=3, tol=1e-10)
    assert pairs.values == pytest.approx(lam[:3], rel=1e-9)
    assert np.abs((pairs.vectors * basis.T[:3]).sum(axis=1)) == pytest.approx(np.ones(3), rel=1e-6)
    for value, residual in zip(pairs.values, pairs.residuals, strict=True):
        assert np.abs(lam - value).min() <= residual + 1e-13
    assert 3 < pairs.products < 200


def test_a_loose_tolerance_still_bounds_its_error() -> None:
    lam = np.linspace(1, 2, 60)
    pairs = top_eigenpairs(quadratic(lam), np.zeros(60), k=2, tol=1e-1)
    for value, residual in zip(pairs.values, pairs.residuals, strict=True):
        assert np.abs(lam - value).min() <= residual + 1e-13


def test_a_guess_saves_products() -> None:
    lam = np.linspace(0, 1, 200) ** 3
    cold = top_eigenpairs(quadratic(lam), np.zeros(200))
    warm = top_eigenpairs(quadratic(lam), np.zeros(200), guess=cold.vectors[0] + 1e-6)
    assert warm.products < cold.products
    assert warm.values == pytest.approx(cold.values)


@pytest.mark.parametrize("k", [0, 3, -1])
def test_misuse(k: int) -> None:
    with pytest.raises(ValueError, match="eigenpairs"):
        top_eigenpairs(quadratic([1.0, 2.0, 3.0]), np.zeros(3), k=k)
