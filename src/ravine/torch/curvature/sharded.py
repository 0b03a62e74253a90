"""The mean loss of a network under FSDP2: its own forward and backward passes, at any point."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, final

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ravine.torch.curvature import fsdp
from ravine.torch.curvature.batches import Batches
from ravine.torch.curvature.coordinates import Coordinates, step_length
from ravine.torch.curvature.kinks import kinks_of, leaves_of
from ravine.torch.curvature.mean_loss import LossFunction, check_pair, mismatch
from ravine.torch.curvature.norm_layers import BatchNormMode
from ravine.torch.curvature.precision import LOG_LIKELIHOODS
from ravine.torch.curvature.processes import gathered, message_of, refuse_any, refuse_together
from ravine.torch.curvature.substitution import Substituted
from ravine.torch.passes import beside_training, kept_buffers, seeded
from ravine.torch.sharding import fsdp_modules, layout, local, summed_over_processes, whole

NOT_EXACT = (
    "under FSDP only gradients are at hand; for exact derivatives load the whole state (get_model_state_dict with "
    "full_state_dict=True) into a plain model and probe that"
)


@final
class ShardedLoss:
    """The mean loss of a model under FSDP2 over every process's batches.

    FSDP gathers and frees parameters in hooks around each layer, which neither swapped-in parameters nor a second
    derivative go through. So a gradient at w is a pass of the model itself: each process writes its shard of w into
    the parameters, runs forward and backward over its batches, and puts parameters, ``.grad`` and buffers back.

    Points and gradients are whole on every process. Every process must make the same calls.

    Parameters
    ----------
    model
        A module with `torch.distributed.fsdp.fully_shard` on it or on parts of it, over one mesh of all processes
        (two dimensions for HSDP). Parameters that FSDP does not manage are the same on every process.
    loss_fn, batches, size
        As for `ravine.torch.network`; this process's batches, as many as every other's, ragged or not.
    batchnorm, seed
        As for `ravine.torch.Probe`.

    Raises
    ------
    ValueError
        On every process, if the numbers of batches differ or one process's batches are refused; if the model computes
        in less than float32 or by ``mp_policy`` in less than its parameters, or is sharded in another way (tensor
        parallel); and as `Coordinates`.
    """

    def __init__(
        self,
        model: nn.Module,
        loss_fn: LossFunction,
        batches: Iterable[Any],
        size: Callable[[Any], int] | None = None,
        *,
        batchnorm: BatchNormMode | None = None,
        seed: int | None = None,
    ) -> None:
        self._modules = fsdp_modules(model)
        fsdp.settle(self._modules)
        fsdp.check_model(model, self._modules)
        data, total = _agreed_batches(batches, size)
        self.coordinates = Coordinates(model, settle=lambda: fsdp.settle(self._modules))
        self.model, self.loss_fn = model, loss_fn
        self.batches, self.weights = data.held, data.weights(total)
        self._batchnorm, self._seed = batchnorm, seed
        self._first = dist.get_rank() * len(self.batches)

    def __repr__(self) -> str:
        return f"ShardedLoss({self.description})"

    @property
    def description(self) -> str:
        """One line: the module's class, d, how many batches, and on how many processes."""
        count = len(self.batches)
        plural = "es" if count > 1 else ""
        return (
            f"{type(self.model).__name__}, {self.coordinates.dimension} parameters, {count} batch{plural} "
            f"on each of {dist.get_world_size()} processes, FSDP"
        )

    def value(self, w: Tensor) -> float:
        """ℓ(w)."""
        with torch.no_grad(), self._parameters_at(w):
            own = sum(weight * float(self._loss(k)) for k, weight in enumerate(self.weights))
        return float(summed_over_processes(torch.tensor([own], dtype=torch.float64, device=w.device)))

    def gradient(self, w: Tensor, see: Callable[[Tensor], None] | None = None) -> Tensor:
        """∇ℓ(w), shape (d,); each batch's loss is shown to `see` before its backward pass.

        Raises
        ------
        ValueError
            If FSDP does not reduce gradients now, or some are waiting to be reduced.
        """
        divisor = fsdp.divisor(self._modules)
        with torch.enable_grad(), self._parameters_at(w) as parameters:
            own = {id(p) for p in parameters}
            for k, weight in enumerate(self.weights):
                with self._surroundings(k):
                    loss = self.loss_fn(self.model, self.batches[k]).reshape(())
                    if see is not None:
                        see(loss)
                    with _gradients_kept([leaf for leaf in leaves_of(loss) if id(leaf) not in own]):
                        (weight * divisor * loss).backward()
            return torch.cat([self._whole_gradient(p, divisor).reshape(-1) for p in parameters])

    def first_loss(self, w: Tensor) -> Any:
        """The first batch's loss at w on every process, or an error on every process.

        Raises
        ------
        ValueError
            If evaluating it fails on one.
        """
        loss, failure = None, None
        try:
            with self._parameters_at(w):
                loss = self._loss(0)
        except RuntimeError as error:
            failure = ValueError(mismatch(self.batches[0], self.coordinates.first, error))
            failure.__cause__ = error
        except Exception as error:
            failure = error
        seen = gathered(None if failure is None else message_of(failure))
        if failure is not None:
            raise failure
        refuse_any(seen)
        return loss

    @contextmanager
    def _parameters_at(self, w: Tensor) -> Iterator[list[Tensor]]:
        """Parameters are w and have no gradients; afterwards both are as found, to the bit."""
        fsdp.settle(self._modules)
        fsdp.refuse_waiting_gradients(self._modules)
        every, parameters = list(self.model.parameters()), self.coordinates.parameters()
        gradients = [p.grad for p in every]
        with torch.no_grad():
            kept = [local(p).clone() for p in parameters]
        try:
            for p in every:
                p.grad = None
            self.coordinates.write(parameters, w)
            yield parameters
        except BaseException:
            fsdp.abandon_pass(self.model)
            raise
        finally:
            fsdp.settle(self._modules)
            with torch.no_grad():
                for p, value in zip(parameters, kept, strict=True):
                    local(p).copy_(value)
            for p, gradient in zip(every, gradients, strict=True):
                p.grad = gradient

    @contextmanager
    def _surroundings(self, k: int) -> Iterator[None]:
        """Batch norms as asked, log-likelihoods in float64, batch k's randomness, and buffers that are put back."""
        norms = [m for m in self.model.modules() if isinstance(m, _BatchNorm)] if self._batchnorm is not None else []
        modes = [m.training for m in norms]
        seed = None if self._seed is None else self._seed + self._first + k
        try:
            for m in norms:
                m.training = self._batchnorm == "batch"
            with (
                kept_buffers(self.model),
                beside_training(),
                Substituted(LOG_LIKELIHOODS),
                seeded(seed, self.coordinates.first.device),
            ):
                yield
        finally:
            for m, mode in zip(norms, modes, strict=True):
                m.training = mode

    def _loss(self, k: int) -> Tensor:
        with self._surroundings(k):
            return self.loss_fn(self.model, self.batches[k])

    def _whole_gradient(self, p: Tensor, divisor: float) -> Tensor:
        if p.grad is not None and layout(p.grad) is not None:
            return whole(p.grad)
        own = torch.zeros(p.shape, dtype=p.dtype, device=p.device) if p.grad is None else p.grad / divisor
        # FSDP does not know this parameter, or the loss does not use it.
        return summed_over_processes(own) if layout(p) is None else own


