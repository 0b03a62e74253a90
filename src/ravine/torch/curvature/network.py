"""A network as an Objective: a module, a loss, batches; parameters as one flat vector."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from typing import Any, ClassVar

import torch
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from ravine.objectives import Objective
from ravine.torch.passes import beside_training
from ravine.torch.sharding import is_sharded

LossFunction = Callable[[Any, Any], torch.Tensor]


class _Composite(torch.nn.Module):
    """The user's callable as a module over the model, so that parameters can be swapped in for one call."""

    def __init__(self, model: torch.nn.Module, loss: LossFunction) -> None:
        super().__init__()
        self.model = model
        self.loss = loss

    def forward(self, batch: Any) -> torch.Tensor:
        return self.loss(self.model, batch)


class Network(Objective):
    """The mean loss of a module over batches, as a function of its trainable parameters; see `network`."""

    _shards: ClassVar[bool] = False  # whether it knows what to do with parameters of which a process holds a part

    def __init__(
        self,
        model: torch.nn.Module,
        loss: LossFunction,
        batches: Iterable[Any],
        size: Callable[[Any], int] | None = None,
    ) -> None:
        if not isinstance(model, torch.nn.Module):
            raise ValueError(f"model: pass a torch.nn.Module, not {type(model).__name__}")
        if is_sharded(model) and not self._shards:
            raise ValueError(
                "model: its parameters are sharded over processes (FSDP); use ravine.torch.Probe(…, distributed=True)"
            )
        self._composite = _Composite(model, loss)
        self.model = model
        parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        if not parameters:
            raise ValueError("model: no parameter requires a gradient; there is nothing to minimise over")
        kinds = {(p.dtype, p.device) for p in parameters.values()}
        if len(kinds) > 1:
            raise ValueError(
                f"model: parameters differ in dtype or device ({_listed(kinds)}); convert with model.to(…)"
            )
        if not next(iter(parameters.values())).is_floating_point():
            raise ValueError("model: parameters must be real floating-point numbers")
        self._names = list(parameters)
        self._shapes = [p.shape for p in parameters.values()]
        self._sizes = [p.numel() for p in parameters.values()]
        self.batches = list(batches)
        if not self.batches:
            raise ValueError("batches: pass at least one batch, as a list")
        counts = _counts(self.batches, size)
        if any(count < 1 for count in counts):
            raise ValueError("batches: a batch is empty; leave it out")
        self._samples = sum(counts)
        self._weights = [count / self._samples for count in counts]
        self._probe()

    def _probe(self) -> torch.Tensor:
        """Evaluate the first batch's loss twice, so that misuse is found before any work; the loss with its graph."""
        w, batch = self.start, self.batches[0]
        # Both with a graph, so by the same kernels: near a minimum others' rounding is as large as the loss.
        with torch.enable_grad():
            losses = [self._loss_at(self._leaves(w), batch) for _ in range(2)]
        if not isinstance(losses[0], torch.Tensor) or losses[0].numel() != 1:
            got = tuple(losses[0].shape) if isinstance(losses[0], torch.Tensor) else type(losses[0]).__name__
            raise ValueError(f"loss: must return a scalar tensor, the mean over the batch, not {got}")
        first, second = (float(loss.detach()) for loss in losses)
        # Not to the bit: sums on an accelerator may differ in their order.
        if abs(first - second) > 1e3 * torch.finfo(w.dtype).eps * max(abs(first), abs(second)):
            raise ValueError(
                f"model: the loss is not deterministic ({first:.9g}, then {second:.9g}); "
                "switch dropout off with model.eval() or fix its randomness in the loss"
            )
        return losses[0]

    @property
    def dimension(self) -> int:
        return sum(self._sizes)

    @property
    def description(self) -> str:
        count = len(self.batches)
        return f"{type(self.model).__name__}, {self.dimension} parameters, {count} batch{'es' if count > 1 else ''}"

    @property
    def start(self) -> torch.Tensor:
        """The module's trainable parameters now, as one flat vector of their own dtype and device (a copy)."""
        parameters = dict(self.model.named_parameters())
        return torch.cat([parameters[name].detach().reshape(-1) for name in self._names])

    def assign(self, w: Any) -> None:
        """Write `w` into the module's parameters, in place.

        Raises
        ------
        ValueError
            If `w` is not a finite vector of length d.
        """
        parameters = dict(self.model.named_parameters())
        with torch.no_grad():
            for name, part in self._split(self.point(w)).items():
                parameters[name].copy_(part)

    def set_gradient(self, g: torch.Tensor) -> None:
        """Write copies of the parts of `g`, shape (d,), into the trainable parameters' ``.grad``."""
        parameters = dict(self.model.named_parameters())
        for name, part in self._split(g).items():
            parameters[name].grad = part.clone()

    def point(self, w: Any, name: str = "w") -> torch.Tensor:
        like = next(p for p in self.model.parameters() if p.requires_grad)
        try:
            vector = torch.as_tensor(w, dtype=like.dtype, device=like.device).detach()
        except (TypeError, ValueError, RuntimeError):
            raise ValueError(f"{name}: give a vector of length {self.dimension}, not {type(w).__name__}") from None
        if vector.shape != (self.dimension,):
            raise ValueError(f"{name}: give a vector of length {self.dimension}, not shape {tuple(vector.shape)}")
        if not bool(torch.isfinite(vector).all()):
            raise ValueError(f"{name}: an entry is not finite; give finite numbers")
        return vector

    def value(self, w: Any) -> float:
        w = self._vector(w)
        with torch.no_grad():
            return sum(
                weight * float(self._loss(w, batch)) for weight, batch in zip(self._weights, self.batches, strict=True)
            )

    def grad(self, w: Any) -> torch.Tensor:
        return self._mean(w, lambda leaves, loss: pull([loss], leaves))

    def hvp(self, w: Any, u: Any) -> torch.Tensor:
        along = self.parts(self._vector(u))

        def product(leaves: list[torch.Tensor], loss: torch.Tensor) -> Sequence[torch.Tensor]:
            return pull(pull([loss], leaves, create_graph=True), leaves, along)

        return self._mean(w, product)

    def third(self, w: Any, u: Any) -> torch.Tensor:
        """D³ℓ(w)(u, u, ·) by autograd, checked against a difference of two Hessian products.

        Current torch differentiates some layers (LayerNorm, BatchNorm in training mode) wrongly at third order,
        in silence. So each value is compared with (H(w+hu)u − H(w−hu)u)/2h.

        Raises
        ------
        ValueError
            If the two disagree by more than the difference formula's own error.
        """
        w, u = self._vector(w), self._vector(u)
        along = self.parts(u)

        def triple(leaves: list[torch.Tensor], loss: torch.Tensor) -> Sequence[torch.Tensor]:
            g = pull([loss], leaves, create_graph=True)
            return pull(pull(g, leaves, along, create_graph=True), leaves, along)

        exact = self._mean(w, triple)
        difference, error = self.third_by_products(w, u)
        gap = float(torch.linalg.vector_norm(exact - difference))
        if not gap <= 3 * error:
            suspects = sorted({type(m).__name__ for m in self.model.modules() if "Norm" in type(m).__name__})
            raise ValueError(
                f"third derivative: autograd and a difference of Hessian products disagree by {gap:.3g} "
                f"(the difference's error: {error:.3g}); torch differentiates a layer wrongly at third order"
                + (f", probably {', '.join(suspects)}; write it from elementary operations" if suspects else "")
            )
        return exact

    def third_by_products(self, w: torch.Tensor, u: torch.Tensor) -> tuple[torch.Tensor, float]:
        """The central difference of two Hessian products along u, and a bound on its error.

        Two steps h and 2h: their gap is three times the smaller step's truncation error. To it comes the
        rounding of the products, ε‖Hu‖/h.
        """
        precision = torch.finfo(w.dtype).eps
        length = float(torch.linalg.vector_norm(u))
        if length == 0:
            return torch.zeros_like(u), 0.0
        h = precision ** (1 / 3) * max(1.0, float(torch.linalg.vector_norm(w)) / w.numel() ** 0.5) / length
        ends = [self.hvp(w + step * u, u) for step in (h, -h, 2 * h, -2 * h)]
        near, far = (ends[0] - ends[1]) / (2 * h), (ends[2] - ends[3]) / (4 * h)
        truncation = float(torch.linalg.vector_norm(far - near)) / 3
        rounding = 32 * precision * float(torch.linalg.vector_norm(ends[0])) / h
        return near, truncation + rounding

    def _vector(self, w: Any) -> torch.Tensor:
        """`w` as a flat tensor; values are not checked, so that a diverging run costs no synchronisation."""
        like = next(p for p in self.model.parameters() if p.requires_grad)
        vector = torch.as_tensor(w, dtype=like.dtype, device=like.device).detach()
        if vector.shape != (self.dimension,):
            raise ValueError(f"give a vector of length {self.dimension}, not shape {tuple(vector.shape)}")
        return vector

    def _split(self, w: torch.Tensor) -> dict[str, torch.Tensor]:
        parts = zip(self._names, w.split(self._sizes), self._shapes, strict=True)
        return {name: part.view(shape) for name, part, shape in parts}

    def parts(self, w: torch.Tensor) -> list[torch.Tensor]:
        return list(self._split(w).values())

    def _leaves(self, w: torch.Tensor) -> dict[str, torch.Tensor]:
        """The parameters at w, each a leaf of its own.

        A graph through one flat vector would cut it apart and join it again in every product.
        """
        return {name: part.detach().requires_grad_(True) for name, part in self._split(w.clone()).items()}

    def _loss(self, w: torch.Tensor, batch: Any) -> torch.Tensor:
        """The loss of one batch at w, as a function of the flat vector."""
        return self._loss_at(self._split(w), batch)

    def _loss_at(self, parameters: dict[str, torch.Tensor], batch: Any) -> torch.Tensor:
        """The loss of one batch; the module's own parameters, gradients and buffers are not touched."""
        swapped = {f"model.{name}": part for name, part in parameters.items()}
        # Running statistics are updated in place during the call: on copies.
        swapped |= {f"model.{name}": buffer.clone() for name, buffer in self.model.named_buffers()}
        with ExitStack() as stack:
            stack.enter_context(beside_training())
            if any(part.requires_grad for part in parameters.values()):
                # The fused attention kernels have no second derivative.
                stack.enter_context(sdpa_kernel(SDPBackend.MATH))
            return functional_call(self._composite, swapped, (batch,))

    def _mean(self, w: Any, term: Callable[[list[torch.Tensor], torch.Tensor], Sequence[torch.Tensor]]) -> torch.Tensor:
        """Σ weight · term over the batches, one graph at a time."""
        w = self._vector(w)
        total = torch.zeros_like(w)
        with torch.enable_grad():
            for weight, batch in zip(self._weights, self.batches, strict=True):
                leaves = self._leaves(w)
                loss = self._loss_at(leaves, batch).reshape(())
                total.add_(joined(term(list(leaves.values()), loss)), alpha=weight)
        return total


