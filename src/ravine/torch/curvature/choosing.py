"""Which way of Hessian products serves a network: by memory, by time, and by whether autograd is right."""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import combinations
from operator import itemgetter
from typing import final

import numpy as np
import torch
from torch import Tensor

from ravine.spectrum import Krylov, random_start
from ravine.torch.curvature.coordinates import joined, step_length
from ravine.torch.curvature.mean_loss import Graph, MeanLoss, pull
from ravine.torch.curvature.products import (
    Differences,
    DoubleBackward,
    ForwardOverReverse,
    HessianProduct,
    KeptGraphs,
    ProductChoice,
    ProductPath,
    RetainedGraph,
)  # fmt: skip

MEMORY = 2 * 2**30
"""Bytes that retained graphs may take unless the caller says otherwise."""


@final
@dataclass(frozen=True)
class MadeProduct:
    """A product that was made before it was asked for: ∇²ℓ(w)u of the first batch."""

    w: Tensor
    u: Tensor
    image: Tensor


@final
@dataclass(frozen=True)
class ChosenProduct:
    """A way of products, why it was chosen, and those that were made to choose it and can be used."""

    way: HessianProduct
    choice: ProductChoice
    made: list[MadeProduct]


def ways(losses: MeanLoss, kept: KeptGraphs) -> dict[ProductPath, HessianProduct]:
    """Every way, by its name."""
    return {
        "retained": RetainedGraph(losses, kept),
        "double": DoubleBackward(losses),
        "forward": ForwardOverReverse(losses),
        "difference": Differences(losses),
    }


def asked_for(path: ProductPath, losses: MeanLoss, kept: KeptGraphs) -> ChosenProduct:
    """The way that the caller named."""
    return ChosenProduct(ways(losses, kept)[path], ProductChoice(path, 0, "asked for", {}), [])


def choose(losses: MeanLoss, kept: KeptGraphs, *, memory: int, smooth: bool) -> ChosenProduct:
    """The cheapest way at the parameters whose products are right.

    The gradient's graph is kept where it takes at most `memory` bytes; else double backward and forward over reverse
    are timed. Where autograd has no second derivative, or a `smooth` loss's disagrees with differences of gradients,
    products are differences.
    """
    w, named = losses.coordinates.start, ways(losses, kept)
    made: list[MadeProduct] = []

    def by(path: ProductPath, held: int, reason: str, seconds: dict[ProductPath, float] | None = None) -> ChosenProduct:
        return ChosenProduct(named[path], ProductChoice(path, held, reason, seconds or {}), made)

    try:
        graph, held = _graph_and_bytes(losses, w)
        first = _first_products(losses, w, graph)
    except (NotImplementedError, RuntimeError) as error:
        return by("difference", 0, f"no second derivative by autograd ({brief(error)})")
    if smooth:
        wrong = _disagreement(losses, first[-1], joined(graph.gradients))
        if wrong is not None:
            return by("difference", 0, wrong)
    alone = len(losses.batches) == 1
    if alone:
        made += first
    # The other batches hold as much for each sample.
    total = int(held / losses.weights[0])
    if total <= memory:
        if alone:
            # This is the graph that the products will go through.
            kept.keep(w, [graph])
        return by("retained", total, "the gradient's graph fits in memory")
    del graph
    seconds = _product_seconds(named, w, first[-1].u)
    if not seconds:
        return by("difference", total, "neither double backward nor forward over reverse runs here")
    best = min(seconds, key=lambda path: seconds[path])
    return by(best, total, f"the graph would hold {total} bytes, more than {memory}; measured", seconds)


def brief(error: BaseException) -> str:
    """An error's message in one line."""
    return " ".join(str(error).split())[:120]


def _graph_and_bytes(losses: MeanLoss, w: Tensor) -> tuple[Graph, int]:
    """The first batch's graph, and the bytes that it holds."""
    held: dict[int, int] = {}

    def pack(tensor: Tensor) -> tuple[Tensor]:
        storage = tensor.untyped_storage()
        held[storage.data_ptr()] = storage.nbytes()
        return (tensor,)

    with torch.autograd.graph.saved_tensors_hooks(pack, itemgetter(0)):
        graph = losses.graph(w, 0)
    return graph, sum(held.values())


def _product_seconds(named: dict[ProductPath, HessianProduct], w: Tensor, u: Tensor) -> dict[ProductPath, float]:
    """Seconds of one product, by the ways that hold no graph and run here."""
    seconds: dict[ProductPath, float] = {}
    paths: tuple[ProductPath, ...] = ("double", "forward")
    for path in paths:
        try:
            began = time.perf_counter()
            named[path].product(w, u)
            seconds[path] = time.perf_counter() - began
        except (NotImplementedError, RuntimeError):
            continue
    return seconds


def _first_products(losses: MeanLoss, w: Tensor, graph: Graph) -> list[MadeProduct]:
    """The products of Lanczos's own start and of its second vector, with which a search from here begins.

    The second responds strongly, whatever the dimension: it is what the way is judged by.
    """
    made: list[MadeProduct] = []

    def product(u: Tensor) -> Tensor:
        image = joined(pull(graph.gradients, graph.leaves, losses.coordinates.parts(u), retain_graph=True))
        made.append(MadeProduct(w, u.clone(), image))
        return image

    krylov = Krylov(product, random_start(w.numel(), 0, w), 2, np.random.default_rng(0))
    for _ in range(krylov.capacity):
        krylov.step()
    return made


def _disagreement(losses: MeanLoss, made: MadeProduct, slope: Tensor) -> str | None:
    """What to say if autograd's product is not seen to be the derivative of its gradient, on the first batch.

    A hand-written backward pass that is not differentiable may lose a part of the second derivative in silence.
    The step is short, for truncation grows with it; a longer and a shorter one are tried before judgement. Where
    their differences are no nearer to each other than to the product, it is they that are wrong, by rounding or
    truncation: then nothing is seen.
    """
    size = float(torch.linalg.vector_norm(made.image))
    gaps: list[float] = []
    differences: list[Tensor] = []
    for factor in (1.0, 8.0, 0.125):
        h = factor * torch.finfo(made.w.dtype).eps ** 0.5 * step_length(made.w)
        differences.append((_first_gradient(losses, made.w + h * made.u) - slope) / h)
        gaps.append(float(torch.linalg.vector_norm(made.image - differences[-1])) / max(size, 1e-300))
        if gaps[-1] <= 0.02:
            return None
    spread = min(float(torch.linalg.vector_norm(one - other)) for one, other in combinations(differences, 2))
    if spread > 0.5 * min(gaps) * size:
        return "differences of gradients, which rounding drowns here, do not confirm autograd's second derivative"
    return f"autograd's second derivative disagrees with differences of gradients by {min(gaps):.2g}"


def _first_gradient(losses: MeanLoss, w: Tensor) -> Tensor:
    with torch.enable_grad():
        leaves = losses.coordinates.leaves(w)
        return joined(pull([losses.loss_at(leaves, 0).reshape(())], list(leaves.values())))
