"""The outermost eigenvalues of a Hessian that is known by its action, with bounds on their errors."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from array_api_compat import array_namespace, to_device

from ravine.objectives import Objective
from ravine.spectrum.lanczos import Apply, Array, Krylov, random_start

MEMORY = 2 * 2**30
"""Bytes that a Krylov basis may take unless the caller says otherwise."""
# The random part of a warm start: small enough to save products, large enough to find what the guess has lost.
_FRESH = 1e-2
# Nothing tells an eigenvalue that is missed from the one found if they are closer than the latter's residual; and a
# probability is
# of use for what would change the answer. So it is for eigenvalues further away than this fraction of the largest.
_MARGIN = 1e-2

End = Literal["largest", "smallest"]


@dataclass(frozen=True)
class Eigenpairs:
    """Eigenvalues from the outermost inwards, with their vectors and bounds.

    Attributes
    ----------
    values
        Shape (k,): descending for the largest, ascending for the smallest. Fewer than asked for after an interrupt.
    vectors
        Shape (k, d), of norm 1.
    residuals
        ‖Hv − λv‖ and what rounding may have added, shape (k,): each interval λ ± residual holds an eigenvalue.
    gap_bounds
        residual²/gap (Kato and Temple), shape (k,): the error on the condition that no other eigenvalue lies within
        the gap to the neighbouring values' intervals, which no Krylov space can show; infinite where these overlap.
    missed
        Shape (k,): a bound on the probability with which a random start misses an eigenvalue that lies further out than
        the pair, by more than its residual, the tolerance, and 1 % of the largest |λ|. Copies of a multiple eigenvalue
        are not counted: a Krylov space holds one.
    converged
        Shape (k,): whether the pair met the tolerance.
    products
        The number of Hessian-vector products spent.
    interrupted
        Whether it was stopped by the keyboard; the bounds hold none the less.
    """

    values: np.ndarray
    vectors: np.ndarray
    residuals: np.ndarray
    gap_bounds: np.ndarray
    missed: np.ndarray
    converged: np.ndarray
    products: int
    interrupted: bool = False

    def following(self, previous: Eigenpairs) -> tuple[Eigenpairs, np.ndarray]:
        """These pairs with each vector's sign as in `previous`, and which of the previous pairs each one continues.

        The second is an integer array (k,): entry i is the index of the previous vector that overlaps most with
        vector i, each used once, −1 where there is none left. Where it is not 0, 1, 2, … eigenvalues have crossed.
        """
        from scipy.optimize import linear_sum_assignment

        overlaps = self.vectors @ previous.vectors.T
        rows, columns = linear_sum_assignment(-np.abs(overlaps))
        origin = np.full(len(self.values), -1)
        origin[rows] = columns
        signs = np.ones(len(self.values))
        signs[rows] = np.where(overlaps[rows, columns] < 0, -1.0, 1.0)
        return replace(self, vectors=self.vectors * signs[:, None]), origin


def eigenpairs(
    objective: Objective,
    w: Any,
    k: int = 1,
    tol: float = 1e-6,
    guess: np.ndarray | None = None,
    *,
    end: End = "largest",
    target: Literal["vectors", "values"] = "vectors",
    products: int | None = None,
    memory: int = MEMORY,
    seed: int = 0,
) -> Eigenpairs:
    """The k largest (or smallest) eigenvalues of ∇²ℓ(w): Lanczos with full reorthogonalisation and thick restart.

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
    """
    ends: dict[str, tuple[int, int]] = {"largest": (k, 0), "smallest": (0, k)}
    if end not in ends:
        raise ValueError(f"end = {end!r}: use largest or smallest; extremal_eigenpairs gives both")
    if not 1 <= k < objective.dimension:
        raise ValueError(
            f"k = {k}: between 1 and {objective.dimension - 1} eigenpairs of a Hessian of size {objective.dimension}"
        )
    found = _search(objective, w, ends[end], tol, guess, target, products, memory, seed)
    return found[0 if end == "largest" else 1]


def extremal_eigenpairs(
    objective: Objective,
    w: Any,
    k: int = 1,
    tol: float = 1e-6,
    *,
    target: Literal["vectors", "values"] = "vectors",
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
    return _search(objective, w, (k, k), tol, None, target, products, memory, seed)


def operator(objective: Objective, w: Any) -> tuple[Apply, Array]:
    """u ↦ ∇²ℓ(w)u for vectors like the point's own, and the point."""
    point = objective.point(w)
    return (lambda u: objective.hvp(point, u)), point


