"""Measurements on Runs that several experiments take."""

from __future__ import annotations

import numpy as np
import xarray as xr


def iterates(run: xr.Dataset) -> np.ndarray:
    """The iterates of a Run of one run, shape (step, coord)."""
    return run["w"].values[0]


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
