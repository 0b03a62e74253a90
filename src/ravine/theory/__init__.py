"""The paper's closed forms: NumPy in, NumPy out. Knows no simulator; their agreement is evidence."""

from __future__ import annotations

from ravine.theory import drift, section6
from ravine.theory.edge import heavy_ball_amplitude, sam_edge, usam_stable
from ravine.theory.potential import Potential, StationaryPoint, potential
from ravine.theory.quadratic import QuadraticLaw, quadratic

__all__ = [
    "Potential",
    "QuadraticLaw",
    "StationaryPoint",
    "drift",
    "heavy_ball_amplitude",
    "potential",
    "quadratic",
    "sam_edge",
    "section6",
    "usam_stable",
]
