"""A network's Hessian products by the cheapest correct path, and third derivatives that are checked."""

from __future__ import annotations

import functools
import math
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import combinations
from operator import itemgetter
from typing import Any, Literal

import numpy as np
import torch

from ravine.spectrum import Krylov, random_start
from ravine.torch.curvature import rounding
from ravine.torch.curvature.layers import BatchNormMode, Mended, doubtful, kinks
from ravine.torch.curvature.network import LossFunction, Network, joined, pull
from ravine.torch.curvature.third import Third, third_derivative

Path = Literal["retained", "double", "forward", "difference"]
MEMORY = 2 * 2**30
"""Bytes that retained graphs may take unless the caller says otherwise."""


@dataclass(frozen=True)
class Choice:
    """How Hessian products are made, and why.

    Attributes
    ----------
    path
        ``"retained"`` (the gradient's graph is kept, each product is one backward through it), ``"double"`` (the
        graph is made anew for each product), ``"forward"`` (forward over reverse) or ``"difference"`` (of gradients,
        four a product; not exact).
    bytes
        What the retained graph holds, or would hold.
    reason
        In words.
    seconds
        Measured time of one product by path, where paths were compared.
    """

    path: Path
    bytes: int
    reason: str
    seconds: dict[Path, float]


@dataclass(frozen=True)
class Graph:
    """The gradients of one batch's loss by the parameters, with their graph, and the batch's weight."""

    weight: float
    leaves: list[torch.Tensor]
    gradients: Sequence[torch.Tensor]


@dataclass(frozen=True)
class _Made:
    """A product that was made before it was asked for: ∇²ℓ(w)u of the first batch."""

    w: torch.Tensor
    u: torch.Tensor
    image: torch.Tensor


class KinkWarning(UserWarning):
    """The loss is not twice differentiable everywhere; its Hessian is that of one piece."""


