"""The numbered statements of arXiv:2210.01513, as printed and as corrected, each a check that can fail."""

from __future__ import annotations

from ravine.claims.ledger import LEDGER, find
from ravine.claims.statement import Claim, Statement, Untested
from ravine.claims.trial import audit, judge
from ravine.claims.verdicts import StatementOutcome, Verdict

__all__ = [
    "LEDGER",
    "Claim",
    "Statement",
    "StatementOutcome",
    "Untested",
    "Verdict",
    "audit",
    "find",
    "judge",
]
