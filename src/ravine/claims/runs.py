"""Runs followed step by step: how long, until when, and what is read of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from ravine.claims.law import Law
from ravine.claims.numbers import Real, is_zero
from ravine.claims.statement import Untested

LONGEST = 3000  # steps that a check simulates at most
WATCHED = 400  # steps among which visits and exceptions are counted
FOLLOWED = f"runs followed to a tenth of the goal's distance from the cycle, in at most {LONGEST} steps"


class Followed(NamedTuple):
    """What a run into the cycle was asked: see `follow`."""

    last_failure: int
    descended: int
    ratio: Real


def descent(law: Law, v: Sequence[Real]) -> list[list[Real]]:
    """v₀ … v_{T₀}, T₀ the first step in the ball ‖v‖ ≤ b.

    Raises
    ------
    Untested
        If that takes more than `LONGEST` steps.
    """
    states = law.until_ball(v, LONGEST)
    if len(states) > LONGEST:
        raise Untested
    return states


def descent_off_axis(law: Law, v: Sequence[Real]) -> list[list[Real]]:
    """`descent` with v_{T₀,1} ≠ 0, without which the ratio Σᵢ≥₂vᵢ²/v₁² at T₀ is none.

    Raises
    ------
    Untested
        As `descent`, and if the run lost its first coordinate on the way.
    """
    states = descent(law, v)
    if is_zero(states[-1][0]):
        raise Untested
    return states


def follow(law: Law, v: list[Real], holds: Callable[[list[Real]], bool], near: Real) -> Followed:
    """The last step at which `holds` is false (−1 if none), T₀, and the ratio Σᵢ≥₂vᵢ²/v₁² at T₀.

    The run is followed until it is within `near` of the cycle, where the step contracts, and `holds` stays true.

    Raises
    ------
    Untested
        If that takes more than `LONGEST` steps.
    """
    n = law.n
    last, descended, ratio = -1, -1, n.of(0)
    for t in range(LONGEST):
        if descended < 0 and not n.less(law.b, law.norm(v)):
            descended, ratio = t, law.ratio(v)
        if not holds(v):
            last = t
        elif descended >= 0 and n.less(law.distance(v), near):
            return Followed(last, descended, ratio)
        v = law.step(v)
    raise Untested
