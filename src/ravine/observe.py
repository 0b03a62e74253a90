"""What curvature and theory say of a Run: its bounce, and the sharpness along it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import xarray as xr

from ravine.objectives import Objective
from ravine.spectrum import top_eigenpairs


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

    Returns
    -------
    xarray.Dataset
        On dimension ``step``: ``lam`` (step, pair), λ₁ ≥ λ₂; ``alignment``, |cos| between the half-width and e₁;
        ``residual`` (step, pair), the eigenvalues' bounds.

    Raises
    ------
    ValueError
        If the Run has several runs or does not record every step.
    """
    if run.sizes["run"] != 1:
        raise ValueError("run: pass one run, such as run.isel(run=[0])")
    seen = bounce(run).isel(run=0)
    guess = None
    rows: list[tuple[np.ndarray, float, np.ndarray]] = []
    for count, step in enumerate(steps):
        at = seen.sel(step=step)
        pairs = top_eigenpairs(objective, at["centre"].values, k=2, guess=guess)
        guess = pairs.vectors[0]
        across = at["half_width"].values
        length = float(np.linalg.norm(across))
        alignment = abs(float(across @ guess)) / length if length > 0 else float("nan")
        rows.append((pairs.values, alignment, pairs.residuals))
        if progress is not None:
            progress(count + 1, len(steps))
    lam, alignments, residuals = (np.array(column) for column in zip(*rows, strict=True))
    return xr.Dataset(
        {
            "lam": (("step", "pair"), lam),
            "alignment": ("step", alignments),
            "residual": (("step", "pair"), residuals),
        },
        {"step": list(steps), "pair": [1, 2]},
    )
