"""The paper's a-priori bounds on steps (arXiv:2210.01513): Lemmas 6, 7, 11, 14, 17, 19, Theorem 3.

All take a `QuadraticLaw` in the setting of Section 4 (λ₁ > λ₂ ≥ … ≥ λ_d > 0, d ≥ 2, η < 1/(2λ₁), ρ > 0, no momentum)
and refuse another with the cure. Each comes as printed, as corrected, and sharper (`Versions`). What fails, and where,
is the business of the ledger (`ravine.claims`).
"""

from __future__ import annotations

from ravine.theory.bounds.arrival import arrival_in_gradient, theorem_3
from ravine.theory.bounds.counts import Count, Versions
from ravine.theory.bounds.lemmas import ball_time, log_clearance, lost_steps, require_section_4, visits

__all__ = [
    "Count",
    "Versions",
    "arrival_in_gradient",
    "ball_time",
    "log_clearance",
    "lost_steps",
    "require_section_4",
    "theorem_3",
    "visits",
]