def pull(
    outputs: Sequence[torch.Tensor],
    leaves: Sequence[torch.Tensor],
    along: Sequence[torch.Tensor] | None = None,
    *,
    create_graph: bool = False,
    retain_graph: bool | None = None,
) -> Sequence[torch.Tensor]:
    """Σ (∂output/∂leaf)ᵀ·along for each leaf; zero where nothing depends on it, as for a linear loss."""
    along = [torch.ones_like(output) for output in outputs] if along is None else along
    live = [(output, v) for output, v in zip(outputs, along, strict=True) if output.requires_grad]
    if not live:
        return [torch.zeros_like(leaf) for leaf in leaves]
    return torch.autograd.grad(
        [output for output, _ in live], leaves, [v for _, v in live], create_graph=create_graph,
        retain_graph=retain_graph or create_graph, allow_unused=True, materialize_grads=True,
    )  # fmt: skip


def joined(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """One flat vector, without a graph."""
    return torch.cat([part.detach().reshape(-1) for part in parts])


def _counts(batches: list[Any], size: Callable[[Any], Any] | None) -> list[int]:
    """The batches' samples, as plain numbers: a tensor's weights would be rounded to float32."""
    counts = [(size or _batch_size)(batch) for batch in batches]
    return [count.item() if isinstance(count, torch.Tensor) else count for count in counts]  # pyright: ignore[reportReturnType]


def _batch_size(batch: Any) -> int:
    """The length of the first tensor in a batch, looked for in tuples, lists and dictionaries."""
    if isinstance(batch, torch.Tensor):
        if batch.ndim == 0:
            raise ValueError("batches: a batch is a bare number; pass a list of batches, each with its samples first")
        return batch.shape[0]
    members = batch.values() if isinstance(batch, dict) else batch
    if isinstance(batch, tuple | list | dict):
        for member in members:
            if isinstance(member, torch.Tensor | tuple | list | dict):
                return _batch_size(member)
    raise ValueError("batches: no tensor in a batch; pass size=… that counts its samples")


def _listed(kinds: set[tuple[torch.dtype, torch.device]]) -> str:
    return ", ".join(sorted(f"{dtype} on {device}" for dtype, device in kinds))


def network(
    model: torch.nn.Module,
    loss: LossFunction,
    batches: Iterable[Any],
    size: Callable[[Any], int] | None = None,
) -> Network:
    """A network's mean loss over data as an `Objective` of its flat parameter vector.

    Parameters
    ----------
    model
        Any module. Parameters with ``requires_grad`` are the coordinates, in the order of
        ``named_parameters()``; one that the loss does not use has derivative zero. Mode, ``.grad``, buffers and
        parameters are left as found: running statistics are updated on copies.
    loss
        ``loss(model, batch)``, a scalar tensor: the mean over the batch.
    batches
        A list of batches (one batch: ``[batch]``), or a data loader, read once. The objective is the exact mean over
        all samples: a ragged last batch weighs what it holds.
    size
        Counts a batch's samples, by default the length of its first tensor; for a loss that is the mean over unmasked
        tokens, those.

    Returns
    -------
    Network
        An `Objective` over torch tensors of the module's dtype and device.

    Raises
    ------
    ValueError
        If there is nothing to train, parameters differ in dtype or device, no batch is given, the loss is not a
        scalar, or two evaluations differ (dropout in training mode).
    """
    return Network(model, loss, batches, size)
