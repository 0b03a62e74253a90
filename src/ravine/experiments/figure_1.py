"""Figure 1: SAM on a quadratic descends, then bounces across the minimum."""

from __future__ import annotations

import numpy as np

from ravine import plots, theory
from ravine.experiments import measure
from ravine.experiments.experiment import Check, Outcome, Picture, Progress
from ravine.methods import SAM
from ravine.objectives import quadratic
from ravine.simulate import trajectory

NAME = "figure-1"
EIGENVALUES = (1.0, 0.5)
ETA, RHO, START, STEPS = 0.2, 1.0, (2.0, 2.0), 30
# Long enough for the distance to the cycle to reach rounding.
LONG = 300


def run(progress: Progress) -> Outcome:
    """Run Figure 1: the first 30 iterates from (2, 2), and the same run prolonged for the measurements."""
    loss, method = quadratic(EIGENVALUES), SAM(eta=ETA, rho=RHO)
    shown = trajectory(loss, method, start=START, steps=STEPS)
    long = trajectory(loss, method, start=START, steps=LONG)
    law = theory.quadratic(EIGENVALUES, ETA, RHO)
    pair = law.limit(START)
    distance = measure.distance_to_pair(long, pair)
    norms = long["grad_norm"].values[0]
    inside = norms <= law.b
    entered = int(np.argmax(inside))
    checks = (
        Check(NAME, f"half-width |w₁| of the bounce after {LONG} steps", law.amplitude, _last(long, 0), 1e-9),
        Check(NAME, f"|w₂| after {LONG} steps", 0.0, _last(long, 1), 1e-9),
        Check(NAME, f"distance to the predicted cycle after {LONG} steps", 0.0, float(distance[-1]), 1e-9),
        Check(NAME, "factor per step by which the distance to the cycle shrinks", law.rate,
              measure.contraction_rate(distance, 1e-6), 1e-9),
        Check(NAME, "steps outside the ball ‖∇ℓ‖ ≤ b after the first inside it", 0.0,
              float((~inside[entered:]).sum()), 0.0),
    )  # fmt: skip
    with plots.style():
        figure = plots.new_figure(9, 4.2)
        left, right = figure.subplots(1, 2)
        w = measure.iterates(shown)
        plots.contours(left, loss, (-0.25, 2.15), (-0.25, 2.15))
        plots.path(left, shown)
        left.set(title="(a) the first 30 iterates", xlabel="w₁", ylabel="w₂", aspect="equal")
        near = w[np.abs(w).max(axis=1) < 0.2]
        plots.contours(right, loss, (-0.2, 0.2), (-0.2, 0.2), levels=10)
        plots.path(right, shown)
        right.plot(*pair.T, "+", color="black", markersize=13, markeredgewidth=1.6, label="predicted cycle", zorder=5)
        right.set(title="(b) close to the origin", xlabel="w₁", ylabel="w₂", aspect="equal")
        right.set(xticks=[-0.2, -0.1, 0, 0.1, 0.2], yticks=[-0.2, -0.1, 0, 0.1, 0.2])
        right.legend(loc="lower right", facecolor="white", frameon=True, framealpha=0.9)
    picture = Picture(
        NAME,
        "Figure 1. The first 30 iterates of SAM from (2, 2), with λ₁ = 1, λ₂ = 1/2, η = 1/5 and ρ = 1, over contours of "
        "the loss. (a) SAM first walks down to the minimum, fastest in the steep direction. (b) Close to the origin it "
        "overshoots, and what is left is a bounce from side to side along w₁, between the two points that "
        f"theory predicts (pluses, ±{law.amplitude:.4f}).",
        f"Two panels. Left, a path from the point (2, 2) down to the origin. Right, {len(near)} of its points near the "
        "origin, alternating left and right of it ever closer to two marks on the horizontal axis.",
        figure,
    )
    return Outcome(
        NAME,
        "Bouncing across the ravine",
        (
            "A ravine is a valley that is steep across and gentle along. Here the loss is ½(w₁² + ½w₂²), steepest along "
            "w₁. Gradient descent would roll to the bottom and stop. SAM looks one step of length ρ uphill before it "
            "chooses its direction, so it always steps as if it stood higher on the wall than it does: at the bottom "
            "it overshoots, and ends up bouncing between two points on opposite walls.",
        ),
        (picture,),
        checks,
        parameters={"eta": ETA, "rho": RHO, "lambda_1": EIGENVALUES[0], "lambda_2": EIGENVALUES[1]},
    )


def _last(run: object, coordinate: int) -> float:
    return float(abs(measure.iterates(run)[-1, coordinate]))  # pyright: ignore[reportArgumentType]
