"""A network's Hessian products by the cheapest correct path, and third derivatives that are checked."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch

from ravine.torch.layers import BatchNormMode, Mended, kinks
from ravine.torch.network import LossFunction, Network

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
    seconds: dict[str, float]


@dataclass(frozen=True)
class Third:
    """D³ℓ(w)(u, u, ·), with what its check found.

    Attributes
    ----------
    value
        Shape (d,).
    error
        ‖value − the other formula's value‖: an estimate of its error from above, since the difference formula is the
        coarser.
    how
        ``"exact"`` (autograd, checked by differences) or ``"difference"``.
    gradients
        What it cost, counting a backward through a graph of n derivatives as n gradients.
    """

    value: torch.Tensor
    error: float
    how: str
    gradients: int


class KinkWarning(UserWarning):
    """The loss is not twice differentiable everywhere; its Hessian is that of one piece."""


class Products(Network):
    """`Network` with Hessian products of chosen path, norms from elementary operations, and seeded randomness.

    Parameters
    ----------
    model, loss, batches, size
        As for `ravine.torch.network`.
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
        self._kept: tuple[torch.Tensor, list[tuple[float, torch.Tensor, torch.Tensor]]] | None = None
        self._choice: Choice | None = None
        self._error: float | None = None
        self._order: dict[int, int] = {}
        self._kinks: list[str] = []
        self.spent = {"gradients": 0, "products": 0}
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

    def _of_all(self, mean: torch.Tensor) -> torch.Tensor:
        """The mean over every process's samples, from that over one's own."""
        return self._summed(mean * self._share) if self._distributed else mean

    def value(self, w: Any) -> float:
        own = super().value(w)
        return float(self._of_all(self.start.new_tensor(own))) if self._distributed else own

    def _probe(self) -> None:
        self._order = {id(batch): k for k, batch in enumerate(self.batches)}
        try:
            super()._probe()
        except RuntimeError as error:
            raise ValueError(self._mismatch(error)) from error
        except ValueError as error:
            if "deterministic" in str(error):
                raise ValueError(f"{error}; or pass seed=… to the probe, which fixes it") from None
            raise
        w = self.start.requires_grad_(True)
        with torch.enable_grad():
            losses = [self._loss(w, batch) for batch in self.batches[:1]]
        value = self.value(w)
        if not torch.isfinite(torch.tensor(value)):
            raise ValueError(f"loss: {value} at the model's parameters; give a finite loss")
        if not losses[0].requires_grad:
            raise ValueError("loss: it does not depend on the model's parameters, or was detached from them")
        self._kinks = found = kinks(losses[0])
        if found:
            warnings.warn(
                f"the loss contains {', '.join(found)}, which has kinks: its Hessian is that of the smooth piece at "
                "this point, and curvature from pieces that switch is not in it",
                KinkWarning,
                stacklevel=4,
            )

    def _mismatch(self, error: RuntimeError) -> str:
        like = next(p for p in self.model.parameters() if p.requires_grad)
        for tensor in _tensors(self.batches[0]):
            if tensor.device != like.device:
                return f"batches: data on {tensor.device}, parameters on {like.device}; move one with .to(…)"
            if tensor.is_floating_point() and tensor.dtype != like.dtype:
                return f"batches: data of {tensor.dtype}, parameters of {like.dtype}; convert one with .to(…)"
        return f"loss: evaluating it failed: {error}"

    def _loss(self, w: torch.Tensor, batch: Any) -> torch.Tensor:
        with Mended(self._batchnorm):
            if self._seed is None:
                return super()._loss(w, batch)
            devices = [w.device] if w.device.type == "cuda" else []
            with torch.random.fork_rng(devices=devices):
                torch.manual_seed(self._seed + self._order.get(id(batch), 0))
                return super()._loss(w, batch)

    @property
    def precision(self) -> float:
        if self.choice.path != "difference":
            return 0.0
        # A central difference at its best step loses a third of the digits, and more where the loss bends strongly.
        return max(10 * torch.finfo(self.start.dtype).eps ** (2 / 3), self._measured())

    @property
    def choice(self) -> Choice:
        """The path of products, chosen when first needed."""
        if self._choice is None:
            self._choice = self._choose()
        return self._choice

    def release(self) -> None:
        """Let go of the retained graphs."""
        self._kept = None

    def grad(self, w: Any) -> torch.Tensor:
        self.spent["gradients"] += 1
        return self._of_all(super().grad(w))

    def hvp(self, w: Any, u: Any) -> torch.Tensor:
        self.spent["products"] += 1
        return self._of_all(self._by(self.choice.path, self._vector(w), self._vector(u)))

    def _by(self, path: str, w: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
        if path == "retained":
            total = torch.zeros_like(w)
            for weight, point, g in self._graphs(w):
                if g.requires_grad:
                    total += weight * _pull(g, point, u, retain_graph=True)
            return total
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
        h = stretch * torch.finfo(w.dtype).eps ** (1 / 3) * self._scale(w) / length
        near, far = ((self._gradient(w + step * u) - self._gradient(w - step * u)) / (2 * step) for step in (h, 2 * h))
        return near + (near - far) / 3

    def _measured(self) -> float:
        """The relative error of products, measured once at the model's parameters; 17 gradients.

        ‖product by h and 2h − product by 2h and 4h‖ along the gradient, which is also the noise of a loss that is
        computed in less than the parameters' precision (autocast); and along the first product, since the steepest
        directions bend most.
        """
        if self._error is None:
            w = self.start
            u = torch.linspace(-1, 1, w.numel(), dtype=w.dtype, device=w.device)
            u, g = u / torch.linalg.vector_norm(u), self._of_all(self._gradient(w))
            length = float(torch.linalg.vector_norm(g))
            u = u + g / length if length > 0 else u
            errors, sizes = [0.0], [0.0]
            for _ in range(2):
                length = float(torch.linalg.vector_norm(u))
                if length == 0:
                    break
                near, far = (self._of_all(self._difference(w, u, stretch)) for stretch in (1.0, 2.0))
                errors.append(float(torch.linalg.vector_norm(far - near)) / length)
                sizes.append(float(torch.linalg.vector_norm(near)) / length)
                u = near
            self._error = max(errors) / max(sizes) if max(sizes) > 0 else 0.0
        return self._error

    def _forward(self, w: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
        total = torch.zeros_like(w)
        with warnings.catch_warnings():
            # torch's own first use of forward mode warns of its own compiler.
            warnings.simplefilter("ignore", DeprecationWarning)
            for weight, batch in zip(self._weights, self.batches, strict=True):
                gradient = torch.func.grad(lambda point, batch=batch: self._loss(point, batch).reshape(()))
                total += weight * torch.func.jvp(gradient, (w,), (u,))[1].detach()
        return total

    def _scale(self, w: torch.Tensor) -> float:
        return max(1.0, float(torch.linalg.vector_norm(w)) / w.numel() ** 0.5)

    def _graphs(self, w: torch.Tensor) -> list[tuple[float, torch.Tensor, torch.Tensor]]:
        """The gradient at w with its graph, one a batch; kept until another point is asked for."""
        if self._kept is None or not torch.equal(self._kept[0], w):
            self._kept = None
            graphs = []
            with torch.enable_grad():
                for weight, batch in zip(self._weights, self.batches, strict=True):
                    point = w.clone().requires_grad_(True)
                    (g,) = torch.autograd.grad(self._loss(point, batch).reshape(()), point, create_graph=True)
                    graphs.append((weight, point, g))
            self._kept = (w.clone(), graphs)
        return self._kept[1]

    def _choose(self) -> Choice:
        w = self.start
        if self._asked != "auto":
            return Choice(self._asked, 0, "asked for", {})
        held: dict[int, int] = {}

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            held[storage.data_ptr()] = storage.nbytes()
            return tensor

        point = w.clone().requires_grad_(True)
        try:
            with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
                (g,) = torch.autograd.grad(self._loss(point, self.batches[0]).reshape(()), point, create_graph=True)
                slope = g.detach()
                u = torch.linspace(-1, 1, w.numel(), dtype=w.dtype, device=w.device)
                u = u / torch.linalg.vector_norm(u)
                length = float(torch.linalg.vector_norm(slope))
                if length > 0:
                    u = u + slope / length
                exact = _pull(g, point, u, retain_graph=True) if g.requires_grad else torch.zeros_like(w)
        except (NotImplementedError, RuntimeError) as error:
            return Choice("difference", 0, f"no second derivative by autograd ({_brief(error)})", {})
        if not self._kinks:
            wrong = self._disagreement(w, u, slope, exact)
            if wrong is not None:
                return Choice("difference", 0, wrong, {})
        # The other batches hold as much for each sample.
        total = int(sum(held.values()) / self._weights[0])
        if total <= self._memory:
            if len(self.batches) == 1:
                # This is the graph that the products will go through.
                self._kept = (w.clone(), [(1.0, point, g)])
            return Choice("retained", total, "the gradient's graph fits in memory", {})
        seconds: dict[str, float] = {}
        for path in ("double", "forward"):
            try:
                began = time.perf_counter()
                self._by(path, w, u)
                seconds[path] = time.perf_counter() - began
            except (NotImplementedError, RuntimeError):
                continue
        if not seconds:
            return Choice("difference", total, "neither double backward nor forward over reverse runs here", {})
        best: Any = min(seconds, key=lambda path: seconds[path])
        return Choice(best, total, f"the graph would hold {total} bytes, more than {self._memory}; measured", seconds)

    def _disagreement(self, w: torch.Tensor, u: torch.Tensor, slope: torch.Tensor, exact: torch.Tensor) -> str | None:
        """What to say if autograd's product is not the derivative of its gradient, on the first batch.

        A hand-written backward pass that is not differentiable may lose a part of the second derivative in silence.
        """
        precision = torch.finfo(w.dtype).eps
        length, size = float(torch.linalg.vector_norm(u)), float(torch.linalg.vector_norm(exact))
        for shrink in (1.0, 0.25):
            h = shrink * precision ** (1 / 3) * self._scale(w) / length
            difference = (self._first_gradient(w + h * u) - self._first_gradient(w - h * u)) / (2 * h)
            gap = float(torch.linalg.vector_norm(exact - difference))
            rounding = 32 * precision * (float(torch.linalg.vector_norm(slope)) + h * size) / h
            if gap <= 0.02 * size + rounding:
                return None
        return f"autograd's second derivative disagrees with differences of gradients by {gap / max(size, 1e-300):.2g}"

    def _first_gradient(self, w: torch.Tensor) -> torch.Tensor:
        with torch.enable_grad():
            point = w.clone().requires_grad_(True)
            return torch.autograd.grad(self._loss(point, self.batches[0]).reshape(()), point)[0]

    def third(self, w: Any, u: Any) -> torch.Tensor:
        return self.third_checked(w, u).value

    def third_checked(self, w: Any, u: Any, how: Literal["exact", "difference"] = "exact") -> Third:
        """D³ℓ(w)(u, u, ·) by autograd, checked by differences of gradients; or by differences only.

        The check is the second difference (∇ℓ(w+hu) − 2∇ℓ(w) + ∇ℓ(w−hu))/h², two gradients; if that does not settle
        it, also at 2h (Richardson), and then by products.

        Raises
        ------
        ValueError
            If the two disagree by more than the difference formula's own error, with the layer that is suspected.
        """
        w, u = self._vector(w), self._vector(u)
        length = float(torch.linalg.vector_norm(u))
        if length == 0:
            return Third(torch.zeros_like(u), 0.0, how, 0)
        if how == "difference":
            value, error = self._second_difference(w, u)
            return Third(value, error, how, 4)
        if how != "exact":
            raise ValueError(f"how = {how!r}: use exact or difference")
        if self.choice.path == "difference":
            raise ValueError("third derivative: this loss has no second derivative by autograd; use how='difference'")
        exact = torch.zeros_like(w)
        g = torch.zeros_like(w)
        keep = self.choice.path == "retained"
        if not keep:
            self.release()
        with torch.enable_grad():
            for k, (weight, batch) in enumerate(zip(self._weights, self.batches, strict=True)):
                if keep:
                    _, point, gradient = self._graphs(w)[k]
                else:
                    point = w.clone().requires_grad_(True)
                    (gradient,) = torch.autograd.grad(self._loss(point, batch).reshape(()), point, create_graph=True)
                g += weight * gradient.detach()
                if not gradient.requires_grad:
                    continue
                h = _pull(gradient, point, u, create_graph=True)
                if h.requires_grad:
                    exact += weight * _pull(h, point, u, retain_graph=keep)
        exact, g = self._of_all(exact), self._of_all(g)
        precision = torch.finfo(w.dtype).eps
        step = precision**0.25 * self._scale(w) / length
        near = self._curl(w, u, g, step)
        size = float(torch.linalg.vector_norm(exact))
        gap = float(torch.linalg.vector_norm(exact - near))
        if gap <= 8 * precision**0.5 * size:
            return Third(exact, gap, "exact", 8)
        value, error = self._second_difference(w, u, g, near)
        gap = float(torch.linalg.vector_norm(exact - value))
        if gap <= 3 * error and error <= 0.02 * size:
            return Third(exact, gap, "exact", 10)
        # Differences of products lose fewer digits than those of gradients.
        self.release()
        value, error = self._third_by_difference(w, u)
        gap = float(torch.linalg.vector_norm(exact - value))
        if gap <= 3 * error:
            return Third(exact, gap + error, "exact", 22)
        raise ValueError(
            f"third derivative: autograd and differences disagree by {gap:.3g} (the difference's error: {error:.3g}) "
            f"at {self._suspects()}, which autograd differentiates wrongly at third order; write it from elementary "
            "operations, or ask for how='difference'"
        )

    def _third_by_difference(self, w: torch.Tensor, u: torch.Tensor) -> tuple[torch.Tensor, float]:
        # Each product is at a point of its own: a retained graph would be of no use.
        chosen, self._choice = self._choice, Choice("double", 0, "for one difference", {})
        try:
            return super()._third_by_difference(w, u)
        finally:
            self._choice = chosen

    def _curl(self, w: torch.Tensor, u: torch.Tensor, g: torch.Tensor, step: float) -> torch.Tensor:
        return (self.grad(w + step * u) - 2 * g + self.grad(w - step * u)) / step**2

    def _second_difference(
        self, w: torch.Tensor, u: torch.Tensor, g: torch.Tensor | None = None, near: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, float]:
        """Richardson's extrapolation of the second difference from steps h and 2h, and an estimate of its error."""
        precision = torch.finfo(w.dtype).eps
        step = precision**0.25 * self._scale(w) / float(torch.linalg.vector_norm(u))
        g = self.grad(w) if g is None else g
        near = self._curl(w, u, g, step) if near is None else near
        far = self._curl(w, u, g, 2 * step)
        truncation = float(torch.linalg.vector_norm(far - near)) / 3
        size = float(torch.linalg.vector_norm(g)) + float(torch.linalg.vector_norm(near)) * step**2
        return near + (near - far) / 3, truncation + 8 * precision * size / step**2

    def _suspects(self) -> str:
        """The layers that are not torch's own, since torch's that are wrong are mended; else all kinds there are."""
        leaves = [(name, m) for name, m in self.model.named_modules() if not list(m.children())]
        own = [f"{type(m).__name__} ({name})" for name, m in leaves if not type(m).__module__.startswith("torch.")]
        kinds = sorted({type(m).__name__ for _, m in leaves})
        return ", ".join(own[:4] or kinds[:6]) or type(self.model).__name__


def _pull(
    g: torch.Tensor, point: torch.Tensor, u: torch.Tensor, create_graph: bool = False, retain_graph: bool | None = None
) -> torch.Tensor:
    """uᵀ∂g/∂point, zero where g does not depend on it."""
    (out,) = torch.autograd.grad(
        g, point, u, create_graph=create_graph, retain_graph=retain_graph or create_graph, allow_unused=True,
        materialize_grads=True,
    )  # fmt: skip
    return out


def _tensors(batch: Any) -> list[torch.Tensor]:
    if isinstance(batch, torch.Tensor):
        return [batch]
    members = batch.values() if isinstance(batch, dict) else batch if isinstance(batch, tuple | list) else ()
    return [tensor for member in members for tensor in _tensors(member)]


def _brief(error: BaseException) -> str:
    return " ".join(str(error).split())[:120]
