"""SAM around any torch optimizer: perturb, second pass, restore, and let the base optimizer step."""

# pyright: reportPrivateImportUsage=false

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from ravine.torch.optimizers import perturbation as pt
from ravine.torch.optimizers.diagnostics import Last, log_for
from ravine.torch.optimizers.schedule import check_rho
from ravine.torch.optimizers.second_pass import Noise, drops
from ravine.torch.optimizers.wrapper import Wrapper
from ravine.torch.passes import frozen_statistics, random_state, set_random_state, statistics_of
from ravine.torch.sharding import Layout, agreed, layout, local, unsynchronised

Closure = Callable[[], Any]
LOW = (torch.bfloat16, torch.float16)
PATIENCE = 500  # steps that a figure nobody reads is still computed


@dataclass
class SecondPass:
    """What `ascended` hands to the loop, which may say what the loss was: `second.loss = loss`.

    Attributes
    ----------
    loss
        ℓ(w + ε), for `opt.last`.
    """

    loss: Any = None
    first_loss: Any = None
    scaler: Any = None
    buckets: list[pt.Bucket] = field(default_factory=list)
    first: dict[Tensor, Tensor] = field(default_factory=dict)
    grad_norm: Any = None
    length: Tensor | None = None
    finite: pt.Flag = True
    passes: float = 2
    status: str | None = None
    known: dict[str, Any] = field(default_factory=dict)
    closed: bool = False  # both passes by one closure: nobody touches gradients between the passes and the step


