"""The outermost eigenvalues of a Hessian that is known by its action, with bounds on their errors."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from array_api_compat import array_namespace

from ravine.objectives import Objective
from ravine.spectrum.lanczos import Array, hessian_operator, random_start
from ravine.spectrum.pairs import Eigenpairs
from ravine.spectrum.restarts import MEMORY, Target, search

# The random part of a warm start: small enough to save products, large enough to find what the guess has lost.
_FRESH = 1e-2

End = Literal["largest", "smallest"]


def eigenpairs(
    objective: Objective,
    w: Any,
    k: int = 1,
    tol: float = 1e-6,
    guess: np.ndarray | None = None,
    *,
    end: End = "largest",
    target: Target = "vectors",
    products: int | None = None,
    memory: int = MEMORY,
    seed: int = 0,
) -> Eigenpairs:
    """The k largest (or smallest) eigenvalues of ∇²ℓ(w): Lanczos with full reorthogonalization and thick restart.

    Parameters
    ----------
    objective, w
        The loss and the point, in any array library.
    k
        How many, 1 ≤ k < d.
    tol
        It stops when each pair's residual (``target="vectors"``) or the smaller of residual and gap bound
        (``target="values"``) is at most `tol` times the largest |λ| seen; never below what rounding leaves.
    guess
        A vector (d,) or several (n, d) to start from, such as eigenvectors at a point nearby. A random part of 1 %
        is added, so that what the guess lacks can be found.
    end
        ``"largest"`` or ``"smallest"``; both from one run by `extremal_eigenpairs`.
    products
        The most to spend; by default 20 d.
    memory
        Bytes for the basis; when it is full the process restarts from its best vectors.
    seed
        Of the random start.

    Raises
    ------
    ValueError
        If k, tol, products or memory is out of range, or a product is not finite.

    Examples
    --------
    >>> import numpy as np
    >>> import ravine as rv
    >>> found = rv.spectrum.eigenpairs(rv.quadratic(np.linspace(0, 1, 200) ** 2), np.zeros(200), tol=1e-3)
    >>> bool(abs(found.values[0] - 1) <= found.residuals[0] <= 1e-3)
    True
    """
    ends: dict[str, tuple[int, int]] = {"largest": (k, 0), "smallest": (0, k)}
    if end not in ends:
        raise ValueError(f"end = {end!r}: use largest or smallest; extremal_eigenpairs gives both")
    if not 1 <= k < objective.dimension:
        raise ValueError(
            f"k = {k}: between 1 and {objective.dimension - 1} eigenpairs of a Hessian of size {objective.dimension}"
        )
    found = _search(objective, w, ends[end], tol, guess, target=target, products=products, memory=memory, seed=seed)
    return found[0 if end == "largest" else 1]


def extremal_eigenpairs(
    objective: Objective,
    w: Any,
    k: int = 1,
    tol: float = 1e-6,
    *,
    target: Target = "vectors",
    products: int | None = None,
    memory: int = MEMORY,
    seed: int = 0,
) -> tuple[Eigenpairs, Eigenpairs]:
    """The k largest and the k smallest eigenvalues of ∇²ℓ(w) from one Lanczos run; see `eigenpairs`.

    Raises
    ------
    ValueError
        As `eigenpairs`, and if 2k ≥ d.
    """
    if not 1 <= 2 * k < objective.dimension:
        raise ValueError(f"k = {k}: 2k eigenpairs, fewer than d = {objective.dimension}")
    return _search(objective, w, (k, k), tol, None, target=target, products=products, memory=memory, seed=seed)


def _start_near(guess: np.ndarray, first: Array) -> Array:
    """The guess, or the sum of several, with a small random part."""
    rows = np.atleast_2d(np.asarray(guess, dtype=np.float64))
    if rows.shape[1] != first.shape[0] or not np.isfinite(rows).all() or not rows.any():
        raise ValueError(f"guess: give one or more finite vectors of length {first.shape[0]}, not all zero")
    along = (rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-300)).sum(axis=0)
    along = array_namespace(first).asarray(along / np.linalg.norm(along), dtype=first.dtype, device=first.device)
    return along + _FRESH * first


def _search(
    objective: Objective,
    w: Any,
    wanted: tuple[int, int],
    tol: float,
    guess: np.ndarray | None,
    *,
    target: Target,
    products: int | None,
    memory: int,
    seed: int,
) -> tuple[Eigenpairs, Eigenpairs]:
    apply, point = hessian_operator(objective, w)
    first = random_start(objective.dimension, seed, point)
    share = 1.0
    if guess is not None:
        first, share = _start_near(guess, first), _FRESH
    return search(
        apply, first, wanted, tol, share=share, target=target, products=products, memory=memory, seed=seed,
        precision=objective.precision_at(point),
    )  # fmt: skip
