"""A network sharded by FSDP2 as an objective: its own forward and backward passes, products by differences."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ravine.torch.curvature.layers import BatchNormMode, LogLikelihoods, kinks
from ravine.torch.curvature.network import LossFunction, _counts
from ravine.torch.curvature.products import Choice, KinkWarning, Path, Products
from ravine.torch.curvature.third import Third
from ravine.torch.passes import beside_training, kept_buffers
from ravine.torch.sharding import fsdp_modules, layout, local

_WHOLE = (
    "under FSDP only gradients are at hand; for exact derivatives load the whole state (get_model_state_dict with "
    "full_state_dict=True) into a plain model and probe that"
)


def third_by(objective: Products, how: Literal["exact", "difference"] | None) -> Literal["exact", "difference"]:
    """`how`, or by default what this objective can do.

    Raises
    ------
    ValueError
        If an exact third derivative is asked of a sharded model.
    """
    if not isinstance(objective, Sharded):
        return how or "exact"
    if how == "exact":
        raise ValueError(f"how = 'exact': {_WHOLE}, or use how='difference'")
    return "difference"


class Sharded(Products):
    """The mean loss of a model under FSDP2 over every process's batches, with products by differences of gradients.

    FSDP gathers and frees parameters in hooks around each layer, which neither swapped-in parameters nor a second
    derivative go through. So a gradient at w is a pass of the model itself: each process writes its shard of w into
    the parameters, runs forward and backward over its batches, and puts parameters, ``.grad`` and buffers back. Exact
    Hessian products, Gauss-Newton products and exact third derivatives are not possible.

    Vectors are whole on every process: a point, a gradient and each vector of a Krylov basis take d numbers there. For
    the basis `ravine.spectrum` reserves d + 1 vectors, or its ``memory`` of 2 GiB if that is less, on each process. A
    product holds six vectors more, and costs four gradients. Every process must make the same calls.

    Parameters
    ----------
    model
        A module with `torch.distributed.fsdp.fully_shard` on it or on parts of it, over one mesh of all processes
        (two dimensions for HSDP). Parameters that FSDP does not manage are the same on every process.
    loss, batches, size, batchnorm, seed
        As for `Products`; this process's batches, as many as every other's, ragged or not.
    path
        ``"auto"`` or ``"difference"``.

    Raises
    ------
    ValueError
        On every process, if the numbers of batches differ or one process's batches are refused; if the model computes
        in less than float32 or by ``mp_policy`` in less than its parameters, is sharded in another way (tensor
        parallel), or its gradients are not to be reduced; and as for `Products`.

    Warns
    -----
    KinkWarning
        As for `Products`.
    """

    _shards: ClassVar[bool] = True

    def __init__(
        self,
        model: nn.Module,
        loss: LossFunction,
        batches: Iterable[Any],
        size: Callable[[Any], int] | None = None,
        *,
        path: Path | Literal["auto"] = "auto",
        batchnorm: BatchNormMode | None = None,
        seed: int | None = None,
    ) -> None:
        if path not in ("auto", "difference"):
            raise ValueError(f"path = {path!r}: {_WHOLE}, or use path='difference'")
        self._modules = fsdp_modules(model)
        self._settle()
        _check_model(model, self._modules)
        batches, self._total = _same_number(batches, size)
        self._rank = dist.get_rank()
        super().__init__(model, loss, batches, size, path="difference", batchnorm=batchnorm, seed=seed)

    # What is checked before any work.

    @torch.no_grad()
    def _probe(self) -> Tensor:
        self._weights = [weight * self._samples / self._total for weight in self._weights]
        first = self._rank * len(self.batches)
        self._order = {id(batch): first + k for k, batch in enumerate(self.batches)}
        w = self.start
        losses = [self._tried(w) for _ in range(2)]
        _agree(_wrong(losses, torch.finfo(w.dtype).eps))
        value = self.value(w)
        if not torch.isfinite(torch.tensor(value)):
            raise ValueError(f"loss: {value} at the model's parameters; give a finite loss")
        self._check_gradient(w, value)
        if self._kinks:
            warnings.warn(
                f"the loss contains {', '.join(self._kinks)}, which has kinks: a difference of gradients sees the "
                "smooth piece at this point, and the jump of any kink within its step",
                KinkWarning,
                stacklevel=6,
            )
        return losses[0]

    def _tried(self, w: Tensor) -> Any:
        """The first batch's loss, or an error that every process raises."""
        loss, failure = None, None
        try:
            with self._at(w):
                loss = self._pass(self.batches[0])
        except RuntimeError as error:
            failure = ValueError(self._mismatch(error))
            failure.__cause__ = error
        except Exception as error:
            failure = error
        seen = _gathered(None if failure is None else _text(failure))
        if failure is not None:
            raise failure
        _raise(seen)
        return loss

    def _check_gradient(self, w: Tensor, value: float) -> None:
        """What FSDP reduces must be the derivative of the mean loss, whatever factors and hooks were set on it."""
        seen: list[Tensor] = []
        g = self._gradient(w, seen.append)
        self._kinks = kinks(seen[0])
        length = float(torch.linalg.vector_norm(g))
        if length == 0:
            return
        precision = torch.finfo(w.dtype).eps
        h = precision ** (1 / 3) * self.scale(w)
        far, near = (
            (self.value(w + (step / length) * g) - self.value(w - (step / length) * g)) / (2 * step)
            for step in (h, h / 2)
        )
        rounding = 64 * precision * abs(value) / h
        if abs(near - length) > 0.1 * length + abs(far - near) + rounding:
            times = length / max(abs(near), 1e-300)
            raise ValueError(
                f"model: FSDP's gradient is {times:.3g} times the derivative of the mean loss; take back what scales "
                "or holds back its reduction (set_all_reduce_hook, set_requires_gradient_sync)"
            )

    def _settle(self) -> None:
        """Parameters as shards: after a forward pass FSDP may leave whole copies, which a write would not reach."""
        for module in self._modules:
            module.reshard()

    def _divisor(self) -> float:
        """By what FSDP divides the sum of the processes' gradients.

        Raises
        ------
        ValueError
            If gradients are not reduced now.
        """
        divisors: set[float] = set()
        for group in _groups(self._modules):
            if not (group.reduce_grads and group.all_reduce_grads):
                raise ValueError("model: FSDP holds gradients back; call model.set_requires_gradient_sync(True) first")
            # Without a public way to read it.
            divisors.add(float(getattr(group, "gradient_divide_factor", None) or dist.get_world_size()))
        if len(divisors) > 1:
            raise ValueError(f"model: set_gradient_divide_factor differs between layers ({sorted(divisors)}); set one")
        return divisors.pop() if divisors else float(dist.get_world_size())

    # Passes of the model at a point.

    @contextmanager
    def _at(self, w: Tensor) -> Iterator[list[Tensor]]:
        """Parameters are w and have no gradients; afterwards both are as found, to the bit.

        Raises
        ------
        ValueError
            If gradients are waiting to be reduced.
        """
        self._settle()
        if any(g is not None for p in self._fsdp_parameters() for g in _unreduced(p)):
            raise ValueError(
                "model: gradients accumulate that FSDP has not reduced; probe after the backward pass that does"
            )
        every = list(self.model.parameters())
        trained = dict(self.model.named_parameters())
        parameters: list[Tensor] = [trained[name] for name in self._names]
        gradients = [p.grad for p in every]
        with torch.no_grad():
            kept = [local(p).clone() for p in parameters]
        try:
            for p in every:
                p.grad = None
            self._write(parameters, w)
            yield parameters
        except BaseException:
            # A pass that ended in a layer leaves FSDP in the middle of it.
            for module in _outermost(self.model):
                if module._get_fsdp_state()._is_root and hasattr(module, "reset_iter_state"):
                    module.reset_iter_state()
            for p in self._fsdp_parameters():
                p.unsharded_accumulated_grad = None
                if hasattr(p, "_unsharded_param"):
                    p._unsharded_param.grad = None
            raise
        finally:
            self._settle()
            with torch.no_grad():
                for p, value in zip(parameters, kept, strict=True):
                    local(p).copy_(value)
            for p, gradient in zip(every, gradients, strict=True):
                p.grad = gradient

    def _fsdp_parameters(self) -> list[Any]:
        return [p for group in _groups(self._modules) for p in group.fsdp_params]

    @torch.no_grad()
    def _write(self, parameters: list[Tensor], w: Tensor) -> None:
        for p, part in zip(parameters, self._split(w).values(), strict=True):
            local(p).copy_(local(_like(p, part)))

    @contextmanager
    def _manner(self, batch: Any) -> Iterator[None]:
        """Batch norms as asked, log-likelihoods in float64, this batch's randomness, and buffers that are put back."""
        norms = [m for m in self.model.modules() if isinstance(m, _BatchNorm)] if self._batchnorm is not None else []
        modes = [m.training for m in norms]
        devices = [p.device for p in self.model.parameters() if p.device.type == "cuda"][:1]
        try:
            for m in norms:
                m.training = self._batchnorm == "batch"
            with (
                kept_buffers(self.model),
                beside_training(),
                LogLikelihoods(),
                torch.random.fork_rng(devices=devices, enabled=self._seed is not None),
            ):
                if self._seed is not None:
                    torch.manual_seed(self._seed + self._order.get(id(batch), 0))
                yield
        finally:
            for m, mode in zip(norms, modes, strict=True):
                m.training = mode

    def _pass(self, batch: Any) -> Tensor:
        with self._manner(batch):
            return self._composite.loss(self.model, batch)

    def _gradient(self, w: Tensor, see: Callable[[Tensor], None] | None = None) -> Tensor:
        """∇ℓ(w); each batch's loss is shown to `see` before its backward pass."""
        divisor = self._divisor()
        with torch.enable_grad(), self._at(w) as parameters:
            own = {id(p) for p in parameters}
            for weight, batch in zip(self._weights, self.batches, strict=True):
                with self._manner(batch):
                    loss = self._composite.loss(self.model, batch).reshape(())
                    if see is not None:
                        see(loss)
                        needed = "loss: it does not depend on the model's parameters, or was detached from them"
                        _agree(None if loss.requires_grad else needed)
                    # backward() reaches what the loss trains beside the model, too.
                    beside = [(leaf, leaf.grad) for leaf in _leaves(loss) if id(leaf) not in own]
                    for leaf, _ in beside:
                        leaf.grad = None
                    try:
                        (weight * divisor * loss).backward()
                    finally:
                        for leaf, gradient in beside:
                            leaf.grad = gradient
            return torch.cat([self._reduced(p, divisor).reshape(-1) for p in parameters])

    def _reduced(self, p: Tensor, divisor: float) -> Tensor:
        if p.grad is not None and layout(p.grad) is not None:
            return _whole(p.grad)
        own = torch.zeros(p.shape, dtype=p.dtype, device=p.device) if p.grad is None else p.grad / divisor
        # FSDP does not know this parameter, or the loss does not use it.
        return self._summed(own) if layout(p) is None else own

    # The oracles.

    @property
    def description(self) -> str:
        return f"{super().description} on each of {dist.get_world_size()} processes, FSDP"

    @property
    def start(self) -> Tensor:
        """The trainable parameters now, gathered into one flat vector on every process."""
        self._settle()
        parameters = dict(self.model.named_parameters())
        return torch.cat([_whole(parameters[name].detach()).reshape(-1) for name in self._names])

    def assign(self, w: Any) -> None:
        self._settle()
        parameters = dict(self.model.named_parameters())
        self._write([parameters[name] for name in self._names], self.point(w))

    def set_gradient(self, g: Tensor) -> None:
        self._settle()
        parameters = dict(self.model.named_parameters())
        for name, part in self._split(g).items():
            parameters[name].grad = _like(parameters[name], part).clone()

    def value(self, w: Any) -> float:
        w = self._vector(w)
        with torch.no_grad(), self._at(w):
            own = sum(
                weight * float(self._pass(batch)) for weight, batch in zip(self._weights, self.batches, strict=True)
            )
        return float(self._summed(torch.tensor([own], dtype=torch.float64, device=w.device)))

    def grad(self, w: Any) -> Tensor:
        self.spent["gradients"] += 1
        return self._gradient(self._vector(w))

    def _choose(self, w: Tensor) -> Choice:
        return Choice("difference", 0, "FSDP: its gradients have no derivative by autograd", {})

    def third(self, w: Any, u: Any) -> Tensor:
        return self.third_checked(w, u, "difference").value

    def third_checked(
        self,
        w: Any,
        u: Any,
        how: Literal["exact", "difference"] = "difference",
        product: tuple[Tensor, float] | None = None,
    ) -> Third:
        """D³ℓ(w)(u, u, ·) by differences of gradients, with their error.

        Raises
        ------
        ValueError
            If it is asked for by autograd.
        """
        return super().third_checked(w, u, third_by(self, how), product)

    def _loss_at(self, parameters: dict[str, Tensor], batch: Any) -> Tensor:
        raise ValueError(f"model: {_WHOLE}")


