"""The largest eigenvalues of a Hessian that is known by its action."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from array_api_compat import array_namespace, to_device
from scipy.sparse.linalg import LinearOperator, eigsh

from ravine.objectives import Objective


@dataclass(frozen=True)
class Eigenpairs:
    """Eigenvalues in descending order with their vectors and bounds.

    Attributes
    ----------
    values
        Shape (k,).
    vectors
        Shape (k, d), of norm 1.
    residuals
        ‖Hv − λv‖, shape (k,): each interval λ ± residual holds an eigenvalue.
    products
        The number of Hessian-vector products spent.
    """

    values: np.ndarray
    vectors: np.ndarray
    residuals: np.ndarray
    products: int


def top_eigenpairs(
    objective: Objective, w: Any, k: int = 1, tol: float = 1e-6, guess: np.ndarray | None = None
) -> Eigenpairs:
    """The k largest eigenvalues of ∇²ℓ(w), by SciPy's implicitly restarted Lanczos over Hessian-vector products.

    Parameters
    ----------
    objective, w
        The loss and the point, in any array library.
    k
        How many, 1 ≤ k < d.
    tol
        Relative accuracy of the eigenvalues.
    guess
        A vector to start from, such as the top eigenvector at a point nearby; by default a fixed random one.

    Raises
    ------
    ValueError
        If k is out of range.
    """
    dimension = objective.dimension
    if not 1 <= k < dimension:
        raise ValueError(f"k = {k}: between 1 and {dimension - 1} eigenpairs of a {dimension}-dimensional Hessian")
    point = objective.point(w)
    products = 0

    def apply(u: np.ndarray) -> np.ndarray:
        nonlocal products
        products += 1
        xp = array_namespace(point)
        direction = xp.asarray(np.ascontiguousarray(u.reshape(-1)), dtype=point.dtype, device=point.device)
        return np.asarray(to_device(objective.hvp(point, direction), "cpu"), dtype=np.float64)

    operator = LinearOperator((dimension, dimension), matvec=apply, dtype=np.float64)  # pyright: ignore[reportCallIssue]
    first = np.random.default_rng(0).standard_normal(dimension) if guess is None else guess
    values, columns = eigsh(operator, k=k, which="LA", tol=tol, v0=first)  # pyright: ignore[reportArgumentType]
    order = np.argsort(values)[::-1]
    vectors = columns.T[order]
    residuals = np.array([np.linalg.norm(apply(v) - lam * v) for lam, v in zip(values[order], vectors, strict=True)])
    return Eigenpairs(values[order], vectors, residuals, products)
