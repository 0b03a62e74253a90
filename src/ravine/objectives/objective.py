"""What is minimized: four oracles and no more."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np

# Oracles take and return vectors of the objective's own array library (NumPy, torch, …).
Array = Any


@dataclass(frozen=True, repr=False)
class CompiledOracles:
    """Source of ``value(w, data)`` and ``gradient(w, data, out)`` for the compiled loops, and their data.

    With them an objective's runs of SAM (arXiv 2210.01513) are compiled; without, its own methods are called.

    Examples
    --------
    >>> import ravine as rv
    >>> rv.quadratic([1.0, 0.5]).compiled
    <CompiledOracles: 21 lines, data of shape (1, 2)>
    """

    source: str
    data: np.ndarray

    def __repr__(self) -> str:
        return f"<CompiledOracles: {self.source.count(chr(10))} lines, data of shape {self.data.shape}>"


class Objective(ABC):
    """A loss ℓ on ℝᵈ that is twice differentiable, and for `third` three times.

    The theory of sharpness-aware minimization (arXiv 2210.01513) needs four oracles: ℓ, ∇ℓ, the Hessian's action, and
    the third derivative along one direction.

    To bring your own objective, implement these:

    ``dimension``
        A property: the number d of coordinates.
    ``description``
        A property: one line that says which loss this is.
    ``value(w)``
        ℓ(w), a float.
    ``grad(w)``
        ∇ℓ(w), shape (d,).
    ``hvp(w, u)``
        ∇²ℓ(w)u, shape (d,).
    ``third(w, u)``
        D³ℓ(w)(u, u, ·), shape (d,). Only what concerns ∇λ_max calls it; raise an error where it is not to be had.

    They get `w` and `u` as `point` returns them, must not change them, and return vectors of the same library, dtype
    and device. Where ℓ overflows or is undefined they return infinities or NaN: that a run diverges is a result, not an
    error.

    These have defaults, which you may replace:

    ``point(w, name)``
        What a caller gave as a vector, as a vector of this objective; by default one of NumPy, in float64. Over
        another library, such as torch, return a vector of it, from its own vectors as from NumPy's and from lists, and
        raise a `ValueError` that begins with `name` where it is not d finite numbers.
    ``start``
        A property: where runs and forecasts begin unless told; by default None, and each must be told.
    ``precision_at(w)``
        The relative error of Hessian products at w, where it is worse than the rounding of the arrays' precision.
    ``compiled``
        A property: the oracles as source for the compiled loops; by default None, and runs go through the oracles.

    Examples
    --------
    >>> import numpy as np
    >>> import ravine as rv
    >>> class Quartic(rv.Objective):
    ...     dimension = 2
    ...     description = "sum of fourth powers"
    ...     def value(self, w):
    ...         return float((w**4).sum())
    ...     def grad(self, w):
    ...         return 4 * w**3
    ...     def hvp(self, w, u):
    ...         return 12 * w**2 * u
    ...     def third(self, w, u):
    ...         return 24 * w * u**2
    >>> Quartic()
    <Quartic: sum of fourth powers>
    >>> run = rv.trajectory(Quartic(), rv.SAM(eta=0.01, rho=0.1), start=[1.0, 0.5], steps=100)
    >>> rv.statuses(run)
    ['finished']
    """

    @property
    @abstractmethod
    def dimension(self) -> int:
        """The number d of coordinates."""

    @property
    @abstractmethod
    def description(self) -> str:
        """One line that says which loss this is, for a Run's provenance."""

    @abstractmethod
    def value(self, w: Array) -> float:
        """ℓ(w)."""

    @abstractmethod
    def grad(self, w: Array) -> Array:
        """∇ℓ(w), shape (d,)."""

    @abstractmethod
    def hvp(self, w: Array, u: Array) -> Array:
        """∇²ℓ(w)u, shape (d,)."""

    @abstractmethod
    def third(self, w: Array, u: Array) -> Array:
        """D³ℓ(w)(u, u, ·), shape (d,); ∇λ_max of the Hessian where u is its first eigenvector and λ₁ is simple."""

    def point(self, w: Array, name: str = "w") -> Array:
        """`w` as a point of this objective: a finite vector of length d.

        Raises
        ------
        ValueError
            Naming `name`, if it is not.
        """
        return finite_vector(w, self.dimension, name)

    @property
    def start(self) -> Array | None:
        """Where runs and forecasts begin unless told; None where there is no such point."""
        return None

    def precision_at(self, w: Array) -> float:
        """Relative error of Hessian products at w, where it is worse than the rounding of the arrays' own precision."""
        return 0.0

    @property
    def compiled(self) -> CompiledOracles | None:
        """The oracles for the compiled loops, where there are any."""
        return None

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.description}>"


def beginning(objective: Objective, start: Array | None) -> Array:
    """`start` as a point of the objective, or the objective's own start where it is None.

    Raises
    ------
    ValueError
        If there is neither, `start` is not a finite vector of length d, or `objective` is no Objective.
    """
    if not isinstance(objective, Objective):
        raise ValueError(f"objective: give an Objective, such as expression('w1**2'), not {type(objective).__name__}")
    chosen = objective.start if start is None else start
    if chosen is None:
        raise ValueError(f"start: give {objective.dimension} numbers to start from")
    return objective.point(chosen, "start")


def finite_vector(w: Array, dimension: int, name: str) -> np.ndarray:
    """`w` as a float64 vector.

    Raises
    ------
    ValueError
        If its length is not `dimension`, or an entry is not a finite number.
    """
    try:
        vector = np.asarray(w, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{name}: give a vector of length {dimension}, not {w!r:.60}") from None
    if vector.shape != (dimension,):
        got = f"length {vector.size}" if vector.ndim == 1 else f"shape {vector.shape}"
        raise ValueError(f"{name}: give a vector of length {dimension}, not {got}")
    if not np.isfinite(vector).all():
        raise ValueError(f"{name}: entry {int(np.argmin(np.isfinite(vector)))} is not finite; give finite numbers")
    return vector