def _outermost(model: nn.Module) -> list[Any]:
    found: list[Any] = []
    for module in fsdp_modules(model):  # parents come first
        if not any(module in known.modules() for known in found):
            found.append(module)
    return found


def _groups(modules: list[Any]) -> list[Any]:
    """FSDP's groups of parameters; what was set on them can be read in no public way."""
    groups: list[Any] = []
    for module in modules:
        state = module._get_fsdp_state()
        one = getattr(state, "_fsdp_param_group", None) if not hasattr(state, "_fsdp_param_groups") else None
        groups += getattr(state, "_fsdp_param_groups", [one] if one is not None else [])
    return groups


def _unreduced(p: Any) -> tuple[Tensor | None, Tensor | None]:
    """What an FSDP parameter has gathered in passes after which nothing was reduced."""
    return p.unsharded_accumulated_grad, getattr(getattr(p, "_unsharded_param", None), "grad", None)


def _check_model(model: nn.Module, modules: list[Any]) -> None:
    if not modules:
        raise ValueError("model: its parameters are sharded, but not by fully_shard; the probe knows no other sharding")
    world = dist.get_world_size()
    dtypes = {p.dtype for p in model.parameters() if p.requires_grad}
    for dtype in dtypes:
        if torch.finfo(dtype).eps > torch.finfo(torch.float32).eps:
            raise ValueError(f"model: differences of gradients need float32 at least, not {dtype}; use model.float()")
    for name, p in model.named_parameters():
        where = layout(p)
        if where is None:
            continue
        mesh, placements = where
        if mesh.size() != world:
            raise ValueError(f"model: {name} is sharded over {mesh.size()} of {world} processes; shard it over all")
        plain = all(q.is_replicate() for q in placements[:-1]) and placements[-1].is_shard()
        if not plain:
            raise ValueError(f"model: {name} is placed {placements}; probe it sharded by fully_shard alone")
    for module in modules:
        policy = module._get_fsdp_state()._mp_policy
        for low in (policy.param_dtype, policy.reduce_dtype, policy.output_dtype):
            if low is not None and any(torch.finfo(low).eps > torch.finfo(dtype).eps for dtype in dtypes):
                raise ValueError(
                    f"model: FSDP computes in {low} (mp_policy), in whose rounding a difference of gradients drowns; "
                    "shard it without mp_policy to probe it"
                )


