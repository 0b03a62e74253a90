"""ESAM's rule: a random part of the parameters is perturbed, and the sharpest samples are descended on."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, final

import torch
from torch import Tensor

from ravine.torch.optimizers.buckets import Bucket
from ravine.torch.optimizers.foreach import times
from ravine.torch.optimizers.rules.interface import Closure, Direction, Rule, StepContext, check_number
from ravine.torch.passes import GeneratorStates, random_state, set_random_state

Losses = Callable[[Tensor | None], Tensor]  # the losses of the samples with these indices (None: of all), one each


@final
@dataclass(eq=False)
class ESAMRule(Rule):
    """ε on a part of the parameters, descent on a part of the samples. Du et al. (2022), arXiv 2110.03141.

    Parameters as in `ESAM`.

    >>> from ravine.torch.optimizers.rules.sampling import ESAMRule
    >>> ESAMRule(seed=3)
    ESAMRule(beta=0.6, gamma=0.5, seed=3)
    """

    needs_samples: ClassVar[bool] = True

    beta: float = 0.6
    gamma: float = 0.5
    seed: int = 0
    generator_state: Tensor = field(init=False, repr=False)
    _perturbed: set[Tensor] = field(default_factory=set, init=False, repr=False)
    _cost: float = field(default=2, init=False, repr=False)

    def __post_init__(self) -> None:
        check_number(
            "beta", self.beta, lambda v: 0 < v <= 1, "the probability that a parameter is perturbed must lie in (0, 1]"
        )
        check_number(
            "gamma", self.gamma, lambda v: 0 < v <= 1, "the fraction of samples of the second pass must lie in (0, 1]"
        )
        self.generator_state = torch.Generator().manual_seed(self.seed).get_state()

    @property
    def passes(self) -> float:
        return self._cost

    def state(self) -> dict[str, Tensor]:
        return {"generator": self.generator_state}

    def load_state(self, state: dict[str, Tensor]) -> None:
        self.generator_state = state["generator"].cpu().clone()

    def direction(self, bucket: Bucket) -> Direction:
        both = zip(bucket.owners, bucket.grads, strict=True)
        chosen = [g if p in self._perturbed else torch.zeros_like(g) for p, g in both]
        return Direction(chosen, chosen if self.beta == 1 else times(chosen, 1 / self.beta))

    def closures(self, given: Losses, context: StepContext) -> list[Closure]:
        self._choose_perturbed(context.plan.params)
        state = random_state(context.plan.devices) if context.same_dropout else None
        return [_BothPasses(self, given, context.zero_grad, state)]

    def spend(self, chosen: int, batch: int) -> None:
        """Two passes, the second over `chosen` of `batch` samples."""
        self._cost = 2 if self.gamma == 1 else 1 + 1 / 3 + chosen / batch

    def _choose_perturbed(self, params: list[Tensor]) -> None:
        generator = torch.Generator()
        generator.set_state(self.generator_state)
        drawn = torch.rand(len(params), generator=generator)
        self.generator_state = generator.get_state()
        drawn[drawn.argmin()] = 0.0  # at least one
        self._perturbed = {p for p, u in zip(params, drawn.tolist(), strict=True) if u < self.beta}


class _BothPasses:
    """The closure of one step: at w all samples, at w + ε those whose loss it raised most."""

    def __init__(self, rule: ESAMRule, losses: Losses, zero_grad: Closure, state: GeneratorStates | None):
        self.rule = rule
        self.losses = losses
        self.zero_grad = zero_grad
        self.state = state
        self.before: Tensor | None = None

    def __call__(self) -> Tensor:
        self.zero_grad()
        if self.before is None:
            each = _one_loss_each(self.losses(None))
            self.before = each.detach()
        else:
            index = self._sharpest_samples(self.before)
            each = _one_loss_each(self.losses(index))
            self.rule.spend(len(each), len(self.before))
        loss = each.mean()
        loss.backward()
        return loss

    def _sharpest_samples(self, before: Tensor) -> Tensor | None:
        if self.rule.gamma == 1:
            return None
        with torch.no_grad():
            rise = _one_loss_each(self.losses(None)) - before
        index = rise.topk(math.ceil(self.rule.gamma * len(rise))).indices.sort().values
        if self.state is not None:
            set_random_state(self.state)
        return index


def _one_loss_each(losses: Tensor) -> Tensor:
    if losses.ndim != 1:
        raise ValueError("losses(index) must return one loss per sample: use the loss with reduction='none'")
    return losses
