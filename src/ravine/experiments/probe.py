"""The probe on a convolutional network and on one with attention and layer norm: prediction beside measurement."""

from __future__ import annotations

from collections.abc import Callable
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
from ravine.forecasts import Forecast
from ravine.methods import SAM
from ravine.simulate import trajectory

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAME = "probe"
IMAGES, SEED = 40, 0
# ηλ₁ and ρ. ρ = 0.01 was tried first and leaves the range of the first-order laws: see the story.
SHARPNESS_STEP, RHO = 0.4, 0.002
STEPS, SETTLED, EVERY = 600, 100, 50
PRODUCTS, RESOLVING = 60, 300
NETWORKS = ("convolutional", "attention")


@dataclass(frozen=True)
class _Measured:
    name: str
    parameters: int
    loss: float
    eta: float
    forecast: Forecast
    run: xr.Dataset
    probes: xr.Dataset
    amplitude: xr.DataArray
    predicted_motion: np.ndarray
    measured_motion: np.ndarray
    check_error: float


def _model(name: str) -> Any:
    import torch
    from torch import nn

    class Attention(nn.Module):
        """An image's eight rows as tokens, one block of attention with layer norms, and their mean."""

        def __init__(self) -> None:
            super().__init__()
            self.embed, self.place = nn.Linear(8, 12), nn.Parameter(0.3 * torch.randn(8, 12))
            self.before, self.after = nn.LayerNorm(12), nn.LayerNorm(12)
            self.mix, self.out = nn.Linear(12, 36), nn.Linear(12, 12)
            self.widen, self.narrow, self.read = nn.Linear(12, 24), nn.Linear(24, 12), nn.Linear(96, 10)

        def forward(self, x: Any) -> Any:
            h = self.embed(x.view(-1, 8, 8)) + self.place
            q, k, v = (part.unflatten(-1, (2, 6)).transpose(1, 2) for part in self.mix(self.before(h)).chunk(3, dim=-1))
            mixed = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(-2)
            h = h + self.out(mixed)
            h = h + self.narrow(nn.functional.gelu(self.widen(self.after(h))))
            return self.read(h.flatten(1))

    if name == "attention":
        return Attention()
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 6, 3, padding=1), nn.Tanh(), nn.Conv2d(6, 8, 3, stride=2), nn.Tanh(),
        nn.Flatten(), nn.Linear(72, 10),
    )  # fmt: skip


def task(name: str) -> Task:
    """The network of that name on 40 scans."""
    return digits_task(partial(_model, name), IMAGES, SEED)


def _measure(name: str, done: Callable[[float, str], None]) -> _Measured:
    from ravine.torch import Probe

    done(0.0, "training")
    given = task(name)
    _, w = minimize(given)
    done(0.5, "curvature")
    probe = Probe(given.model, given.loss_fn, given.batches)
    probe.objective.assign(w)
    found = probe.sharpness_gradient()
    if found.value is None:
        raise ValueError("λ₁ = λ₂ at the minimum: there is no ∇λ_max to drift along; use another seed")
    sharpness = float(found.eigenpairs.values[0])
    eta = SHARPNESS_STEP / sharpness
    forecast = probe.forecast(SAM(eta=eta, rho=RHO), STEPS, PRODUCTS)
    done(0.6, "SAM")
    run = trajectory(probe.objective, SAM(eta=eta, rho=RHO), start=w, steps=STEPS + 1)
    done(0.85, "λ_max along the run")
    probes = observations.sharpness(probe.objective, run, range(0, STEPS + 1, EVERY))
    seen = observations.bounce(run).isel(run=0)
    motion = drifting.mean_motion(seen, SETTLED, STEPS)
    law = -theory.drift.flat_coefficient(sharpness=sharpness, eta=eta, rho=RHO) * np.asarray(found.value)
    predicted, measured = (observations.flat_part(probe.objective, w, v, sharpness, RESOLVING) for v in (law, motion))
    size = float(np.linalg.norm(np.asarray(found.value)))
    return _Measured(
        name, w.size, probe.objective.value(w), eta, forecast, run, probes, seen["amplitude"], predicted, measured,
        found.error / size,
    )  # fmt: skip


def _checks(m: _Measured) -> tuple[Check, ...]:
    fall = float(m.forecast.run["sharpness"][-1]) - m.forecast.sharpness
    found = float(m.probes["eigenvalues"].sel(pair=1, step=STEPS)) - float(m.probes["eigenvalues"].sel(pair=1, step=0))
    predicted, real = m.forecast.run["grad_norm"].values, m.run["grad_norm"].values[0, : STEPS + 1]
    step = SETTLED + int(np.argmax(np.abs(predicted / real - 1)[SETTLED:]))
    label = f"{m.name}: "
    check = partial(Check, NAME, run=f"{NAME}, {m.name}")
    settled = drifting.Settled(m.probes, m.amplitude, SETTLED, STEPS)
    return (
        *drifting.bounce_checks(check, label, settled, lambda lam: theory.amplitude(lam, m.eta, RHO), aligned=1e-2),
        *drifting.motion_checks(check, label, m.predicted_motion, m.measured_motion),
        check(label + f"change of λ_max over {STEPS} steps, predicted at the start from {PRODUCTS} products",
              fall, found, 0.06 * abs(fall)),
        check(label + f"gradient norm predicted at the start, the worst of steps {SETTLED} to {STEPS}",
              float(predicted[step]), float(real[step]), 0.02 * float(predicted[step])),
        check(label + "∇λ_max by autograd against differences, relative error", 0.0, m.check_error, 1e-5),
    )  # fmt: skip


