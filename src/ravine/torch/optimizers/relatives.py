"""SAM's relatives: each one rule over the machinery of `SAM`."""

# pyright: reportPrivateImportUsage=false

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar

import torch
from torch import Tensor

from ravine.torch.optimizers import perturbation as pt
from ravine.torch.optimizers.sam import SAM, SecondPass, beside
from ravine.torch.passes import random_state, set_random_state


def _check(name: str, value: Any, holds: bool, cure: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or not holds:
        raise ValueError(f"{name} = {value!r}: {cure}")


def _keep(memory: dict[Tensor, Tensor], p: Tensor, value: Tensor, ok: pt.Flag) -> None:
    """Remember `value`, unless the step it comes from is left out."""
    if ok is False:
        return
    if p not in memory:
        memory[p] = torch.zeros_like(value)
    memory[p].copy_(torch.where(ok, value, memory[p]) if isinstance(ok, Tensor) else value)


class ASAM(SAM):
    """Adaptive SAM: ε = ρ T²g/‖Tg‖ with T = |w| + η, so that ρ does not depend on the scale of the weights.

    Kwon, Kim, Park, Choi (2021). Radii are about ten times SAM's.

    Parameters
    ----------
    eta
        Added to |w|, in units of ‖w‖: weights at 0 move too.
    scale_vectors
        Whether biases and the parameters of norms, all of fewer than two dimensions, are scaled as well; else T = 1
        for them. The authors' program scales what is named "weight": a norm's weight too, a bias not.
    """

    def __init__(
        self,
        base: torch.optim.Optimizer,
        rho: float = 0.5,
        *,
        eta: float = 0.01,
        scale_vectors: bool = False,
        **switches,
    ):
        _check("eta", eta, eta >= 0, "what is added to |w| must be a number ≥ 0")
        self.eta = eta
        self.scale_vectors = scale_vectors
        super().__init__(base, rho, **switches)

    def _direction(self, b: pt.Bucket) -> tuple[list[Tensor], list[Tensor]]:
        scales = list(torch._foreach_abs(b.weights))
        torch._foreach_add_(scales, self.eta)
        for p, t in zip(b.owners, scales, strict=True):
            if p.ndim < 2 and not self.scale_vectors:
                t.fill_(1.0)
        measured = list(torch._foreach_mul(b.grads, scales))
        return measured, list(torch._foreach_mul(measured, scales))


class GSAM(SAM):
    """Surrogate-gap SAM: descend along g_SAM − α g⊥, g⊥ the part of the first gradient orthogonal to g_SAM.

    Zhuang et al. (2022). g⊥ lowers the gap ℓ(w + ε) − ℓ(w) without raising ℓ(w + ε). The paper lets ρ follow the
    learning rate: `RhoSchedule`. Keeps the first gradient through the second pass.

    Parameters
    ----------
    alpha
        Weight α ≥ 0 of g⊥; 0 is SAM.
    """

    keeps_gradient: ClassVar[bool] = True

    def __init__(self, base: torch.optim.Optimizer, rho: float = 0.05, *, alpha: float = 0.4, **switches):
        _check("alpha", alpha, alpha >= 0, "the weight of the orthogonal part must be a number ≥ 0")
        self.alpha = alpha
        super().__init__(base, rho, **switches)

    def _combine(self, second: SecondPass, after: list[pt.Bucket], ok: pt.Flag) -> bool:
        _refuse_sparse(after)
        pairs = beside(after, second.first)
        if not pairs or self.alpha == 0:
            return False
        square = pt.norm([(b.grads, b.where) for b in after]).square()
        share = torch.where(square > 0, pt.inner(pairs).to(square) / square, 0.0)
        # g_SAM − α(g − share · g_SAM)
        for b in after:
            pt.times(b.grads, pt.on(1 + self.alpha * share, b.device), inplace=True)
        for descent, first, _ in pairs:
            torch._foreach_add_(descent, first, alpha=-self.alpha)
        return True


class LookSAM(SAM):
    """SAM's second pass on every k-th step only; between, g + α‖g‖ g_v/‖g_v‖ with the last one's g_v.

    Liu, Mai, Chen, Hsieh, You (2022): g_v is the part of g_SAM orthogonal to g, which changes slowly. A loop without
    closure asks `if opt.due:` before it enters `ascended`. Costs 1 + 1/k passes a step. Norms are over all parameters;
    programs that take them per tensor exist, none of them the authors'.

    Parameters
    ----------
    k
        Steps between second passes, ≥ 1.
    alpha
        Weight α ≥ 0 of g_v's direction.
    """

    keeps_gradient: ClassVar[bool] = True

    def __init__(self, base: torch.optim.Optimizer, rho: float = 0.05, *, k: int = 5, alpha: float = 0.7, **switches):
        if not isinstance(k, int) or isinstance(k, bool) or k < 1:
            raise ValueError(f"k = {k!r}: the steps between second passes are a whole number ≥ 1")
        _check("alpha", alpha, alpha >= 0, "the weight of the remembered direction must be a number ≥ 0")
        self.k = k
        self.alpha = alpha
        self._remembered: dict[Tensor, Tensor] = {}
        super().__init__(base, rho, **switches)

    @property
    def due(self) -> bool:
        return self.steps % self.k == 0 or not self._remembered

    def _memory(self) -> dict[str, dict[Tensor, Tensor]]:
        return {"orthogonal": self._remembered}

    def _combine(self, second: SecondPass, after: list[pt.Bucket], ok: pt.Flag) -> bool:
        _refuse_sparse(after)
        if second.status == "single pass":
            return self._reuse(after)
        pairs = beside(after, second.first)
        if pairs:
            square = pt.norm([(first, where) for _, first, where in pairs]).square()
            share = torch.where(square > 0, pt.inner(pairs).to(square) / square, 0.0)
            for b in after:
                for p, g in zip(b.owners, b.grads, strict=True):
                    first = second.first.get(p)
                    _keep(self._remembered, p, g if first is None else g - pt.on(share, b.device) * first, ok)
        return False

    def _reuse(self, after: list[pt.Bucket]) -> bool:
        pairs = beside(after, self._remembered)
        if not pairs:
            return False
        length = pt.norm([(kept, where) for _, kept, where in pairs])
        ratio = pt.norm([(b.grads, b.where) for b in after]) / length
        factor = torch.where(length > 0, self.alpha * ratio, 0.0)
        for g, kept, _ in pairs:
            torch._foreach_add_(g, torch._foreach_mul(kept, pt.on(factor, g[0].device)))
        return True


class FriendlySAM(SAM):
    """Ascend along what is particular to the batch: ε ∥ g − σm, m ← λm + (1 − λ)g the running mean gradient.

    Li et al. (2024): the full gradient's part in ε hurts generalisation, the batch's own part helps.

    Parameters
    ----------
    sigma
        How much of the mean is taken off, ≥ 0; 0 is SAM.
    decay
        λ in [0, 1). m starts at 0. The authors' program starts it at the first gradient, takes m before this step's
        gradient has entered (with σ = 1 the same direction), and has λ = 0.9 as its default.
    """

    keeps_gradient: ClassVar[bool] = True

    def __init__(
        self, base: torch.optim.Optimizer, rho: float = 0.05, *, sigma: float = 1.0, decay: float = 0.6, **switches
    ):
        _check("sigma", sigma, sigma >= 0, "the share of the mean gradient must be a number ≥ 0")
        _check("decay", decay, 0 <= decay < 1, "the mean's decay must lie in [0, 1)")
        self.sigma = sigma
        self.decay = decay
        self._mean: dict[Tensor, Tensor] = {}
        super().__init__(base, rho, **switches)

    def _memory(self) -> dict[str, dict[Tensor, Tensor]]:
        return {"mean": self._mean}

    def _direction(self, b: pt.Bucket) -> tuple[list[Tensor], list[Tensor]]:
        # m_t is written only when the step is known to be finite; here g − σm_t is told from m_{t−1}.
        direction = list(torch._foreach_mul(b.grads, 1 - self.sigma * (1 - self.decay)))
        for p, d in zip(b.owners, direction, strict=True):
            if p in self._mean:
                d.sub_(self._mean[p], alpha=self.sigma * self.decay)
        return direction, direction

    def _combine(self, second: SecondPass, after: list[pt.Bucket], ok: pt.Flag) -> bool:
        for p, g in second.first.items():
            mean = self._mean.get(p)
            _keep(self._mean, p, (1 - self.decay) * g + (0 if mean is None else self.decay * mean), ok)
        return False


class MSAM(SAM):
    """m-sharpness on one device: one ascent per micro-batch, one descent along the mean of their SAM gradients.

    Foret et al. (2021, Section 4.1); Andriushchenko & Flammarion (2022). `step` takes a list of closures, one per
    micro-batch; or a loop in two phases enters `ascended` once per micro-batch and then calls `step()`. Each loss is
    its micro-batch's own mean: the average over micro-batches is taken here. Of the diagnostics, the losses are
    averages, the others the last micro-batch's. Keeps the sum of gradients, parameter-sized, between micro-batches.
    """

    micro_batches: ClassVar[bool] = True
    _unsaved = SAM._unsaved | {"_sum", "_count"}

    def _begin(self) -> None:
        super()._begin()
        self._sum: dict[Tensor, Tensor] = {}
        self._count = 0

    def step(self, closure: Callable[[], Any] | Sequence[Callable[[], Any]] | None = None) -> Any:
        """One step over all micro-batches; returns the mean of the closures' losses."""
        try:
            return super().step(closure)  # pyright: ignore[reportArgumentType]
        finally:
            self._sum, self._count = {}, 0

    def _both_passes(self, closure: Any) -> Any:
        closures = [closure] if callable(closure) else list(closure)
        if not closures:
            raise ValueError("step() got no closures: one for each micro-batch")
        self._sum, self._count = {}, 0
        passes: list[SecondPass] = []
        for one in closures:
            super()._both_passes(one)
            assert self._second is not None
            passes.append(self._second)
            self._second = None
        self._second = last = passes[-1]
        last.finite = functools.reduce(operator.and_, (second.finite for second in passes))
        last.first_loss = _mean([second.first_loss for second in passes])
        last.loss = _mean([second.loss for second in passes])
        return last.first_loss

    def _leave(self, second: SecondPass, earlier: SecondPass | None) -> SecondPass:
        for slot in self._plan().slots:
            for t in slot.twins:
                if t.grad is not None:
                    self._sum[t] = self._sum[t].add_(t.grad) if t in self._sum else t.grad
                    t.grad = None
        self._count += 1
        if earlier is not None:
            second.finite = second.finite & earlier.finite
        return second

    def _descend(self, *, closed: bool) -> None:
        for t, total in self._sum.items():
            t.grad = total.div_(self._count)
        super()._descend(closed=False)


def _mean(losses: list[Any]) -> Any:
    return None if any(loss is None for loss in losses) else sum(losses) / len(losses)


class ESAM(SAM):
    """Efficient SAM: perturb a random part of the parameters, and descend on the samples that are most sharp.

    Du et al. (2022). Stochastic weight perturbation: each parameter tensor takes part in the ascent with probability β,
    and ε is divided by β; as in the authors' program, ‖·‖ is over those that do. Sharpness-sensitive data selection:
    the second pass runs on the fraction γ of samples whose loss the perturbation raises most: ⌈γn⌉ of them, where
    the authors' program takes those strictly above the ⌊γn⌋-th.

    `step` takes a function `losses(index)` that returns the losses of the samples `index` of the batch (None: of all),
    one each, and calls neither zero_grad nor backward. Passes are counted in whole batches, a forward alone as 1/3:
    1 + 1/3 + γ a step, 2 with γ = 1.

    Parameters
    ----------
    beta
        Probability β in (0, 1].
    gamma
        Fraction γ in (0, 1].
    seed
        Of the choice of parameters; its generator is part of `state_dict`. Equal on all replicas.
    """

    def __init__(
        self,
        base: torch.optim.Optimizer,
        rho: float = 0.05,
        *,
        beta: float = 0.6,
        gamma: float = 0.5,
        seed: int = 0,
        **switches,
    ):
        _check("beta", beta, 0 < beta <= 1, "the probability that a parameter is perturbed must lie in (0, 1]")
        _check("gamma", gamma, 0 < gamma <= 1, "the fraction of samples of the second pass must lie in (0, 1]")
        self.beta = beta
        self.gamma = gamma
        self._generator_state = torch.Generator().manual_seed(seed).get_state()
        super().__init__(base, rho, **switches)

    def _more_state(self) -> dict[str, Any]:
        return {"generator": self._generator_state}

    def _load_more(self, own: dict[str, Any]) -> None:
        self._generator_state = own["generator"].cpu().clone()

    def ascended(self, loss: Any = None, *, scaler: Any = None) -> AbstractContextManager[SecondPass]:
        """Refused: the second pass is chosen from the first."""
        raise ValueError("ESAM chooses the samples of its second pass: use opt.step(losses), losses(index) per sample")

    def _holds(self) -> bool:
        return self.watch or super()._holds()  # ε is along a part of g

    def _direction(self, b: pt.Bucket) -> tuple[list[Tensor], list[Tensor]]:
        chosen = [g if p in self._chosen else torch.zeros_like(g) for p, g in zip(b.owners, b.grads, strict=True)]
        return chosen, chosen if self.beta == 1 else list(torch._foreach_mul(chosen, 1 / self.beta))

    def _choose(self) -> set[Tensor]:
        generator = torch.Generator()
        generator.set_state(self._generator_state)
        params = self._params()
        drawn = torch.rand(len(params), generator=generator)
        self._generator_state = generator.get_state()
        drawn[drawn.argmin()] = 0.0  # at least one
        return {p for p, u in zip(params, drawn.tolist(), strict=True) if u < self.beta}

    def _both_passes(self, losses: Callable[[Tensor | None], Tensor]) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        before: Any = None
        index: Tensor | None = None
        after_scan: Any = None
        self._chosen = self._choose()
        state = random_state(self._devices()) if self.same_dropout else None

        def closure() -> Tensor:
            nonlocal before, index, after_scan
            self.zero_grad()
            if before is None:
                each = self._each(losses(None))
                before = each.detach()
            else:
                if self.gamma < 1:
                    with torch.no_grad():
                        rise = self._each(losses(None)) - before
                    count = math.ceil(self.gamma * len(rise))
                    index = rise.topk(count).indices.sort().values
                    if state is not None:
                        set_random_state(state)
                each = self._each(losses(index))
            loss = each.mean()
            loss.backward()
            return loss

        loss = super()._both_passes(closure)
        if index is not None and self._second is not None:
            self._second.passes = 1 + 1 / 3 + len(index) / len(before)
        return loss

    @staticmethod
    def _each(losses: Tensor) -> Tensor:
        if losses.ndim != 1:
            raise ValueError("losses(index) must return one loss per sample: use the loss with reduction='none'")
        return losses


def _refuse_sparse(after: list[pt.Bucket]) -> None:
    if any(g.shape != w.shape for b in after for g, w in zip(b.grads, b.weights, strict=True)):
        raise ValueError("this rule mixes two gradients and would fill sparse ones: use SAM, or sparse=False")
