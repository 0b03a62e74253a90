"""The Lanczos process of a symmetric operator that is known by its action."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from array_api_compat import array_namespace

from ravine.arrays import as_numpy
from ravine.objectives import Objective

Array = Any
Apply = Callable[[Array], Array]
# The most entries of a random vector that is held after its use.
_HELD = 2**22


class Krylov:
    """An orthonormal basis of a Krylov space, grown by one product at a time, and the operator projected on it.

    In that of ∇ℓ, SAM on a quadratic (Section 3 of arXiv 2210.01513) runs as in the whole space.

    HQ = Q·(upper + lower) + β q e_mᵀ to rounding: `upper` holds the measured coefficients qᵢᵀHqⱼ, i ≤ j, and `lower`
    the norms that orthogonalization left. In exact arithmetic one is the other's transpose; what they differ by is the
    error of the products, and goes into the residuals.

    Parameters
    ----------
    apply
        u ↦ Hu, in the library, precision and device of `start`.
    start
        The first vector, not zero, shape (d,).
    capacity
        The most basis vectors held at a time; memory is (capacity + 1)·d numbers.
    generator
        For a new vector where the space is exhausted before ℝᵈ is.
    precision
        Relative error of the products, where it is worse than the rounding of `start`'s own precision.

    Examples
    --------
    >>> import numpy as np
    >>> import ravine as rv
    >>> krylov = rv.spectrum.Krylov(lambda u: 2 * u, np.ones(3), 3, np.random.default_rng(0))
    >>> krylov.step()
    >>> krylov
    <Krylov: 1 of at most 3 vectors in 3 dimensions>
    >>> krylov.ritz()[0].round(12)
    array([2.])
    """

    def __init__(
        self, apply: Apply, start: Array, capacity: int, generator: np.random.Generator, precision: float = 0.0
    ) -> None:
        self.xp = array_namespace(start)
        self.dimension = int(start.shape[0])
        self.capacity = min(capacity, self.dimension)
        self._apply = apply
        self._generator = generator
        self.basis = self.xp.empty((self.capacity + 1, self.dimension), dtype=start.dtype, device=start.device)
        self.basis[0] = start / self.xp.linalg.vector_norm(start)
        self.upper = np.zeros((self.capacity, self.capacity))
        self.lower = np.zeros((self.capacity + 1, self.capacity))
        self.size = 0
        self.beta = math.inf
        self.products = 0
        self.log_betas: list[float] = []
        self.exhausted = False
        self.restarts = 0
        self._coupling: np.ndarray | None = None
        self.epsilon = max(float(self.xp.finfo(start.dtype).eps), precision)

    def __repr__(self) -> str:
        return f"<Krylov: {self.size} of at most {self.capacity} vectors in {self.dimension} dimensions>"

    @property
    def full(self) -> bool:
        """Whether the basis has reached its capacity."""
        return self.size == self.capacity

    def step(self) -> None:
        """One product: the basis grows by one vector.

        Raises
        ------
        ValueError
            If the product is not finite.
        """
        xp, j = self.xp, self.size
        w = self._apply(self.basis[j])
        self.products += 1
        before = float(xp.linalg.vector_norm(w))
        if not math.isfinite(before):
            raise ValueError("hvp: a Hessian-vector product is not finite; look at the loss and the point")
        known = self.basis[: j + 1]
        coefficients, after = np.zeros(j + 1), before
        # First along the last two vectors: without restarts nearly all lies there, and one pass over all then suffices.
        for k, since in enumerate((max(0, j - 1), 0, 0, 0)):
            part = known[since:] @ w
            # Then in place, which spares a vector's memory; the first time it may be the operator's own.
            w = w - part @ known[since:] if k == 0 else operator.isub(w, part @ known[since:])
            coefficients[since:] += as_numpy(part)
            after = float(xp.linalg.vector_norm(w))
            # Enough when the vector did not shrink: then nothing along the basis is left but rounding.
            if since == 0 and after > 0.5 * before:
                break
            before = after
        self.upper[: j + 1, j] = coefficients
        scale = float(np.abs(self.upper[: j + 1, : j + 1]).max(initial=0.0))
        floor = 10 * self.epsilon * scale
        self.size, self.beta, self._coupling = j + 1, after, None
        if not (self.restarts or self.exhausted):
            self.log_betas.append(math.log(max(after, floor, 1e-300)))
        if self.size == self.dimension:
            # Nothing is left outside the basis but rounding.
            self.beta = min(after, floor)
            return
        if after <= floor:
            # An invariant subspace: go on outside it, with a new vector.
            self.exhausted = True
            w = xp.asarray(self._generator.standard_normal(self.dimension), dtype=w.dtype, device=w.device)
            for _ in range(3):
                w = w - (known @ w) @ known
            after = float(xp.linalg.vector_norm(w))
        else:
            self.lower[j + 1, j] = after
        self.basis[j + 1] = w
        self.basis[j + 1] /= after

    def insert(self, v: Array) -> bool:
        """Go on from v, as far as it lies outside the space, in place of the last residual; False if it does not.

        The projected operator stays exact: each of its entries is measured when its later vector is multiplied.
        Residuals of pairs are then no longer known.
        """
        xp, known = self.xp, self.basis[: self.size]
        before = float(xp.linalg.vector_norm(v))
        for _ in range(3):
            v = v - (known @ v) @ known
        after = float(xp.linalg.vector_norm(v))
        if after <= 1e3 * self.epsilon * before:
            return False
        self.basis[self.size] = v / after
        return True

    def projected(self) -> np.ndarray:
        """QᵀHQ, symmetric, shape (m, m)."""
        upper = np.triu(self.upper[: self.size, : self.size])
        return upper + np.triu(upper, 1).T

    def ritz(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Ritz values ascending, coordinates of their vectors in the basis (columns), and residual norms.

        A residual norm is ‖Hy − θy‖ as computed, plus what rounding may have added to it.
        """
        m = self.size
        projected = self.projected()
        values, columns = np.linalg.eigh(projected)
        whole = np.triu(self.upper[:m, :m]) + np.tril(self.lower[:m, :m], -1)
        error = np.linalg.norm((whole - projected) @ columns, axis=0)
        # After a restart, until the next product, every kept pair is coupled to the vector that comes next.
        outside = self.beta * columns[-1] if self._coupling is None else self._coupling @ columns
        return values, columns, np.hypot(error, outside) + self.rounding(values)

    def rounding(self, values: np.ndarray) -> float:
        """What rounding in products and orthogonalization may add to a residual."""
        return 8 * self.epsilon * math.sqrt(self.size) * float(np.abs(values).max())

    def vectors(self, columns: np.ndarray) -> Array:
        """Vectors of ℝᵈ from coordinates in the basis (columns), as rows."""
        xp, known = self.xp, self.basis[: self.size]
        return xp.asarray(np.ascontiguousarray(columns.T), dtype=known.dtype, device=known.device) @ known

    def restart(self, keep: np.ndarray) -> None:
        """Thick restart (Wu and Simon): keep the Ritz vectors of these indices and the last vector, forget the rest."""
        values, columns, _ = self.ritz()
        p, coupling = keep.size, self.beta * columns[-1, keep]
        last = self.xp.asarray(self.basis[self.size], copy=True)
        self.basis[:p] = self.vectors(columns[:, keep])
        self.basis[p] = last
        self.upper[:], self.lower[:] = 0.0, 0.0
        self.upper[np.arange(p), np.arange(p)] = values[keep]
        self.lower[p, :p], self._coupling = coupling, coupling
        self.size = p
        self.restarts += 1


def hessian_operator(objective: Objective, w: Any) -> tuple[Apply, Array]:
    """u ↦ ∇²ℓ(w)u for vectors like the point's own, and the point."""
    point = objective.point(w)
    return (lambda u: objective.hvp(point, u)), point


def random_start(dimension: int, seed: int, like: Array) -> Array:
    """A vector uniform on the sphere, in the library, precision and device of `like`."""
    xp = array_namespace(like)
    kind = np.float32 if like.dtype == xp.float32 else np.float64
    draw = _random_unit_vector if dimension <= _HELD else _random_unit_vector.__wrapped__
    return xp.asarray(draw(dimension, seed, kind), dtype=like.dtype, device=like.device, copy=True)


# The first vector of a search is asked for by who prepares the search, too, and takes as long as half a product.
@functools.lru_cache(maxsize=1)
def _random_unit_vector(dimension: int, seed: int, kind: type[np.floating]) -> np.ndarray:
    v = np.random.default_rng([seed, dimension]).standard_normal(dimension, dtype=kind)
    return v / np.linalg.norm(v)
