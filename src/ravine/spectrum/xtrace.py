"""The trace of a Hessian from products with random vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from array_api_compat import array_namespace

from ravine.arrays import as_numpy
from ravine.objectives import Objective
from ravine.spectrum.lanczos import Apply, Array, hessian_operator


@dataclass(frozen=True)
class Trace:
    """An estimate of tr ∇²ℓ, its standard error, and the products spent (XTrace, arXiv 2301.07825).

    Examples
    --------
    >>> import ravine as rv
    >>> rv.spectrum.trace(rv.quadratic([3.0, 2.0, 1.0]), [0.0] * 3, products=6)
    Trace(value=6.0, error=0.0, products=3)
    """

    value: float
    error: float
    products: int


def trace(objective: Objective, w: Any, products: int = 40, seed: int = 0) -> Trace:
    """tr ∇²ℓ(w) by XTrace (Epperly, Tropp and Webber 2024): exact where the rank is below half the products.

    Each of products/2 random vectors is tried on the complement of what the others span; the error is the standard
    error of these estimates.

    Raises
    ------
    ValueError
        If products < 4.
    """
    if products < 4:
        raise ValueError(f"products = {products}: give four at least")
    apply, point = hessian_operator(objective, w)
    d = objective.dimension
    n = min(products // 2, d)
    if n == d:
        # Few dimensions: the diagonal itself.
        return Trace(float(np.trace(_images(apply, np.eye(d), point))), 0.0, d)
    tests = np.random.default_rng([seed, d]).standard_normal((d, n))
    tests *= np.sqrt(d) / np.linalg.norm(tests, axis=0)
    image = _images(apply, tests, point)
    q, r = np.linalg.qr(image)
    # Directions that are rounding only are no part of the range.
    solid = np.abs(np.diag(r)) > 1e3 * np.finfo(np.float64).eps * max(float(np.abs(r).max()), 1e-300)
    if not solid.any():
        return Trace(0.0, 0.0, n)
    q = q[:, solid]
    applied = _images(apply, q, point)
    each = _leave_one_out(tests, image, q, applied, r) if solid.all() else _remainders(tests, image, q, applied)
    return Trace(float(each.mean()), float(each.std(ddof=1) / np.sqrt(n)), n + q.shape[1])


def _images(apply: Apply, columns: np.ndarray, like: Array) -> np.ndarray:
    """The products with each column."""
    xp = array_namespace(like)
    vectors = (xp.asarray(np.ascontiguousarray(c), dtype=like.dtype, device=like.device) for c in columns.T)
    return np.stack([as_numpy(apply(u)) for u in vectors], axis=1)


def _remainders(tests: np.ndarray, image: np.ndarray, q: np.ndarray, applied: np.ndarray) -> np.ndarray:
    """Estimates on the complement of the whole range, which is smaller than the number of tests."""
    coordinates = q.T @ tests
    rest = tests - q @ coordinates
    return np.trace(q.T @ applied) + (rest * (image - applied @ coordinates)).sum(axis=0)


def _leave_one_out(
    tests: np.ndarray, image: np.ndarray, q: np.ndarray, applied: np.ndarray, r: np.ndarray
) -> np.ndarray:
    """For each test, the estimate on the complement of what the other tests span."""
    d, n = tests.shape
    h = q.T @ applied
    s = np.linalg.inv(r).T
    s = s / np.linalg.norm(s, axis=0)
    each = np.empty(n)
    coordinates = q.T @ tests
    for i in range(n):
        # The basis that the other vectors span is Q(I − ssᵀ).
        c = coordinates[:, i] - s[:, i] * (s[:, i] @ coordinates[:, i])
        off = tests[:, i] - q @ c
        scale = (d - n + 1) / max(float(off @ off), 1e-300)
        each[i] = np.trace(h) - s[:, i] @ h @ s[:, i] + scale * (off @ (image[:, i] - applied @ c))
    return each
