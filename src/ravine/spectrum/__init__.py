"""Curvature from Hessian-vector products."""

from __future__ import annotations

from ravine.spectrum.lanczos import Krylov, random_start
from ravine.spectrum.pairs import Eigenpairs, eigenpairs, extremal_eigenpairs, operator, search
from ravine.spectrum.quadrature import Density, Measure, Trace, density, measure, spectral_measure, trace

__all__ = [
    "Density",
    "Eigenpairs",
    "Krylov",
    "Measure",
    "Trace",
    "density",
    "eigenpairs",
    "extremal_eigenpairs",
    "measure",
    "operator",
    "random_start",
    "search",
    "spectral_measure",
    "trace",
]
