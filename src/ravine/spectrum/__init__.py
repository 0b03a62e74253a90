"""Curvature from Hessian-vector products."""

from __future__ import annotations

from ravine.spectrum.extremes import eigenpairs, extremal_eigenpairs
from ravine.spectrum.lanczos import Krylov, hessian_operator, random_start
from ravine.spectrum.pairs import Eigenpairs
from ravine.spectrum.quadrature import Density, Measure, density, measure, spectral_measure
from ravine.spectrum.restarts import search
from ravine.spectrum.xtrace import Trace, trace

__all__ = [
    "Density",
    "Eigenpairs",
    "Krylov",
    "Measure",
    "Trace",
    "density",
    "eigenpairs",
    "extremal_eigenpairs",
    "hessian_operator",
    "measure",
    "random_start",
    "search",
    "spectral_measure",
    "trace",
]