def _panels(m: _Measured) -> tuple[Panel, ...]:
    return (
        Panel(partial(_draw_norm, m=m), "Dots on a dashed curve that jumps to a level and falls slowly."),
        Panel(partial(_draw_sharpness, m=m), "Falling circles on a dashed curve."),
        drifting.panel(m.predicted_motion, m.measured_motion, m.name),
    )


def _draw_norm(ax: Axes, m: _Measured) -> None:
    steps = np.arange(1, STEPS + 1)
    seen, known = m.run["grad_norm"].values[0, steps], m.forecast.run["grad_norm"].values[steps]
    ax.plot(steps, seen, ".", color=plots.BLUE, markersize=4, label="SAM, measured")
    ax.plot(steps, known, color="black", linewidth=0.9, linestyle="--", label="predicted")
    # The start is over in a dozen steps of hundreds.
    ax.set(xlabel="step (logarithmic)", ylabel="gradient norm", title=f"gradient norm ({m.name})", xscale="log")
    drawing.legend_below(ax)


def _draw_sharpness(ax: Axes, m: _Measured) -> None:
    seen, known = m.probes["eigenvalues"].sel(pair=1), m.forecast.run["sharpness"]
    ax.plot(m.probes["step"], seen, "o", color=plots.BLUE, markersize=3.5, label="SAM, measured")
    ax.plot(np.arange(STEPS + 1), known, color="black", linewidth=0.9, linestyle="--", label="predicted")
    ax.set(xlabel="step", ylabel="λₘₐₓ of the Hessian", title=f"sharpness ({m.name})")
    drawing.legend_below(ax)


def run(progress: Progress) -> ExperimentOutcome:
    """Run the probe experiment: both networks, from their minima."""
    require("torch", "torch")
    require("sklearn", "report")
    measured = []
    with one_thread():
        for k, name in enumerate(NETWORKS):
            share = k / len(NETWORKS)
            measured.append(
                _measure(name, lambda part, what, n=name, s=share: progress(f"{n}: {what}", s + part / len(NETWORKS)))
            )
    sizes = " and ".join(f"{m.parameters} parameters (loss {m.loss:.0e})" for m in measured)
    picture = Picture(
        NAME,
        f"A convolutional network and one with attention and layer norm, {sizes}, trained on {IMAGES} scans of handwritten digits "
        f"to a minimum, then full-batch SAM with ηλ₁ = {SHARPNESS_STEP} and ρ = {RHO}; one row each. Left: the gradient norm at each step from the first on (dots) and as "
        f"predicted at step 0 from {PRODUCTS} Hessian-vector products (dashed). Middle: the Hessian's largest eigenvalue, likewise. Right: for each "
        f"parameter, the part along flat directions of the mean motion a step over steps {SETTLED} to {STEPS} against Theorem 21.",
        tuple(panel for one in measured for panel in _panels(one)),
        columns=3,
        size=(3.7, 3.6),
    )
    return ExperimentOutcome(
        NAME,
        "Predicted from one point",
        (
            "Convolutions, attention and layer norm change nothing in the theory, which knows of a network no more than its Hessian and how that "
            "changes. From a few dozen products with the Hessian at the minimum the probe says how SAM's next steps will go, and how far that is "
            "valid; here the steps are then taken.",
            "What was tried before: at ρ = 0.01 only 5 of these 14 checks hold. λ_max falls by 3.6 and 5.9 over the 600 steps, the "
            "convolutional network's bounce loses its direction (|cos| with e₁ down to 0.35), and the predicted drift is 20 and 24 % too long: that "
            "is outside the first order of the laws, and ρ = 0.002 is inside. The gradient norm is compared from step 100 on. From step 0 that "
            "check fails for the convolutional network, by 8 % in the first steps, where the gradient is near rounding (6e-7).",
        ),
        Formula(
            r"f_t(\lambda) = \left(\frac{2\eta\rho^2}{(2-\eta\lambda_1)^2} + \frac{\eta^2\rho^2\lambda}{2(2-\eta\lambda_1)}\right)\frac{1-\mu^t}{1-\mu}",
            "How far along −∇λ₁ the bounce's centre has drifted after t steps, in a direction of curvature λ. There "
            "μ = 1 − ηλ − (2−ηλ₁)(λ/λ₁)²; in flat directions, where λ = 0 and μ = 1, the drift goes on for ever.",
        ),
        (picture,),
        tuple(check for one in measured for check in _checks(one)),
        seeds=(SEED,),
        parameters={"eta_lambda_1": SHARPNESS_STEP, "rho": RHO, "steps": STEPS, "products": PRODUCTS},
    )
