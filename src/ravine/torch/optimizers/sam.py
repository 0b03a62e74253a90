"""SAM around any torch optimizer: perturb, second pass, restore, and let the base optimizer step."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, ClassVar, Literal

import torch
from torch import nn

from ravine.torch.optimizers.ascent import Ascent
from ravine.torch.optimizers.descent import Descent, forget_scaler, step_base, tell_scaler
from ravine.torch.optimizers.diagnostics import StepDiagnostics, StepStatus
from ravine.torch.optimizers.monitor import Monitor
from ravine.torch.optimizers.repetition import Repetition
from ravine.torch.optimizers.rules.ascent import SAMRule
from ravine.torch.optimizers.rules.interface import Rule, StepContext, StepInput
from ravine.torch.optimizers.second_pass import SecondPass, ready
from ravine.torch.optimizers.switches import Switches
from ravine.torch.optimizers.wrapper import Wrapper
from ravine.torch.sharding import unsynchronized


class SAM(Wrapper):
    """Sharpness-aware minimization: the base optimizer steps from w with the gradient at w + ρ∇ℓ(w)/‖∇ℓ(w)‖.

    Foret, Kleiner, Mobahi, Neyshabur (2021), arXiv 2010.01412. A `torch.optim.Optimizer` itself: learning-rate
    schedulers attach to it, parameter groups are the base optimizer's own, each with its `rho`.

    Parameters
    ----------
    base
        A torch optimizer, built on the parameters; anything but LBFGS.
    rho
        Neighbourhood radius ρ ≥ 0, in units of ‖w‖, for groups that bring none; a group's may change between steps.
    rule
        What a relative does otherwise: an instance of a subclass of `Rule`, one's own too. None: SAM's.
    model
        The module whose forward the loop calls (the DDP or FSDP wrapper, if any). Needed to hold BatchNorm's statistics
        and, in two phases, to repeat dropout masks.
    normalize
        False: ε = ρ∇ℓ(w) (USAM), ρ in units of 1/λ.
    norm
        ‖·‖ over all parameters ("global"), or over each group for itself ("group").
    ascent_weight_decay
        Whether the ascent's gradient includes the group's weight_decay · w. The base optimizer's decay is its own.
    clip, clip_at
        Greatest gradient norm, and where it holds: "before" the ascent (which matters to USAM), "after" it, or "both".
    batchnorm
        "first": running statistics see the first pass only; "both": both passes.
    same_dropout
        Whether both passes draw the same random numbers.
    perturb
        "global": ε from the gradient averaged over replicas; "replica": from each replica's own (m-sharpness). The
        second needs model= to be a DistributedDataParallel, or in two phases a first pass under its `no_sync()`.
    skip_nonfinite
        Whether a step with a non-finite gradient is left out. On an accelerator this reads one flag a step, unless
        all groups of the base optimizer have fused=True, whose kernels read it on the device. False reads nothing.
    master_weights
        For bfloat16 weights: the base optimizer and the perturbation work on float32 copies, which the model's weights
        round. They are part of `state_dict`.
    watch
        Whether `opt.last` has `cosine`, `radius` and `unmoved`, which take a few more sweeps over the weights. None: as
        long as somebody looks, in the first 500 steps and for 500 steps after each reading of one of them; with sharded
        weights always, since the processes must agree.
    bounce
        Whether `opt.last.bounce` is kept; None: from its first reading on, and with sharded weights not at all.

    Raises
    ------
    ValueError
        For a base that is no optimizer instance, is LBFGS or is SAM already; for float16 weights; for a switch that is
        none of its values.

    Examples
    --------
    >>> import torch
    >>> from ravine.torch import SAM
    >>> w = torch.tensor([3.0, 4.0], requires_grad=True)
    >>> opt = SAM(torch.optim.SGD([w], lr=0.1), rho=0.5)
    >>> def closure():
    ...     opt.zero_grad()
    ...     loss = (w**2).sum() / 2
    ...     loss.backward()
    ...     return loss
    >>> opt.step(closure).item()
    12.5
    >>> w.tolist()  # 0.9w − 0.1ρw/‖w‖
    [2.6700000762939453, 3.559999942779541]
    >>> opt
    SAM(SGD, rho=0.5)
    """

    _transient: ClassVar[frozenset[str]] = Wrapper._transient | {"_second", "_repetition"}

    def __init__(
        self,
        base: torch.optim.Optimizer,
        rho: float = 0.05,
        *,
        rule: Rule | None = None,
        model: nn.Module | None = None,
        normalize: bool = True,
        norm: Literal["global", "group"] = "global",
        ascent_weight_decay: bool = False,
        clip: float | None = None,
        clip_at: Literal["before", "after", "both"] = "after",
        batchnorm: Literal["first", "both"] = "first",
        same_dropout: bool = True,
        perturb: Literal["global", "replica"] = "global",
        skip_nonfinite: bool = True,
        master_weights: bool = False,
        watch: bool | None = None,
        bounce: bool | None = None,
    ):
        self.switches = Switches(
            model=model,
            normalize=normalize,
            norm=norm,
            ascent_weight_decay=ascent_weight_decay,
            clip=clip,
            clip_at=clip_at,
            batchnorm=batchnorm,
            same_dropout=same_dropout,
            perturb=perturb,
            skip_nonfinite=skip_nonfinite,
            master_weights=master_weights,
            watch=watch,
            bounce=bounce,
        )
        super().__init__(base, rho, SAMRule() if rule is None else rule, master_weights=master_weights)
        self.monitor = Monitor(watch, bounce)
        self._ascent = Ascent(self.switches, self.rule)
        self._descent = Descent(self.switches, self.rule)
        self._prepare()

    def _prepare(self) -> None:
        """What is neither copied nor pickled."""
        self._second: SecondPass | None = None
        self._repetition = Repetition(self.switches, self._plan().devices)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._prepare()

    def __repr__(self) -> str:
        own = repr(self.rule).partition("(")[2].removesuffix(")")
        if type(self) is SAM:
            own = "" if isinstance(self.rule, SAMRule) else f"rule={self.rule!r}"
        radii = list(dict.fromkeys(group["rho"] for group in self.param_groups))
        parts = [type(self.base).__name__, f"rho={radii[0] if len(radii) == 1 else radii}", own]
        parts += self.switches.shown(inspect.signature(SAM).parameters)
        return f"{type(self).__name__}({', '.join(filter(None, parts))})"

    @property
    def model(self) -> nn.Module | None:
        """The module whose forward the loop calls, if it was named."""
        return self.switches.model

    @property
    def normalize(self) -> bool:
        """Whether ε is of length ρ; False: USAM."""
        return self.switches.normalize

    @property
    def last(self) -> StepDiagnostics:
        """What the last step found out about itself."""
        return self.monitor.last

    @property
    def due(self) -> bool:
        """Whether this step takes a second pass; a rule that saves passes says False now and then."""
        return self.rule.due(self.steps)

    @torch.no_grad()
    def step(self, closure: StepInput | None = None) -> Any:
        """One step: with torch's closure (zero_grad, forward, backward, return the loss), or after `ascended`.

        `MicroBatchSAM` takes a list of closures as well, `ESAM` a function of sample indices.

        Returns the closure's loss at w, None without one.

        Raises
        ------
        ValueError
            Without closure and without `ascended` before; while weights are perturbed; for a closure through
            GradScaler, or one that adds to gradients that stand already.
        """
        try:
            self._refuse_perturbed("step()")
            if closure is None:
                second = ready(self._second, due=self.due, scaled=hasattr(self, "found_inf"))
            else:
                second = self._both_passes(closure)
            second.take_means()
            loss = None if closure is None else second.first_loss
            self._descend(second)
        except BaseException:
            forget_scaler(self)  # the scaler takes these back only after a step that returns
            raise
        finally:
            self._second = None
            self._repetition.forget()
        self.monitor.write_logs(self.steps)
        return loss

    def _both_passes(self, given: StepInput) -> SecondPass:
        if hasattr(self, "found_inf"):
            raise ValueError(
                "GradScaler cannot unscale inside a closure: run two phases, `with opt.ascended(scaler=scaler): ...` "
                "and scaler.step(opt), or train in bfloat16, which needs no scaler"
            )
        if self._second is not None:
            raise ValueError("the second pass stands ready: call step() without a closure")
        plan, due = self._plan(), self.due
        context = StepContext(plan, self.switches.same_dropout, self.zero_grad)
        for closure in self.rule.closures(given, context):
            repeated = self._repetition.from_here(plan.devices) if due else nullcontext()
            alone = unsynchronized(self.model) if due and self.switches.by_replica else nullcontext()
            with torch.enable_grad(), alone, self._refusing_to_add(plan):
                loss = closure()
            if not due:
                return SecondPass(first_loss=loss, passes=1, status=StepStatus.SINGLE_PASS)
            with self._perturb(loss, None, repeated) as second, torch.enable_grad():
                second.closed = True
                second.loss = closure()
        assert self._second is not None
        return self._second

    def ascended(self, loss: Any = None, *, scaler: Any = None) -> AbstractContextManager[SecondPass]:
        """The second pass of a loop without closure: inside, the weights are w + ε; after it, w again.

        Enter with the first pass's gradients in place. They are taken: inside, `.grad` begins as None, and the
        backward passes run there (one, or many micro-batches) leave the SAM gradient for `step()`.

        Parameters
        ----------
        loss
            ℓ(w), for `opt.last`.
        scaler
            The GradScaler, if gradients are scaled.

        Raises
        ------
        ValueError
            While weights are perturbed; a second time before `step()`; where the forwards of the passes differ in
            number and dropout masks cannot be repeated; for a rule that chooses the second pass from the first.
        """
        if self.rule.needs_samples:
            raise ValueError(
                "ESAM chooses the samples of its second pass: use opt.step(losses), losses(index) per sample"
            )
        return self._perturb(loss, scaler, self._repetition.of_forwards())

    @contextmanager
    def _perturb(self, loss: Any, scaler: Any, repeated: AbstractContextManager[Any]) -> Iterator[SecondPass]:
        self._refuse_perturbed("ascended()")
        if self._second is not None and not self.rule.micro_batches:
            raise ValueError(
                "ascended() has run already: call step() first (MicroBatchSAM takes one ascent per micro-batch)"
            )
        second = SecondPass(first_loss=loss, watched=self.monitor.watching)
        if scaler is not None and scaler.is_enabled():
            second.scaler = scaler
        earlier, self._second = self._second, None
        plan = self._plan()
        self._perturbed = True
        try:
            with self._ascent.climbed(second, plan):
                with repeated:
                    yield second
                with torch.no_grad():
                    self.monitor.measure(second, plan, exact_norm=self.switches.clip is not None)
        finally:
            self._perturbed = False
        second.passes = self.rule.passes
        with torch.no_grad():
            tell_scaler(second, plan)
            if self.rule.micro_batches:
                second.add_to(earlier, plan.twins)
        self._second = second

    def _descend(self, second: SecondPass) -> None:
        plan = self._plan()
        told = getattr(self, "grad_scale", None), getattr(self, "found_inf", None)
        end = self._descent.prepare(second, plan, self.monitor, *told)
        # Before the base's step: whatever fails after it cannot be taken back.
        findings = second.findings(self.steps + 1, end.length, end.finite)
        left_out = step_base(self.base, plan, self.masters, second, end, skip=self.switches.skip_nonfinite)
        self._skipped = self._skipped + left_out
        self.steps += 1
        self.passes += second.passes
        self.monitor.finish(findings, plan, stands=end.stands)

    def log_to(self, target: Any, *, every: int = 1, prefix: str = "sam") -> None:
        """Write `opt.last` after every `every`-th step, which waits for the device then.

        Parameters
        ----------
        target
            A path for CSV (a resumed run appends), or a TensorBoard SummaryWriter.
        every
            Steps between records, ≥ 1.
        prefix
            Of the names in TensorBoard.
        """
        self.monitor.log_to(target, every=every, prefix=prefix, sharded=self._plan().sharded)

    @contextmanager
    def taken_back(self) -> Iterator[None]:
        """What no `state_dict` holds is afterwards as it was, and nothing is logged inside. `trial` does the rest."""
        monitor, second = self.monitor, self._second
        self.monitor, self._second = monitor.for_trial(), None
        try:
            with self._repetition.set_aside():
                yield
        finally:
            self.monitor, self._second = monitor, second

    def _forget(self) -> None:
        self._second = None
        self.monitor.forget()
