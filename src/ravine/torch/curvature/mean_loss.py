"""The mean of a module's losses over batches at any point: their values, gradients and graphs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from ravine.torch.curvature.batches import Batches, tensors
from ravine.torch.curvature.coordinates import Coordinates, joined
from ravine.torch.passes import beside_training
from ravine.torch.sharding import is_sharded

LossFunction = Callable[[Any, Any], Tensor]
"""``loss_fn(model, batch)``: a scalar tensor, the mean over the batch."""
Surroundings = Callable[[int, torch.device], AbstractContextManager[Any]]
"""Of the forward pass of batch number k, on a device: what holds while it runs."""
Term = Callable[[list[Tensor], Tensor], Sequence[Tensor]]
"""What is averaged: of the leaves and the loss of one batch, with its graph, parts in the parameters' shapes."""


def no_surroundings(k: int, device: torch.device) -> AbstractContextManager[Any]:
    """The pass as the module makes it."""
    return nullcontext()


@final
@dataclass(frozen=True)
class Graph:
    """The gradients of one batch's loss by the parameters, with their graph, and the batch's weight."""

    weight: float
    leaves: list[Tensor]
    gradients: Sequence[Tensor]


@final
class MeanLoss:
    """The mean loss of a module over batches; the module's own parameters, gradients and buffers are not touched.

    Points and vectors are flat tensors, of the parameters' dtype or, where the pass runs in it, of another.

    Attributes
    ----------
    model, loss_fn
        A module, and ``loss_fn(model, batch)``.
    coordinates
        The module's trainable parameters as a flat vector.
    batches, weights
        The data, and each batch's exact share of all samples.

    Raises
    ------
    ValueError
        As `Coordinates`, for a `loss_fn` that is no function, and for parameters that are sharded over processes.
    """

    def __init__(
        self, model: nn.Module, loss_fn: LossFunction, data: Batches, surroundings: Surroundings = no_surroundings
    ) -> None:
        self.coordinates = Coordinates(model)
        if not callable(loss_fn):
            raise ValueError(f"loss_fn: give a function loss_fn(model, batch), not {loss_fn!r:.60}")
        if is_sharded(model):
            raise ValueError(
                "model: its parameters are sharded over processes (FSDP); use ravine.torch.Probe(…, distributed=True)"
            )
        self.model, self.loss_fn, self.data = model, loss_fn, data
        self.batches, self.weights = data.held, data.weights(data.samples)
        self._composite = _Composite(model, loss_fn)
        self._surroundings = surroundings

    def __repr__(self) -> str:
        return f"MeanLoss({self.description})"

    @property
    def description(self) -> str:
        """One line: the module's class, d, and how many batches."""
        count = len(self.batches)
        plural = "es" if count > 1 else ""
        return f"{type(self.model).__name__}, {self.coordinates.dimension} parameters, {count} batch{plural}"

    def within(self, mode: Callable[[], AbstractContextManager[Any]]) -> MeanLoss:
        """The same, each forward pass inside a `mode` of its own."""

        @contextmanager
        def surroundings(k: int, device: torch.device) -> Any:
            with mode(), self._surroundings(k, device):
                yield

        return MeanLoss(self.model, self.loss_fn, self.data, surroundings)

    def loss_at(self, parameters: dict[str, Tensor], k: int) -> Tensor:
        """The loss of batch k with these tensors in place of the trainable parameters."""
        device = next(iter(parameters.values())).device
        with self._surroundings(k, device), beside_training(), ExitStack() as stack:
            swapped = {f"model.{name}": part for name, part in parameters.items()}
            # Running statistics are updated in place during the call: on copies.
            swapped |= {f"model.{name}": buffer.clone() for name, buffer in self.model.named_buffers()}
            if any(part.requires_grad for part in parameters.values()):
                # The fused attention kernels have no second derivative.
                stack.enter_context(sdpa_kernel(SDPBackend.MATH))
            return functional_call(self._composite, swapped, (self.batches[k],))

    def loss(self, w: Tensor, k: int) -> Tensor:
        """The loss of batch k at w, as a function of the flat vector."""
        return self.loss_at(self.coordinates.split(w), k)

    @torch.no_grad()
    def value(self, w: Tensor) -> float:
        """ℓ(w)."""
        return sum(weight * float(self.loss(w, k)) for k, weight in enumerate(self.weights))

    def gradient(self, w: Tensor) -> Tensor:
        """∇ℓ(w), shape (d,)."""
        return self.mean(w, lambda leaves, loss: pull([loss], leaves))

    def mean(self, w: Tensor, term: Term) -> Tensor:
        """Σ weight · term over the batches, one graph at a time, shape (d,)."""
        total = torch.zeros_like(w)
        with torch.enable_grad():
            for k, weight in enumerate(self.weights):
                leaves = self.coordinates.leaves(w)
                loss = self.loss_at(leaves, k).reshape(())
                total.add_(joined(term(list(leaves.values()), loss)), alpha=weight)
        return total

    def graph(self, w: Tensor, k: int) -> Graph:
        """The gradients of batch k's loss at w, with their graph."""
        with torch.enable_grad():
            named = self.coordinates.leaves(w)
            loss, leaves = self.loss_at(named, k).reshape(()), list(named.values())
            return Graph(self.weights[k], leaves, pull([loss], leaves, create_graph=True))

    def graphs(self, w: Tensor) -> Iterator[Graph]:
        """`graph` of every batch, made one by one."""
        return (self.graph(w, k) for k in range(len(self.batches)))


