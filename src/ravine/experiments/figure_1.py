"""Figure 1: SAM on a quadratic descends, then bounces across the minimum."""

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

NAME = "figure-1"
EIGENVALUES = (1.0, 0.5)
ETA, RHO, START, STEPS = 0.2, 1.0, (2.0, 2.0), 30
# Long enough for the distance to the cycle to reach rounding.
LONG = 300
# Half the side of the square about the origin that is shown enlarged.
CLOSE = 0.2
_FORMULA = Formula(
    r"w_t \;\longrightarrow\; \pm\,\frac{\eta\rho\lambda_1}{2-\eta\lambda_1}\,e_1",
    "The two points between which SAM bounces in the end: along e₁, the steepest direction, of curvature λ₁.",
)


def run(progress: Progress) -> ExperimentOutcome:
    """Run Figure 1: the first 30 iterates from (2, 2), and the same run prolonged for the measurements."""
    loss, method = quadratic(EIGENVALUES), SAM(eta=ETA, rho=RHO)
    law = theory.quadratic(EIGENVALUES, ETA, RHO)
    shown = measure.iterates(trajectory(loss, method, start=START, steps=STEPS))
    return ExperimentOutcome(
        NAME,
        "Bouncing across the ravine",
        (
            "A ravine is a valley that is steep across and gentle along. Here the loss is ½(w₁² + ½w₂²), steepest along "
            "w₁. Gradient descent would roll to the bottom and stop. SAM looks one step of length ρ uphill before it "
            "chooses its direction, so it always steps as if it stood higher on the wall than it does: at the bottom "
            "it overshoots, and ends up bouncing between two points on opposite walls.",
        ),
        _FORMULA,
        (_picture(shown, law.limit(START)),),
        _checks(trajectory(loss, method, start=START, steps=LONG)),
        parameters={"eta": ETA, "rho": RHO, "lambda_1": EIGENVALUES[0], "lambda_2": EIGENVALUES[1]},
    )


def _checks(long: xr.Dataset) -> tuple[Check, ...]:
    law = theory.quadratic(EIGENVALUES, ETA, RHO)
    distance = measure.distance_to_pair(long, law.limit(START))
    inside = long["grad_norm"].values[0] <= law.b
    entered = int(np.argmax(inside))
    end = np.abs(measure.iterates(long)[-1])
    check = partial(Check, NAME, run=measure.identity(long))
    return (
        check(f"half-width |w₁| of the bounce after {LONG} steps", law.amplitude, float(end[0]), 1e-9),
        check(f"|w₂| after {LONG} steps", 0.0, float(end[1]), 1e-9),
        check(f"distance to the predicted cycle after {LONG} steps", 0.0, float(distance[-1]), 1e-9),
        check("factor per step by which the distance to the cycle shrinks", law.rate,
              measure.contraction_rate(distance, 1e-6), 1e-9),
        check("steps outside the ball ‖∇ℓ‖ ≤ b after the first inside it", 0.0,
              float((~inside[entered:]).sum()), 0.0),
    )  # fmt: skip


def _picture(w: np.ndarray, pair: np.ndarray) -> Picture:
    near = int((np.abs(w).max(axis=1) < CLOSE).sum())
    return Picture(
        NAME,
        f"Figure 1. The first {STEPS} iterates of SAM from (2, 2), with λ₁ = 1, λ₂ = 1/2, η = 1/5 and ρ = 1, over contours of "
        "the loss; colour says the step. (a) SAM first walks down to the minimum, fastest in the steep direction, w₁. (b) Close to "
        "the origin it overshoots. The share along w₂ dies out, and what is left is a bounce from side to side along w₁, "
        f"between the two points that theory predicts (pluses, ±{np.abs(pair).max():.4f}).",
        (
            Panel(
                partial(_descent, w=w),
                "A path from the point (2, 2) down to the origin, bending along the axis w₁ = 0.",
            ),
            Panel(
                partial(_bounce, w=w, pair=pair),
                f"The {near} points of the path near the origin, left and right of it in turn, the later the closer to two "
                "pluses on the horizontal axis.",
            ),
        ),
    )


def _descent(ax: Axes, w: np.ndarray) -> None:
    plots.contours(ax, quadratic(EIGENVALUES), (-0.25, 2.25), (-0.25, 2.25))
    drawing.path_in_time(ax, w, label="SAM")
    drawing.start_mark(ax, w[0], (-9, -4))
    ax.plot(
        [CLOSE, CLOSE, -CLOSE, -CLOSE, CLOSE], [-CLOSE, CLOSE, CLOSE, -CLOSE, -CLOSE], color=plots.GREY, linewidth=0.8
    )
    ax.annotate("(b)", (CLOSE, -CLOSE), (4, 2), textcoords="offset points", fontsize=drawing.SMALL, color=plots.GREY)
    ax.set(title=f"(a) the first {STEPS} iterates", xlabel="w₁", ylabel="w₂", aspect="equal")
    drawing.legend_below(ax)


def _bounce(ax: Axes, w: np.ndarray, pair: np.ndarray) -> None:
    plots.contours(ax, quadratic(EIGENVALUES), (-CLOSE, CLOSE), (-CLOSE, CLOSE), levels=10)
    drawing.path_in_time(ax, w, label="SAM")
    drawing.crosses(ax, pair, label="predicted cycle")
    ax.set(title="(b) close to the origin", xlabel="w₁", ylabel="w₂", aspect="equal")
    ax.set(xticks=[-CLOSE, -0.1, 0, 0.1, CLOSE], yticks=[-CLOSE, -0.1, 0, 0.1, CLOSE])
    drawing.legend_below(ax)
