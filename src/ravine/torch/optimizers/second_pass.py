"""What is known of a second pass while it runs, and until the step."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ravine.torch.optimizers.buckets import Bucket, Flag
from ravine.torch.optimizers.diagnostics import Findings, StepStatus


@dataclass(eq=False, repr=False)
class SecondPass:
    """What `ascended` hands to the loop, which may say what the loss was: ``second.loss = loss``.

    Attributes
    ----------
    loss
        ℓ(w + ε), for `opt.last`.
    first_loss
        ℓ(w), likewise.
    scaler
        The GradScaler, where gradients are scaled.
    watched
        Whether cosine and radius are wanted. Fixed while a step runs, whoever looks in its middle.
    closed
        Whether both passes were one closure's: nobody touches gradients between the passes and the step.
    buckets
        What was perturbed, with the weights' copies.
    first
        The first gradient, where it must outlive the second pass.
    grad_norm, length
        Norms of the first gradient and, where it is known already, of the second.
    finite
        Whether all gradients so far were finite.
    passes
        Forward–backward passes that the step takes, in whole batches.
    status
        What is known of the step beside its numbers.
    cosine, radius, unmoved, bounce
        As in `StepDiagnostics`.
    sums, count
        The gradients of several micro-batches, each after its own ascent, and how many those are.
    """

    loss: Any = None
    first_loss: Any = None
    scaler: Any = None
    watched: bool = False
    closed: bool = False
    buckets: list[Bucket] = field(default_factory=list)
    first: dict[Tensor, Tensor] = field(default_factory=dict)
    grad_norm: Tensor | None = None
    length: Tensor | None = None
    finite: Flag = True
    passes: float = 2
    status: StepStatus = StepStatus.OK
    cosine: Tensor | None = None
    radius: Tensor | float | None = None
    unmoved: Tensor | float | None = None
    bounce: Tensor | None = None
    sums: dict[Tensor, Tensor] = field(default_factory=dict)
    count: int = 0

    def __repr__(self) -> str:
        return f"SecondPass({len(self.buckets)} buckets, loss={self.loss})"

    def add_to(self, earlier: SecondPass | None, twins: Iterable[Tensor]) -> None:
        """One more micro-batch: its gradients join the sum of the earlier ones, and its losses theirs."""
        if earlier is not None:
            self.sums, self.count = earlier.sums, earlier.count
            self.finite = self.finite & earlier.finite
            self.first_loss = _sum_if_known(earlier.first_loss, self.first_loss)
            self.loss = _sum_if_known(earlier.loss, self.loss)
        for t in twins:
            if t.grad is not None:
                self.sums[t] = self.sums[t].add_(t.grad) if t in self.sums else t.grad
                t.grad = None
        self.count += 1

    def take_means(self) -> None:
        """Of gradients and losses over the micro-batches, if there were several ascents."""
        if self.count == 0:
            return
        for t, total in self.sums.items():
            t.grad = total.div_(self.count)
        self.loss = None if self.loss is None else self.loss / self.count
        self.first_loss = None if self.first_loss is None else self.first_loss / self.count
        self.length = None

    def findings(self, step: int, length: Tensor | None, finite: Flag) -> Findings:
        """For `opt.last`, after step number `step`, whose descent gradient had the norm `length`."""
        both = self.passes > 1
        return Findings(
            step=step,
            loss=_detached(self.first_loss),
            loss_ascended=_detached(self.loss),
            grad_norm=self.grad_norm if both or self.grad_norm is not None else length,
            sam_grad_norm=length if both else None,
            cosine=self.cosine,
            radius=self.radius,
            unmoved=self.unmoved,
            bounce=self.bounce,
            passes=self.passes,
            status=self.status,
            finite=finite,
        )


def _detached(loss: Any) -> Any:
    return loss.detach() if isinstance(loss, Tensor) else loss


def _sum_if_known(one: Any, other: Any) -> Any:
    return None if one is None or other is None else one + other


def ready(second: SecondPass | None, *, due: bool, scaled: bool) -> SecondPass:
    """What a loop in two phases has made ready for `step()`.

    Parameters
    ----------
    second
        The second pass, if there was one.
    due
        Whether the step takes one.
    scaled
        Whether a GradScaler stands behind the step.

    Raises
    ------
    ValueError
        If a second pass is missing, or was not told of the scaler.
    """
    if second is None and due:
        raise ValueError(
            "step() without a closure needs the second pass before it: "
            "`with opt.ascended(): opt.zero_grad(); loss(...).backward()`"
        )
    if second is None:
        return SecondPass(passes=1, status=StepStatus.SINGLE_PASS)
    if scaled and second.scaler is None and second.buckets:
        raise ValueError("under a GradScaler the ascent must know the scale: `with opt.ascended(scaler=scaler):`")
    return second
