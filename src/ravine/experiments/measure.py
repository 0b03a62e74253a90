"""Measurements on Runs that several experiments take."""

from __future__ import annotations

import numpy as np
import xarray as xr

from ravine.objectives import Objective


def identity(run: xr.Dataset) -> str:
    """What a Run of one run was: the rule, its numbers, the start, the steps and the loss. The same words, the same run."""
    numbers = {name: float(run[name].values[0]) for name in ("eta", "rho", "sigma", "momentum")}
    settings = ", ".join(f"{name} {value!r}" for name, value in numbers.items() if np.isfinite(value))
    start = ", ".join(repr(float(value)) for value in iterates(run)[0])
    seed = f", seed {int(run['seed'].values[0])}" if np.isfinite(numbers["sigma"]) else ""
    return (
        f"{run['method'].values[0]}, {settings}{seed}, from ({start}), {int(run['step'].values[-1])} steps, "
        f"on {run.attrs['objective']}"
    )


def iterates(run: xr.Dataset) -> np.ndarray:
    """The iterates of a Run of one run, shape (step, coord)."""
    return run["w"].values[0]


def centres(run: xr.Dataset) -> np.ndarray:
    """The centres (w_t + w_{t+1})/2 of the bounce, shape (step − 1, coord)."""
    w = iterates(run)
    return (w[:-1] + w[1:]) / 2


def sharpness(loss: Objective, points: np.ndarray) -> np.ndarray:
    """λ_max of the Hessian at points of shape (n, d), shape (n,): from all of the Hessian, so for few dimensions."""
    axes = np.eye(points.shape[1])
    return np.array([np.linalg.eigvalsh([loss.hvp(point, axis) for axis in axes])[-1] for point in points])


def period_two_gap(run: xr.Dataset) -> float:
    """‖w_{t+2} − w_t‖ at the end of a Run: zero on a 2-cycle."""
    w = iterates(run)
    return float(np.linalg.norm(w[-1] - w[-3]))


def distance_to_pair(run: xr.Dataset, pair: np.ndarray) -> np.ndarray:
    """Distance of the iterates to a 2-cycle in step with it, shape (step,): the nearer of the two phases."""
    w = iterates(run)
    phase = np.arange(len(w)) % 2
    distances = [np.linalg.norm(w - pair[(phase + shift) % 2], axis=1) for shift in (0, 1)]
    return min(distances, key=lambda distance: float(distance[-1]))


def contraction_rate(distance: np.ndarray, floor: float) -> float:
    """Factor per step by which a distance shrinks, between the two last steps at which it is above `floor`."""
    last = int(np.flatnonzero(distance > floor)[-1])
    return float(distance[last] / distance[last - 1])
