"""Proofs by ball arithmetic: that a run is on its cycle from step t on, and that Section 6's cycle exists and attracts.

`prove` and `prove_section_6` make certificates, `Certificate.save` writes one, `check` verifies a file by other code.
Nothing here knows the compiled kernels or the simulator.
"""

from __future__ import annotations

from ravine.certify.certificate import Certificate, CouldNotDecide
from ravine.certify.checking import Invalid, check
from ravine.certify.quadratic import prove
from ravine.certify.section6 import prove_section_6

__all__ = ["Certificate", "CouldNotDecide", "Invalid", "check", "prove", "prove_section_6"]
