"""Figure 2: SAM is gradient descent on a potential J with two valleys."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from ravine import plots, theory
from ravine.experiments import drawing, measure
from ravine.experiments.experiment import Check, ExperimentOutcome, Formula, Panel, Picture, Progress
from ravine.methods import SAM
from ravine.objectives import quadratic
from ravine.simulate import trajectory

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAME = "figure-2"
EIGENVALUES = (1.0, 0.2)
ETA, RHO, START, STEPS = 0.2, 1.0, (0.244, 0.0224), 25
LONG = 400
_FORMULA = Formula(
    r"J(u) = \frac{1}{2}\,u^{\top} C\,u - \left\lVert \Lambda u \right\rVert, \qquad C = \frac{2I-\eta\Lambda}{\eta\rho}",
    "The potential that SAM descends, Λ being the diagonal matrix of the curvatures: u_(t+1) = u_t − ηρ∇J(u_t).",
)


def run(progress: Progress) -> ExperimentOutcome:
    """Run Figure 2: the iterates u_t = (−1)ᵗw_t over the heat map of J."""
    long = trajectory(quadratic(EIGENVALUES), SAM(eta=ETA, rho=RHO), start=START, steps=LONG)
    w = measure.iterates(long)
    u = (-1.0) ** np.arange(len(w))[:, None] * w
    return ExperimentOutcome(
        NAME,
        "The bounce is a descent",
        (
            "Write u_t = (−1)ᵗw_t: flip the sign at every second step. Then the bounce stands still, and SAM turns out to "
            "be plain gradient descent on another function, J, with step ηρ. J is not convex, but its only minima are the "
            "two ends of the bounce across the steepest direction.",
        ),
        _FORMULA,
        (_picture(u),),
        _checks(long, u),
        parameters={"eta": ETA, "rho": RHO, "lambda_1": EIGENVALUES[0], "lambda_2": EIGENVALUES[1]},
    )


def _checks(long: xr.Dataset, u: np.ndarray) -> tuple[Check, ...]:
    law = theory.quadratic(EIGENVALUES, ETA, RHO)
    potential = theory.potential(EIGENVALUES, ETA, RHO)
    saddle = next(point for point in potential.stationary_points() if not point.is_minimum)
    descended = [np.array(START)]
    for _ in range(STEPS):
        descended.append(descended[-1] - ETA * RHO * potential.gradient(descended[-1]))
    excess = np.maximum(np.diff(potential.value(u)) - potential.descent_bound(u[:-1]), 0.0)
    resting = trajectory(quadratic(EIGENVALUES), SAM(eta=ETA, rho=RHO), start=saddle.u, steps=1)
    distance = measure.distance_to_pair(long, law.limit(START))
    check = partial(Check, NAME, run=measure.identity(long))
    return (
        check(f"largest distance of u_t from gradient descent on J, {STEPS} steps", 0.0,
              float(np.abs(u[: STEPS + 1] - np.array(descended)).max()), 1e-12),
        check(f"J(u_t) after {LONG} steps, against min J = −β₁/2", potential.minimum,
              float(potential.value(u[-1])), 1e-9),
        check("largest excess of J's change over Lemma 10's bound", 0.0, float(excess.max()), 1e-15),
        Check(NAME, "distance from SAM's step at the saddle (β₂/λ₂)e₂ to its mirror image", 0.0,
              float(np.linalg.norm(measure.iterates(resting)[1] + saddle.u)), 1e-15, run=measure.identity(resting)),
        check(f"distance to the predicted cycle after {LONG} steps", 0.0, float(distance[-1]), 1e-9),
        check("factor per step by which the distance to the cycle shrinks", law.rate,
              measure.contraction_rate(distance, 1e-12), 1e-9),
    )  # fmt: skip


def _picture(u: np.ndarray) -> Picture:
    law = theory.quadratic(EIGENVALUES, ETA, RHO)
    return Picture(
        NAME,
        f"Figure 2. (a) Heat map of J for d = 2, η = 1/5, ρ = 1, λ₁ = 1 and λ₂ = 1/5, with the iterates u₀, u₁, …, u{_lowered(STEPS)} (white) "
        "from w₀ = (0.244, 0.0224) and the stationary points (pluses); the inset enlarges the "
        "right-hand valley. With every second sign flipped, the bounce becomes a descent: J is lowest at the two outer pluses, and the two inner ones "
        "are saddles. The path nearly lands on one, u₁, leaves it, and closes in on the right-hand minimum. (b) How far J(u_t) is above its minimum "
        "−β₁/2, at each step: it never rises, and at last shrinks by the factor that theory gives, "
        f"{law.rate:.3f}² = {law.rate**2:.3f} a step (dashed).",
        (
            Panel(
                partial(_heat, u=u[: STEPS + 1]),
                "A heat map with two dark basins left and right of the origin on the horizontal axis. A chain of white points "
                "runs from the right past a plus below the origin into the right-hand basin.",
            ),
            Panel(
                partial(_fall, u=u),
                "On a logarithmic scale, points that fall at every step, in the end along a dashed straight line.",
            ),
        ),
    )


def _lowered(number: int) -> str:
    return "".join("₀₁₂₃₄₅₆₇₈₉"[int(digit)] for digit in str(number))


def _heat(ax: Axes, u: np.ndarray) -> None:
    potential = theory.potential(EIGENVALUES, ETA, RHO)
    points = np.concatenate([[point.u, -point.u] for point in potential.stationary_points()])
    x, y = np.linspace(-0.3, 0.3, 301), np.linspace(-0.16, 0.16, 201)
    heights = potential.value(np.stack(np.meshgrid(x, y), axis=-1))
    inset = ax.inset_axes((0.03, 0.7, 0.44, 0.27))
    for one, size in ((inset, 2.6), (ax, 3.0)):
        mesh = one.imshow(
            heights,
            cmap="cividis",
            extent=(x[0], x[-1], y[0], y[-1]),
            origin="lower",
            aspect="auto",
            interpolation="bilinear",
        )
        drawing.crosses(one, points, label="stationary points", on_heat=True)
        one.plot(
            *u.T,
            color=drawing.FIXED_WHITE,
            zorder=4,
            marker="o",
            markersize=size,
            linewidth=0.7,
            markeredgecolor=drawing.FIXED_BLACK,
            markeredgewidth=0.5,
        )
    drawing.colour_bar(ax, mesh, "J(u)")
    dot = {
        "marker": "o",
        "markersize": 5,
        "markerfacecolor": drawing.FIXED_WHITE,
        "markeredgecolor": drawing.FIXED_BLACK,
    }
    ax.plot([], [], color=plots.GREY, linewidth=0.9, label="uₜ of SAM", **dot)
    inset.set(xticks=[], yticks=[], xlim=(0.075, 0.155), ylim=(-0.012, 0.012))
    for spine in inset.spines.values():
        spine.set(visible=True, color=drawing.FIXED_WHITE, linewidth=1.0)
    ax.indicate_inset_zoom(inset, edgecolor=drawing.FIXED_WHITE, alpha=0.9)
    drawing.start_mark(ax, u[0], (-8, 8), drawing.FIXED_WHITE)
    named = {"textcoords": "offset points", "fontsize": drawing.SMALL, "color": drawing.FIXED_WHITE}
    ax.annotate("u₁", u[1], (6, -12), **named)
    ax.set(title="(a) the potential that SAM descends", xlabel="u₁", ylabel="u₂", xlim=(-0.3, 0.3), ylim=(-0.16, 0.16))
    drawing.legend_below(ax)


def _fall(ax: Axes, u: np.ndarray) -> None:
    potential, law = theory.potential(EIGENVALUES, ETA, RHO), theory.quadratic(EIGENVALUES, ETA, RHO)
    above = potential.value(u) - potential.minimum
    steps = np.flatnonzero(above > 1e-13)[: 2 * STEPS + 1]
    last = steps[-1]
    ax.semilogy(steps, above[steps], "o-", color=plots.BLUE, markersize=3.5, linewidth=0.7, label="SAM")
    ax.semilogy(
        steps, above[last] * law.rate ** (2.0 * (steps - last)), color="black", linewidth=0.9, linestyle=(0, (5, 3)),
        label="predicted rate",
    )  # fmt: skip
    ax.set(title="(b) J descends", xlabel="step", ylabel="J(uₜ) − min J")
    drawing.legend_below(ax)
