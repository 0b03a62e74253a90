"""Curvature from Hessian-vector products."""

from __future__ import annotations

from ravine.spectrum.eigenpairs import Eigenpairs, extremal_eigenpairs, operator, search, top_eigenpairs
from ravine.spectrum.lanczos import Krylov, random_start
from ravine.spectrum.measure import Density, Measure, Trace, density, measure, spectral_measure, trace

__all__ = [
    "Density",
    "Eigenpairs",
    "Krylov",
    "Measure",
    "Trace",
    "density",
    "extremal_eigenpairs",
    "measure",
    "operator",
    "random_start",
    "search",
    "spectral_measure",
    "top_eigenpairs",
    "trace",
]
