"""Compiled oracles of ½ Σ λᵢ wᵢ²; ``data`` holds the eigenvalues as its one row."""

from __future__ import annotations

from numba import njit

DIMENSION = 0


@njit(cache=True, nogil=True, error_model="numpy")
def value(w, data):
    total = 0.0
    for i in range(w.size):
        total += data[0, i] * w[i] * w[i]
    return 0.5 * total


@njit(cache=True, nogil=True, error_model="numpy")
def gradient(w, data, out):
    for i in range(w.size):
        out[i] = data[0, i] * w[i]
