"""Rules that differ in what is ascended along: SAM's own, ASAM's, FriendlySAM's; and one ascent a micro-batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, final

from ravine.torch.optimizers.buckets import Bucket, Flag
from ravine.torch.optimizers.foreach import magnitudes, times
from ravine.torch.optimizers.rules.interface import (
    Closure,
    Direction,
    Memory,
    Rule,
    StepContext,
    check_number,
    remember,
)


@final
@dataclass(eq=False)
class SAMRule(Rule):
    """ε = ρ g/‖g‖. Foret et al. (2021), arXiv 2010.01412.

    >>> from ravine.torch.optimizers.rules.ascent import SAMRule
    >>> SAMRule()
    SAMRule()
    """

    along_gradient: ClassVar[bool] = True

    def direction(self, bucket: Bucket) -> Direction:
        return Direction(bucket.grads, bucket.grads)


@final
@dataclass(eq=False)
class ASAMRule(Rule):
    """ε = ρ T²g/‖Tg‖ with T = |w| + η. Kwon et al. (2021), arXiv 2102.11600. Parameters as in `ASAM`.

    >>> from ravine.torch.optimizers.rules.ascent import ASAMRule
    >>> ASAMRule(eta=0.1)
    ASAMRule(eta=0.1, scale_vectors=False)
    """

    eta: float = 0.01
    scale_vectors: bool = False

    def __post_init__(self) -> None:
        check_number("eta", self.eta, lambda v: v >= 0, "what is added to |w| must be a number ≥ 0")

    def direction(self, bucket: Bucket) -> Direction:
        scales = magnitudes(bucket.weights, self.eta)
        for p, t in zip(bucket.owners, scales, strict=True):
            if p.ndim < 2 and not self.scale_vectors:
                t.fill_(1.0)
        measured = times(bucket.grads, scales)
        return Direction(measured, times(measured, scales))


@final
@dataclass(eq=False)
class FriendlySAMRule(Rule):
    """ε ∥ g − σm, m the running mean of g. Li et al. (2024), arXiv 2403.12350. Parameters as in `FriendlySAM`.

    >>> from ravine.torch.optimizers.rules.ascent import FriendlySAMRule
    >>> FriendlySAMRule()
    FriendlySAMRule(sigma=1.0, decay=0.6)
    """

    keeps_gradient: ClassVar[bool] = True

    sigma: float = 1.0
    decay: float = 0.6
    mean: Memory = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        check_number("sigma", self.sigma, lambda v: v >= 0, "the share of the mean gradient must be a number ≥ 0")
        check_number("decay", self.decay, lambda v: 0 <= v < 1, "the mean's decay must lie in [0, 1)")

    def memory(self) -> dict[str, Memory]:
        return {"mean": self.mean}

    def direction(self, bucket: Bucket) -> Direction:
        # m_t is written only when the step is known to be finite; here g − σm_t is told from m_{t−1}.
        direction = times(bucket.grads, 1 - self.sigma * (1 - self.decay))
        for p, d in zip(bucket.owners, direction, strict=True):
            if p in self.mean:
                d.sub_(self.mean[p], alpha=self.sigma * self.decay)
        return Direction(direction, direction)

    def combine(self, first: Memory, after: list[Bucket], ok: Flag) -> bool:
        for p, g in first.items():
            mean = self.mean.get(p)
            remember(self.mean, p, (1 - self.decay) * g + (0 if mean is None else self.decay * mean), ok)
        return False


@final
@dataclass(eq=False)
class MicroBatchRule(Rule):
    """One ascent for each micro-batch, ε = ρ g/‖g‖ of its own gradient: m-sharpness (arXiv 2206.06232).

    >>> from ravine.torch.optimizers.rules.ascent import MicroBatchRule
    >>> MicroBatchRule()
    MicroBatchRule()
    """

    along_gradient: ClassVar[bool] = True
    micro_batches: ClassVar[bool] = True

    def direction(self, bucket: Bucket) -> Direction:
        return Direction(bucket.grads, bucket.grads)

    def closures(self, given: Closure | Sequence[Closure], context: StepContext) -> list[Any]:
        chosen = [given] if callable(given) else list(given)
        if not chosen:
            raise ValueError("step() got no closures: one for each micro-batch")
        return chosen
