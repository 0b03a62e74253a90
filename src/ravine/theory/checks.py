"""What the closed forms ask of their arguments."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def finite(name: str, value: float) -> float:
    """`value` as a finite float, else a `ValueError` naming it."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{name} = {value!r}: give a number") from None
    if not np.isfinite(number):
        raise ValueError(f"{name} = {value!r}: give a finite number")
    return number


def positive(name: str, value: float) -> float:
    """`value` as a positive finite float, else a `ValueError` naming it."""
    number = finite(name, value)
    if number <= 0:
        raise ValueError(f"{name} = {value!r}: give a positive number")
    return number


def non_negative(name: str, value: float) -> float:
    """`value` as a finite float ≥ 0, else a `ValueError` naming it."""
    number = finite(name, value)
    if number < 0:
        raise ValueError(f"{name} = {value!r}: give a number ≥ 0")
    return number


def fraction(name: str, value: float) -> float:
    """`value` as a float in [0, 1), else a `ValueError` naming it."""
    number = non_negative(name, value)
    if number >= 1:
        raise ValueError(f"{name} = {value!r}: give a number in [0, 1)")
    return number


def numbers(name: str, value: ArrayLike) -> np.ndarray:
    """`value` as a float64 array of any shape, else a `ValueError` naming it."""
    try:
        return np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{name}: give a number or an array of them") from None


def convex_spectrum(eigenvalues: ArrayLike) -> np.ndarray:
    """Eigenvalues of a convex quadratic: a non-empty finite vector, none negative, one positive.

    Raises
    ------
    ValueError
        If they are not.
    """
    lam = numbers("eigenvalues", eigenvalues)
    if lam.ndim != 1 or lam.size == 0:
        raise ValueError(f"eigenvalues: pass a vector, not shape {lam.shape}")
    if not np.isfinite(lam).all():
        raise ValueError("eigenvalues: give finite numbers")
    if (lam < 0).any() or lam.max() == 0:
        raise ValueError("eigenvalues: the theory is for a convex quadratic; give numbers ≥ 0, one of them positive")
    return lam


def vector(name: str, value: ArrayLike, length: int) -> np.ndarray:
    """`value` as a finite vector of the given length, else a `ValueError` naming it."""
    array = numbers(name, value)
    if array.shape != (length,) or not np.isfinite(array).all():
        raise ValueError(f"{name}: give {length} finite numbers")
    return array
