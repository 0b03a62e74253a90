"""Compiled oracles of ½ wᵀAw; ``data`` is the symmetric matrix A."""

from __future__ import annotations

import numpy as np
from numba import njit

DIMENSION = 0


@njit(cache=True, nogil=True, error_model="numpy")
def value(w, data):
    return 0.5 * np.dot(w, np.dot(data, w))


@njit(cache=True, nogil=True, error_model="numpy")
def gradient(w, data, out):
    np.dot(data, w, out)
