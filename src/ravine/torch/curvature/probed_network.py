"""What a probe looks at: a network's mean loss, a way of Hessian products, and the mean over processes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, final

import torch
from torch import Tensor

from ravine.torch.curvature.choosing import ChosenProduct, MadeProduct
from ravine.torch.curvature.gauss_newton import gauss_newton_product
from ravine.torch.curvature.mean_loss import Graph, MeanLoss
from ravine.torch.curvature.model_objective import ModelObjective
from ravine.torch.curvature.precision import DoublePrecision
from ravine.torch.curvature.processes import Processes
from ravine.torch.curvature.products import (
    Differences,
    DoubleBackward,
    HessianProduct,
    KeptGraphs,
    ProductChoice,
    RetainedGraph,
    Spent,
)
from ravine.torch.curvature.rounding import (
    MeasuredProducts,
    error_of_differences,
    error_of_products,
    largest_logit_at,
)
from ravine.torch.curvature.sharded import NOT_EXACT, ShardedLoss
from ravine.torch.curvature.third import Third, checked_third, third_by_differences

Choose = Callable[[], ChosenProduct]
"""The way of products, found at the parameters as they are."""


@final
class ProbedNetwork(ModelObjective[MeanLoss | ShardedLoss]):
    """A network's mean loss as an `Objective` whose Hessian products state their error, and are counted.

    Composed of the loss (parameters as a vector, values, gradients), a way of Hessian products, and the mean over
    processes; `ravine.torch.curvature.composing` does so.

    Attributes
    ----------
    losses
        The mean loss over this process's data, or under FSDP over all.
    spent
        Hessian products and gradients that were asked for.
    """

    def __init__(
        self, losses: MeanLoss | ShardedLoss, choose: Choose, kept: KeptGraphs, processes: Processes, *, lossy: bool
    ) -> None:
        self.losses, self.spent = losses, Spent()
        self._choose, self._kept, self._processes, self._lossy = choose, kept, processes, lossy
        self._wide = losses.within(DoublePrecision) if isinstance(losses, MeanLoss) else None
        self._chosen: ChosenProduct | None = None
        self._made: list[MadeProduct] = []
        self._error: tuple[Tensor, float] | None = None
        self._state: Any = None

    # The parameters.

    def set_gradient(self, g: Tensor) -> None:
        """Write copies of the parts of `g`, shape (d,), into the trainable parameters' ``.grad``."""
        self.losses.coordinates.set_gradient(g)

    def parts(self, u: Tensor) -> list[Tensor]:
        """The parts of `u` in the parameters' shapes."""
        return self.losses.coordinates.parts(u)

    # Value and derivatives.

    def value(self, w: Any) -> float:
        w = self.losses.coordinates.vector(w)
        return self._processes.mean_value(self.losses.value(w), w)

    def grad(self, w: Any) -> Tensor:
        w = self.losses.coordinates.vector(w)
        self._refresh()
        known = self._kept.gradient(w)
        if known is not None:
            return self._processes.mean(known)
        self.spent.gradients += 1
        return self._processes.mean(self.losses.gradient(w))

    def hvp(self, w: Any, u: Any) -> Tensor:
        self.spent.products += 1
        w, u = self.losses.coordinates.vector(w), self.losses.coordinates.vector(u)
        way = self._hessian_product()
        for made in self._made:
            if torch.equal(made.u, u) and torch.equal(made.w, w):
                self._made.remove(made)
                return self._processes.mean(made.image)
        return self._processes.mean(way.product(w, u))

    def single_product(self, w: Tensor, u: Tensor) -> Tensor:
        """∇²ℓ(w)u at a point that is not returned to, exact: no graph is kept for it."""
        self.spent.products += 1
        return self._processes.mean(DoubleBackward(self.with_graph()).product(w, u))

    def gauss_newton_product(self, w: Any, u: Any) -> Tensor:
        """Gu, G the Gauss–Newton part of the Hessian at w; see `ravine.torch.curvature.gauss_newton`.

        Raises
        ------
        ValueError
            If the loss does not call the model exactly once for a tensor, or depends on the parameters past its output;
            and under FSDP.
        """
        vector = self.losses.coordinates.vector
        return self._processes.mean(gauss_newton_product(self.with_graph(), vector(w), vector(u)))

    def third(self, w: Any, u: Any) -> Tensor:
        return (self.third_exact(w, u) if self.has_graph else self.third_difference(w, u)).value

    def third_exact(self, w: Any, u: Any) -> Third:
        """D³ℓ(w)(u, u, ·) by autograd, and an estimate of its error; see `ravine.torch.curvature.third`.

        Raises
        ------
        ValueError
            If autograd and differences disagree by more than the difference formula's own error, with the layer that
            is suspected; where products are differences; and under FSDP.
        """
        vector = self.losses.coordinates.vector
        self.with_graph()
        if isinstance(self._hessian_product(), Differences):
            raise ValueError(
                f"third derivative: products are differences of gradients here ({self.choice.reason}); "
                "use how='difference'"
            )
        return checked_third(self, vector(w), vector(u))

    def third_difference(self, w: Any, u: Any, product: tuple[Tensor, float] | None = None) -> Third:
        """D³ℓ(w)(u, u, ·) by differences of gradients, with their error.

        Parameters
        ----------
        product
            ∇²ℓ(w)u and its error where they are known: then the error is stated more closely.
        """
        vector, before = self.losses.coordinates.vector, self.spent.gradients
        value, error = third_by_differences(self.grad, vector(w), vector(u), product)
        return Third(value, error, "difference", self.spent.gradients - before)

    def precision_at(self, w: Any) -> float:
        w = self.losses.coordinates.vector(w)
        way = self._hessian_product()
        # At another point near a minimum it may be a hundred times as large.
        if self._error is None or not torch.equal(self._error[0], w):
            measured = MeasuredProducts(way, self.losses, self._processes, self.spent, self._wide)
            if isinstance(way, Differences):
                error = error_of_differences(measured, way, w)
            else:
                error = error_of_products(measured, self._largest_logit(w), w)
            self._error = w.clone(), error
        return self._error[1]

    # How products are made.

    @property
    def has_graph(self) -> bool:
        """Whether autograd goes through the loss; it does not under FSDP."""
        return isinstance(self.losses, MeanLoss)

    @property
    def choice(self) -> ProductChoice:
        """The way of products, chosen when first needed."""
        return self._chosen_product().choice

    def with_graph(self) -> MeanLoss:
        """The losses, through which autograd goes.

        Raises
        ------
        ValueError
            Under FSDP.
        """
        if not isinstance(self.losses, MeanLoss):
            raise ValueError(f"model: {NOT_EXACT}")
        return self.losses

    def graphs(self, w: Tensor) -> Iterable[Graph]:
        """The gradient at w with its graph, one a batch of this process: those kept, or made one by one."""
        way = self._hessian_product()
        if isinstance(way, RetainedGraph):
            return way.graphs(w)
        self.release()
        return self.with_graph().graphs(w)

    def over_processes(self, own: Tensor) -> Tensor:
        """The mean over every process's samples, from that over one's own."""
        return self._processes.mean(own)

    def release(self) -> None:
        """Let go of the retained graphs, and of what was made with them."""
        self._kept.release()
        self._made = []

    def _hessian_product(self) -> HessianProduct:
        self._refresh()
        return self._chosen_product().way

    def _chosen_product(self) -> ChosenProduct:
        if self._chosen is None:
            self._refresh()
            self._chosen = self._choose()
            self._made = self._chosen.made
        return self._chosen

    def _largest_logit(self, w: Tensor) -> float:
        if self._lossy:
            return math.inf
        return 0.0 if w.dtype == torch.float64 else largest_logit_at(self.with_graph(), w)

    def _refresh(self) -> None:
        """Let go of what was made in other modes of the modules, or with buffers that have changed since."""
        buffers = tuple((id(buffer), buffer._version) for buffer in self.model.buffers())
        state = tuple(module.training for module in self.model.modules()), buffers
        if state != self._state:
            self.release()
            self._error, self._state = None, state