def _same_number(batches: Iterable[Any], size: Callable[[Any], int] | None) -> tuple[list[Any], int]:
    """This process's batches, and the samples on all; refused on every process if on one."""
    held: list[Any] = []
    own, wrong = 0, None
    try:
        held = list(batches)
        counts = _counts(held, size)
        own = sum(counts)
        if not held or min(counts) < 1:
            wrong = "batches: a batch is empty; leave it out" if held else "batches: pass at least one batch, as a list"
    except Exception as error:
        wrong = _text(error)
    seen = _gathered((wrong, len(held), own))
    _raise([wrong for wrong, _, _ in seen])
    numbers = [number for _, number, _ in seen]
    if len(set(numbers)) > 1:
        raise ValueError(
            f"batches: {numbers} on the processes, in whose forward passes FSDP needs them all; give each as many, "
            "ragged or not"
        )
    return held, sum(samples for _, _, samples in seen)


def _text(error: Exception) -> str:
    return str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"


def _agree(wrong: str | None) -> None:
    """Raise on every process what is wrong on one: the others would wait for it."""
    _raise(_gathered(wrong))


def _gathered(own: Any) -> list[Any]:
    seen: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(seen, own)
    return seen


def _raise(seen: list[str | None]) -> None:
    own = seen[dist.get_rank()]
    if own is not None:
        raise ValueError(own)
    for rank, wrong in enumerate(seen):
        if wrong is not None:
            raise ValueError(f"process {rank}: {wrong}")


