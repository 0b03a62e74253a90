"""Quadratic losses ½wᵀHw: the setting of the paper's Sections 3 and 4."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence

import numpy as np

from ravine.objectives import dense, diagonal
from ravine.objectives.objective import Array, CompiledOracles, Objective, finite_vector

Matvec = Callable[[np.ndarray], np.ndarray]


class _Quadratic(Objective):
    def __init__(self, dimension: int) -> None:
        self._dimension = dimension

    @property
    def dimension(self) -> int:
        return self._dimension

    def apply(self, u: np.ndarray) -> np.ndarray:
        """The Hessian's action, Hu."""
        raise AssertionError("each kind of quadratic applies its own Hessian")

    def value(self, w: Array) -> float:
        w = self.point(w)
        with np.errstate(over="ignore"):
            return 0.5 * float(w @ self.apply(w))

    def grad(self, w: Array) -> np.ndarray:
        return self.apply(self.point(w))

    def hvp(self, w: Array, u: Array) -> np.ndarray:
        self.point(w)
        return self.apply(self.point(u, "u"))

    def third(self, w: Array, u: Array) -> np.ndarray:
        self.point(w)
        self.point(u, "u")
        return np.zeros(self._dimension)


class DiagonalQuadratic(_Quadratic):
    """½ Σ λᵢwᵢ², in the eigenvectors' own coordinates.

    Examples
    --------
    >>> import ravine as rv
    >>> rv.quadratic([1.0, 0.5])
    <DiagonalQuadratic: quadratic, eigenvalues (1, 0.5)>
    """

    def __init__(self, eigenvalues: np.ndarray) -> None:
        super().__init__(eigenvalues.size)
        self.eigenvalues = eigenvalues

    @property
    def description(self) -> str:
        return f"quadratic, eigenvalues {_listed(self.eigenvalues)}"

    def apply(self, u: np.ndarray) -> np.ndarray:
        return self.eigenvalues * u

    @property
    def compiled(self) -> CompiledOracles:
        return CompiledOracles(inspect.getsource(diagonal), self.eigenvalues[None, :])


class MatrixQuadratic(_Quadratic):
    """½wᵀHw for a symmetric matrix H.

    Examples
    --------
    >>> import ravine as rv
    >>> rv.quadratic([[2.0, 1.0], [1.0, 2.0]]).value([1.0, 0.0])
    1.0
    """

    def __init__(self, matrix: np.ndarray) -> None:
        super().__init__(matrix.shape[0])
        self.matrix = matrix

    @property
    def description(self) -> str:
        return f"quadratic, symmetric {self.dimension} × {self.dimension} matrix"

    def apply(self, u: np.ndarray) -> np.ndarray:
        return self.matrix @ u

    @property
    def compiled(self) -> CompiledOracles:
        return CompiledOracles(inspect.getsource(dense), self.matrix)


class OperatorQuadratic(_Quadratic):
    """½wᵀHw for a Hessian known by its action alone.

    Examples
    --------
    >>> import ravine as rv
    >>> rv.quadratic(lambda u: 2 * u, dimension=3)
    <OperatorQuadratic: quadratic, operator of dimension 3>
    """

    def __init__(self, matvec: Matvec, dimension: int) -> None:
        super().__init__(dimension)
        self._matvec = matvec

    @property
    def description(self) -> str:
        return f"quadratic, operator of dimension {self.dimension}"

    def apply(self, u: np.ndarray) -> np.ndarray:
        return np.asarray(self._matvec(u), dtype=np.float64)


def quadratic(
    hessian: Sequence[float] | np.ndarray | Matvec, dimension: int | None = None
) -> DiagonalQuadratic | MatrixQuadratic | OperatorQuadratic:
    """The loss ℓ(w) = ½wᵀHw.

    Parameters
    ----------
    hessian
        The eigenvalues (a vector; H is then diagonal), a symmetric matrix, or a callable u ↦ Hu.
        Any signs: the dynamics is defined for all, the paper's theorems for positive ones.
    dimension
        The dimension d, for a callable only.

    Raises
    ------
    ValueError
        If the matrix is not square, symmetric and finite, the eigenvalues are not finite, or the callable
        is not linear and symmetric on a probe.
    """
    if callable(hessian):
        if dimension is None or dimension < 1:
            raise ValueError("dimension: a quadratic given by its action needs its dimension, a positive integer")
        return _operator(hessian, int(dimension))
    if dimension is not None:
        raise ValueError("dimension: only for a callable; eigenvalues and matrices carry their own")
    try:
        array = np.array(hessian, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError("hessian: pass numbers (eigenvalues or a square matrix) or a callable") from None
    if array.size == 0 or array.ndim not in (1, 2):
        raise ValueError(f"hessian: pass eigenvalues or a square matrix, not shape {array.shape}")
    if array.ndim == 1:
        return DiagonalQuadratic(finite_vector(array, array.size, "eigenvalues"))
    if array.shape[0] != array.shape[1]:
        raise ValueError(f"hessian: the matrix is {array.shape[0]} × {array.shape[1]}; pass a square one")
    if not np.isfinite(array).all():
        raise ValueError("hessian: the matrix has an entry that is not finite; give finite numbers")
    asymmetry = np.abs(array - array.T).max()
    if asymmetry > 1e-12 * np.abs(array).max():
        raise ValueError(f"hessian: the matrix is not symmetric (by {asymmetry:.3g}); pass (A + A.T)/2")
    return MatrixQuadratic(0.5 * (array + array.T))


def _operator(matvec: Matvec, dimension: int) -> OperatorQuadratic:
    u, v = np.random.default_rng(0).standard_normal((2, dimension))
    images = []
    for probe in (u, v, u + v):
        image = np.asarray(matvec(probe.copy()), dtype=np.float64)
        if image.shape != (dimension,) or not np.isfinite(image).all():
            raise ValueError(f"hessian: the callable must map {dimension} finite numbers to {dimension} finite numbers")
        images.append(image)
    scale = max(np.abs(image).max() for image in images) * dimension + np.finfo(float).tiny
    if np.abs(images[2] - images[0] - images[1]).max() > 1e-6 * scale:
        raise ValueError("hessian: the callable is not linear; pass u ↦ Hu")
    if abs(u @ images[1] - v @ images[0]) > 1e-6 * scale:
        raise ValueError("hessian: the callable is not symmetric; pass u ↦ (H + Hᵀ)u/2")
    return OperatorQuadratic(matvec, dimension)


def _listed(values: np.ndarray) -> str:
    shown = ", ".join(f"{value:.6g}" for value in values[:6])
    return f"({shown})" if values.size <= 6 else f"({shown}, … {values.size} in all)"