class Products(Network):
    """`Network` with Hessian products of chosen path, norms from elementary operations, and seeded randomness.

    Parameters
    ----------
    model, loss, batches, size
        As for `ravine.torch.curvature.network`.
    path
        A path of `Choice`, or ``"auto"``.
    memory
        Bytes for retained graphs.
    batchnorm
        ``"eval"`` or ``"batch"`` to say how batch norms normalise; None leaves each as it is set.
    seed
        Fixes dropout and other randomness, one stream a batch; without it a random forward pass is refused.
    distributed
        Whether each process of the default group holds a part of the data: losses and derivatives are then those of
        all, and every
        process must make the same calls. The model is the replica itself, without sharding: under FSDP no product is
        exact here.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        loss: LossFunction,
        batches: Iterable[Any],
        size: Callable[[Any], int] | None = None,
        *,
        path: Path | Literal["auto"] = "auto",
        memory: int = MEMORY,
        batchnorm: BatchNormMode | None = None,
        seed: int | None = None,
        distributed: bool = False,
    ) -> None:
        # The replica inside: its wrapper would reduce gradients on its own.
        model = model.module if isinstance(model, torch.nn.parallel.DistributedDataParallel) else model
        self._distributed = False
        if path not in ("auto", "retained", "double", "forward", "difference"):
            raise ValueError(f"path = {path!r}: use auto, retained, double, forward or difference")
        if batchnorm not in (None, "eval", "batch"):
            raise ValueError(f"batchnorm = {batchnorm!r}: use eval, batch, or None for each layer's own mode")
        self._asked: Path | Literal["auto"] = path
        self._batchnorm: BatchNormMode | None = batchnorm
        self._memory, self._seed = memory, seed
        self._kept: tuple[torch.Tensor, list[Graph]] | None = None
        self._choice: Choice | None = None
        self._error: tuple[torch.Tensor, float] | None = None
        self._made: list[_Made] = []
        self._state: Any = None
        self._order: dict[int, int] = {}
        self._kinks: list[str] = []
        self._doubtful: list[str] = []
        self._watched: list[torch.Tensor] | None = None
        self._logit: tuple[torch.Tensor, float] | None = None
        self.spent = {"gradients": 0, "products": 0}
        trained = [p.dtype for p in model.parameters() if p.requires_grad] if isinstance(model, torch.nn.Module) else []
        if torch.bfloat16 in trained:
            raise ValueError("model: its parameters are bfloat16, too coarse for a Hessian; probe model.float()")
        super().__init__(model, loss, batches, size)
        if distributed:
            if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
                raise ValueError("distributed: no process group; call torch.distributed.init_process_group first")
            own = self._samples
            total = self._summed(self.start.new_tensor([float(own)]))
            self._share, self._distributed = own / float(total[0]), True

    def _summed(self, tensor: torch.Tensor) -> torch.Tensor:
        torch.distributed.all_reduce(tensor)
        return tensor

    def of_all(self, mean: torch.Tensor) -> torch.Tensor:
        """The mean over every process's samples, from that over one's own."""
        return self._summed(mean * self._share) if self._distributed else mean

    def value(self, w: Any) -> float:
        own = super().value(w)
        return float(self.of_all(self.start.new_tensor(own))) if self._distributed else own

    def _probe(self) -> torch.Tensor:
        self._order = {id(batch): k for k, batch in enumerate(self.batches)}
        w = self.start
        try:
            with self._watching() as watched:
                loss = super()._probe()
                values, self._doubtful = [float(loss.detach())], doubtful(loss)
                for batch in self.batches[1:]:
                    with torch.enable_grad():
                        another = self._loss_at(self._leaves(w), batch).reshape(())
                    values.append(float(another.detach()))
                    self._doubtful = sorted({*self._doubtful, *doubtful(another)})
        except RuntimeError as error:
            raise ValueError(self._mismatch(error)) from error
        except ValueError as error:
            if "deterministic" in str(error):
                raise ValueError(f"{error}; or pass seed=… to the probe, which fixes it") from None
            raise
        self._logit = w, _largest(watched)
        for value in values:
            if not math.isfinite(value):
                raise ValueError(f"loss: {value} at the model's parameters; give a finite loss")
        if not loss.requires_grad:
            raise ValueError("loss: it does not depend on the model's parameters, or was detached from them")
        self._kinks = found = kinks(loss)
        if found:
            warnings.warn(
                f"the loss contains {', '.join(found)}, which has kinks: its Hessian is that of the smooth piece at "
                "this point, and curvature from pieces that switch is not in it",
                KinkWarning,
                stacklevel=4,
            )
        return loss

    def _mismatch(self, error: RuntimeError) -> str:
        like = next(p for p in self.model.parameters() if p.requires_grad)
        for tensor in _tensors(self.batches[0]):
            if tensor.device != like.device:
                return f"batches: data on {tensor.device}, parameters on {like.device}; move one with .to(…)"
            if tensor.is_floating_point() and tensor.dtype != like.dtype:
                return f"batches: data of {tensor.dtype}, parameters of {like.dtype}; convert one with .to(…)"
        return f"loss: evaluating it failed: {error}"

    def _loss_at(self, parameters: dict[str, torch.Tensor], batch: Any) -> torch.Tensor:
        with Mended(self._batchnorm, self._watched):
            if self._seed is None:
                return super()._loss_at(parameters, batch)
            device = next(iter(parameters.values())).device
            with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
                torch.manual_seed(self._seed + self._order.get(id(batch), 0))
                return super()._loss_at(parameters, batch)

    def precision_at(self, w: Any) -> float:
        w = self._vector(w)
        self._refresh()
        # At another point near a minimum it may be a hundred times as large.
        if self._error is None or not torch.equal(self._error[0], w):
            self._error = w.clone(), rounding.relative_error(self, w)
        return self._error[1]

    def largest_logit(self, w: torch.Tensor) -> float:
        """The largest |logit| that a log-likelihood is taken of at w; infinite under autocast, 0 without any."""
        if self._logit is None or not torch.equal(self._logit[0], w):
            with self._watching() as watched, torch.no_grad():
                for batch in self.batches:
                    self._loss(w, batch)
            self._logit = w.clone(), _largest(watched)
        return self._logit[1]

    @contextmanager
    def _watching(self) -> Iterator[list[torch.Tensor]]:
        self._watched = watched = []
        try:
            yield watched
        finally:
            self._watched = None

    @property
    def choice(self) -> Choice:
        """The path of products, chosen when first needed."""
        if self._choice is None:
            self._refresh()
            self._choice = self._choose(self.start)
        return self._choice

    def release(self) -> None:
        """Let go of the retained graphs, and of what was made with them."""
        self._kept, self._made = None, []

    def _refresh(self) -> None:
        """Let go of what was made in other modes of the modules, or with buffers that have changed since."""
        buffers = tuple((id(buffer), buffer._version) for buffer in self.model.buffers())
        state = tuple(module.training for module in self.model.modules()), buffers
        if state != self._state:
            self.release()
            self._error = self._logit = None
            self._state = state

    def grad(self, w: Any) -> torch.Tensor:
        w = self._vector(w)
        self._refresh()
        if self._kept is not None and torch.equal(self._kept[0], w):
            return self.of_all(_sum(graph.weight * joined(graph.gradients) for graph in self._kept[1]))
        self.spent["gradients"] += 1
        return self.of_all(super().grad(w))

    def hvp(self, w: Any, u: Any) -> torch.Tensor:
        self.spent["products"] += 1
        w, u = self._vector(w), self._vector(u)
        self._refresh()
        path = self.choice.path
        for made in self._made:
            if torch.equal(made.u, u) and torch.equal(made.w, w):
                self._made.remove(made)
                return self.of_all(made.image)
        return self.of_all(self._by(path, w, u))

    def _by(self, path: str, w: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
        if path == "retained":
            along = self.parts(u)
            return _sum(
                graph.weight * joined(pull(graph.gradients, graph.leaves, along, retain_graph=True))
                for graph in self.graphs(w)
            )
        if path == "double":
            return super().hvp(w, u)
        if path == "forward":
            return self._forward(w, u)
        return self._difference(w, u)

    def _gradient(self, w: torch.Tensor) -> torch.Tensor:
        """∇ℓ(w) over this process's data; it is not counted."""
        return Network.grad(self, w)

    def _difference(self, w: torch.Tensor, u: torch.Tensor, stretch: float = 1.0) -> torch.Tensor:
        """∇²ℓ(w)u by central differences of steps h and 2h, extrapolated (Richardson); four gradients.

        One step alone would cost two, but its error h²D⁴ℓ(w)(u, u, u, ·)/6 can exceed the bounds that it enters.
        """
        length = float(torch.linalg.vector_norm(u))
        if length == 0:
            return torch.zeros_like(u)
        h = stretch * torch.finfo(w.dtype).eps ** (1 / 3) * self.scale(w) / length
        near, far = ((self._gradient(w + step * u) - self._gradient(w - step * u)) / (2 * step) for step in (h, 2 * h))
        return near + (near - far) / 3

    def _forward(self, w: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
        total = torch.zeros_like(w)
        with warnings.catch_warnings():
            # torch's own first use of forward mode warns of its own compiler.
            warnings.simplefilter("ignore", DeprecationWarning)
            for weight, batch in zip(self._weights, self.batches, strict=True):
                gradient = torch.func.grad(lambda point, batch=batch: self._loss(point, batch).reshape(()))
                total += weight * torch.func.jvp(gradient, (w,), (u,))[1].detach()
        return total

    def scale(self, w: torch.Tensor) -> float:
        """The length of a step that is large beside a parameter's rounding."""
        return max(1.0, float(torch.linalg.vector_norm(w)) / w.numel() ** 0.5)

    def graphs(self, w: torch.Tensor) -> Iterator[Graph]:
        """The gradient at w with its graph, one a batch: kept until another point is asked for, or made one by one."""
        self._refresh()
        if self.choice.path != "retained":
            self.release()
            yield from (self._graph(w, k) for k in range(len(self.batches)))
            return
        if self._kept is None or not torch.equal(self._kept[0], w):
            self._kept = None
            self._kept = (w.clone(), [self._graph(w, k) for k in range(len(self.batches))])
        yield from self._kept[1]

    def _graph(self, w: torch.Tensor, k: int) -> Graph:
        with torch.enable_grad():
            leaves = self._leaves(w)
            loss = self._loss_at(leaves, self.batches[k]).reshape(())
            return Graph(
                self._weights[k], list(leaves.values()), pull([loss], list(leaves.values()), create_graph=True)
            )

    def _choose(self, w: torch.Tensor) -> Choice:
        if self._asked != "auto":
            return Choice(self._asked, 0, "asked for", {})
        held: dict[int, int] = {}

        def pack(tensor: torch.Tensor) -> tuple[torch.Tensor]:
            storage = tensor.untyped_storage()
            held[storage.data_ptr()] = storage.nbytes()
            return (tensor,)

        try:
            with torch.autograd.graph.saved_tensors_hooks(pack, itemgetter(0)):
                graph = self._graph(w, 0)
            made = self._first_products(w, graph)
        except (NotImplementedError, RuntimeError) as error:
            return Choice("difference", 0, f"no second derivative by autograd ({_brief(error)})", {})
        if not self._kinks:
            wrong = self._disagreement(made[-1], joined(graph.gradients))
            if wrong is not None:
                return Choice("difference", 0, wrong, {})
        if len(self.batches) == 1:
            self._made = made
        # The other batches hold as much for each sample.
        total = int(sum(held.values()) / self._weights[0])
        if total <= self._memory:
            if len(self.batches) == 1:
                # This is the graph that the products will go through.
                self._kept = (w.clone(), [graph])
            return Choice("retained", total, "the gradient's graph fits in memory", {})
        del graph
        seconds: dict[Path, float] = {}
        paths: tuple[Path, ...] = ("double", "forward")
        for path in paths:
            try:
                began = time.perf_counter()
                self._by(path, w, made[-1].u)
                seconds[path] = time.perf_counter() - began
            except (NotImplementedError, RuntimeError):
                continue
        if not seconds:
            return Choice("difference", total, "neither double backward nor forward over reverse runs here", {})
        best = min(seconds, key=lambda path: seconds[path])
        return Choice(best, total, f"the graph would hold {total} bytes, more than {self._memory}; measured", seconds)

    def _first_products(self, w: torch.Tensor, graph: Graph) -> list[_Made]:
        """The products of Lanczos's own start and of its second vector, with which a search from here begins.

        The second responds strongly, whatever the dimension: it is what the path is judged by.
        """
        made: list[_Made] = []

        def product(u: torch.Tensor) -> torch.Tensor:
            image = joined(pull(graph.gradients, graph.leaves, self.parts(u), retain_graph=True))
            made.append(_Made(w, u.clone(), image))
            return image

        krylov = Krylov(product, random_start(w.numel(), 0, w), 2, np.random.default_rng(0))
        for _ in range(krylov.capacity):
            krylov.step()
        return made

    def _disagreement(self, made: _Made, slope: torch.Tensor) -> str | None:
        """What to say if autograd's product is not seen to be the derivative of its gradient, on the first batch.

        A hand-written backward pass that is not differentiable may lose a part of the second derivative in silence.
        The step is short, for truncation grows with it; a longer and a shorter one are tried before judgement. Where
        their differences are no nearer to each other than to the product, it is they that are wrong, by rounding or
        truncation: then nothing is seen.
        """
        size = float(torch.linalg.vector_norm(made.image))
        gaps: list[float] = []
        differences: list[torch.Tensor] = []
        for factor in (1.0, 8.0, 0.125):
            h = factor * torch.finfo(made.w.dtype).eps ** 0.5 * self.scale(made.w)
            differences.append((self._first_gradient(made.w + h * made.u) - slope) / h)
            gaps.append(float(torch.linalg.vector_norm(made.image - differences[-1])) / max(size, 1e-300))
            if gaps[-1] <= 0.02:
                return None
        spread = min(float(torch.linalg.vector_norm(one - other)) for one, other in combinations(differences, 2))
        if spread > 0.5 * min(gaps) * size:
            return "differences of gradients, which rounding drowns here, do not confirm autograd's second derivative"
        return f"autograd's second derivative disagrees with differences of gradients by {min(gaps):.2g}"

    def _first_gradient(self, w: torch.Tensor) -> torch.Tensor:
        with torch.enable_grad():
            leaves = self._leaves(w)
            return joined(pull([self._loss_at(leaves, self.batches[0]).reshape(())], list(leaves.values())))

    def third_by_products(self, w: torch.Tensor, u: torch.Tensor) -> tuple[torch.Tensor, float]:
        # Each product is at a point of its own: a retained graph would be of no use.
        chosen, self._choice = self._choice, Choice("double", 0, "for one difference", {})
        try:
            return super().third_by_products(w, u)
        finally:
            self._choice = chosen

    def third(self, w: Any, u: Any) -> torch.Tensor:
        return self.third_checked(w, u).value

    def third_checked(
        self,
        w: Any,
        u: Any,
        how: Literal["exact", "difference"] = "exact",
        product: tuple[torch.Tensor, float] | None = None,
    ) -> Third:
        """D³ℓ(w)(u, u, ·) and an estimate of its error; see `ravine.torch.curvature.third`.

        Parameters
        ----------
        product
            ∇²ℓ(w)u and its error where they are known: then the error of a difference is stated more closely.

        Raises
        ------
        ValueError
            If autograd and differences disagree by more than the difference formula's own error, with the layer that
            is suspected.
        """
        return third_derivative(self, self._vector(w), self._vector(u), how, product)


def _largest(watched: list[torch.Tensor]) -> float:
    return max((float(one) for one in watched), default=0.0)


def _sum(terms: Iterable[torch.Tensor]) -> torch.Tensor:
    return functools.reduce(torch.add, terms)


def _tensors(batch: Any) -> list[torch.Tensor]:
    if isinstance(batch, torch.Tensor):
        return [batch]
    members = batch.values() if isinstance(batch, dict) else batch if isinstance(batch, tuple | list) else ()
    return [tensor for member in members for tensor in _tensors(member)]


def _brief(error: BaseException) -> str:
    return " ".join(str(error).split())[:120]
