"""Curvature from Hessian-vector products."""

from __future__ import annotations

from ravine.spectrum.eigenpairs import Eigenpairs, top_eigenpairs

__all__ = ["Eigenpairs", "top_eigenpairs"]
