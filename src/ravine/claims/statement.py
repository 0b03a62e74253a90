"""What a statement is: its text, where it should hold, and its claim as a margin that is negative where it fails."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ravine.claims.numbers import Numbers, Real
from ravine.claims.samplers import Draw, Instance

Margin = Callable[[Instance, Numbers], Real]
Hypotheses = Callable[[Instance, Numbers], Mapping[str, Real]]


class Untested(Exception):  # noqa: N818 (it is an outcome, not an error)
    """An instance on which a claim says nothing that could be checked within the limits.

    Examples
    --------
    >>> from ravine.claims import Untested
    >>> from ravine.claims.law import Law
    >>> from ravine.claims.numbers import Floats
    >>> from ravine.claims.runs import descent
    >>> slow = Law({"eigenvalues": (1.0, 1e-6), "eta": 0.1, "rho": 1.0}, Floats())
    >>> try:
    ...     descent(slow, [0.0, 1.0])
    ... except Untested:
    ...     print("not in the ball within the steps that a check simulates")
    not in the ball within the steps that a check simulates
    """


@dataclass(frozen=True, kw_only=True, repr=False)
class Claim:
    r"""One wording of a statement of arXiv 2210.01513, or of ours.

    Attributes
    ----------
    latex
        The wording.
    margin
        Relative to the statement's own scale: ≥ 0 where it holds, < 0 where it fails, 0 for an identity. Called with
        an instance and an arithmetic (`ravine.claims.numbers.Numbers`), in which alone it computes.
    also
        Hypotheses that this wording adds: names and numbers that must be positive.
    proof
        Where there is one: carries it out and returns in words what it did; raises `proofs.Unproved`.
    seeds
        Instances that the search starts from: edge cases that a random draw would not meet.

    Examples
    --------
    >>> from ravine.claims import Claim
    >>> from ravine.claims.law import Law
    >>> from ravine.claims.numbers import Floats
    >>> claim = Claim(latex=r"\beta_1\le b", margin=lambda at, n: Law(at, n).b - Law(at, n).beta[0])
    >>> claim
    Claim('\\beta_1\\le b', without a proof)
    >>> round(claim.margin({"eigenvalues": (1.0, 0.5), "eta": 0.2, "rho": 1.0}, Floats()), 4)
    0.0889
    """

    latex: str
    margin: Margin
    also: Hypotheses | None = None
    proof: Callable[[], str] | None = None
    seeds: tuple[Instance, ...] = ()

    def __repr__(self) -> str:
        return f"Claim({self.latex!r}, {'without' if self.proof is None else 'with'} a proof)"


@dataclass(frozen=True, kw_only=True, repr=False)
class Statement:
    """A numbered statement of arXiv 2210.01513 on trial, or one that the paper leaves open.

    Attributes
    ----------
    key, title
        Its name on the command line, and in print.
    draw
        Sampler of instances that meet `hypotheses`.
    hypotheses
        Names and numbers that must be positive.
    printed, corrected
        The claim as the paper prints it (None for ours), and as it holds (None where the print stands).
    scope
        What is checked of it, and how, where that is less than the statement says.
    repair
        Why the print fails and what mends it, in words.
    ours
        Whether the paper leaves it open.
    exact
        Whether balls can evaluate it; figures drawn by chance cannot.
    cost
        It is tried on so many times fewer instances than asked: for those that simulate long runs.
    single
        Whether it is of one run, and there is nothing to search.

    Examples
    --------
    >>> from ravine.claims import find
    >>> find(["lemma-16"])
    [Statement(lemma-16.1: as printed, as corrected), Statement(lemma-16.2: as printed, as corrected)]
    """

    key: str
    title: str
    draw: Callable[[Draw], Instance]
    hypotheses: Hypotheses
    printed: Claim | None = None
    corrected: Claim | None = None
    scope: str = ""
    repair: str = ""
    ours: bool = False
    exact: bool = True
    cost: int = 1
    single: bool = False

    def __repr__(self) -> str:
        wordings = (("as printed", self.printed), ("as corrected", self.corrected))
        return f"Statement({self.key}: {', '.join(name for name, claim in wordings if claim is not None)})"
