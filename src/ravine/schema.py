"""The form of a Run: names, dimensions, units and statuses, and its file.

A Run is an `xarray.Dataset` with dimensions ``run``, ``step`` and ``coord``:

===================  ===================  ==========================================================
``w``                run, step, coord     the iterates, at the recorded steps
``loss``             run, step            ℓ(w)
``grad_norm``        run, step            ‖∇ℓ(w)‖
``status``           run                  a `Status`
``status_step``      run                  the step at which the status was met
``underflow_step``   run, coord           the step at which the coordinate was set to zero, or −1
===================  ===================  ==========================================================

``step`` counts the updates from 0. Along ``run`` stand ``method``, ``eta``, ``rho``, ``sigma`` (NaN where the
rule has none), ``momentum`` and ``seed``. What was not computed is NaN.
"""

from __future__ import annotations

import platform
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from ravine.files import write_beside
from ravine.methods import Method
from ravine.version import __version__

DIMENSIONS = {
    "w": ("run", "step", "coord"),
    "loss": ("run", "step"),
    "grad_norm": ("run", "step"),
    "status": ("run",),
    "status_step": ("run",),
    "underflow_step": ("run", "coord"),
}
RUN_COORDINATES = ("method", "eta", "rho", "sigma", "momentum", "seed")
_LONG_NAMES = {
    "w": "iterate",
    "loss": "loss",
    "grad_norm": "norm of the gradient",
    "status_step": "step at which the status was met",
    "underflow_step": "step at which the coordinate underflowed to zero (-1: never)",
    "eta": "step size (1/curvature)",
    "rho": "neighbourhood radius (length of w)",
    "sigma": "noise scale (gradient)",
    "momentum": "heavy-ball coefficient",
}


class Status(IntEnum):
    """How a run ended; where several apply, the highest stands.

    Examples
    --------
    >>> import ravine as rv
    >>> run = rv.trajectory(rv.quadratic([1.0]), rv.SAM(eta=0.2, rho=1.0), start=[0.0], steps=5)
    >>> rv.Status(int(run["status"][0])), rv.statuses(run)
    (<Status.GRADIENT_VANISHED: 2>, ['gradient vanished at step 0'])
    """

    FINISHED = 0
    UNDERFLOWED = 1
    GRADIENT_VANISHED = 2
    GRADIENT_UNDEFINED = 3
    DIVERGED = 4
    INTERRUPTED = 5


_IN_WORDS = {
    Status.FINISHED: "finished",
    Status.UNDERFLOWED: "finished; a coordinate underflowed to zero at step {step}",
    Status.GRADIENT_VANISHED: "gradient vanished at step {step}",
    Status.GRADIENT_UNDEFINED: "gradient undefined at step {step}",
    Status.DIVERGED: "diverged at step {step}",
    Status.INTERRUPTED: "interrupted after step {step}",
}


def dataset(
    *,
    w: np.ndarray,
    loss: np.ndarray,
    grad_norm: np.ndarray,
    status: np.ndarray,
    status_step: np.ndarray,
    underflow_step: np.ndarray,
    steps: np.ndarray,
    method: Method,
    seed: int,
    description: str,
) -> xr.Dataset:
    """A Run from its arrays, shaped as `DIMENSIONS` says; `steps` are the recorded steps."""
    runs = w.shape[0]
    arrays = {
        "w": w,
        "loss": loss,
        "grad_norm": grad_norm,
        "status": status.astype(np.int8),
        "status_step": status_step,
        "underflow_step": underflow_step,
    }
    parameters = {name: float(getattr(method, name, np.nan)) for name in ("eta", "rho", "sigma", "momentum")}
    coordinates: dict[str, Any] = {
        "step": steps,
        "coord": np.arange(w.shape[2]),
        "method": ("run", np.full(runs, method.name)),
        "seed": ("run", np.full(runs, seed)),
        **{name: ("run", np.full(runs, value)) for name, value in parameters.items()},
    }
    run = xr.Dataset({name: (DIMENSIONS[name], array) for name, array in arrays.items()}, coordinates)
    for name, text in _LONG_NAMES.items():
        run[name].attrs["long_name"] = text
    run["status"].attrs.update(
        long_name="how the run ended",
        flag_values=np.array([int(member) for member in Status], dtype=np.int8),
        flag_meanings=" ".join(member.name.lower() for member in Status),
    )
    run.attrs.update(
        objective=description,
        ravine_version=__version__,
        numpy_version=np.__version__,
        python_version=platform.python_version(),
        machine=platform.machine(),
    )
    return run


def statuses(run: xr.Dataset) -> list[str]:
    """The status of each run, in words."""
    pairs = zip(run["status"].values.tolist(), run["status_step"].values.tolist(), strict=True)
    return [_IN_WORDS[Status(code)].format(step=step) for code, step in pairs]


def save(run: xr.Dataset, path: str | Path, *, force: bool = False) -> None:
    """Write a Run as NetCDF; the file appears whole or not at all.

    Raises
    ------
    ValueError
        If the file exists and `force` is not set, or its folder does not exist.
    """
    with write_beside(path, force=force) as temporary:
        run.to_netcdf(temporary, engine="h5netcdf")


def load(path: str | Path) -> xr.Dataset:
    """Read a Run that `save` wrote.

    Raises
    ------
    ValueError
        If there is no such file, or it does not hold a Run.
    """
    if not Path(path).is_file():
        raise ValueError(f"{path}: no such file")
    try:
        run = xr.load_dataset(path, engine="h5netcdf")
    except OSError as error:
        raise ValueError(f"{path} is not a NetCDF file ({error})") from None
    missing = [name for name, dims in DIMENSIONS.items() if name not in run or run[name].dims != dims]
    if missing:
        raise ValueError(f"{path} does not hold a Run: it lacks {', '.join(missing)}")
    return run
