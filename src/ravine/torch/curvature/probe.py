"""How sharp a network's loss is, how far a run bounces, where it drifts, and what happens next."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal, final

import torch

from ravine import observations, spectrum
from ravine.forecasts import Forecast
from ravine.forecasts import forecast as _forecast
from ravine.methods import Method
from ravine.observations import Drift
from ravine.spectrum import Density, Eigenpairs, Trace
from ravine.torch.curvature.bounce import Bounce, measured_bounce
from ravine.torch.curvature.choosing import MEMORY
from ravine.torch.curvature.composing import check_options, probed, probed_sharded
from ravine.torch.curvature.mean_loss import LossFunction
from ravine.torch.curvature.norm_layers import BatchNormMode
from ravine.torch.curvature.products import ProductChoice, ProductPath
from ravine.torch.curvature.recorder import TrainingRecorder
from ravine.torch.curvature.sharded import NOT_EXACT
from ravine.torch.curvature.sharpness import SharpnessGradient, sharpness_gradient
from ravine.torch.sharding import is_sharded


@final
class Probe:
    """Curvature of a model's loss over data, at the model's parameters as they are when asked.

    Eigenvalues are by Lanczos's process from Hessian-vector products (Pearlmutter 1994); the bounce and the drift are
    those of Bartlett, Long and Bousquet (arXiv 2210.01513).

    Parameters
    ----------
    model
        Any module; its parameters, gradients, buffers and mode are left as found.
    loss_fn
        ``loss_fn(model, batch)``, a scalar tensor: the mean over the batch.
    batches
        A list of batches or a loader, read once; a ragged batch weighs what it holds.
    size
        Counts what a batch's loss is the mean over, such as unmasked tokens; by default the length of its first tensor.
    path
        How Hessian products are made, one of `ProductChoice`'s; ``"auto"`` chooses, see `choice`.
    memory
        Bytes for retained graphs.
    batchnorm
        ``"eval"`` or ``"batch"`` to say how batch norms normalize; None leaves each as it is set.
    seed
        Fixes dropout and other randomness, one stream a batch; without it a random forward pass is refused.
    distributed
        Whether each process of the default group brings a part of the data: figures are then those of all, and every
        process must make the same calls. A model under FSDP2 needs it: its products are differences of gradients,
        exact ones are not possible there; see `ravine.torch.curvature.sharded.ShardedLoss`.

    Attributes
    ----------
    objective
        The loss as an `Objective`, which counts what it is asked for (``objective.spent``).

    Raises
    ------
    ValueError
        If the loss is not scalar, not finite or not deterministic, or model and data differ in dtype or device; for a
        sharded model without ``distributed=True``.

    Warns
    -----
    KinkWarning
        If the loss is not twice differentiable everywhere (ReLU).

    Examples
    --------
    >>> import torch
    >>> from ravine.torch import Probe
    >>> model = torch.nn.Linear(2, 1, bias=False).double()
    >>> x = torch.tensor([[2.0, 0.0], [0.0, 1.0]]).double()
    >>> probe = Probe(model, lambda model, batch: (model(batch) ** 2).mean(), [x])
    >>> probe
    Probe(Linear, 2 parameters, 1 batch; float64)
    >>> pairs = probe.eigenpairs(k=1)
    >>> round(float(pairs.values[0]), 6), bool(pairs.residuals[0] < 1e-12)
    (4.0, True)
    """

    def __init__(
        self,
        model: torch.nn.Module,
        loss_fn: LossFunction,
        batches: Iterable[Any],
        size: Callable[[Any], int] | None = None,
        *,
        path: ProductPath | Literal["auto"] = "auto",
        memory: int = MEMORY,
        batchnorm: BatchNormMode | None = None,
        seed: int | None = None,
        distributed: bool = False,
    ) -> None:
        check_options(path, batchnorm)
        if distributed and isinstance(model, torch.nn.Module) and is_sharded(model):
            self.objective = probed_sharded(model, loss_fn, batches, size, path=path, batchnorm=batchnorm, seed=seed)
        else:
            self.objective = probed(
                model, loss_fn, batches, size, path=path, memory=memory, batchnorm=batchnorm, seed=seed,
                distributed=distributed,
            )  # fmt: skip
        self.model = self.objective.model
        self._last: Eigenpairs | None = None

    def __repr__(self) -> str:
        return f"Probe({self.objective.description}; {self._dtype})"

    @property
    def choice(self) -> ProductChoice:
        """How Hessian products are made, and why."""
        return self.objective.choice

    @property
    def precision(self) -> str:
        """The precision that every figure carries: the parameters' dtype, and whether products are differences."""
        return self._dtype if self.choice.path != "difference" else f"{self._dtype}, Hessian by differences"

    @property
    def _dtype(self) -> str:
        return str(self.objective.losses.coordinates.first.dtype).removeprefix("torch.")

    def eigenpairs(
        self,
        k: int = 1,
        tol: float = 1e-3,
        *,
        end: Literal["largest", "smallest"] = "largest",
        target: Literal["vectors", "values"] = "vectors",
        warm: bool = False,
        products: int | None = None,
        seed: int = 0,
    ) -> Eigenpairs:
        """The k largest (or smallest) Hessian eigenvalues, with vectors and bounds; see `spectrum.eigenpairs`.

        ``warm=True`` starts from the vectors of the last call, which near the last point saves most products, and
        keeps their signs. A negative largest eigenvalue is an answer like any other: the point is a maximum along
        every direction.

        Raises
        ------
        ValueError
            If k is not between 1 and d − 1.
        """
        guess = self._last.vectors if warm and self._last is not None else None
        pairs = spectrum.eigenpairs(
            self.objective, self.objective.start, k, tol, guess, end=end, target=target, products=products, seed=seed
        )
        if self._last is not None and warm and end == "largest":
            pairs, _ = pairs.following(self._last)
        if end == "largest":
            self._last = pairs
        return pairs

    def extremal_eigenpairs(self, k: int = 1, tol: float = 1e-3) -> tuple[Eigenpairs, Eigenpairs]:
        """The k largest and the k smallest eigenvalues from one run; see `spectrum.extremal_eigenpairs`."""
        return spectrum.extremal_eigenpairs(self.objective, self.objective.start, k, tol)

    def sharpness_gradient(
        self,
        tol: float | None = None,
        how: Literal["exact", "difference"] | None = None,
        *,
        check_tie: bool = True,
    ) -> SharpnessGradient:
        """∇λ_max = D³ℓ(e₁, e₁, ·), checked against a difference formula.

        Parameters
        ----------
        tol
            Residual of the eigenpairs, relative to λ₁; by default 1e-9 in float64 and 1e-4 below.
        how
            ``"exact"`` by autograd, or ``"difference"`` of gradients, whose error is stated; by default exact, and
            under FSDP, where that is refused, by differences.
        check_tie
            Look for a second copy of λ₁ from another random start, orthogonal to e₁: a Krylov space holds one only.

        Raises
        ------
        ValueError
            If autograd and differences disagree, with the layer that is suspected; or `how` is not possible.
        """
        if how not in (None, "exact", "difference"):
            raise ValueError(f"how = {how!r}: use exact or difference")
        if how == "exact" and not self.objective.has_graph:
            raise ValueError(f"how = 'exact': {NOT_EXACT}, or use how='difference'")
        if tol is None:
            tol = 1e-9 if self.objective.losses.coordinates.first.dtype == torch.float64 else 1e-4
        usual: Literal["exact", "difference"] = "exact" if self.objective.has_graph else "difference"
        found = sharpness_gradient(self.objective, tol, how or usual, check_tie=check_tie)
        self._last = found.eigenpairs
        return found

    def gauss_newton(self, k: int = 1, tol: float = 1e-3, seed: int = 0) -> Eigenpairs:
        """The k largest eigenvalues of the Hessian's Gauss–Newton part, Σ Jᵀ(∂²ℓ/∂z²)J.

        Raises
        ------
        ValueError
            If the loss does not call the model exactly once for a tensor, or depends on the parameters past its output;
            and under FSDP.
        """
        w = self.objective.start
        first = spectrum.random_start(w.numel(), seed, w)
        precision = self.objective.precision_at(w)
        return spectrum.search(
            lambda u: self.objective.gauss_newton_product(w, u), first, (k, 0), tol, precision=precision
        )[0]

    def density(self, m: int = 40, vectors: int = 8, seed: int = 0) -> Density:
        """The density of the Hessian's eigenvalues with error bars; see `spectrum.density`."""
        return spectrum.density(self.objective, self.objective.start, m, vectors, seed=seed)

    def trace(self, products: int = 40, seed: int = 0) -> Trace:
        """The Hessian's trace with its standard error; see `spectrum.trace`."""
        return spectrum.trace(self.objective, self.objective.start, products, seed)

    def bounce(
        self, optimizer: Any, step: Callable[[], Any] | None = None, *, rho: float | None = None, tol: float = 1e-6
    ) -> Bounce:
        """Take two steps of training, measure the bounce between them, and take them back.

        Model, optimizer, its diagnostics and logs, and the generators of random numbers are as found; a scheduler or a
        data loader that `step` moves is not.

        Parameters
        ----------
        optimizer
            The optimizer in use; η, ρ and the momentum are read from its first group.
        step
            One step of training on the probe's data, as the training loop has it; by default
            ``optimizer.step(closure)`` with a closure that evaluates the probe's loss and its gradient.
        rho
            ρ, if the optimizer's group has none, or it is in other units: the law is SAM's, ρ the length of its ε. For
            ASAM, whose ρ is not, ``rho=optimizer.last.radius``. Where ε is not of one length (``normalize=False``)
            there is no law.
        tol
            Residual of λ₁, relative.

        Raises
        ------
        ValueError
            If no ρ is known, an ESAM comes without `step`, the weights are perturbed, or a step makes a parameter that
            is not finite.
        """
        return measured_bounce(self.objective, optimizer, step, rho=rho, tol=tol)

    def drift(self, eta: float, rho: float, steps: int = 1000, products: int = 60, *, momentum: float = 0.0) -> Drift:
        """How the centre of SAM's bounce will move from here, a minimum: flat directions drift, curved ones settle.

        Parameters
        ----------
        eta, rho, momentum
            Step size, radius and heavy-ball coefficient m of the training.
        steps, products
            For how many steps; Hessian products to spend on it beside those of `sharpness_gradient`.

        Raises
        ------
        ValueError
            If ηλ₁ ≥ 2(1+m), or λ₁ = λ₂ to within the bounds: there is no direction to drift in.
        """
        found = self.sharpness_gradient()
        if found.value is None:
            raise ValueError(
                "drift: λ₁ = λ₂ to within the bounds, so that ∇λ_max is undefined; see sharpness_gradient()"
            )
        w = self.objective.start
        return observations.drift(
            self.objective, w, eigenvector=found.eigenpairs.vectors[0], sharpness_gradient=found.value,
            sharpness=float(found.eigenpairs.values[0]), eta=eta, rho=rho, momentum=momentum,
            steps=steps, products=products,
        )  # fmt: skip

    def forecast(
        self, method: Method, steps: int, products: int = 60, *, drift: bool = True, tol: float = 0.05
    ) -> Forecast:
        """What `method` will do in the next steps on this loss, and up to which step that is valid."""
        return _forecast(self.objective, method, steps=steps, products=products, drift=drift, tol=tol)

    def follow(
        self,
        optimizer: Any,
        every: int = 50,
        *,
        k: int = 1,
        tol: float = 1e-3,
        rho: float | None = None,
        writer: Any = None,
    ) -> TrainingRecorder:
        """Look at the loss after every `every`-th step of `optimizer`, while a ``with`` block runs.

        Parameters
        ----------
        optimizer
            Any torch optimizer; η, momentum, and ρ where there is one, are read from its first group at each look.
        every, k, tol
            Steps between two looks; how many eigenvalues; their residual, relative.
        rho
            ρ for the SAM-edge, if the optimizer's group has none.
        writer
            Anything with TensorBoard's ``add_scalar(name, value, step)``.

        Raises
        ------
        ValueError
            If every < 1 or `optimizer` is no torch optimizer.
        """
        return TrainingRecorder(self, optimizer, every=every, k=k, tol=tol, rho=rho, writer=writer)
