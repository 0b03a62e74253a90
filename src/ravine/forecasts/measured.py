"""The small space and the loss on it, measured: how the products are spent."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from array_api_compat import array_namespace

from ravine.arrays import as_numpy
from ravine.forecasts.reduced import Reduced
from ravine.methods import Method, gradient_norm
from ravine.objectives import Objective
from ravine.spectrum import Krylov, hessian_operator

THIRD = 8
"""What a third derivative of a network costs with its check, in gradients."""

# With the drift ∇ℓ has at least the first and at most the second part of the products: until λ₁ and λ₂ are known to
# _RESOLVED, relative to λ₁. ∇λ₁ needs less: what matters of it is flat.
_LEAST, _MOST, _RESOLVED = 1 / 3, 0.6, 1e-3
# λ₂ is followed if it is known to this.
_FOUND = 0.05
# The products left are shared by ∇λ₁, ∇λ₂ and the coupling of the two.
_SHARES = (2 / 3, 1 / 6, 1 / 6)
# The bend is measured where λ₁ has changed by no more than this, relative; a part of the products finds e₁ there.
_CHANGE, _SHARE_AHEAD = 0.1, 0.1


@dataclass(frozen=True, repr=False)
class Measured:
    """A reduced loss, and where it lies.

    Attributes
    ----------
    reduced
        ℓ̂.
    point, basis
        w, and the small space's orthonormal basis as rows, shapes (d,) and (m, d).
    own
        How many of the basis are the Krylov space of ∇ℓ(w).
    residual
        Residual bound of λ₁.
    products, gradients
        Spent so far; a third derivative counts as `THIRD` gradients.
    """

    reduced: Reduced
    point: Any
    basis: Any
    own: int
    residual: float
    products: int
    gradients: int

    def __repr__(self) -> str:
        return f"<Measured: {self.reduced!r} from {self.products} products, {self.gradients} gradients>"

    def lift(self, coordinates: np.ndarray) -> Any:
        """A vector of ℝᵈ from its coordinates."""
        xp = array_namespace(self.basis)
        return xp.asarray(coordinates, dtype=self.basis.dtype, device=self.basis.device) @ self.basis

    def drop(self, vectors: Any) -> np.ndarray:
        """Coordinates of the projections of vectors of ℝᵈ, the last axis."""
        return as_numpy(vectors @ self.basis.T)


def measure(
    objective: Objective, w: Any, products: int, third: Callable[[Any, Any], Any] | None, pairs: int
) -> Measured:
    """ℓ̂ at w without the bend, from the Krylov space of ∇ℓ(w) and, given `third`, those of ∇λ₁ and ∇λ₂.

    Raises
    ------
    ValueError
        If ∇ℓ(w) = 0.
    """
    apply, point = hessian_operator(objective, w)
    g = objective.grad(point)
    norm = gradient_norm(g)
    if norm == 0:
        raise ValueError("start: the gradient is zero there; nothing will move")
    # The last of the products are for the bend.
    capacity = products - _products_ahead(products) if third else products
    krylov = Krylov(apply, g / norm, capacity, np.random.default_rng(0), objective.precision_at(point))
    least, most = (int(_LEAST * products), int(_MOST * products)) if third else (products, products)
    while krylov.size < min(most, krylov.capacity) and not krylov.exhausted:
        krylov.step()
        if least <= krylov.size < most and _is_resolved(krylov, pairs):
            break
    values, columns, residuals = krylov.ritz()
    own = krylov.size
    # Eigenvalues that λ₁ may fall to, as far as they are known.
    count = 1 + int(third is not None and pairs > 1 and own > 2 and residuals[-2] < _FOUND * abs(values[-1]))
    leading = np.arange(own - 1, own - 1 - count, -1)
    eigenvalues, e = values[leading], columns[:, leading].T
    p, kappa, gradients = np.zeros((count, count, 0)), np.zeros((count, count, count)), 1
    if third is not None:
        thirds, units = _third_derivatives(third, point, krylov.vectors(e.T))
        gradients += THIRD * count * (count + 1) // 2
        flat = thirds.reshape(count * count, -1)
        kappa = as_numpy(flat @ units.T).reshape(count, count, count)
        across = flat - (flat @ units.T) @ units
        left, shared = krylov.capacity - own, 0.0
        for share, index in zip((1.0,) if count == 1 else _SHARES, (0, 3, 1), strict=False):
            shared += share
            until = own + round(shared * left)
            if krylov.size < until and krylov.insert(across[index]):
                while krylov.size < until:
                    krylov.step()
        p = as_numpy(across @ krylov.basis[: krylov.size].T).reshape(count, count, -1)
    m = krylov.size
    e = np.pad(e, ((0, 0), (0, m - own)))
    p = np.pad(p, ((0, 0), (0, 0), (0, m - p.shape[2])))
    rival = float(values[-1 - count]) if own > count else -math.inf
    reduced = Reduced(krylov.projected(), norm * np.eye(m)[0], eigenvalues, e, p, kappa, np.zeros((m, m)), rival)
    return Measured(reduced, point, krylov.basis[:m], own, float(residuals[-1]), krylov.products, gradients)


def bend(
    seen: Measured,
    objective: Objective,
    method: Method,
    *,
    steps: int,
    products: int,
    third: Callable[[Any, Any], Any],
) -> Measured:
    """`seen` with the bend, from one third derivative at a point that it predicts; as it is where it predicts none."""
    reduced = seen.reduced
    z, _ = reduced.run(method, steps + 1)
    d = _last_centre(reduced, (z[:-1] + z[1:]) / 2)
    if not d.any() or not reduced.p.any():
        return seen
    there = seen.point + seen.lift(d)
    if not math.isfinite(objective.value(there)):
        return seen
    expected, turned = reduced.slope(d)
    e = seen.lift(turned @ reduced.e)
    spent = _products_ahead(products)
    if spent:
        precision = objective.precision_at(seen.point)
        krylov = Krylov(hessian_operator(objective, there)[0], e, spent, np.random.default_rng(0), precision)
        while not (krylov.full or krylov.exhausted):
            krylov.step()
        e, spent = krylov.vectors(krylov.ritz()[1][:, [-1]])[0], krylov.products
    xp = array_namespace(e)
    y = reduced.off_leading(seen.drop(third(there, e / xp.linalg.vector_norm(e)))) - expected
    square = d @ d
    secant = (np.outer(y, d) + np.outer(d, y)) / square - (d @ y) * np.outer(d, d) / square**2
    return replace(
        seen,
        reduced=replace(reduced, bend=secant),
        products=seen.products + spent,
        gradients=seen.gradients + 1 + THIRD,
    )


def _products_ahead(products: int) -> int:
    return int(_SHARE_AHEAD * products)


def _is_resolved(krylov: Krylov, pairs: int) -> bool:
    values, _, residuals = krylov.ritz()
    return bool(krylov.size > pairs and residuals[-pairs:].max() <= _RESOLVED * abs(values[-1]))


def _last_centre(reduced: Reduced, centres: np.ndarray) -> np.ndarray:
    """The last of the centres, off the leading directions, before λ₁ has changed by more than `_CHANGE`."""
    last = np.zeros(reduced.g.size)
    for z in centres:
        d = reduced.off_leading(z)
        if not abs(reduced.sharpness(d) - reduced.eigenvalues[0]) <= _CHANGE * abs(reduced.eigenvalues[0]):
            break
        last = d
    return last


def _third_derivatives(third: Callable[[Any, Any], Any], point: Any, vectors: Any) -> tuple[Any, Any]:
    """D³ℓ(eᵢ, eⱼ, ·), shape (k, k, d), for k = 1 or 2, by polarization; and the eᵢ, of norm 1."""
    xp = array_namespace(vectors)
    e = vectors / xp.linalg.vector_norm(vectors, axis=1, keepdims=True)
    first = third(point, e[0])
    if e.shape[0] == 1:
        return xp.stack([first])[None, ...], e
    second, sum_ = third(point, e[1]), third(point, e[0] + e[1])
    mixed = (sum_ - first - second) / 2
    return xp.stack([xp.stack([first, mixed]), xp.stack([mixed, second])]), e
