"""What the closed forms ask of their arguments."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def positive(name: str, value: float) -> float:
    """`value` as a positive finite float, else a `ValueError` naming it."""
    number = _number(name, value)
    if number <= 0:
        raise ValueError(f"{name} = {value!r}: give a positive number")
    return number


def non_negative(name: str, value: float) -> float:
    """`value` as a finite float ≥ 0, else a `ValueError` naming it."""
    number = _number(name, value)
    if number < 0:
        raise ValueError(f"{name} = {value!r}: give a number ≥ 0")
    return number


def spectrum(eigenvalues: ArrayLike) -> np.ndarray:
    """Eigenvalues of a convex quadratic: a non-empty finite vector, none negative, one positive.

    Raises
    ------
    ValueError
        If they are not.
    """
    lam = np.asarray(eigenvalues, dtype=np.float64)
    if lam.ndim != 1 or lam.size == 0:
        raise ValueError(f"eigenvalues: pass a vector, not shape {lam.shape}")
    if not np.isfinite(lam).all():
        raise ValueError("eigenvalues: give finite numbers")
    if (lam < 0).any() or lam.max() == 0:
        raise ValueError("eigenvalues: the theory is for a convex quadratic; give numbers ≥ 0, one of them positive")
    return lam


def vector(name: str, value: ArrayLike, length: int) -> np.ndarray:
    """`value` as a finite vector of the given length, else a `ValueError` naming it."""
    array = np.asarray(value, dtype=np.float64)
    if array.shape != (length,) or not np.isfinite(array).all():
        raise ValueError(f"{name}: give {length} finite numbers")
    return array


def _number(name: str, value: float) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{name} = {value!r}: give a number") from None
    if not np.isfinite(number):
        raise ValueError(f"{name} = {value!r}: give a finite number")
    return number
