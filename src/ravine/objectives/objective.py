"""What is minimised: four oracles and no more."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np

# Oracles take and return vectors of the objective's own array library (NumPy, torch, …).
Array = Any


@dataclass(frozen=True)
class CompiledOracles:
    """Source of ``value(w, data)`` and ``gradient(w, data, out)`` for the compiled loops, and their data."""

    source: str
    data: np.ndarray


class Objective(ABC):
    """A twice (for `third`: three times) differentiable loss ℓ on ℝᵈ.

    The theory of sharpness-aware minimization needs four oracles: ℓ, ∇ℓ, the Hessian's action and the
    third derivative along one direction. Arrays stay in the objective's own library.
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
        """D³ℓ(w)(u, u, ·), shape (d,); ∇λ_max of the Hessian where u is its top eigenvector and λ₁ is simple."""

    @property
    def compiled(self) -> CompiledOracles | None:
        """The oracles for the compiled loops, where there are any."""
        return None

    def precision_at(self, w: Array) -> float:
        """Relative error of Hessian products at w, where it is worse than the rounding of the arrays' own precision."""
        return 0.0

    def point(self, w: Array, name: str = "w") -> Array:
        """`w` as a point of this objective: a finite vector of length d.

        Raises
        ------
        ValueError
            Naming `name`, if it is not.
        """
        return finite_vector(w, self.dimension, name)


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
