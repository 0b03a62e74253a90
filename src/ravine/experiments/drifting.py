"""The bounce and the drift of SAM from a network's minimum: what several experiments check and draw of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from ravine.experiments import drawing
from ravine.experiments.experiment import Check, Panel

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Settled:
    """A run after its transient.

    Attributes
    ----------
    probes
        What `observations.sharpness` found along it.
    amplitude
        Of the bounce, along ``step``.
    first, last
        The steps that count.
    """

    probes: xr.Dataset
    amplitude: xr.DataArray
    first: int
    last: int


def mean_motion(bounce: xr.Dataset, first: int, last: int) -> np.ndarray:
    """The motion a step of the bounce's centre between two steps, shape (d,); `bounce` of one run."""
    centre = bounce["centre"].sel(step=[first, last]).values
    return (centre[1] - centre[0]) / (last - first)


def bounce_checks(
    check: Callable[..., Check],
    label: str,
    settled: Settled,
    law: Callable[[np.ndarray], np.ndarray],
    *,
    aligned: float,
) -> tuple[Check, Check]:
    """The bounce's amplitude against `law` at the λ₁ found, within 1 %, and its |cos| with e₁ within `aligned` of 1."""
    probes = settled.probes.sel(step=slice(settled.first, settled.last))
    predicted = law(probes["eigenvalues"].sel(pair=1).values)
    measured = settled.amplitude.sel(step=probes["step"]).values
    worst = int(np.argmax(np.abs(measured / predicted - 1)))
    steps = f"of steps {settled.first} to {settled.last}"
    return (
        check(label + f"bounce amplitude against ηρλ₁/(2−ηλ₁) of the λ₁ found there, the worst {steps}",
              float(predicted[worst]), float(measured[worst]), 0.01 * float(predicted[worst])),
        check(label + f"|cos| of the bounce with e₁, the least {steps}",
              1.0, float(probes["alignment"].min()), aligned),
    )  # fmt: skip


def motion_checks(
    check: Callable[..., Check], label: str, predicted: np.ndarray, measured: np.ndarray
) -> tuple[Check, Check]:
    """The mean motion in flat directions against the drift law: its direction within 1 %, its length within 5 %."""
    lengths = float(np.linalg.norm(predicted)), float(np.linalg.norm(measured))
    cosine = float(predicted @ measured) / lengths[0] / lengths[1]
    return (
        check(label + "cosine of the mean motion in flat directions with the drift law", 1.0, cosine, 0.01),
        check(label + "length of the mean motion in flat directions per step",
              lengths[0], lengths[1], 0.05 * lengths[0]),
    )  # fmt: skip


def panel(predicted: np.ndarray, measured: np.ndarray, name: str) -> Panel:
    """The same, parameter by parameter."""
    return Panel(
        partial(_draw, predicted=predicted, measured=measured, name=name),
        "A cloud of points along the diagonal, predicted motion across and measured upwards.",
    )


def _draw(ax: Axes, predicted: np.ndarray, measured: np.ndarray, name: str) -> None:
    drawing.agreement(ax, predicted * 1e6, measured * 1e6)
    ax.set(
        xlabel="predicted  (×10⁻⁶ a step)",
        ylabel="measured  (×10⁻⁶ a step)",
        title=f"drift in flat directions ({name})",
    )
    drawing.legend_below(ax)