class SAM(Wrapper):
    """Sharpness-aware minimization: the base optimizer steps from w with the gradient at w + ρ∇ℓ(w)/‖∇ℓ(w)‖.

    Foret, Kleiner, Mobahi, Neyshabur (2021); the paper's equation (2). A `torch.optim.Optimizer` itself: learning-rate
    schedulers attach to it, parameter groups are the base optimizer's own, each with its `rho`.

    Parameters
    ----------
    base
        A torch optimizer, built on the parameters; anything but LBFGS.
    rho
        Neighbourhood radius ρ ≥ 0, in units of ‖w‖, for groups that bring none; a group's may change between steps.
    model
        The module whose forward the loop calls (the DDP or FSDP wrapper, if any). Needed to hold BatchNorm's statistics
        and, in two phases, to repeat dropout masks.
    normalise
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
    """

    keeps_gradient: ClassVar[bool] = False
    micro_batches: ClassVar[bool] = False

    def __init__(
        self,
        base: torch.optim.Optimizer,
        rho: float = 0.05,
        *,
        model: nn.Module | None = None,
        normalise: bool = True,
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
        _check_one_of("norm", norm, ("global", "group"))
        _check_one_of("clip_at", clip_at, ("before", "after", "both"))
        _check_one_of("batchnorm", batchnorm, ("first", "both"))
        _check_one_of("perturb", perturb, ("global", "replica"))
        if clip is not None and not (isinstance(clip, int | float) and clip > 0):
            raise ValueError(f"clip = {clip!r}: the greatest gradient norm must be a positive number, or None")
        self.model = model
        self.normalise = normalise
        self.norm = norm
        self.ascent_weight_decay = ascent_weight_decay
        self.clip = clip
        self.clip_at = clip_at
        self.batchnorm = batchnorm
        self.same_dropout = same_dropout
        self.perturb = perturb
        self.skip_nonfinite = skip_nonfinite
        self._watch = watch
        self._unread = 0
        # Fixed while a step runs, whoever looks in its middle.
        self.watch = watch is not False
        self._bounce = bounce
        super().__init__(base, rho, master_weights=master_weights)

    def _begin(self) -> None:
        super()._begin()
        self.last = Last({"status": "no step yet"})
        self._previous: dict[Tensor, Tensor] = {}
        self._logs: list[tuple[Callable[[Last], None], int]] = []
        self._second: SecondPass | None = None
        self._statistics = statistics_of(self.model) if self.batchnorm == "first" else []
        hooked = self.model if self.same_dropout and drops(self.model) else None
        self._noise = Noise(hooked, self._devices()) if hooked is not None else None

    def _forget(self) -> None:
        self._second = None
        self._previous.clear()

    @contextmanager
    def _on_trial(self) -> Iterator[None]:
        """What no `state_dict` holds is afterwards as it was, and nothing is logged inside."""
        names = ("last", "_logs", "_previous", "_second", "_unread", "watch", "_bounce")
        found = {name: self.__dict__[name] for name in names}
        states = [] if self._noise is None else self._noise.states
        waiting = list(states)
        self._logs, self._second = [], None
        self._previous = {p: g.clone() for p, g in self._previous.items()}
        states.clear()
        try:
            yield
        finally:
            self.__dict__.update(found)
            states[:] = waiting

    # A step.

    @property
    def due(self) -> bool:
        """Whether this step takes a second pass; a rule that saves passes says False now and then."""
        return True

    @torch.no_grad()
    def step(self, closure: Closure | None = None) -> Any:
        """One step: with torch's closure (zero_grad, forward, backward, return the loss), or after `ascended`.

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
                self._refuse_unready()
                loss = None
            else:
                loss = self._both_passes(closure)
            self._descend(closed=closure is not None)
        except BaseException:
            # The scaler takes these back only after a step that returns.
            self.__dict__.pop("found_inf", None)
            self.__dict__.pop("grad_scale", None)
            raise
        finally:
            self._second = None
            if self._noise is not None:
                self._noise.states.clear()
        for log, every in self._logs:
            if self.steps % every == 0:
                log(self.last)
        return loss

    def _refuse_unready(self) -> None:
        if self._second is None:
            if self.due:
                raise ValueError(
                    "step() without a closure needs the second pass before it: "
                    "`with opt.ascended(): opt.zero_grad(); loss(...).backward()`"
                )
            self._second = SecondPass(passes=1, status="single pass")
        elif hasattr(self, "found_inf") and self._second.scaler is None and self._second.buckets:
            raise ValueError("under a GradScaler the ascent must know the scale: `with opt.ascended(scaler=scaler):`")

    def _both_passes(self, closure: Closure) -> Any:
        if hasattr(self, "found_inf"):
            raise ValueError(
                "GradScaler cannot unscale inside a closure: run two phases, `with opt.ascended(scaler=scaler): ...` "
                "and scaler.step(opt), or train in bfloat16, which needs no scaler"
            )
        if self._second is not None:
            raise ValueError("the second pass stands ready: call step() without a closure")
        due = self.due
        state = random_state(self._devices()) if self.same_dropout and due else None
        alone = due and self.perturb == "replica"
        loss = self._first_pass(closure, unsynchronised(self.model) if alone else nullcontext())
        if due:
            with self._ascended(loss, None, self._replayed(state)) as second, torch.enable_grad():
                second.closed = True
                second.loss = closure()
        else:
            self._second = SecondPass(first_loss=loss, passes=1, status="single pass")
        return loss

    def _first_pass(self, closure: Closure, context: AbstractContextManager[Any]) -> Any:
        """The closure at w; refused where it adds to gradients that stood before, since the second pass cannot."""
        stale = next((t for slot in self._plan().slots for t in slot.twins if t.grad is not None), None)
        if stale is not None:
            setattr(stale.grad, "_ravine_stale", True)  # noqa: B010 (a tensor carries what it is told)
        self._zeroed = False
        with torch.enable_grad(), context:
            loss = closure()
        if stale is not None and not self._zeroed and getattr(stale.grad, "_ravine_stale", False):
            raise ValueError(
                "the closure adds to gradients that stood before it, which the second pass would lose: call "
                "opt.zero_grad() in it and accumulate inside it, or run two phases with `with opt.ascended():`"
            )
        return loss

    @contextmanager
    def _replayed(self, state: Any) -> Iterator[None]:
        if state is None:
            yield
            return
        after = random_state(self._devices())
        set_random_state(state)
        try:
            yield
        finally:
            set_random_state(after)
            if self._noise is not None:
                self._noise.states.clear()

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
            number and dropout masks cannot be repeated.
        """
        noise = self._noise
        if noise is not None and not noise.states and self.model is not None and self.model.training:
            raise ValueError(
                "same_dropout: no forward of model= was seen in the first pass; give the module whose forward the "
                "loop calls, or pass same_dropout=False"
            )
        return self._ascended(loss, scaler, noise.replayed() if noise is not None and noise.states else nullcontext())

    @contextmanager
    def _ascended(self, loss: Any, scaler: Any, replay: AbstractContextManager[Any]) -> Iterator[SecondPass]:
        self._refuse_perturbed("ascended()")
        if self._second is not None and not self.micro_batches:
            raise ValueError("ascended() has run already: call step() first (MSAM takes one ascent per micro-batch)")
        second = SecondPass(first_loss=loss, scaler=scaler if scaler is not None and scaler.is_enabled() else None)
        earlier, self._second = self._second, None
        with torch.no_grad():
            factors = self._prepare(second)
            pt.save(second.buckets)
        self._perturbed = True
        try:
            with torch.no_grad():
                for b, factor in zip(second.buckets, factors, strict=True):
                    pt.move(b, factor)
                    b.grads, b.measured, b.direction = [], [], []  # the second pass needs their memory
            with frozen_statistics(self._statistics), replay:
                yield second
            with torch.no_grad():
                self._measure(second)
        finally:
            self._restore(second)
        with torch.no_grad():
            if second.scaler is not None:
                self._tell_scaler(second)
            self._second = self._leave(second, earlier)

    @torch.no_grad()
    def _restore(self, second: SecondPass) -> None:
        try:
            pt.restore(second.buckets)
        except BaseException:
            pt.restore(second.buckets)  # an interrupt between two copies must not leave half of them
            raise
        finally:
            self._perturbed = False

    def _prepare(self, second: SecondPass) -> list[pt.Scalar]:
        """Take the first gradient, and find each bucket's direction and the factor ρ/‖·‖ before it."""
        hold = self._holds()
        buckets = self._plan().gather(dense=True, disposable=not hold)
        for group in self.param_groups:
            check_rho(group["rho"])
        for slot in self._plan().slots:
            for twin in slot.twins:
                twin.grad = None
        second.buckets = buckets
        if not buckets:
            second.status, second.known["radius"] = "no gradient", 0.0
            return []
        host = pt.on_host(buckets)
        if second.scaler is not None:
            unscale = second.scaler.scale(torch.ones((), device=buckets[0].device)).reciprocal()
            for b in buckets:
                pt.times(b.grads, pt.on(unscale, b.device), inplace=True)
        if hold:
            # Views may be buckets of DDP, which the second pass fills anew.
            for b in buckets:
                b.grads = [g.clone() if g._is_view() else g for g in b.grads]
                second.first.update(zip(b.owners, b.grads, strict=True))
        for b in buckets:
            self._ascent_gradient(b)
        if self.clip is not None and self.clip_at != "after":
            second.grad_norm = pt.norm([(b.grads, b.where) for b in buckets])
            self._clip(buckets, second.grad_norm, inplace=not hold)
        for b in buckets:
            b.measured, b.direction = self._direction(b)
        plain = all(b.measured is b.grads for b in buckets)
        if not plain and second.grad_norm is None:
            second.grad_norm = pt.norm([(b.grads, b.where) for b in buckets])
        return self._factors(second, host=host)

    def _factors(self, second: SecondPass, *, host: bool) -> list[pt.Scalar]:
        buckets = second.buckets
        if self.norm == "group":
            sets = [[b for b in buckets if b.group is group] for group in self.param_groups]
            sets = [chosen for chosen in sets if chosen]
        else:
            sets = [buckets]
        inverses: dict[int, pt.Scalar] = {}
        lengths, good = [], True
        for chosen in sets:
            if self.normalise:
                inverse, length = pt.scale(chosen, host=host)
                fine = (inverse > 0) | (length == 0)
            else:
                length = pt.norm([(b.measured, b.where) for b in chosen])
                inverse, fine = 1.0, pt.finite(chosen, length, host=host)
            good = good & (bool(fine) if host else fine)
            lengths.append(length)
            inverses.update({id(b): inverse for b in chosen})
        if self.perturb == "replica":
            good = agreed(good, buckets[0].device)
        second.finite = good
        if second.grad_norm is None:
            device = lengths[0].device
            whole = lengths if len(lengths) == 1 else [torch.stack([n.to(device) for n in lengths]).norm()]
            second.grad_norm = whole[0]
        if good is False:
            return [0.0 for _ in buckets]
        return [inverses[id(b)] * float(b.group["rho"]) for b in buckets]

    def _ascent_gradient(self, b: pt.Bucket) -> None:
        """What the base optimizer descends along, signs and decay included, is what the ascent climbs."""
        decay = b.group.get("weight_decay", 0) if self.ascent_weight_decay else 0
        if b.group.get("maximize", False):
            b.grads = pt.times(b.grads, -1.0, inplace=b.disposable)
        if decay and b.disposable:
            torch._foreach_add_(b.grads, b.weights, alpha=decay)
        elif decay:
            b.grads = list(torch._foreach_add(b.grads, b.weights, alpha=decay))

    def _direction(self, b: pt.Bucket) -> tuple[list[Tensor], list[Tensor]]:
        """The rule: (m, d) such that ε = ρ d/‖m‖, from `b.grads`, which may be overwritten if `b.disposable`."""
        return b.grads, b.grads

    def _holds(self) -> bool:
        """Whether the first gradient must outlive the second pass.

        For plain SAM it need not: ε is along g, and ε is what the perturbed weights and the saved ones differ by.
        """
        if self.keeps_gradient or not self.watch:
            return self.keeps_gradient
        groups = self.param_groups
        return (
            type(self)._direction is not SAM._direction
            or self.norm == "group"
            or self.ascent_weight_decay
            or any(g.get("maximize", False) or g["rho"] != groups[0]["rho"] or g["rho"] == 0 for g in groups)
            or any(slot.dtype in LOW for slot in self._plan().slots)
            or bool(self._twins)
        )

    def _measure(self, second: SecondPass) -> None:
        """Diagnostics that need the perturbed weights, over which ε is written."""
        known, buckets = second.known, second.buckets
        if not self.watch or not buckets:
            # Before the restoration, while the gradient is in the cache.
            after = self._plan().gather(dense=False) if second.closed else []
            second.length = pt.norm([(b.grads, b.where) for b in after]) if after else None
            return
        after = self._plan().gather(dense=True)
        if not second.first and [id(b.owners) for b in after] == [id(b.owners) for b in buckets]:
            pairs = [(a.grads, pt.displaced(b), b.where) for a, b in zip(after, buckets, strict=True)]
            squares = pt.gram(pairs)
            lengths = squares[:2].sqrt()
            known["radius"], known["cosine"] = lengths[1], squares[2] / lengths[0] / lengths[1]
            # Looking must not change the step: where the norm decides, it is taken as without looking.
            second.length = lengths[0] if self.clip is None else None
            return
        epsilon = {p: e for b in buckets for p, e in zip(b.owners, pt.displaced(b), strict=True)}
        known["radius"] = pt.norm([(b.seen, b.where) for b in buckets])
        low = [b for b in buckets if b.seen[0].dtype in LOW]
        if low:
            still = [b.seen[0].numel() and sum((e == 0).sum() for e in b.seen) for b in low]
            known["unmoved"] = sum(still) / sum(e.numel() for b in low for e in b.seen)
        if after:
            second.length = pt.norm([(b.grads, b.where) for b in after])
            known["cosine"] = self._cosine(after, second.length, second.first or epsilon)

    @staticmethod
    def _cosine(after: list[pt.Bucket], length: Tensor, other: dict[Tensor, Tensor]) -> Any:
        """Cosine of `after`, of norm `length`, with `other`; None where they share no parameter."""
        pairs = beside(after, other)
        if not pairs:
            return None
        lists: dict[Any, list[Tensor]] = {}
        for p, t in other.items():
            lists.setdefault((t.device, t.dtype, layout(p)), []).append(t)
        size = pt.norm([(tensors, where) for (_, _, where), tensors in lists.items()])
        dot = pt.inner(pairs)
        return dot / length.to(dot) / size.to(dot)

    def _tell_scaler(self, second: SecondPass) -> None:
        # A scaler looks at .grad alone, which is the second pass's: an overflow of the first must be seen there too.
        after = self._plan().gather(dense=False)
        if after and second.finite is not True:
            g = after[0].grads[0]
            g.mul_(torch.where(torch.as_tensor(second.finite, device=g.device), 1.0, torch.nan).to(g.dtype))

    def _leave(self, second: SecondPass, earlier: SecondPass | None) -> SecondPass:
        """After the restoration: what waits for `step()`."""
        return second

    def _combine(self, second: SecondPass, after: list[pt.Bucket], ok: pt.Flag) -> bool:
        """The rule: make the descent direction of the SAM gradient in `after`, in place. Whether it did.

        `ok` is False, or a tensor that is, where a gradient was not finite: nothing may be remembered of it then.
        """
        return False

    def _descend(self, *, closed: bool) -> None:
        second = self._second
        assert second is not None
        after = self._plan().gather(dense=False)
        found_inf, ok = getattr(self, "found_inf", None), second.finite
        scale = getattr(self, "grad_scale", None)
        if scale is not None:
            unscale = scale.double().reciprocal().float()
            for b in after:
                pt.times(b.grads, pt.on(unscale, b.device), inplace=True)
        length: Any = None
        if after:
            host = pt.on_host(after)
            # A closure leaves no time for anyone to change gradients; a loop in two phases may have clipped them.
            known_length = second.length if closed else None
            length = known_length if known_length is not None else pt.norm([(b.grads, b.where) for b in after])
            if self._bounce and second.passes > 1:
                self._remember(second.known, length)
            if host or self.skip_nonfinite:
                ok = ok & pt.finite(after, length, host=host)
            if found_inf is not None:
                ok = ok & (found_inf == 0)
            changed = self._combine(second, after, ok)
            if self.clip is not None and self.clip_at != "before":
                total = pt.norm([(b.grads, b.where) for b in after]) if changed else length
                self._clip(after, total, inplace=True)
        known = {
            **second.known,
            "step": self.steps + 1,
            "loss": _plain(second.first_loss),
            "loss_ascended": _plain(second.loss),
            "grad_norm": second.grad_norm if second.grad_norm is not None or second.passes > 1 else length,
            "sam_grad_norm": length if second.passes > 1 else None,
            "passes": second.passes,
            "status": second.status,
            "finite": ok,
        }
        self._base_step(second, after, ok)
        self.steps += 1
        self.passes += second.passes
        self._unread += 1
        if self._watch is None:
            self.watch = self._unread < PATIENCE or self._sharded()
        self.last = Last(known, self._looked)

    def _clip(self, buckets: list[pt.Bucket], length: Tensor, *, inplace: bool) -> None:
        """torch's clip_grad_norm_, on the device."""
        assert self.clip is not None
        factor = torch.clamp(self.clip / (length + 1e-6), max=1.0)
        for b in buckets:
            b.grads = pt.times(b.grads, pt.on(factor, b.device), inplace=inplace)

    def _base_step(self, second: SecondPass, after: list[pt.Bucket], ok: pt.Flag) -> None:
        """The base optimizer's step, unless a gradient was not finite; undone if it raises."""
        saved = {id(b.slot): b.owners for b in second.buckets}
        late = [b for b in after if b.owners is not saved.get(id(b.slot)) and not _all_in(b, second.buckets)]
        pt.save(late)
        for p, twin in self._twins.items():
            p.grad = None if twin.grad is None else twin.grad.to(p.dtype)
        fused = not pt.on_host(after) and all(group.get("fused") for group in self.param_groups)
        if fused and isinstance(ok, Tensor) and self.skip_nonfinite:
            self.base.__dict__.update(found_inf=(~ok).float(), grad_scale=None)
            go = True
        else:
            go = bool(ok) if self.skip_nonfinite else True
        try:
            if go:
                self.base.step()
            for p, twin in self._twins.items():
                local(twin).copy_(local(p))
                p.grad = None
        except BaseException:
            pt.restore([*second.buckets, *late], base=True)
            raise
        finally:
            self.base.__dict__.pop("found_inf", None)
            self.base.__dict__.pop("grad_scale", None)
        if fused and isinstance(ok, Tensor):
            self._skipped = self._skipped + (~ok).to(torch.int64)
        elif not go:
            self._skipped = self._skipped + 1

    # The bounce, and logs.

    def _remember(self, known: dict[str, Any], length: Tensor | None) -> None:
        after = self._plan().gather(dense=True)
        if self._previous and length is not None:
            known["bounce"] = self._cosine(after, length, self._previous)
        kept: dict[Tensor, Tensor] = {}
        for b in after:
            for p, g in zip(b.owners, b.grads, strict=True):
                kept[p] = self._previous[p].copy_(g) if p in self._previous else g.clone()
        self._previous = kept

    def _sharded(self) -> bool:
        """Whether a norm takes all processes: then one of them must not begin to look for itself."""
        return any(layout(p) is not None for p in self._params())

    @torch.no_grad()
    def _looked(self, name: str) -> None:
        """Someone read a figure that costs sweeps.

        At the first reading of `bounce` the gradient still stands, and the next step can be compared with it.
        """
        if name != "bounce":
            self._unread = 0
            if self._watch is None and self._second is None:
                self.watch = True
        elif self._bounce is None and not self._sharded():
            self._bounce = True
            if type(self)._combine is SAM._combine:
                self._remember({}, None)

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
        if every < 1:
            raise ValueError(f"every = {every}: write every n-th step, n ≥ 1")
        self._logs.append((log_for(target, prefix), every))
        self._watch = self.watch = self._watch is not False
        if self._bounce is None and not self._sharded():
            self._bounce = True


def beside(
    after: list[pt.Bucket], other: dict[Tensor, Tensor]
) -> list[tuple[list[Tensor], list[Tensor], Layout | None]]:
    """The gradients in `after` beside what `other` holds of the same parameters."""
    pairs = []
    for b in after:
        both = [(g, other[p]) for p, g in zip(b.owners, b.grads, strict=True) if p in other]
        if both:
            pairs.append(([g for g, _ in both], [t for _, t in both], b.where))
    return pairs


def _all_in(bucket: pt.Bucket, buckets: list[pt.Bucket]) -> bool:
    return {p for b in buckets for p in b.owners}.issuperset(bucket.owners)


def _plain(loss: Any) -> Any:
    return loss.detach() if isinstance(loss, Tensor) else loss


def _check_one_of(name: str, value: Any, values: tuple[str, ...]) -> None:
    if value not in values:
        raise ValueError(f"{name} = {value!r}: one of {', '.join(map(repr, values))}")
