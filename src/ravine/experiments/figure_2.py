"""Figure 2: SAM is gradient descent on a potential J with two valleys."""

from __future__ import annotations

import numpy as np

from ravine import plots, theory
from ravine.experiments import measure
from ravine.experiments.experiment import Check, Outcome, Picture, Progress
from ravine.methods import SAM
from ravine.objectives import quadratic
from ravine.simulate import trajectory

NAME = "figure-2"
EIGENVALUES = (1.0, 0.2)
ETA, RHO, START, STEPS = 0.2, 1.0, (0.244, 0.0224), 25
LONG = 400


def run(progress: Progress) -> Outcome:
    """Run Figure 2: the iterates u_t = (−1)ᵗw_t over the heat map of J."""
    loss, method = quadratic(EIGENVALUES), SAM(eta=ETA, rho=RHO)
    long = trajectory(loss, method, start=START, steps=LONG)
    w = measure.iterates(long)
    u = (-1.0) ** np.arange(len(w))[:, None] * w
    law = theory.quadratic(EIGENVALUES, ETA, RHO)
    potential = theory.potential(EIGENVALUES, ETA, RHO)
    points = potential.stationary_points()
    saddle = next(point for point in points if not point.is_minimum)

    descended = [np.array(START)]
    for _ in range(STEPS):
        descended.append(descended[-1] - ETA * RHO * potential.gradient(descended[-1]))
    steps_of_j = np.diff(potential.value(u))
    excess = np.maximum(steps_of_j - potential.descent_bound(u[:-1]), 0.0)
    resting = measure.iterates(trajectory(loss, method, start=saddle.u, steps=1))
    distance = measure.distance_to_pair(long, law.limit(START))
    checks = (
        Check(NAME, f"largest distance of u_t from gradient descent on J, {STEPS} steps", 0.0,
              float(np.abs(u[: STEPS + 1] - np.array(descended)).max()), 1e-12),
        Check(NAME, f"J(u_t) after {LONG} steps, against min J = −β₁/2", potential.minimum,
              float(potential.value(u[-1])), 1e-9),
        Check(NAME, "largest excess of J's change over Lemma 10's bound", 0.0, float(excess.max()), 1e-15),
        Check(NAME, "distance from SAM's step at the saddle (β₂/λ₂)e₂ to its mirror image", 0.0,
              float(np.linalg.norm(resting[1] + saddle.u)), 1e-15),
        Check(NAME, f"distance to the predicted cycle after {LONG} steps", 0.0, float(distance[-1]), 1e-9),
        Check(NAME, "factor per step by which the distance to the cycle shrinks", law.rate,
              measure.contraction_rate(distance, 1e-12), 1e-9),
    )  # fmt: skip
    with plots.style():
        figure = plots.new_figure(7.2, 4.4)
        ax = figure.subplots()
        x, y = np.linspace(-0.3, 0.3, 301), np.linspace(-0.14, 0.14, 201)
        grid = np.stack(np.meshgrid(x, y), axis=-1)
        mesh = ax.pcolormesh(x, y, potential.value(grid), cmap="cividis", shading="gouraud", rasterized=True)
        figure.colorbar(mesh, ax=ax, label="J(u)")
        ax.plot(*u[: STEPS + 1].T, color="white", marker="o", markersize=3.5, linewidth=0.8, label="u₀, …, u₂₅")
        marks = np.concatenate([[point.u, -point.u] for point in points])
        ax.plot(*marks.T, "+", color="black", markersize=12, markeredgewidth=2, label="stationary points of J")
        ax.set(xlabel="u₁", ylabel="u₂", title="the potential that SAM descends")
        ax.legend(loc="upper left", facecolor="#8d8d8d", frameon=True, framealpha=0.9)
    picture = Picture(
        NAME,
        "Figure 2. Heat map of J for d = 2, η = 1/5, ρ = 1, λ₁ = 1 and λ₂ = 1/5, with the iterates u₀, u₁, …, u₂₅ (white) "
        "from w₀ = (0.244, 0.0224) and the stationary points (black pluses). With every second sign flipped, the bounce "
        "becomes a descent: J is lowest at the two outer pluses, and the two inner ones are saddles that the path leaves.",
        "A heat map with two dark basins left and right of the origin on the horizontal axis. A chain of white points "
        "runs from the right into the right-hand basin.",
        figure,
    )
    return Outcome(
        NAME,
        "The bounce is a descent",
        (
            "Write u_t = (−1)ᵗw_t: flip the sign at every second step. Then the bounce stands still, and SAM turns out to "
            "be plain gradient descent on another function, J, with step ηρ. J is not convex, but its only minima are the "
            "two ends of the bounce across the steepest direction.",
        ),
        (picture,),
        checks,
        parameters={"eta": ETA, "rho": RHO, "lambda_1": EIGENVALUES[0], "lambda_2": EIGENVALUES[1]},
    )
