"""A network as an Objective: a module, a loss, batches; parameters as one flat vector."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, final

import torch
from torch import Tensor

from ravine.torch.curvature.batches import Batches
from ravine.torch.curvature.mean_loss import LossFunction, MeanLoss, evaluated, pull
from ravine.torch.curvature.model_objective import ModelObjective
from ravine.torch.curvature.products import DoubleBackward
from ravine.torch.curvature.third import difference_of_products


@final
class Network(ModelObjective[MeanLoss]):
    """The mean loss of a module over batches, as a function of its trainable parameters; see `network`.

    Derivatives are by automatic differentiation, over one process, and stand as torch gives them; `ravine.torch.Probe`
    chooses its way of Hessian products and states their error. Products are those of Pearlmutter (1994), by double
    backward; the third derivative serves ∇λ_max of Bartlett, Long and Bousquet (arXiv 2210.01513).

    Attributes
    ----------
    losses
        The mean loss itself, batch by batch.

    Examples
    --------
    >>> import torch
    >>> from ravine.torch import network
    >>> model = torch.nn.Linear(2, 1, bias=False)
    >>> x = torch.eye(2)
    >>> objective = network(model, lambda model, batch: (model(batch) ** 2).mean(), [x])
    >>> objective
    Network(Linear, 2 parameters, 1 batch)
    >>> objective.hvp(objective.start, torch.tensor([1.0, 0.0]))
    tensor([1., 0.])
    """

    def __init__(self, losses: MeanLoss) -> None:
        self.losses = losses

    @property
    def batches(self) -> list[Any]:
        """The data."""
        return self.losses.batches

    def value(self, w: Any) -> float:
        return self.losses.value(self.losses.coordinates.vector(w))

    def grad(self, w: Any) -> Tensor:
        return self.losses.gradient(self.losses.coordinates.vector(w))

    def hvp(self, w: Any, u: Any) -> Tensor:
        vector = self.losses.coordinates.vector
        return DoubleBackward(self.losses).product(vector(w), vector(u))

    def third(self, w: Any, u: Any) -> Tensor:
        """D³ℓ(w)(u, u, ·) by autograd, checked against a difference of two Hessian products.

        Current torch differentiates some layers (LayerNorm, BatchNorm in training mode) wrongly at third order,
        in silence. So each value is compared with (H(w+hu)u − H(w−hu)u)/2h.

        Raises
        ------
        ValueError
            If the two disagree by more than the difference formula's own error.
        """
        vector = self.losses.coordinates.vector
        w, u = vector(w), vector(u)
        along = self.losses.coordinates.parts(u)

        def triple(leaves: list[Tensor], loss: Tensor) -> Sequence[Tensor]:
            g = pull([loss], leaves, create_graph=True)
            return pull(pull(g, leaves, along, create_graph=True), leaves, along)

        exact = self.losses.mean(w, triple)
        difference, error = difference_of_products(self.hvp, w, u)
        gap = float(torch.linalg.vector_norm(exact - difference))
        if not gap <= 3 * error:
            suspects = sorted({type(m).__name__ for m in self.model.modules() if "Norm" in type(m).__name__})
            raise ValueError(
                f"third derivative: autograd and a difference of Hessian products disagree by {gap:.3g} "
                f"(the difference's error: {error:.3g}); torch differentiates a layer wrongly at third order"
                + (f", probably {', '.join(suspects)}; write it from elementary operations" if suspects else "")
            )
        return exact


def network(
    model: torch.nn.Module,
    loss_fn: LossFunction,
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
    loss_fn
        ``loss_fn(model, batch)``, a scalar tensor: the mean over the batch.
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
    losses = MeanLoss(model, loss_fn, Batches.of(batches, size))
    evaluated(losses, "switch dropout off with model.eval() or fix its randomness in the loss")
    return Network(losses)
