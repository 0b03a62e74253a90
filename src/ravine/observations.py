"""What curvature and theory say of a Run: its bounce, the sharpness along it, and where its centre drifts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from ravine import theory
from ravine.arrays import as_numpy
from ravine.objectives import Objective
from ravine.spectrum import Measure, eigenpairs, spectral_measure

FLAT = 1e-4
"""A direction is flat if its curvature is below this fraction of λ₁."""


@dataclass(frozen=True, repr=False)
class Drift:
    """How the centre of SAM's bounce moves from a minimum: Theorem 21 of arXiv 2210.01513 with its corrections.

    Valid while what it predicts is small: the change of λ₁ against λ₁ itself and against λ₁ − λ₂.

    Attributes
    ----------
    flat
        The motion a step along flat directions, shape (d,), where it adds up.
    moved
        The displacement after `steps` steps, shape (d,): in curved directions it settles.
    sharpness_change
        λ₁(steps) − λ₁(0), to first order.
    steps, eta, rho, momentum, sharpness
        What it is for: the number of steps, η, ρ, the heavy-ball coefficient m, λ₁.
    measure
        The spectral measure of P∇λ₁ that it was computed from; its `products` is what it cost.

    Examples
    --------
    >>> import numpy as np
    >>> import ravine as rv
    >>> loss, w = rv.expression("w1**2/(1+w2**2/2) + w3**2/8"), np.array([0.0, 1.0, 0.0])
    >>> pairs = rv.spectrum.eigenpairs(loss, w)
    >>> seen = rv.observations.drift(
    ...     loss, w, eigenvector=pairs.vectors[0], sharpness_gradient=loss.third(w, pairs.vectors[0]),
    ...     sharpness=pairs.values[0], eta=0.3, rho=0.05, steps=100,
    ... )
    >>> seen
    <Drift: λ₁ from 1.33333 by -0.046 in 100 steps; 2 products>
    >>> seen.flat.round(5)  # up the flat direction w₂, along which the ravine widens
    array([0.     , 0.00052, 0.     ])
    """

    flat: np.ndarray
    moved: np.ndarray
    sharpness_change: float
    steps: int
    eta: float
    rho: float
    momentum: float
    sharpness: float
    measure: Measure

    def __repr__(self) -> str:
        change = f"λ₁ from {self.sharpness:.6g} by {self.sharpness_change:.2g}"
        return f"<Drift: {change} in {self.steps} steps; {self.measure.products} products>"


def flatness(eigenvalues: np.ndarray, sharpness: float) -> np.ndarray:
    """exp(−(λ/(10⁻⁴λ₁))²): 1 along flat directions, 0 along curved ones; smooth, so that few products resolve it.

    `eigenvalues` and `sharpness` are curvatures, the latter λ₁; the result has the shape of the former.
    """
    return np.exp(-((np.asarray(eigenvalues) / (FLAT * sharpness)) ** 2))


def flat_part(objective: Objective, w: Any, v: Any, sharpness: float, products: int = 300) -> np.ndarray:
    """The part of v along flat directions of ∇²ℓ(w), `flatness`(H)v by Lanczos, shape (d,).

    `sharpness` is λ₁, and `products` the most Hessian products to spend.

    Raises
    ------
    ValueError
        If v is zero or of the wrong shape.
    """
    seen = spectral_measure(objective, w, v, min(products, objective.dimension))
    return as_numpy((flatness(seen.nodes, sharpness) * seen.components) @ as_numpy(seen.vectors))


def drift(
    objective: Objective,
    w: Any,
    *,
    eigenvector: Any,
    sharpness_gradient: Any,
    sharpness: float,
    eta: float,
    rho: float,
    momentum: float = 0.0,
    steps: int = 1000,
    products: int = 60,
) -> Drift:
    """How the centre of SAM's bounce moves from the minimum w, by Lanczos functions of H applied to P∇λ₁.

    Parameters
    ----------
    objective, w
        The loss and a minimum of it.
    eigenvector, sharpness_gradient, sharpness
        e₁, ∇λ₁ = D³ℓ(e₁, e₁, ·), each of shape (d,), and λ₁.
    eta, rho, momentum
        Step size, radius and heavy-ball coefficient.
    steps
        For how many steps.
    products
        Hessian products to spend.

    Raises
    ------
    ValueError
        If ηλ₁ ≥ 2(1+m) or another number is out of range, or ∇λ₁ is along e₁.
    """
    e, gradient = as_numpy(eigenvector), as_numpy(sharpness_gradient)
    across = gradient - (e @ gradient) * e
    seen = spectral_measure(objective, w, across, min(products, objective.dimension))
    law = theory.drift
    nodes, components, vectors = seen.nodes, seen.components, as_numpy(seen.vectors)
    moved = law.displacement(nodes, components, sharpness=sharpness, eta=eta, rho=rho, steps=steps, momentum=momentum)
    a_step = law.flat_coefficient(sharpness=sharpness, eta=eta, rho=rho, momentum=momentum)
    change = law.sharpness_change(
        nodes, components, sharpness=sharpness, eta=eta, rho=rho, steps=steps, momentum=momentum
    )
    return Drift(
        flat=-a_step * (flatness(nodes, sharpness) * components) @ vectors,
        moved=moved @ vectors,
        sharpness_change=change,
        steps=steps,
        eta=eta,
        rho=rho,
        momentum=momentum,
        sharpness=sharpness,
        measure=seen,
    )


def bounce(run: xr.Dataset) -> xr.Dataset:
    """Centre and half-width of the bounce, from consecutive iterates.

    Parameters
    ----------
    run
        A Run that records every step.

    Returns
    -------
    xarray.Dataset
        On the Run's steps but the last: ``centre`` (w_t + w_{t+1})/2 and ``half_width`` (w_{t+1} − w_t)/2, of
        dimensions (run, step, coord), and ``amplitude``, the norm of the latter (run, step). On a 2-cycle ±ε about
        w_z they are w_z, ∓ε and ‖ε‖.

    Raises
    ------
    ValueError
        If the Run does not record every step, or has but one.
    """
    steps = run["step"].values
    if steps.size < 2 or (np.diff(steps) != 1).any():
        raise ValueError(
            "run: the bounce shows between consecutive iterates; record every step (every=1), two at least"
        )
    w = run["w"]
    here, there = w.isel(step=slice(None, -1)), w.shift(step=-1).isel(step=slice(None, -1))
    half_width = (there - here) / 2
    return xr.Dataset(
        {
            "centre": (there + here) / 2,
            "half_width": half_width,
            "amplitude": np.sqrt((half_width**2).sum("coord")),
        }
    )


def sharpness(
    objective: Objective,
    run: xr.Dataset,
    steps: Sequence[int],
    progress: Callable[[int, int], None] | None = None,
) -> xr.Dataset:
    """The Hessian's two largest eigenvalues at the bounce's centre, and the bounce's alignment with e₁.

    Parameters
    ----------
    objective
        The loss that the Run is of.
    run
        A Run of one run that records every step.
    steps
        Steps at which to look; each needs its successor.
    progress
        Called as ``progress(done, total)`` after each of them.

    Returns
    -------
    xarray.Dataset
        On dimension ``step``: ``eigenvalues`` (step, pair), λ₁ ≥ λ₂; ``alignment``, |cos| between the half-width
        and e₁; ``residual`` (step, pair), the eigenvalues' bounds.

    Raises
    ------
    ValueError
        If the Run has several runs or does not record every step, or the loss has fewer than three dimensions.
    """
    if run.sizes["run"] != 1:
        raise ValueError("run: pass one run, such as run.isel(run=[0])")
    if objective.dimension < 3:
        raise ValueError(f"objective: two eigenpairs need at least three dimensions, not {objective.dimension}")
    seen = bounce(run).isel(run=0)
    guess = None
    rows: list[tuple[np.ndarray, float, np.ndarray]] = []
    for count, step in enumerate(steps):
        at = seen.sel(step=step)
        pairs = eigenpairs(objective, at["centre"].values, k=2, guess=guess)
        guess = pairs.vectors[0]
        across = at["half_width"].values
        length = float(np.linalg.norm(across))
        alignment = abs(float(across @ guess)) / length if length > 0 else float("nan")
        rows.append((pairs.values, alignment, pairs.residuals))
        if progress is not None:
            progress(count + 1, len(steps))
    eigenvalues, alignments, residuals = (np.array(column) for column in zip(*rows, strict=True))
    return xr.Dataset(
        {
            "eigenvalues": (("step", "pair"), eigenvalues),
            "alignment": ("step", alignments),
            "residual": (("step", "pair"), residuals),
        },
        {"step": list(steps), "pair": [1, 2]},
    )