def check_sharded(losses: ShardedLoss) -> list[str]:
    """Evaluate loss and gradient at the parameters, so that misuse is found before any work; the loss's kinks.

    What FSDP reduces must be the derivative of the mean loss, whatever factors and hooks were set on it.

    Raises
    ------
    ValueError
        On every process, if the loss is not scalar, finite, deterministic and dependent on the parameters, or the
        gradient is not its derivative.
    """
    w = losses.coordinates.start
    with torch.no_grad():
        pair = [losses.first_loss(w) for _ in range(2)]
    cure = "switch dropout off with model.eval() or pass seed=… to the probe, which fixes it"
    refuse_together(check_pair(pair, torch.finfo(w.dtype).eps, cure))
    value = losses.value(w)
    if not torch.isfinite(torch.tensor(value)):
        raise ValueError(f"loss_fn: {value} at the model's parameters; give a finite loss")
    seen: list[Tensor] = []

    def see(loss: Tensor) -> None:
        seen.append(loss)
        needed = "loss_fn: it does not depend on the model's parameters, or was detached from them"
        refuse_together(None if loss.requires_grad else needed)

    _check_gradient(losses, w, losses.gradient(w, see), value)
    return kinks_of(seen[0])


@torch.no_grad()
def _check_gradient(losses: ShardedLoss, w: Tensor, g: Tensor, value: float) -> None:
    """Refuse a gradient that is not the derivative of the losses along itself, by differences."""
    length = float(torch.linalg.vector_norm(g))
    if length == 0:
        return
    precision = torch.finfo(w.dtype).eps
    h = precision ** (1 / 3) * step_length(w)
    far, near = (
        (losses.value(w + (step / length) * g) - losses.value(w - (step / length) * g)) / (2 * step)
        for step in (h, h / 2)
    )
    rounding = 64 * precision * abs(value) / h
    if abs(near - length) > 0.1 * length + abs(far - near) + rounding:
        times = length / max(abs(near), 1e-300)
        raise ValueError(
            f"model: FSDP's gradient is {times:.3g} times the derivative of the mean loss; take back what scales "
            "or holds back its reduction (set_all_reduce_hook, set_requires_gradient_sync)"
        )


@contextmanager
def _gradients_kept(leaves: list[Tensor]) -> Iterator[None]:
    """A backward pass inside changes no ``.grad`` of these: it reaches what the loss trains beside the model, too."""
    kept = [(leaf, leaf.grad) for leaf in leaves]
    for leaf in leaves:
        leaf.grad = None
    try:
        yield
    finally:
        for leaf, gradient in kept:
            leaf.grad = gradient


def _agreed_batches(batches: Iterable[Any], size: Callable[[Any], int] | None) -> tuple[Batches, int]:
    """This process's batches, and the samples on all; refused on every process if on one."""
    data, wrong = Batches([], []), None
    try:
        data = Batches.of(batches, size)
    except Exception as error:
        wrong = message_of(error)
    seen = gathered((wrong, len(data.held), data.samples))
    refuse_any([wrong for wrong, _, _ in seen])
    numbers = [number for _, number, _ in seen]
    if len(set(numbers)) > 1:
        raise ValueError(
            f"batches: {numbers} on the processes, in whose forward passes FSDP needs them all; give each as many, "
            "ragged or not"
        )
    return data, sum(samples for _, _, samples in seen)
