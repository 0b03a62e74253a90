"""What a bound is: a number three ways, and a count of steps term by term."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Versions(Generic[T]):
    """One bound of arXiv:2210.01513 three ways.

    Attributes
    ----------
    printed
        The paper's number, whether or not it holds.
    corrected
        What holds by the paper's proof with its errors mended.
    sharp
        What holds by the same proof with nothing given away that it need not give.

    Examples
    --------
    >>> import ravine as rv
    >>> law = rv.theory.quadratic([1.0, 0.5], eta=0.2, rho=1.0)
    >>> rv.theory.bounds.ball_time(law, radius=2 * law.b)
    Versions(printed=6.931471805599452, corrected=7.0, sharp=7.0)
    """

    printed: T
    corrected: T
    sharp: T


@dataclass(frozen=True)
class Count:
    """A bound on a step, term by term (Lemma 19 and Theorem 3 of arXiv:2210.01513).

    Attributes
    ----------
    terms
        What is added, by name.
    outside
        The conditions of the statement that the parameters do not meet; a count with any is a number and no bound.

    Examples
    --------
    >>> from ravine.theory.bounds import Count
    >>> Count({"descent": 28.0, "bouncing": 183.0}).total
    211.0
    """

    terms: dict[str, float]
    outside: tuple[str, ...] = field(default=())

    @property
    def total(self) -> float:
        """The step from which the statement holds."""
        return float(sum(self.terms.values()))
