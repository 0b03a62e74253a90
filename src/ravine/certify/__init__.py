"""Proofs by ball arithmetic for arXiv:2210.01513: a run is on its cycle from step t on; Section 6's cycle exists.

`prove` and `prove_section_6` make certificates, `Certificate.save` writes one, `check` verifies a file by other code.
Nothing here knows the compiled kernels or the simulator.
"""

from __future__ import annotations

from ravine.certify.certificate import Certificate, CouldNotDecide
from ravine.certify.checking import Invalid, check
from ravine.certify.quadratic_proof import prove
from ravine.certify.section_6_proof import prove_section_6

__all__ = ["Certificate", "CouldNotDecide", "Invalid", "check", "prove", "prove_section_6"]
