"""The paper's closed forms (arXiv:2210.01513): NumPy in, NumPy out. Knows no simulator; their agreement is evidence."""

from __future__ import annotations

from ravine.theory import bounds, drift, section_6
from ravine.theory.bounce import amplitude
from ravine.theory.bounce_potential import Potential, StationaryPoint, potential
from ravine.theory.edge import sam_edge, usam_stable
from ravine.theory.quadratic_law import QuadraticLaw, quadratic

__all__ = [
    "Potential",
    "QuadraticLaw",
    "StationaryPoint",
    "amplitude",
    "bounds",
    "drift",
    "potential",
    "quadratic",
    "sam_edge",
    "section_6",
    "usam_stable",
]
