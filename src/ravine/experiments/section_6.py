"""Figures 3 to 5: on a loss whose ravine widens, the bounce drifts to where it is wider."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from ravine import plots, theory
from ravine.experiments import measure
from ravine.experiments.experiment import Check, Outcome, Picture, Progress
from ravine.methods import GD, SAM, SGD
from ravine.objectives import section_6
from ravine.simulate import trajectory

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ETA, RHO = 0.2, 1.0
SIGMA = RHO / (2 - ETA)
SHOWN, LONG = 60, 3000
SGD_STEPS, SEED = 400_000, 5
_BURN_IN = 100


def _sam_checks(name: str, start: tuple[float, float]) -> tuple[Check, ...]:
    loss = section_6()
    long = trajectory(loss, SAM(eta=ETA, rho=RHO), start=start, steps=LONG)
    cycle = theory.section_6.cycle(ETA, RHO)
    w = measure.iterates(long)
    centre = (w[-1] + w[-2]) / 2
    hessian = np.stack([loss.hvp(centre, axis) for axis in np.eye(2)])
    return (
        Check(name, f"SAM: ‖w_(t+2) − w_t‖ after {LONG} steps", 0.0, measure.period_two_gap(long), 1e-9),
        Check(name, f"SAM: |w₁| after {LONG} steps", float(abs(cycle[0, 0])), float(abs(w[-1, 0])), 1e-9),
        Check(name, f"SAM: |w₂| after {LONG} steps", float(cycle[0, 1]), float(abs(w[-1, 1])), 1e-9),
        Check(name, "SAM: λ_max of the Hessian at the centre of the bounce",
              theory.section_6.sharpness(float(cycle[0, 1])), float(np.linalg.eigvalsh(hessian)[-1]), 1e-9),
    )  # fmt: skip


def _descent_check(name: str, start: tuple[float, float]) -> Check:
    w = measure.iterates(trajectory(section_6(), GD(eta=ETA), start=start, steps=LONG))
    return Check(
        name, f"gradient descent: distance to the minimum after {LONG} steps", 0.0, float(np.linalg.norm(w[-1])), 1e-9
    )


def _cycles() -> np.ndarray:
    """The points of the 2-cycle and of its mirror image, shape (4, 2)."""
    cycle = theory.section_6.cycle(ETA, RHO)
    return np.concatenate([cycle, cycle * [1, -1]])


def _drawn(sam: xr.Dataset, other: xr.Dataset, title: str, legend: Any) -> Figure:
    x, y = plots.frame(np.concatenate([sam["w"].values[0], other["w"].values[0], _cycles()]))
    figure = plots.new_figure(7, 4.8)
    ax = figure.subplots()
    plots.contours(ax, section_6(), x, y, levels=18)
    plots.path(ax, other, zorder=2, alpha=0.85)
    plots.path(ax, sam, zorder=3)
    ax.plot(*_cycles().T, "+", color="black", markersize=13, markeredgewidth=1.8, label="predicted 2-cycles", zorder=5)
    ax.set(xlabel="w₁", ylabel="w₂", title=title)
    ax.legend(loc=legend, facecolor="white", frameon=True, framealpha=0.9)
    return figure


def descent(name: str, number: int, start: tuple[float, float], progress: Progress) -> Outcome:
    """Run Figure 3 or 4: SAM and gradient descent on the loss of Section 6 from the same start."""
    loss = section_6()
    sam = trajectory(loss, SAM(eta=ETA, rho=RHO), start=start, steps=SHOWN)
    gd = trajectory(loss, GD(eta=ETA), start=start, steps=SHOWN)
    with plots.style():
        figure = _drawn(
            sam, gd, f"SAM and gradient descent from {start}", "center left" if number == 3 else "upper left"
        )
    pull = (
        "Gradient descent dives to the minimum at the origin; SAM's oscillation drives it up the ravine's floor, to a less "
        "sharp solution with a larger loss."
        if number == 3
        else "SAM behaves like gradient descent until both come close to the origin; then its oscillation carries it to a less "
        "sharp solution with a larger loss."
    )
    picture = Picture(
        name,
        f"Figure {number}. SAM (blue) and gradient descent (green) on w₁²/(1+w₂²/2) + w₂²/2 from {start}, η = 1/5, ρ = 1, "
        f"{SHOWN} steps, over contours of the loss. {pull} The pluses mark the 2-cycle, and its mirror "
        "image, that follow from the loss in closed form: |w₁| = η.",
        f"Two paths from {start}: one, of squares, runs to the origin; the other, of circles, zigzags left and right and "
        "settles between two marks above the origin.",
        figure,
    )
    return Outcome(
        name,
        "Drifting towards wide minima" if number == 3 else "Gradient descent first, then the bounce",
        (
            "This ravine widens away from w₂ = 0: its floor rises a little, its walls lean back. At each bounce SAM feels how "
            "steep both walls are, and that is enough to push it to where they are less steep. No third derivative is ever "
            "computed, yet the push is the gradient of the curvature, a third derivative of the loss."
            if number == 3
            else "Far from the minimum the look uphill hardly turns the gradient, so both methods walk the same way. The "
            "difference begins where the gradient is small and the bounce takes over.",
        ),
        (picture,),
        (*_sam_checks(name, start), _descent_check(name, start)),
        parameters={"eta": ETA, "rho": RHO},
    )


def noise(progress: Progress) -> Outcome:
    """Run Figure 5: SAM, and SGD whose gradients carry noise of scale σ = ρ/(2−η)."""
    name, start = "figure-5", (1.0, 1.0)
    loss = section_6()
    sam = trajectory(loss, SAM(eta=ETA, rho=RHO), start=start, steps=SHOWN)
    sgd = trajectory(loss, SGD(eta=ETA, sigma=SIGMA), start=start, steps=SGD_STEPS, seed=SEED)
    w = measure.iterates(sgd)
    gradients = np.array([loss.grad(point) for point in w[:20_000]])
    samples = -(w[1:20_001] - w[:20_000]) / ETA - gradients
    # On the quadratic ½w₂² the stationary law of w₂ is Gaussian; the ravine bends it by some per cent.
    variance = ETA * SIGMA**2 / (2 - ETA)
    height = float(theory.section_6.cycle(ETA, RHO)[0, 1])
    settled = w[_BURN_IN:, 1]
    checks = (
        *_sam_checks(name, start),
        Check(name, "SGD: standard deviation of the gradient noise, 40 000 samples", SIGMA, float(samples.std()), 0.01),
        Check(name, f"SGD: mean of w₂² over {SGD_STEPS} steps, against ησ²/(2−η) of the quadratic",
              variance, float((settled**2).mean()), 0.05 * variance),
        Check(name, "SGD: share of steps at sharper points than SAM's limit, |w₂| below its",
              math.erf(height / math.sqrt(2 * variance)), float((np.abs(settled) < height).mean()), 0.02),
    )  # fmt: skip
    shown = sgd.isel(step=slice(0, SHOWN + 1))
    with plots.style():
        figure = _drawn(sam, shown, f"SAM and SGD from {start}", "upper left")
    picture = Picture(
        name,
        f"Figure 5. SAM (blue) and SGD (green) on w₁²/(1+w₂²/2) + w₂²/2 from (1, 1), η = 1/5, ρ = 1, σ = ρ/(2−η), {SHOWN} "
        "steps. The noise makes SGD sample a mix of solutions, sharp and less sharp, on both sides of w₂ = 0; SAM drifts to the less "
        "sharp ones and stays.",
        "Two paths from (1, 1): one, of circles, ends bouncing between two marks above the origin; the other, of squares, "
        "wanders about the origin without settling.",
        figure,
    )
    return Outcome(
        name,
        "Noise is not the same",
        (
            "SGD shakes too, so could noise do what SAM does? It shakes in every direction, without a preference: SGD visits sharp "
            "and flat places in turn. SAM's shaking is always along the steepest direction, and its drift always points to where that "
            "direction is less steep.",
        ),
        (picture,),
        checks,
        seeds=(SEED,),
        parameters={"eta": ETA, "rho": RHO, "sigma": SIGMA},
    )


figure_3 = partial(descent, "figure-3", 3, (0.1, 0.1))
figure_4 = partial(descent, "figure-4", 4, (1.0, 1.0))
figure_5 = noise