def _wrong(losses: list[Any], precision: float) -> str | None:
    """What is wrong with two evaluations of one loss."""
    loss = losses[0]
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        got = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
        return f"loss: must return a scalar tensor, the mean over the batch, not {got}"
    first, second = (float(loss) for loss in losses)
    if abs(first - second) > 1e3 * precision * max(abs(first), abs(second)):
        return (
            f"model: the loss is not deterministic ({first:.9g}, then {second:.9g}); switch dropout off with "
            "model.eval() or pass seed=… to the probe, which fixes it"
        )
    return None


def _leaves(loss: Tensor) -> list[Tensor]:
    """What a backward pass from `loss` would give gradients to, as far as its graph is there already."""
    seen, found, waiting = set(), [], [loss.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        leaf = getattr(node, "variable", None)
        if isinstance(leaf, Tensor):
            found.append(leaf)
        waiting.extend(before for before, _ in node.next_functions)
    return found


@torch.no_grad()
def _whole(t: Tensor) -> Tensor:
    return t if layout(t) is None else t.full_tensor()  # type: ignore[attr-defined]


@torch.no_grad()
def _like(p: Tensor, whole: Tensor) -> Tensor:
    """`whole`, sharded as `p` is; nothing is sent."""
    where = layout(p)
    if where is None:
        return whole
    from torch.distributed.tensor import DTensor, Replicate

    mesh, placements = where
    return DTensor.from_local(whole, mesh, [Replicate()] * mesh.ndim, run_check=False).redistribute(mesh, placements)
