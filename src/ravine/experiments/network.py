"""A trained network bounces and drifts as Theorem 21 says: scikit-learn's digits, full batch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from ravine import observations, plots, theory
from ravine.experiments import drawing, drifting
from ravine.experiments.experiment import Check, ExperimentOutcome, Formula, Panel, Picture, Progress
from ravine.experiments.training import Task, digits_task, minimize, one_thread
from ravine.extras import require
from ravine.methods import GD, SAM
from ravine.simulate import trajectory
from ravine.spectrum import eigenpairs

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ravine.torch import Network, Probe

NAME = "network"
IMAGES, HIDDEN = 100, 40
# ηλ₁ and ρ. ρ = 0.02 was tried first and is too large for a law of first order over 1000 steps: see the story.
SHARPNESS_STEP, RHO = 0.4, 0.01
STEPS, EVERY = 1000, 50
# Before this the start's transient has not died away; the law is of the bounce.
SETTLED = 100
# Hessian products spent on predicting the fall of λ_max, and on telling flat directions from curved ones.
PREDICTING, RESOLVING = 50, 300
SEEDS = (0, 1)


@dataclass(frozen=True)
class _Minimum:
    """A trained network: its probe, the point, and the curvature there, from Hessian-vector products."""

    probe: Probe
    w: np.ndarray
    loss: float
    sharpness: float
    vector: np.ndarray
    sharpness_gradient: np.ndarray

    def drift(self, eta: float) -> observations.Drift:
        objective = self.probe.objective
        return observations.drift(
            objective,
            self.w,
            eigenvector=self.vector,
            sharpness_gradient=self.sharpness_gradient,
            sharpness=self.sharpness,
            eta=eta,
            rho=RHO,
            steps=STEPS,
            products=PREDICTING,
        )

    def flat(self, v: np.ndarray) -> np.ndarray:
        return observations.flat_part(self.probe.objective, self.w, v, self.sharpness, RESOLVING)


@dataclass(frozen=True)
class _Measured:
    """What SAM and the control did from one minimum."""

    seed: int
    minimum: _Minimum
    eta: float
    sam: xr.Dataset
    bounce: xr.Dataset
    probes: xr.Dataset
    control_change: float
    control_lam: np.ndarray
    drift: observations.Drift
    predicted_motion: np.ndarray
    measured_motion: np.ndarray

    def law(self, sharpness: Any) -> np.ndarray:
        """ηρλ₁/(2−ηλ₁) at sharpnesses λ₁."""
        return theory.amplitude(np.atleast_1d(sharpness), self.eta, RHO)

    def predicted_change(self, steps: int) -> float:
        seen = self.drift.measure
        return theory.drift.sharpness_change(
            seen.nodes, seen.components, sharpness=self.minimum.sharpness, eta=self.eta, rho=RHO, steps=steps
        )


def _model() -> Any:
    import torch

    return torch.nn.Sequential(torch.nn.Linear(64, HIDDEN), torch.nn.Tanh(), torch.nn.Linear(HIDDEN, 10))


def task(seed: int) -> Task:
    """A 64-40-10 tanh network on 100 scans."""
    return digits_task(_model, IMAGES, seed)


def train(seed: int) -> tuple[Network, np.ndarray]:
    """`task` trained to a minimum."""
    return minimize(task(seed))


def _curvature(probe: Probe, w: np.ndarray) -> _Minimum:
    """λ₁, e₁ and ∇λ₁ at the point: a few dozen Hessian-vector products and one checked third derivative."""
    probe.objective.assign(w)
    found = probe.sharpness_gradient()
    if found.value is None:
        raise ValueError("λ₁ = λ₂ at the minimum: there is no ∇λ_max to drift along; use another seed")
    return _Minimum(
        probe=probe,
        w=w,
        loss=probe.objective.value(w),
        sharpness=float(found.eigenpairs.values[0]),
        vector=found.eigenpairs.vectors[0],
        sharpness_gradient=np.asarray(found.value),
    )


def _measure(seed: int, progress: Progress, share: tuple[float, float]) -> _Measured:
    from ravine.torch import Probe

    def done(part: float, what: str) -> None:
        progress(f"seed {seed}: {what}", share[0] + part * share[1])

    done(0.0, "training")
    objective, w = train(seed)
    done(0.6, "curvature")
    given = task(seed)
    minimum = _curvature(Probe(given.model, given.loss_fn, given.batches), w)
    eta = SHARPNESS_STEP / minimum.sharpness
    done(0.65, "SAM")
    sam = trajectory(objective, SAM(eta=eta, rho=RHO), start=w, steps=STEPS + 1)
    bounce = observations.bounce(sam)
    done(0.8, "λ_max along the run")
    probes = observations.sharpness(objective, sam, range(0, STEPS + 1, EVERY))
    done(0.9, "gradient descent")
    control = trajectory(objective, GD(eta=eta), start=w, steps=STEPS, every=STEPS // 4)
    control_lam = np.array([eigenpairs(objective, point, 1, tol=1e-10).values[0] for point in control["w"].values[0]])
    motion = drifting.mean_motion(bounce.isel(run=0), SETTLED, STEPS)
    law = -theory.drift.flat_coefficient(sharpness=minimum.sharpness, eta=eta, rho=RHO) * minimum.sharpness_gradient
    return _Measured(
        seed=seed,
        minimum=minimum,
        eta=eta,
        sam=sam,
        bounce=bounce,
        probes=probes,
        control_change=float(control_lam[-1] - control_lam[0]),
        control_lam=control_lam,
        drift=minimum.drift(eta),
        predicted_motion=minimum.flat(law),
        measured_motion=minimum.flat(motion),
    )


def _checks(m: _Measured) -> tuple[Check, ...]:
    fall = m.predicted_change(STEPS)
    lam = m.probes["eigenvalues"].sel(pair=1).values
    label = f"seed {m.seed}: "
    check = partial(Check, NAME, run=f"{NAME}, seed {m.seed}")
    settled = drifting.Settled(m.probes, m.bounce["amplitude"].isel(run=0), SETTLED, STEPS)
    return (
        *drifting.bounce_checks(check, label, settled, m.law, aligned=1e-3),
        *drifting.motion_checks(check, label, m.predicted_motion, m.measured_motion),
        check(label + f"change of λ_max over {STEPS} steps, predicted at the start",
              fall, float(lam[-1] - m.minimum.sharpness), 0.06 * abs(fall)),
        check(label + f"gradient descent: change of λ_max over {STEPS} steps",
              0.0, m.control_change, 1e-6 * m.minimum.sharpness),
    )  # fmt: skip


def _panels(m: _Measured) -> tuple[Panel, ...]:
    return (
        Panel(partial(_draw_bounce, m=m), "A zigzag that grows to a constant height between two dashed lines."),
        Panel(
            partial(_draw_sharpness, m=m),
            "Circles that fall along a falling dashed curve, and squares on a level line.",
        ),
        drifting.panel(m.predicted_motion, m.measured_motion, f"seed {m.seed}"),
    )


def _draw_bounce(ax: Axes, m: _Measured) -> None:
    along = (m.sam["w"].values[0] - m.minimum.w) @ m.minimum.vector
    shown = 40
    ax.plot(
        np.arange(shown + 1), along[: shown + 1] * 1e3, "o-", color=plots.BLUE, markersize=3, linewidth=0.7, label="SAM"
    )
    half_width = 1e3 * float(m.law(m.minimum.sharpness)[0])
    drawing.level(ax, half_width, "±ηρλ₁/(2−ηλ₁)")
    drawing.level(ax, -half_width, "")
    ax.set(xlabel="step", ylabel="offset along e₁  (×10⁻³)", title=f"bounce along e₁ (seed {m.seed})")
    drawing.legend_below(ax)


def _draw_sharpness(ax: Axes, m: _Measured) -> None:
    steps = m.probes["step"].values
    ax.plot(steps, m.probes["eigenvalues"].sel(pair=1), "o", color=plots.BLUE, markersize=3.5, label="SAM, measured")
    curve = np.linspace(0, STEPS, 101).astype(int)
    predicted = [m.minimum.sharpness + m.predicted_change(int(t)) for t in curve]
    ax.plot(curve, predicted, color="black", linewidth=0.9, linestyle="--", label="predicted")
    ax.plot(
        np.linspace(0, STEPS, m.control_lam.size), m.control_lam, "s-", color=plots.GREEN, markersize=3.5, linewidth=0.8,
        label="gradient descent",
    )  # fmt: skip
    ax.set(xlabel="step", ylabel="λₘₐₓ of the Hessian", title=f"sharpness (seed {m.seed})")
    drawing.legend_below(ax)


def run(progress: Progress) -> ExperimentOutcome:
    """Run the network experiment: two seeds, SAM and the control of gradient descent from the same minimum."""
    require("torch", "torch")
    require("sklearn", "report")
    with one_thread():
        measured = [_measure(seed, progress, (k / len(SEEDS), 1 / len(SEEDS))) for k, seed in enumerate(SEEDS)]
    first = measured[0].minimum
    picture = Picture(
        NAME,
        f"A 64-{HIDDEN}-10 tanh network ({first.w.size} parameters) trained on {IMAGES} scans of handwritten digits to a "
        f"minimum (loss {first.loss:.0e}), then full-batch SAM with ηλ₁ = {SHARPNESS_STEP} and ρ = {RHO}; one row a seed. Left: within "
        "a few steps the iterate bounces along the Hessian's top eigenvector between the two points that the quadratic "
        "theory gives (dashed). Middle: the Hessian's largest eigenvalue falls under SAM (circles) as predicted from the "
        "curvature at step 0 alone (dashed); under gradient descent (squares) from the same point it stays. Right: for each "
        f"parameter, the part along flat directions (|λ| below {observations.FLAT:g} λ₁) of the mean motion per step over steps {SETTLED} "
        f"to {STEPS} against Theorem 21. No Hessian was formed: all is from products with it.",
        tuple(panel for one in measured for panel in _panels(one)),
        columns=3,
        size=(3.7, 3.6),
    )
    return ExperimentOutcome(
        NAME,
        "The same on a real network",
        (
            "Nothing above is special to formulas. Take a network, train it until its loss is zero to rounding, and let SAM go on "
            "from there, on the whole data at each step. Gradient descent would not move any more. SAM starts to bounce across "
            "the steepest of its 3 010 directions, and drifts along those that cost nothing, to where the steepest one is "
            "less steep. How far it bounces, where it drifts and how fast the sharpness falls is computed beforehand, from the minimum, "
            "and compared with what it did.",
            "How the radius was chosen: the laws are of first order in the change that they predict. ρ = 0.02 was tried first. Over 1000 steps "
            "λ_max then falls by 4 to 6 %, and it falls by 13 % (seed 0) and 7 % (seed 1) less than predicted, outside the tolerance of 6 %; "
            "the drift of seed 0 is 9 % shorter than its law. The other checks held. So ρ = 0.01 is shown. At that radius seeds 0 to 6 "
            "were run once, and all their checks held; the page shows the first two.",
        ),
        Formula(
            r"\lambda_1(t)-\lambda_1(0) \;\approx\; -(P\nabla\lambda_1)^{\top} f_t(H)\, P\nabla\lambda_1",
            "The fall of the sharpness over t steps, from products with the Hessian H at the minimum alone: P takes away the part along e₁, "
            "and f_t is the drift of Theorem 21, added up.",
        ),
        (picture,),
        tuple(check for one in measured for check in _checks(one)),
        seeds=SEEDS,
        parameters={"eta_lambda_1": SHARPNESS_STEP, "rho": RHO, "steps": STEPS, "flat_fraction": observations.FLAT},
    )