def _warm(guess: np.ndarray, first: Array) -> Array:
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
    target: str,
    products: int | None,
    memory: int,
    seed: int,
) -> tuple[Eigenpairs, Eigenpairs]:
    apply, point = operator(objective, w)
    first = random_start(objective.dimension, seed, point)
    share = 1.0
    if guess is not None:
        first, share = _warm(guess, first), _FRESH
    precision = objective.precision_at(point)
    return search(apply, first, wanted, tol, share, target, products, memory, seed, precision=precision)


def search(
    apply: Apply,
    first: Array,
    wanted: tuple[int, int],
    tol: float,
    share: float = 1.0,
    target: str = "vectors",
    products: int | None = None,
    memory: int = MEMORY,
    seed: int = 0,
    enough: Callable[[np.ndarray, np.ndarray], bool] | None = None,
    precision: float = 0.0,
) -> tuple[Eigenpairs, Eigenpairs]:
    """`wanted` pairs from the top and from the bottom of any symmetric operator; the engine of `eigenpairs`.

    `share` is the random part of the start `first`; ``enough(values, residuals)``, over the ascending Ritz pairs, may
    stop it early.
    """
    dimension = int(first.shape[0])
    limit = 20 * dimension if products is None else products
    count = sum(wanted)
    if not 0 < tol < 1:
        raise ValueError(f"tol = {tol!r}: give a number between 0 and 1")
    if target not in ("vectors", "values"):
        raise ValueError(f"target = {target!r}: use vectors or values")
    if limit < 1:
        raise ValueError(f"products = {products}: give a number ≥ 1")
    itemsize = int(np.ceil(array_namespace(first).finfo(first.dtype).bits / 8))
    capacity = min(dimension, memory // (itemsize * dimension) - 1)
    if capacity < min(dimension, 2 * count + 4):
        raise ValueError(
            f"memory = {memory}: {count} eigenpairs need {itemsize * dimension * (2 * count + 5)} bytes at least"
        )
    krylov = Krylov(apply, first, capacity, np.random.default_rng([seed, 1]), precision)
    certificate: _Certificate | None = None
    interrupted = False
    try:
        while krylov.products < limit and krylov.size < dimension:
            krylov.step()
            values, _, residuals = krylov.ritz()
            ends = _ends(values, residuals, krylov.rounding(values), wanted, krylov.size == dimension)
            floor = max(tol * float(np.abs(values).max()), 2 * krylov.rounding(values))
            if krylov.size > count and all((end.reach(target) <= floor).all() for end in ends):
                break
            if enough is not None and krylov.size > count and enough(values, residuals):
                break
            if krylov.full and krylov.size < dimension and krylov.products < limit:
                if certificate is None:
                    certificate = _Certificate.of(krylov, values, share)
                krylov.restart(_kept(values.size, wanted, capacity))
    except KeyboardInterrupt:
        if krylov.size == 0:
            raise
        interrupted = True
    values, columns, residuals = krylov.ritz()
    certificate = certificate or _Certificate.of(krylov, values, share)
    floor = max(tol * float(np.abs(values).max()), 2 * krylov.rounding(values))
    pairs = []
    for end in _ends(values, residuals, krylov.rounding(values), wanted, krylov.size == dimension):
        vectors = np.asarray(to_device(krylov.vectors(columns[:, end.chosen]), "cpu"), dtype=np.float64)
        pairs.append(
            Eigenpairs(
                values=end.values,
                vectors=vectors / np.linalg.norm(vectors, axis=1, keepdims=True),
                residuals=end.residuals,
                gap_bounds=end.gap_bounds,
                missed=certificate.missed(end, max(floor, _MARGIN * float(np.abs(values).max()))),
                converged=end.reach(target) <= floor,
                products=krylov.products,
                interrupted=interrupted,
            )
        )
    return pairs[0], pairs[1]


@dataclass(frozen=True)
class _End:
    """The wanted Ritz pairs at one end of the spectrum, from the outermost inwards."""

    chosen: np.ndarray
    values: np.ndarray
    residuals: np.ndarray
    gap_bounds: np.ndarray
    sign: int

    def reach(self, target: str) -> np.ndarray:
        return np.minimum(self.residuals, self.gap_bounds) if target == "values" else self.residuals


def _ends(
    values: np.ndarray, residuals: np.ndarray, rounding: float, wanted: tuple[int, int], whole: bool
) -> list[_End]:
    """Both ends of the ascending Ritz pairs; `whole` if they are all that there are."""
    ends = []
    for k, sign in zip(wanted, (1, -1), strict=True):
        # One more than wanted: the last one's neighbour.
        order = np.arange(values.size)[::-sign][: k + 1]
        theta, r = values[order], residuals[order]
        gaps = np.abs(np.diff(theta))
        # The distance to the neighbours' intervals, above and below; a pair without a neighbour has no gap to show.
        outer = np.concatenate([[np.inf], gaps - r[:-1]])
        inner = np.concatenate([gaps - r[1:], [np.inf if whole else 0.0]])
        distance = np.minimum(outer, inner)[:k]
        with np.errstate(divide="ignore", invalid="ignore"):
            bounds = np.where(distance > r[:k], r[:k] ** 2 / distance + rounding, np.inf)
        ends.append(_End(order[:k], theta[:k], r[:k], bounds, sign))
    return ends


def _kept(size: int, wanted: tuple[int, int], capacity: int) -> np.ndarray:
    """Indices of the ascending Ritz pairs that a restart keeps: the wanted ones and, of the rest, the next ones."""
    room = max(0, (capacity - sum(wanted)) // 2 - 1)
    top = wanted[0] + (room * wanted[0]) // max(1, sum(wanted))
    bottom = wanted[1] + (room * wanted[1]) // max(1, sum(wanted))
    return np.unique(np.concatenate([np.arange(bottom), np.arange(size - top, size)]))


@dataclass(frozen=True)
class _Certificate:
    """What a run without restarts says of eigenvalues that it has not seen.

    Let p be the characteristic polynomial of the projected operator after m steps from v. Then ‖p(H)v‖ = β₁⋯β_m
    (Lanczos), so that the component of v along an eigenvector of value λ is at most β₁⋯β_m/|p(λ)|. A random unit
    vector has a component as small as x with probability √(2d/π)x at most. Where a part of the start is a guess, x is
    divided by the random part's share, (1 + share)/share.
    """

    roots: np.ndarray
    log_betas: float
    scale: float
    floor: float

    @classmethod
    def of(cls, krylov: Krylov, values: np.ndarray, share: float) -> _Certificate:
        m = len(krylov.log_betas)
        if m < krylov.size:  # steps outside an invariant subspace: its own values are the roots
            block = krylov.projected()[:m, :m]
            values = np.linalg.eigvalsh(block)
        spread = 1.0 if share == 1.0 else (1 + share) / share
        scale = math.sqrt(2 * krylov.dimension / math.pi) * spread
        return cls(values, float(sum(krylov.log_betas)), scale, krylov.epsilon * krylov.size)

    def missed(self, end: _End, floor: float) -> np.ndarray:
        """For each pair, the probability that an eigenvalue further out was missed."""
        if end.values.size == 0:
            return np.zeros(0)
        reach = np.maximum(end.residuals, floor)
        total, missed = 0.0, []
        for i, value in enumerate(end.values):
            inner = value + end.sign * reach[i]
            # log|p| is concave between its roots, so that the least is at an end of the interval, if no root lies in
            # it.
            worst = self._probability(inner)
            if i > 0:
                outer = end.values[i - 1] - end.sign * reach[i - 1]
                if (outer - inner) * end.sign <= 0:
                    worst = 0.0
                else:
                    low, high = min(inner, outer), max(inner, outer)
                    inside = ((self.roots > low) & (self.roots < high)).any()
                    worst = 1.0 if inside else max(worst, self._probability(outer))
            total = min(1.0, total + worst)
            missed.append(total)
        return np.array(missed)

    def _probability(self, lam: float) -> float:
        with np.errstate(divide="ignore"):
            log_component = self.log_betas - float(np.log(np.abs(lam - self.roots)).sum())
        component = math.exp(min(log_component, 0.0)) + self.floor
        return min(1.0, self.scale * component)
