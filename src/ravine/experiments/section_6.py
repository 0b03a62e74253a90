"""Figures 3 to 5: on a loss whose ravine widens, the bounce drifts to where it is wider."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from ravine import plots, theory
from ravine.experiments import drawing, measure
from ravine.experiments.experiment import Check, ExperimentOutcome, Formula, Panel, Picture, Progress
from ravine.methods import GD, SAM, SGD
from ravine.objectives import section_6
from ravine.simulate import trajectory

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ETA, RHO = 0.2, 1.0
SIGMA = RHO / (2 - ETA)
SHOWN, LONG = 25, 3000
SGD_STEPS, SEED = 400_000, 5
_BURN_IN = 100
# Nowhere on the axis w₂ = 0 is the ravine wider than at the minimum: λ_max = 2.
AT_MINIMUM = theory.section_6.sharpness(0.0)
_LOSS = "w₁²/(1+w₂²/2) + w₂²/2"


@dataclass(frozen=True)
class _Descent:
    """What Figures 3 and 4 say, each of its own start."""

    number: int
    start: tuple[float, float]
    title: str
    story: str
    formula: Formula
    seen: str

    @property
    def name(self) -> str:
        return f"figure-{self.number}"


_FIGURE_3 = _Descent(
    3,
    (0.1, 0.1),
    "Drifting towards wide minima",
    "This ravine widens away from w₂ = 0: its floor rises a little, its walls lean back. At each bounce SAM feels how "
    "steep both walls are, and that is enough to push it to where they are less steep. No third derivative is ever "
    "computed, yet the push is the gradient of the curvature, a third derivative of the loss.",
    Formula(
        r"\frac{w_{t+2}-w_t}{2} \;\approx\; -\,\frac{2\eta\rho^2}{(2-\eta\lambda_1)^2}\,\nabla\lambda_1",
        "The drift along flat directions (Theorem 21), a step: down the gradient of λ₁, the curvature across the ravine.",
    ),
    "Gradient descent dives to the minimum at the origin; SAM's oscillation drives it up the ravine's floor, to a less "
    "sharp solution with a larger loss.",
)
_FIGURE_4 = _Descent(
    4,
    (1.0, 1.0),
    "Gradient descent first, then the bounce",
    "Far from the minimum the look uphill hardly turns the gradient, so both methods walk the same way. The "
    "difference begins where the gradient is small and the bounce takes over.",
    Formula(
        r"\nabla\ell\left(w + \rho\,\frac{\nabla\ell}{\left\lVert\nabla\ell\right\rVert}\right) \;\approx\; "
        r"\nabla\ell + \rho\,\nabla^2\ell\,\frac{\nabla\ell}{\left\lVert\nabla\ell\right\rVert}",
        "The gradient that SAM uses: the second term is at most ρλ₁ long, however long the first. Where ‖∇ℓ‖ is smaller, it leads.",
    ),
    "SAM behaves like gradient descent until both come close to the origin; then its oscillation carries it to a less "
    "sharp solution with a larger loss.",
)


def _cycle() -> np.ndarray:
    return theory.section_6.cycle(ETA, RHO)


def limit_sharpness() -> float:
    """λ_max at the centre of the 2-cycle that SAM ends in, in closed form."""
    return theory.section_6.sharpness(float(_cycle()[0, 1]))


def _sam_checks(name: str, start: tuple[float, float]) -> tuple[Check, ...]:
    loss = section_6()
    long = trajectory(loss, SAM(eta=ETA, rho=RHO), start=start, steps=LONG)
    width, height = (float(value) for value in np.abs(_cycle()[0]))
    end = np.abs(measure.iterates(long)[-1])
    check = partial(Check, name, run=measure.identity(long))
    return (
        check(f"SAM: ‖w_(t+2) − w_t‖ after {LONG} steps", 0.0, measure.period_two_gap(long), 1e-9),
        check(f"SAM: |w₁| after {LONG} steps", width, float(end[0]), 1e-9),
        check(f"SAM: |w₂| after {LONG} steps", height, float(end[1]), 1e-9),
        check("SAM: λ_max of the Hessian at the centre of the bounce",
              limit_sharpness(), float(measure.sharpness(loss, measure.centres(long)[-1:])[0]), 1e-9),
    )  # fmt: skip


def _descent_check(name: str, start: tuple[float, float]) -> Check:
    long = trajectory(section_6(), GD(eta=ETA), start=start, steps=LONG)
    distance = float(np.linalg.norm(measure.iterates(long)[-1]))
    quantity = f"gradient descent: distance to the minimum after {LONG} steps"
    return Check(name, quantity, 0.0, distance, 1e-9, run=measure.identity(long))


def descent(figure: _Descent, progress: Progress) -> ExperimentOutcome:
    """Run Figure 3 or 4: SAM and gradient descent on the loss of Section 6 from the same start."""
    loss = section_6()
    sam = trajectory(loss, SAM(eta=ETA, rho=RHO), start=figure.start, steps=SHOWN)
    gd = trajectory(loss, GD(eta=ETA), start=figure.start, steps=SHOWN)
    number, start = figure.number, f"({figure.start[0]:g}, {figure.start[1]:g})"
    picture = Picture(
        figure.name,
        f"Figure {number}. (a) SAM (circles, coloured by the step) and gradient descent (green squares) on {_LOSS} from {start}, η = 1/5, "
        f"ρ = 1, {SHOWN} steps, over contours of the loss. {figure.seen} The pluses mark the 2-cycle, and its mirror "
        f"image, that follow from the loss in closed form: |w₁| = η. (b) {_sharpness_caption('gradient descent (squares)')} "
        f"Gradient descent ends at the minimum, at {AT_MINIMUM:g}.",
        (
            Panel(
                partial(_plane, sam=sam, other=gd, title="(a) two ways from one start"),
                f"Two paths from {start}: one, of squares, runs to the origin; the other, of circles, zigzags left and right and "
                "settles between two marks beside the axis w₂ = 0.",
            ),
            Panel(
                partial(_sharpness, sam=sam, other=gd, inset=number != 3),
                f"Curvature against the step: squares end on a dashed line at {AT_MINIMUM:g}, circles on a dotted one below, at {limit_sharpness():.4g}.",
            ),
        ),
    )
    checks = (*_sam_checks(figure.name, figure.start), _descent_check(figure.name, figure.start))
    story, parameters = (figure.story,), {"eta": ETA, "rho": RHO}
    return ExperimentOutcome(
        figure.name, figure.title, story, figure.formula, (picture,), checks, parameters=parameters
    )


def _sharpness_caption(other: str) -> str:
    return (
        f"λ_max of the Hessian against the step, for SAM at the centre of its bounce and for {other} at the iterate. It is "
        f"{AT_MINIMUM:g} at the minimum (dashed); SAM settles where it is {limit_sharpness():.4g} (dotted, in closed form): the drift to a wider "
        f"place, {AT_MINIMUM:g} → {limit_sharpness():.4g}."
    )


def noise(progress: Progress) -> ExperimentOutcome:
    """Run Figure 5: SAM, and SGD whose gradients carry noise of scale σ = ρ/(2−η)."""
    name, start = "figure-5", (1.0, 1.0)
    loss = section_6()
    sam = trajectory(loss, SAM(eta=ETA, rho=RHO), start=start, steps=SHOWN)
    sgd = trajectory(loss, SGD(eta=ETA, sigma=SIGMA), start=start, steps=SGD_STEPS, seed=SEED)
    shown, settled = sgd.isel(step=slice(0, SHOWN + 1)), measure.iterates(sgd)[_BURN_IN:]
    picture = Picture(
        name,
        f"Figure 5. (a) SAM (circles, coloured by the step) and SGD (green squares) on {_LOSS} from (1, 1), η = 1/5, ρ = 1, σ = ρ/(2−η), {SHOWN} "
        f"steps; the shade is the density of SGD's iterates over {SGD_STEPS // 1000} 000 steps. The noise makes SGD sample a mix of solutions, sharp and "
        f"less sharp, on both sides of w₂ = 0; SAM drifts to the less sharp ones and stays. (b) {_sharpness_caption('SGD (squares)')} "
        "SGD does not settle.",
        (
            Panel(
                partial(_plane, sam=sam, other=shown, title="(a) drift and noise", density=settled),
                "A round cloud about the origin, densest there. Two paths from (1, 1): one, of circles, ends bouncing between two marks below "
                "the origin; the other, of squares, wanders about in the cloud without settling.",
            ),
            Panel(
                partial(_sharpness, sam=sam, other=shown),
                f"Curvature against the step: circles settle on a dotted line at {limit_sharpness():.4g}; squares jump up and down below a "
                f"dashed line at {AT_MINIMUM:g}.",
            ),
        ),
    )
    return ExperimentOutcome(
        name,
        "Noise is not the same",
        (
            "SGD shakes too, so could noise do what SAM does? It shakes in every direction, without a preference: SGD visits sharp "
            "and flat places in turn. SAM's shaking is always along the steepest direction, and its drift always points to where that "
            "direction is less steep.",
        ),
        Formula(
            r"w_{t+1} = w_t - \eta\left(\nabla\ell(w_t) + \sigma\,\xi_t\right), \qquad \xi_t \;\sim\; \mathcal{N}(0, I)",
            "SGD as the paper has it: noise alike in all directions, at each step anew.",
        ),
        (picture,),
        (*_sam_checks(name, start), *_noise_checks(name, sgd)),
        seeds=(SEED,),
        parameters={"eta": ETA, "rho": RHO, "sigma": SIGMA},
    )


def _noise_checks(name: str, sgd: xr.Dataset) -> tuple[Check, ...]:
    loss, w = section_6(), measure.iterates(sgd)
    gradients = np.array([loss.grad(point) for point in w[:20_000]])
    samples = -(w[1:20_001] - w[:20_000]) / ETA - gradients
    # On the quadratic ½w₂² the stationary law of w₂ is Gaussian; the ravine bends it by some per cent.
    variance = ETA * SIGMA**2 / (2 - ETA)
    height = float(_cycle()[0, 1])
    settled = w[_BURN_IN:, 1]
    check = partial(Check, name, run=measure.identity(sgd))
    return (
        check("SGD: standard deviation of the gradient noise, 40 000 samples", SIGMA, float(samples.std()), 0.01),
        check(f"SGD: mean of w₂² over {SGD_STEPS // 1000} 000 steps, against ησ²/(2−η) of the quadratic",
              variance, float((settled**2).mean()), 0.05 * variance),
        check("SGD: share of steps at sharper points than SAM's limit, |w₂| below its",
              math.erf(height / math.sqrt(2 * variance)), float((np.abs(settled) < height).mean()), 0.02),
    )  # fmt: skip


def _plane(ax: Axes, sam: xr.Dataset, other: xr.Dataset, title: str, density: np.ndarray | None = None) -> None:
    both = _cycle() * [1, -1], _cycle()
    w = measure.iterates(sam)
    x, y = plots.frame(np.concatenate([w, measure.iterates(other), *both]))
    if density is not None:
        x, y = (min(x[0], -0.55), max(x[1], 0.55)), (min(y[0], -0.75), y[1])
        _shade(ax, density, x, y)
    plots.contours(ax, section_6(), x, y, levels=18)
    plots.path(ax, other, zorder=2.5, alpha=0.9)
    drawing.path_in_time(ax, w, label="SAM")
    drawing.crosses(ax, np.concatenate(both), label="predicted cycles")
    drawing.start_mark(ax, w[0], (-1, 10) if w[0, 0] > 0.5 else (9, 6))
    ax.set(xlabel="w₁", ylabel="w₂", title=title)
    ax.locator_params(axis="x", nbins=6)
    drawing.legend_below(ax)


def _shade(ax: Axes, w: np.ndarray, x: tuple[float, float], y: tuple[float, float]) -> None:
    """The density of points of shape (n, 2), as a green that is the thicker the denser they lie."""
    from matplotlib.colors import to_rgb

    counts, across, up = np.histogram2d(*w.T, bins=(60, 60), range=(x, y))
    image = np.empty((*counts.T.shape, 4))
    image[..., :3] = to_rgb(plots.GREEN)
    image[..., 3] = 0.6 * counts.T / counts.max()
    ax.imshow(
        image, extent=(across[0], across[-1], up[0], up[-1]), origin="lower", aspect="auto", interpolation="bicubic"
    )


def _sharpness(ax: Axes, sam: xr.Dataset, other: xr.Dataset, inset: bool = False) -> None:
    loss = section_6()
    seen = {"SAM": measure.sharpness(loss, measure.centres(sam))}
    method = str(other["method"].values[0])
    seen[plots.NAMES[method]] = measure.sharpness(loss, measure.iterates(other))
    enlarged = ax.inset_axes((0.42, 0.09, 0.55, 0.42), xlim=(6.5, SHOWN + 0.5), ylim=(1.965, 2.006)) if inset else None
    for one in (ax, enlarged) if enlarged is not None else (ax,):
        for (label, values), colour, marker in zip(seen.items(), (plots.BLUE, plots.GREEN), "os", strict=True):
            one.plot(
                range(len(values)), values, color=colour, marker=marker, markersize=3.2, linewidth=0.8, label=label
            )
    for one in (ax, enlarged) if enlarged is not None else (ax,):
        drawing.level(one, AT_MINIMUM, f"at the minimum: {AT_MINIMUM:g}")
        drawing.level(one, limit_sharpness(), f"SAM's limit: {limit_sharpness():.4g}", (1, 1))
    if enlarged is not None:
        enlarged.tick_params(labelsize=8)
        ax.indicate_inset_zoom(enlarged, edgecolor=plots.GREY)
    ax.set(title="(b) the sharpness", xlabel="step", ylabel="λₘₐₓ of the Hessian")
    drawing.legend_below(ax)


figure_3 = partial(descent, _FIGURE_3)
figure_4 = partial(descent, _FIGURE_4)
figure_5 = noise
