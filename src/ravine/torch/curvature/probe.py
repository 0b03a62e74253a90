"""How sharp a network's loss is, how far a run bounces, where it drifts, and what happens next."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from ravine import observations, spectrum, theory
from ravine.forecasts import Forecast
from ravine.forecasts import forecast as _forecast
from ravine.methods import Method
from ravine.observations import Drift
from ravine.spectrum import Density, Eigenpairs, Trace
from ravine.torch.curvature.follow import Follow
from ravine.torch.curvature.gauss_newton import gauss_newton_product
from ravine.torch.curvature.layers import BatchNormMode
from ravine.torch.curvature.network import LossFunction
from ravine.torch.curvature.products import MEMORY, Choice, Path, Products
from ravine.torch.curvature.sharded import Sharded, third_by
from ravine.torch.optimizers.relatives import ESAM
from ravine.torch.optimizers.trials import trial
from ravine.torch.sharding import is_sharded


@dataclass(frozen=True)
class SharpnessGradient:
    """∇λ_max(∇²ℓ(w)), or why there is none.

    Attributes
    ----------
    value
        Shape (d,); None where λ₁ = λ₂ to within the bounds: λ_max has no gradient there.
    error
        ‖value − the difference formula's value‖, for the eigenvector as found.
    angle
        The most by which the eigenvector may be off, residual/(λ₁ − λ₂), in radians; it enters `value` to first order.
    top
        The pairs: λ₁ and λ₂.
    subspace
        Shape (1, d), e₁; or (2, d), a basis of the top eigenspace where the eigenvalues are equal.
    products, gradients
        What it cost: Hessian products, and gradients of the derivative and its check.
    how
        ``"exact"`` or ``"difference"``.
    """

    value: torch.Tensor | None
    error: float
    angle: float
    top: Eigenpairs
    subspace: np.ndarray
    products: int
    gradients: int
    how: str

    @property
    def tie(self) -> bool:
        """Whether λ₁ = λ₂ to within the bounds."""
        return self.value is None


@dataclass(frozen=True)
class Bounce:
    """The bounce between consecutive iterates of training, beside the law.

    Attributes
    ----------
    centre, half_width
        (w_t + w_{t+1})/2 and (w_{t+1} − w_t)/2 of the last two iterates, shape (d,).
    amplitude
        ‖half_width‖.
    law
        ηρλ₁/(2(1+m) − ηλ₁), λ₁ at the centre; NaN where there is no bounce.
    alignment
        |cos| between half-width and e₁.
    reversal
        Cosine between the last two motions: −1 where it bounces, +1 where it slides.
    top
        λ₁ at the centre, with its bounds.
    """

    centre: np.ndarray
    half_width: np.ndarray
    amplitude: float
    law: float
    alignment: float
    reversal: float
    top: Eigenpairs

    @property
    def bouncing(self) -> bool:
        """Whether the run bounces as the law says: amplitude within 10 %, along e₁ to |cos| ≥ 0.9, back and forth."""
        near = abs(self.amplitude - self.law) <= 0.1 * self.law
        return bool(near and self.alignment >= 0.9 and self.reversal <= -0.9)


class Probe:
    """Curvature of a model's loss over data, at the model's parameters as they are when asked.

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
    path, memory, batchnorm, seed, distributed
        As for `Products`: how Hessian products are made (chosen by itself), bytes for graphs,
        how batch norms normalise, and a seed for dropout. With ``distributed=True`` each process of the default group
        brings its part of the data, and all must make the same calls. A model under FSDP2 needs it: its products are
        differences of gradients, exact ones are not possible there; see `ravine.torch.curvature.sharded.Sharded`.

    Raises
    ------
    ValueError
        If the loss is not scalar, not finite or not deterministic, or model and data differ in dtype or device; for a
        sharded model without ``distributed=True``.

    Warns
    -----
    KinkWarning
        If the loss is not twice differentiable everywhere (ReLU).
    """

    def __init__(
        self,
        model: torch.nn.Module,
        loss_fn: LossFunction,
        batches: Iterable[Any],
        size: Callable[[Any], int] | None = None,
        *,
        path: Path | Literal["auto"] = "auto",
        memory: int = MEMORY,
        batchnorm: BatchNormMode | None = None,
        seed: int | None = None,
        distributed: bool = False,
    ) -> None:
        self.objective: Products
        if distributed and isinstance(model, torch.nn.Module) and is_sharded(model):
            self.objective = Sharded(model, loss_fn, batches, size, path=path, batchnorm=batchnorm, seed=seed)
        else:
            self.objective = Products(
                model, loss_fn, batches, size, path=path, memory=memory, batchnorm=batchnorm, seed=seed,
                distributed=distributed,
            )  # fmt: skip
        self.model = self.objective.model
        self._last: Eigenpairs | None = None

    @property
    def choice(self) -> Choice:
        """How Hessian products are made, and why."""
        return self.objective.choice

    @property
    def precision(self) -> str:
        """The precision that every figure carries: the parameters' dtype, and whether products are differences."""
        dtype = str(next(p.dtype for p in self.model.parameters() if p.requires_grad)).removeprefix("torch.")
        return dtype if self.choice.path != "difference" else f"{dtype}, Hessian by differences"

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
        keeps their
        signs. A negative largest eigenvalue is an answer like any other: the point is a maximum along every direction.

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
        self, tol: float | None = None, how: Literal["exact", "difference"] | None = None, check_tie: bool = True
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
            If autograd and differences disagree, with the layer that is suspected.
        """
        how = third_by(self.objective, how)
        objective, w = self.objective, self.objective.start
        before = objective.spent["products"]
        if tol is None:
            tol = 1e-9 if w.dtype == torch.float64 else 1e-4
        k = min(2, objective.dimension - 1)
        top = spectrum.eigenpairs(objective, w, k, tol)
        self._last = top
        second, vector = self._second(w, top, check_tie)
        gap = float(top.values[0]) - second
        if k == 2:
            gap = min(gap, float(top.values[0] - top.values[1] - top.residuals[1]))
        products = objective.spent["products"] - before
        if gap <= float(top.residuals[0]):
            both = np.stack([top.vectors[0], vector if vector is not None else top.vectors[-1]])
            basis = np.linalg.qr(both.T)[0].T
            return SharpnessGradient(None, np.inf, np.inf, top, basis, products, 0, how)
        e = self._vector(top.vectors[0])
        product = float(top.values[0]) * e, float(top.residuals[0])
        third = objective.third_checked(w, e, how, product)
        angle = float(top.residuals[0]) / gap
        return SharpnessGradient(
            third.value, third.error, angle, top, top.vectors[:1], products, third.gradients, third.how
        )

    def _vector(self, v: np.ndarray) -> torch.Tensor:
        return self.objective.point(v)

    def _second(self, w: torch.Tensor, top: Eigenpairs, look: bool) -> tuple[float, np.ndarray | None]:
        """An upper estimate of the largest eigenvalue orthogonal to e₁, from a start of its own, and its vector."""
        if not look or self.objective.dimension < 3:
            return -np.inf, None
        e = self._vector(top.vectors[0])
        own = spectrum.random_start(w.numel(), 1, w)
        low = float(top.values[0] - top.residuals[0])

        def deflated(u: torch.Tensor) -> torch.Tensor:
            u = u - (e @ u) * e
            image = self.objective.hvp(w, u)
            return image - (e @ image) * e

        def apart(values: np.ndarray, residuals: np.ndarray) -> bool:
            return bool(values[-1] + residuals[-1] < low)

        found, _ = spectrum.search(
            deflated, own - (e @ own) * e, (1, 0), 1e-6, enough=apart, precision=self.objective.precision_at(w)
        )
        return float(found.values[0] + found.residuals[0]), found.vectors[0]

    def gauss_newton(self, k: int = 1, tol: float = 1e-3, seed: int = 0) -> Eigenpairs:
        """The k largest eigenvalues of the Hessian's Gauss–Newton part, Σ Jᵀ(∂²ℓ/∂z²)J.

        Raises
        ------
        ValueError
            If the loss does not call the model exactly once for a tensor, or depends on the parameters past its output.
        """
        w = self.objective.start
        first = spectrum.random_start(w.numel(), seed, w)
        precision = self.objective.precision_at(w)
        return spectrum.search(
            lambda u: gauss_newton_product(self.objective, w, u), first, (k, 0), tol, precision=precision
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
        group = optimizer.param_groups[0]
        rho = rho if rho is not None else group.get("rho")
        if rho is None:
            raise ValueError("rho: the optimizer's group has none; pass rho=…")
        if step is None and isinstance(optimizer, ESAM):
            raise ValueError("optimizer: ESAM steps on losses by sample, and the probe's is a mean; pass step=…")
        eta, momentum = float(group["lr"]), float(group.get("momentum", 0.0))
        objective = self.objective
        points = [objective.start]
        with trial(self.model, optimizer):
            for _ in range(2):
                if step is None:
                    optimizer.step(self._closure(optimizer))
                else:
                    step()
                points.append(objective.start)
        a, b, c = (p.double().cpu().numpy() for p in points)
        if not np.isfinite(c).all():
            raise ValueError("optimizer: a step made parameters that are not finite; nothing bounces there")
        centre, half = (b + c) / 2, (c - b) / 2
        top = spectrum.eigenpairs(objective, centre, 1, tol)
        amplitude, before = float(np.linalg.norm(half)), float(np.linalg.norm(b - a))
        lam = float(top.values[0]) if getattr(optimizer, "normalize", True) else np.nan
        law = float(theory.amplitude(lam, eta, float(rho), momentum))
        along = abs(float(half @ top.vectors[0])) / amplitude if amplitude > 0 else np.nan
        reversal = float(half @ (b - a)) / (amplitude * before) if amplitude * before > 0 else np.nan
        return Bounce(centre, half, amplitude, law, along, reversal, top)

    def _closure(self, optimizer: Any) -> Callable[[], torch.Tensor]:
        def closure() -> torch.Tensor:
            with torch.enable_grad():
                optimizer.zero_grad()
                objective = self.objective
                objective.set_gradient(objective.grad(objective.start))
                return torch.tensor(objective.value(objective.start))

        return closure

    def drift(self, eta: float, rho: float, steps: int = 1000, products: int = 60) -> Drift:
        """How the centre of SAM's bounce will move from here, a minimum: flat directions drift, curved ones settle.

        Raises
        ------
        ValueError
            If ηλ₁ ≥ 2, or λ₁ = λ₂ to within the bounds: there is no direction to drift in.
        """
        found = self.sharpness_gradient()
        if found.value is None:
            raise ValueError(
                "drift: λ₁ = λ₂ to within the bounds, so that ∇λ_max is undefined; see sharpness_gradient()"
            )
        w = self.objective.start
        return observations.drift(
            self.objective, w, eigenvector=found.top.vectors[0], sharpness_gradient=found.value,
            sharpness=float(found.top.values[0]), eta=eta, rho=rho, steps=steps, products=products,
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
    ) -> Follow:
        """Look at the loss after every `every`-th step of `optimizer`, while a ``with`` block runs.

        Parameters
        ----------
        optimizer
            Any torch optimizer; η, and ρ where there is one, are read from its first group at each look.
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
        return Follow(self, optimizer, every, k, tol, rho, writer)
