"""Gauss quadrature of a Hessian's spectral measures, and the density of its eigenvalues from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from array_api_compat import array_namespace

from ravine.objectives import Objective
from ravine.spectrum.lanczos import Apply, Array, Krylov, hessian_operator, random_start


@dataclass(frozen=True, repr=False)
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

    Examples
    --------
    >>> import numpy as np
    >>> import ravine as rv
    >>> loss, v = rv.quadratic([3.0, 2.0, 1.0, 0.5]), np.ones(4)
    >>> seen = rv.spectrum.spectral_measure(loss, np.zeros(4), v, 2)
    >>> seen
    <Measure: 2 nodes from 0.789098 to 2.72785; 2 products>
    >>> float((seen.components**2 * seen.nodes**3).sum()).__round__(9)  # vᵀH³v
    36.125
    """

    nodes: np.ndarray
    components: np.ndarray
    vectors: Array
    residuals: np.ndarray
    products: int

    def __repr__(self) -> str:
        low, high = float(self.nodes[0]), float(self.nodes[-1])
        return f"<Measure: {self.nodes.size} nodes from {low:.6g} to {high:.6g}; {self.products} products>"


def spectral_measure(objective: Objective, w: Any, v: Any, m: int) -> Measure:
    """The m-point Gauss quadrature of v's spectral measure in ∇²ℓ(w), from m products (Golub and Meurant).

    Fewer points where the Krylov space of v is smaller.

    Raises
    ------
    ValueError
        If m < 1, or v is zero or of the wrong shape.
    """
    apply, point = hessian_operator(objective, w)
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


@dataclass(frozen=True, repr=False)
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

    Examples
    --------
    >>> import numpy as np
    >>> import ravine as rv
    >>> seen = rv.spectrum.density(rv.quadratic(np.linspace(0, 1, 100)), np.zeros(100), m=10, vectors=4)
    >>> mean, error = seen.mean(lambda values: values)  # tr H/d
    >>> abs(mean - 0.5) < 5 * error
    True
    """

    grid: np.ndarray
    value: np.ndarray
    error: np.ndarray
    nodes: np.ndarray
    weights: np.ndarray
    width: float
    products: int

    def __repr__(self) -> str:
        runs, m = self.nodes.shape
        span = f"{float(self.nodes.min()):.6g} to {float(self.nodes.max()):.6g}"
        return f"<Density: {runs} quadratures of {m} nodes from {span}; {self.products} products>"

    def mean(self, function: Any) -> tuple[float, float]:
        """The mean of ``function`` over the eigenvalues, tr f(H)/d, and its standard error."""
        each = (self.weights * function(self.nodes)).sum(axis=1)
        return float(each.mean()), float(each.std(ddof=1) / np.sqrt(each.size))


def density(
    objective: Objective,
    w: Any,
    m: int = 40,
    vectors: int = 8,
    *,
    points: int = 400,
    width: float | None = None,
    seed: int = 0,
) -> Density:
    """The spectral density of ∇²ℓ(w) by stochastic Lanczos quadrature (Ubaru, Chen and Saad 2017).

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
    apply, point = hessian_operator(objective, w)
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
