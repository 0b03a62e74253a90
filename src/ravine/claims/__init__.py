"""The paper's numbered statements, as printed and as corrected, each a check that can fail."""

from __future__ import annotations

from ravine.claims.ledger import Claim, Statement, Untested, find, ledger
from ravine.claims.trial import Outcome, Verdict, audit, judge

__all__ = ["Claim", "Outcome", "Statement", "Untested", "Verdict", "audit", "find", "judge", "ledger"]
