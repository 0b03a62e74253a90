"""What a trial finds: a verdict on one wording, and a statement's two."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from ravine.claims.samplers import Instance

Status = Literal["proved", "refuted", "not refuted", "outside", "untested"]


@dataclass(frozen=True, kw_only=True, repr=False)
class Verdict:
    """What the trial found of one wording of a statement of arXiv:2210.01513.

    Attributes
    ----------
    status
        proved · refuted · not refuted · outside (no instance met the hypotheses) · untested.
    instances, untested
        How many instances were evaluated, and on how many the claim said nothing within the limits.
    smallest
        The smallest margin met, a float; for `refuted`, the certified counterexample's.
    instance
        Where it was met.
    evidence
        The proof in words, or the ball that refutes.
    outside
        The hypotheses that failed, with their margins, where none was met.

    Examples
    --------
    >>> from ravine.claims import audit, find
    >>> (outcome,) = audit(find(["eq-9"]), samples=20)
    >>> outcome.printed.status, outcome.printed.smallest < 0, outcome.corrected.status
    ('refuted', True, 'proved')
    >>> outcome.corrected  # doctest: +ELLIPSIS
    Verdict(proved, ... instances)
    """

    status: Status
    instances: int = 0
    untested: int = 0
    smallest: float | None = None
    instance: Instance | None = None
    evidence: str = ""
    outside: dict[str, float] = field(default_factory=dict)

    def __repr__(self) -> str:
        where = f" at {self.instance}: {self.evidence}" if self.status == "refuted" else ""
        return f"Verdict({self.status}{where}, {self.instances} instances)"


@dataclass(frozen=True, repr=False)
class StatementOutcome:
    """A statement's two verdicts: of the wording printed in arXiv:2210.01513, and of the corrected one.

    Attributes
    ----------
    key
        The statement's.
    printed, corrected
        None where there is no such wording.

    Examples
    --------
    >>> from ravine.claims import audit, find
    >>> audit(find(["lemma-7.3"]), samples=20)
    [StatementOutcome(lemma-7.3: printed not refuted, corrected proved)]
    """

    key: str
    printed: Verdict | None
    corrected: Verdict | None

    def __repr__(self) -> str:
        verdicts = (("printed", self.printed), ("corrected", self.corrected))
        said = ", ".join(f"{name} {verdict.status}" for name, verdict in verdicts if verdict is not None)
        return f"StatementOutcome({self.key}: {said})"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)