class _Composite(nn.Module):
    """The user's callable as a module over the model, so that parameters can be swapped in for one call."""

    def __init__(self, model: nn.Module, loss_fn: LossFunction) -> None:
        super().__init__()
        self.model = model
        self.loss_fn = loss_fn

    def forward(self, batch: Any) -> Tensor:
        return self.loss_fn(self.model, batch)


def pull(
    outputs: Sequence[Tensor],
    leaves: Sequence[Tensor],
    along: Sequence[Tensor] | None = None,
    *,
    create_graph: bool = False,
    retain_graph: bool | None = None,
) -> Sequence[Tensor]:
    """Σ (∂output/∂leaf)ᵀ·along for each leaf; zero where nothing depends on it, as for a linear loss."""
    along = [torch.ones_like(output) for output in outputs] if along is None else along
    live = [(output, v) for output, v in zip(outputs, along, strict=True) if output.requires_grad]
    if not live:
        return [torch.zeros_like(leaf) for leaf in leaves]
    return torch.autograd.grad(
        [output for output, _ in live], leaves, [v for _, v in live], create_graph=create_graph,
        retain_graph=retain_graph or create_graph, allow_unused=True, materialize_grads=True,
    )  # fmt: skip


def check_pair(losses: Sequence[Any], precision: float, cure: str) -> str | None:
    """What is wrong with two evaluations of one loss, if anything; `cure` says what to do about one that is random."""
    loss = losses[0]
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        got = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
        return f"loss_fn: must return a scalar tensor, the mean over the batch, not {got}"
    first, second = (float(loss.detach()) for loss in losses)
    # Not to the bit: sums on an accelerator may differ in their order.
    if abs(first - second) > 1e3 * precision * max(abs(first), abs(second)):
        return f"model: the loss is not deterministic ({first:.9g}, then {second:.9g}); {cure}"
    return None


def mismatch(batch: Any, like: Tensor, error: RuntimeError) -> str:
    """What to say of a loss that failed: most often data and parameters differ in device or dtype."""
    for tensor in tensors(batch):
        if tensor.device != like.device:
            return f"batches: data on {tensor.device}, parameters on {like.device}; move one with .to(…)"
        if tensor.is_floating_point() and tensor.dtype != like.dtype:
            return f"batches: data of {tensor.dtype}, parameters of {like.dtype}; convert one with .to(…)"
    return f"loss_fn: evaluating it failed: {error}"


def evaluated(losses: MeanLoss, cure: str) -> Tensor:
    """The first batch's loss at the parameters, with its graph; it is evaluated twice, so that misuse is found early.

    Raises
    ------
    ValueError
        If it is no scalar, or the two differ.
    """
    w = losses.coordinates.start
    # Both with a graph, so by the same kernels: near a minimum others' rounding is as large as the loss.
    with torch.enable_grad():
        pair = [losses.loss_at(losses.coordinates.leaves(w), 0) for _ in range(2)]
    wrong = check_pair(pair, torch.finfo(w.dtype).eps, cure)
    if wrong is not None:
        raise ValueError(wrong)
    return pair[0]
