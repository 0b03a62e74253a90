"""Compiled oracles of ½ wᵀAw; ``data`` is the symmetric matrix A.

The product runs along rows of A for one entry of w at a time: the compiler vectorizes that without changing the order
of any sum, so that the result depends neither on a BLAS nor on its number of threads.
"""

from __future__ import annotations

import numpy as np
from numba import njit

DIMENSION = 0


@njit(cache=True, nogil=True, error_model="numpy")
def gradient(w, data, out):
    for i in range(w.size):
        out[i] = 0.0
    for j in range(w.size):
        factor = w[j]
        for i in range(w.size):
            out[i] += factor * data[j, i]


@njit(cache=True, nogil=True, error_model="numpy")
def value(w, data):
    product = np.empty(w.size)
    gradient(w, data, product)
    total = 0.0
    for i in range(w.size):
        total += w[i] * product[i]
    return 0.5 * total
