"""Ways to make a network's Hessian products ∇²ℓ(w)u, over one process's data."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from typing import Literal, Protocol, final

import torch
from torch import Tensor

from ravine.torch.curvature.coordinates import joined, step_length
from ravine.torch.curvature.mean_loss import Graph, MeanLoss, pull

ProductPath = Literal["retained", "double", "forward", "difference"]
"""Names of the ways: `RetainedGraph`, `DoubleBackward`, `ForwardOverReverse`, `Differences`."""
PATHS: tuple[ProductPath, ...] = ("retained", "double", "forward", "difference")


@final
@dataclass(frozen=True)
class ProductChoice:
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

    path: ProductPath
    bytes: int
    reason: str
    seconds: dict[ProductPath, float]


@final
@dataclass
class Spent:
    """What an objective was asked for so far: Hessian products, and gradients."""

    products: int = 0
    gradients: int = 0


class HessianProduct(Protocol):
    """A way to make ∇²ℓ(w)u; its implementations are final."""

    def product(self, w: Tensor, u: Tensor) -> Tensor:
        """∇²ℓ(w)u, shape (d,)."""
        ...


class Gradients(Protocol):
    """What differences are made of: the gradient at any point, not necessarily by a graph."""

    def gradient(self, w: Tensor) -> Tensor:
        """∇ℓ(w), shape (d,)."""
        ...


@final
class KeptGraphs:
    """The gradients' graphs at one point, one a batch, until another point is asked about."""

    def __init__(self) -> None:
        self._kept: tuple[Tensor, list[Graph]] | None = None

    def at(self, w: Tensor) -> list[Graph] | None:
        """The graphs that were made at `w`, if they are held."""
        return self._kept[1] if self._kept is not None and torch.equal(self._kept[0], w) else None

    def keep(self, w: Tensor, graphs: list[Graph]) -> None:
        """Hold `graphs`, which were made at `w`."""
        self._kept = w.clone(), graphs

    def gradient(self, w: Tensor) -> Tensor | None:
        """∇ℓ(w), if its graphs are held."""
        graphs = self.at(w)
        return None if graphs is None else _sum(graph.weight * joined(graph.gradients) for graph in graphs)

    def release(self) -> None:
        """Let go of the graphs."""
        self._kept = None


@final
class RetainedGraph:
    """One backward pass a product, through the gradient's graph, which is kept."""

    def __init__(self, losses: MeanLoss, kept: KeptGraphs) -> None:
        self._losses, self._kept = losses, kept

    def product(self, w: Tensor, u: Tensor) -> Tensor:
        along = self._losses.coordinates.parts(u)
        return _sum(
            graph.weight * joined(pull(graph.gradients, graph.leaves, along, retain_graph=True))
            for graph in self.graphs(w)
        )

    def graphs(self, w: Tensor) -> list[Graph]:
        """The gradient at w with its graph, one a batch."""
        held = self._kept.at(w)
        if held is None:
            # The old ones go before the new ones come.
            self._kept.release()
            held = list(self._losses.graphs(w))
            self._kept.keep(w, held)
        return held


@final
class DoubleBackward:
    """Two backward passes a product; the graph is made anew for each."""

    def __init__(self, losses: MeanLoss) -> None:
        self._losses = losses

    def product(self, w: Tensor, u: Tensor) -> Tensor:
        along = self._losses.coordinates.parts(u)
        return self._losses.mean(w, lambda leaves, loss: pull(pull([loss], leaves, create_graph=True), leaves, along))


@final
class ForwardOverReverse:
    """The directional derivative of the gradient, by forward mode over a backward pass."""

    def __init__(self, losses: MeanLoss) -> None:
        self._losses = losses

    def product(self, w: Tensor, u: Tensor) -> Tensor:
        total = torch.zeros_like(w)
        with warnings.catch_warnings():
            # torch's own first use of forward mode warns of its own compiler.
            warnings.simplefilter("ignore", DeprecationWarning)
            for k, weight in enumerate(self._losses.weights):
                gradient = torch.func.grad(lambda point, k=k: self._losses.loss(point, k).reshape(()))
                total += weight * torch.func.jvp(gradient, (w,), (u,))[1].detach()
        return total


@final
class Differences:
    """Central differences of gradients, extrapolated; four gradients a product, and not exact."""

    def __init__(self, losses: Gradients) -> None:
        self._losses = losses

    def product(self, w: Tensor, u: Tensor) -> Tensor:
        return self.stretched(w, u, 1.0)

    def stretched(self, w: Tensor, u: Tensor, stretch: float) -> Tensor:
        """∇²ℓ(w)u from steps `stretch` times h and 2h, extrapolated (Richardson).

        One step alone would cost two gradients, but its error h²D⁴ℓ(w)(u, u, u, ·)/6 can exceed the bounds that it
        enters.
        """
        length = float(torch.linalg.vector_norm(u))
        if length == 0:
            return torch.zeros_like(u)
        h = stretch * torch.finfo(w.dtype).eps ** (1 / 3) * step_length(w) / length
        near, far = (central_difference(self._losses, w, u, step) for step in (h, 2 * h))
        return near + (near - far) / 3


def central_difference(losses: Gradients, w: Tensor, u: Tensor, step: float) -> Tensor:
    """(∇ℓ(w + hu) − ∇ℓ(w − hu))/2h, which is ∇²ℓ(w)u up to h²."""
    return (losses.gradient(w + step * u) - losses.gradient(w - step * u)) / (2 * step)


def _sum(terms: Iterator[Tensor]) -> Tensor:
    return reduce(torch.add, terms)
