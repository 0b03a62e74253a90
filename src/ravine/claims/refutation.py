"""The decision on one instance: floats only propose.

A refutation is a ball (or an exact fraction) that lies below zero at an instance whose every hypothesis is as
certainly met; what no ball decides is not a refutation, however negative its float.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ravine.claims.numbers import Balls, Exact, Numbers, Undecided, precision
from ravine.claims.samplers import Instance
from ravine.claims.statement import Claim, Statement, Untested

PRECISIONS = (128, 512, 2048, 8192)


@dataclass(frozen=True)
class Refutation:
    """A certified counterexample: the margin is at most `bound` < 0, at `bits` bits (0 for exact fractions)."""

    instance: Instance
    bound: float
    bits: int

    @property
    def evidence(self) -> str:
        """What decided it, in words."""
        how = f"balls at {self.bits} bits" if self.bits else "exact fractions"
        return f"margin ≤ {self.bound:.4g} by {how}"


def refute(statement: Statement, claim: Claim, instance: Instance) -> Refutation | None:
    """Decide an instance for good: a refutation if every hypothesis holds and the margin is negative, certainly."""
    for bits in PRECISIONS if statement.exact else ():
        with precision(bits):
            try:
                margin = _evaluate(statement, claim, instance, Balls())
            except Undecided:
                continue
            except (Untested, ArithmeticError, ValueError):
                return None
            if margin is None:
                return None
            if margin < 0:
                return Refutation(instance, _below_zero(margin), bits)
            if margin >= 0:
                return None
    try:
        exact = _evaluate(statement, claim, instance, Exact())
    except (Undecided, Untested, ArithmeticError):
        return None
    return Refutation(instance, float(exact), 0) if exact is not None and exact < 0 else None


def hypotheses_of(statement: Statement, claim: Claim, instance: Instance, n: Numbers) -> dict[str, Any]:
    """The statement's hypotheses and those that the wording adds: names and numbers that must be positive."""
    hypotheses = dict(statement.hypotheses(instance, n))
    return hypotheses if claim.also is None else hypotheses | dict(claim.also(instance, n))


def _evaluate(statement: Statement, claim: Claim, instance: Instance, n: Numbers) -> Any:
    """The margin, or None where a hypothesis is not met; raises `Undecided` where one cannot be told."""
    for name, value in hypotheses_of(statement, claim, instance, n).items():
        if value <= 0:
            return None
        if not value > 0:
            raise Undecided(name)
    return claim.margin(instance, n)


def _below_zero(ball: Any) -> float:
    """A float above the ball, and below zero where the ball is: for print, the sign alone is proved."""
    text = ball.upper().str(17, radius=False)
    value = float(np.nextafter(float(text), 0.0))
    return value if value < 0 else -float(np.finfo(float).tiny)
