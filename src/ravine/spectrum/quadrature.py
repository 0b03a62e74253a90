"""Functions of a Hessian: spectral measures of a vector, the density of eigenvalues, the trace."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from array_api_compat import array_namespace, to_device

from ravine.objectives import Objective
from ravine.spectrum.lanczos import Apply, Array, Krylov, random_start
from ravine.spectrum.pairs import operator


@dataclass(frozen=True)
class Measure:
    """Gauss quadrature of a vector's spectral measure: Σ weightᵢ f(nodeᵢ) ≈ vᵀf(H)v, exact for degree < 2m.

    Attributes
    ----------
    nodes
        Ritz values, ascending, shape (m,).
    components
        The components of v along the Ritz vectors, shape (m,), all ≥ 0; their squares are the weights.
    vectors
        The Ritz vectors, shape (m, d), in v's own library.
    residuals
        ‖Hy − θy‖ of each, shape (m,).
    products
        Products spent.
    """

    nodes: np.ndarray
    components: np.ndarray
    vectors: Array
    residuals: np.ndarray
    products: int


def spectral_measure(objective: Objective, w: Any, v: Any, m: int) -> Measure:
    """The m-point Gauss quadrature of v's spectral measure in ∇²ℓ(w), from m products (Golub and Meurant).

    Fewer points where the Krylov space of v is smaller.

    Raises
    ------
    ValueError
        If m < 1, or v is zero or of the wrong shape.
    """
    apply, point = operator(objective, w)
    if m < 1:
        raise ValueError(f"m = {m}: give a number of products ≥ 1")
    return measure(apply, objective.point(v, "v"), m, objective.precision_at(point))


def measure(apply: Apply, v: Array, m: int, precision: float = 0.0) -> Measure:
    """`spectral_measure` of any symmetric operator."""
    xp = array_namespace(v)
    largest = float(xp.max(xp.abs(v)))
    if largest == 0:
        raise ValueError("v: the vector is zero; its spectral measure is empty")
    # In two factors: the square of a tiny entry underflows.
    scaled = v / largest
    norm = float(xp.linalg.vector_norm(scaled))
    krylov = Krylov(apply, scaled, m, np.random.default_rng(0), precision)
    while krylov.size < krylov.capacity and not krylov.exhausted:
        krylov.step()
    values, columns, residuals = krylov.ritz()
    signs = np.where(columns[0] < 0, -1.0, 1.0)
    columns = columns * signs
    return Measure(values, columns[0] * norm * largest, krylov.vectors(columns), residuals, krylov.products)


@dataclass(frozen=True)
class Density:
    """The density of eigenvalues, smoothed: mean and standard error over random vectors.

    Attributes
    ----------
    grid, value, error
        Curvature; density, which integrates to 1; its standard error; each of shape (n,).
    nodes, weights
        The quadratures themselves, shape (vectors, m); a row's weights sum to 1.
    width
        Standard deviation of the Gaussian that smooths, in curvature.
    products
        Products spent.
    """

    grid: np.ndarray
    value: np.ndarray
    error: np.ndarray
    nodes: np.ndarray
    weights: np.ndarray
    width: float
    products: int

    def mean(self, function: Any) -> tuple[float, float]:
        """The mean of ``function`` over the eigenvalues, tr f(H)/d, and its standard error."""
        each = (self.weights * function(self.nodes)).sum(axis=1)
        return float(each.mean()), float(each.std(ddof=1) / np.sqrt(each.size))


def density(
    objective: Objective,
    w: Any,
    m: int = 40,
    vectors: int = 8,
    points: int = 400,
    width: float | None = None,
    seed: int = 0,
) -> Density:
    """The spectral density of ∇²ℓ(w) by stochastic Lanczos quadrature (Ubaru, Chen and Saad).

    Parameters
    ----------
    m, vectors
        Products a run, and runs; the error bars are over the runs, two at least.
    points
        Of the grid.
    width
        Of the smoothing Gaussian; by default 1 % of the spectrum's width.
    seed
        Of the random vectors.

    Raises
    ------
    ValueError
        If m < 2 or vectors < 2.
    """
    if m < 2 or vectors < 2:
        raise ValueError(f"m = {m}, vectors = {vectors}: give two at least of each")
    apply, point = operator(objective, w)
    m = min(m, objective.dimension)
    nodes, weights, products = np.zeros((vectors, m)), np.zeros((vectors, m)), 0
    for k in range(vectors):
        found = measure(apply, random_start(objective.dimension, seed + k, point), m)
        # A smaller space is padded with nodes of weight zero.
        nodes[k] = np.pad(found.nodes, (0, m - found.nodes.size), mode="edge")
        squares = found.components**2
        weights[k] = np.pad(squares / squares.sum(), (0, m - found.nodes.size))
        products += found.products
    low, high = float(nodes.min()), float(nodes.max())
    width = width or max(0.01 * (high - low), 1e-12 * max(abs(low), abs(high)), 1e-300)
    grid = np.linspace(low - 5 * width, high + 5 * width, points)
    bumps = np.exp(-0.5 * ((grid[None, None, :] - nodes[:, :, None]) / width) ** 2) / (width * np.sqrt(2 * np.pi))
    each = (weights[:, :, None] * bumps).sum(axis=1)
    error = each.std(axis=0, ddof=1) / np.sqrt(vectors)
    return Density(grid, each.mean(axis=0), error, nodes, weights, float(width), products)


@dataclass(frozen=True)
class Trace:
    """An estimate of tr ∇²ℓ, its standard error, and the products spent."""

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
    apply, point = operator(objective, w)
    d = objective.dimension
    n = min(products // 2, d)
    spent = 0

    def block(columns: np.ndarray) -> np.ndarray:
        nonlocal spent
        xp = array_namespace(point)
        out = []
        for column in columns.T:
            u = xp.asarray(np.ascontiguousarray(column), dtype=point.dtype, device=point.device)
            out.append(np.asarray(to_device(apply(u), "cpu"), dtype=np.float64))
            spent += 1
        return np.stack(out, axis=1)

    if n == d:
        # Few dimensions: the diagonal itself.
        return Trace(float(np.trace(block(np.eye(d)))), 0.0, spent)
    tests = np.random.default_rng([seed, d]).standard_normal((d, n))
    tests *= np.sqrt(d) / np.linalg.norm(tests, axis=0)
    image = block(tests)
    q, r = np.linalg.qr(image)
    # Directions that are rounding only are no part of the range.
    solid = np.abs(np.diag(r)) > 1e3 * np.finfo(np.float64).eps * max(float(np.abs(r).max()), 1e-300)
    if not solid.all():
        q = q[:, solid]
        projected = block(q)
        rest = tests - q @ (q.T @ tests)
        each = np.trace(q.T @ projected) + (rest * (image - projected @ (q.T @ tests))).sum(axis=0)
        return Trace(float(each.mean()), float(each.std(ddof=1) / np.sqrt(n)), spent)
    applied = block(q)
    h = q.T @ applied
    s = np.linalg.inv(r).T
    s = s / np.linalg.norm(s, axis=0)
    each = np.empty(n)
    coordinates = q.T @ tests
    for i in range(n):
        # The basis that the other vectors span is Q(I − ssᵀ).
        c = coordinates[:, i] - s[:, i] * (s[:, i] @ coordinates[:, i])
        off = tests[:, i] - q @ c
        off_length = d - n + 1
        scale = off_length / max(float(off @ off), 1e-300)
        each[i] = np.trace(h) - s[:, i] @ h @ s[:, i] + scale * (off @ (image[:, i] - applied @ c))
    return Trace(float(each.mean()), float(each.std(ddof=1) / np.sqrt(n)), spent)
