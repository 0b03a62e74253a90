"""∇λ_max of a network: the third derivative along the top eigenvector, where λ₁ is simple."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

import numpy as np
from torch import Tensor

from ravine import spectrum
from ravine.spectrum import Eigenpairs
from ravine.torch.curvature.probed_network import ProbedNetwork
from ravine.torch.curvature.third import Third


@final
@dataclass(frozen=True, repr=False)
class SharpnessGradient:
    """∇λ_max(∇²ℓ(w)), or why there is none; made by `Probe.sharpness_gradient`.

    It is the direction along which the bounce of SAM drifts downhill (Bartlett, Long and Bousquet, arXiv 2210.01513).

    Attributes
    ----------
    value
        Shape (d,); None where λ₁ = λ₂ to within the bounds: λ_max has no gradient there.
    error
        ‖value − the difference formula's value‖, for the eigenvector as found.
    angle
        The most by which the eigenvector may be off, residual/(λ₁ − λ₂), in radians; it enters `value` to first order.
    eigenpairs
        λ₁ and λ₂ with their vectors and bounds.
    subspace
        Shape (1, d), e₁; or (2, d), a basis of the top eigenspace where the eigenvalues are equal.
    products, gradients
        What it cost: Hessian products, and gradients of the derivative and its check.
    how
        ``"exact"`` or ``"difference"``.

    Examples
    --------
    >>> import torch
    >>> from ravine.torch import Probe
    >>> model = torch.nn.Linear(2, 1, bias=False).double()
    >>> _ = torch.nn.init.constant_(model.weight, 1.0)
    >>> x = torch.tensor([[2.0, 0.0], [0.0, 1.0]]).double()
    >>> found = Probe(model, lambda model, batch: (model(batch) ** 4).mean(), [x]).sharpness_gradient()
    >>> found.value.round(decimals=4), found.error < 1e-3, found.how
    (tensor([192.,   0.], dtype=torch.float64), True, 'exact')
    """

    value: Tensor | None
    error: float
    angle: float
    eigenpairs: Eigenpairs
    subspace: np.ndarray
    products: int
    gradients: int
    how: Literal["exact", "difference"]

    def __repr__(self) -> str:
        if self.value is None:
            return f"SharpnessGradient(none: λ₁ = λ₂ = {self.eigenpairs.values[0]:.4g} to within the bounds)"
        return f"SharpnessGradient(‖∇λ_max‖ = {float(self.value.norm()):.4g}, checked to {self.error:.2g}, {self.how})"

    @property
    def tie(self) -> bool:
        """Whether λ₁ = λ₂ to within the bounds."""
        return self.value is None


def sharpness_gradient(
    objective: ProbedNetwork, tol: float, how: Literal["exact", "difference"], *, check_tie: bool
) -> SharpnessGradient:
    """∇λ_max at the objective's parameters; see `Probe.sharpness_gradient`."""
    w, before = objective.start, objective.spent.products
    k = min(2, objective.dimension - 1)
    pairs = spectrum.eigenpairs(objective, w, k, tol)
    sharpness, residual = float(pairs.values[0]), float(pairs.residuals[0])
    second, vector = (
        _second_eigenvalue(objective, w, pairs) if check_tie and objective.dimension >= 3 else (-np.inf, None)
    )
    gap = sharpness - second
    if k == 2:
        gap = min(gap, float(pairs.values[0] - pairs.values[1] - pairs.residuals[1]))
    products = objective.spent.products - before
    if gap <= residual:
        both = np.stack([pairs.vectors[0], vector if vector is not None else pairs.vectors[-1]])
        basis = np.linalg.qr(both.T)[0].T
        return SharpnessGradient(None, np.inf, np.inf, pairs, basis, products, 0, how)
    e = objective.point(pairs.vectors[0])
    third: Third = (
        objective.third_exact(w, e) if how == "exact" else objective.third_difference(w, e, (sharpness * e, residual))
    )
    return SharpnessGradient(
        third.value, third.error, residual / gap, pairs, pairs.vectors[:1], products, third.gradients, third.how
    )


def _second_eigenvalue(objective: ProbedNetwork, w: Tensor, pairs: Eigenpairs) -> tuple[float, np.ndarray]:
    """An upper estimate of the largest eigenvalue orthogonal to e₁, from a start of its own, and its vector."""
    e = objective.point(pairs.vectors[0])
    own = spectrum.random_start(w.numel(), 1, w)
    low = float(pairs.values[0] - pairs.residuals[0])

    def deflated(u: Tensor) -> Tensor:
        u = u - (e @ u) * e
        image = objective.hvp(w, u)
        return image - (e @ image) * e

    def apart(values: np.ndarray, residuals: np.ndarray) -> bool:
        return bool(values[-1] + residuals[-1] < low)

    found, _ = spectrum.search(
        deflated, own - (e @ own) * e, (1, 0), 1e-6, enough=apart, precision=objective.precision_at(w)
    )
    return float(found.values[0] + found.residuals[0]), found.vectors[0]
