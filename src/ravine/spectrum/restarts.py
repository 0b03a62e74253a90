"""Lanczos with full reorthogonalization and thick restart, until the wanted pairs are there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from array_api_compat import array_namespace

from ravine.arrays import as_numpy
from ravine.spectrum.lanczos import Apply, Array, Krylov
from ravine.spectrum.pairs import Eigenpairs
from ravine.spectrum.unseen import SpectrumEnd, Unseen, ends_of

MEMORY = 2 * 2**30
"""Bytes that a Krylov basis may take unless the caller says otherwise."""
# Nothing tells an eigenvalue that is missed from the one found if they are closer than the latter's residual; and a
# probability is of use for what would change the answer. So it is for eigenvalues further away than this fraction of
# the largest.
_MARGIN = 1e-2

Target = Literal["vectors", "values"]
Enough = Callable[[np.ndarray, np.ndarray], bool]


def search(
    apply: Apply,
    first: Array,
    wanted: tuple[int, int],
    tol: float,
    *,
    share: float = 1.0,
    target: Target = "vectors",
    products: int | None = None,
    memory: int = MEMORY,
    seed: int = 0,
    enough: Enough | None = None,
    precision: float = 0.0,
) -> tuple[Eigenpairs, Eigenpairs]:
    """`wanted` pairs from the largest and from the smallest of any symmetric operator; the engine of `eigenpairs`.

    Parameters
    ----------
    apply
        u ↦ Hu, in the library, precision and device of `first`.
    first, share
        The start, not zero, shape (d,); and the random part of it, between 0 and 1.
    wanted
        How many pairs from the largest and from the smallest.
    tol, target, products, memory, seed
        As for `eigenpairs`.
    enough
        ``enough(values, residuals)``, over the ascending Ritz pairs, may stop it early.
    precision
        Relative error of the products, where it is worse than the rounding of `first`'s own precision.

    Raises
    ------
    ValueError
        If tol, target, products or memory is out of range, or a product is not finite.
    """
    goal = _Goal(wanted, tol, target, 20 * int(first.shape[0]) if products is None else products, enough)
    capacity = _capacity(first, sum(wanted), memory)
    krylov = Krylov(apply, first, capacity, np.random.default_rng([seed, 1]), precision)
    unseen: Unseen | None = None
    interrupted = False
    try:
        while goal.may_go_on(krylov):
            krylov.step()
            if goal.is_reached(krylov):
                break
            if krylov.full and goal.may_go_on(krylov):
                values = krylov.ritz()[0]
                if unseen is None:
                    unseen = Unseen.of(krylov, values, share)
                krylov.restart(_kept_pairs(values.size, wanted, capacity))
    except KeyboardInterrupt:
        if krylov.size == 0:
            raise
        interrupted = True
    unseen = unseen or Unseen.of(krylov, krylov.ritz()[0], share)
    largest, smallest = goal.pairs(krylov, unseen, interrupted=interrupted)
    return largest, smallest


@dataclass(frozen=True)
class _Goal:
    """What is looked for, and what may be spent on it."""

    wanted: tuple[int, int]
    tol: float
    target: Target
    limit: int
    enough: Enough | None

    def __post_init__(self) -> None:
        if not 0 < self.tol < 1:
            raise ValueError(f"tol = {self.tol!r}: give a number between 0 and 1")
        if self.target not in ("vectors", "values"):
            raise ValueError(f"target = {self.target!r}: use vectors or values")
        if self.limit < 1:
            raise ValueError(f"products = {self.limit}: give a number ≥ 1")

    def may_go_on(self, krylov: Krylov) -> bool:
        return krylov.products < self.limit and krylov.size < krylov.dimension

    def is_reached(self, krylov: Krylov) -> bool:
        values, _, residuals = krylov.ritz()
        if krylov.size <= sum(self.wanted):
            return False
        floor, ends = self._residual_floor(krylov, values), self._both_ends(krylov, values, residuals)
        if all((end.reach(self.target) <= floor).all() for end in ends):
            return True
        return self.enough is not None and self.enough(values, residuals)

    def pairs(self, krylov: Krylov, unseen: Unseen, *, interrupted: bool) -> list[Eigenpairs]:
        """What was found, at either end."""
        values, columns, residuals = krylov.ritz()
        floor, found = self._residual_floor(krylov, values), []
        for end in self._both_ends(krylov, values, residuals):
            vectors = as_numpy(krylov.vectors(columns[:, end.chosen]))
            pairs = Eigenpairs(
                values=end.values,
                vectors=vectors / np.linalg.norm(vectors, axis=1, keepdims=True),
                residuals=end.residuals,
                gap_bounds=end.gap_bounds,
                missed=unseen.missed(end, max(floor, _MARGIN * float(np.abs(values).max()))),
                converged=end.reach(self.target) <= floor,
                products=krylov.products,
                interrupted=interrupted,
            )
            found.append(pairs)
        return found

    def _residual_floor(self, krylov: Krylov, values: np.ndarray) -> float:
        return max(self.tol * float(np.abs(values).max()), 2 * krylov.rounding(values))

    def _both_ends(self, krylov: Krylov, values: np.ndarray, residuals: np.ndarray) -> list[SpectrumEnd]:
        whole = krylov.size == krylov.dimension
        return ends_of(values, residuals, krylov.rounding(values), self.wanted, whole=whole)


def _capacity(first: Array, count: int, memory: int) -> int:
    """How many basis vectors the memory holds, if that is enough for `count` pairs."""
    dimension = int(first.shape[0])
    itemsize = int(np.ceil(array_namespace(first).finfo(first.dtype).bits / 8))
    capacity = min(dimension, memory // (itemsize * dimension) - 1)
    if capacity < min(dimension, 2 * count + 4):
        raise ValueError(
            f"memory = {memory}: {count} eigenpairs need {itemsize * dimension * (2 * count + 5)} bytes at least"
        )
    return capacity


def _kept_pairs(size: int, wanted: tuple[int, int], capacity: int) -> np.ndarray:
    """Indices of the ascending Ritz pairs that a restart keeps: the wanted ones and, of the rest, the next ones."""
    room = max(0, (capacity - sum(wanted)) // 2 - 1)
    above = wanted[0] + (room * wanted[0]) // max(1, sum(wanted))
    below = wanted[1] + (room * wanted[1]) // max(1, sum(wanted))
    return np.unique(np.concatenate([np.arange(below), np.arange(size - above, size)]))
