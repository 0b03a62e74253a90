"""Trajectories of a method on an objective: one run, or many side by side."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from array_api_compat import array_namespace, to_device

from ravine import kernels, schema
from ravine.kernels import loops
from ravine.methods import GD, SAM, SGD, USAM, Method, gradient_norm
from ravine.objectives import CompiledOracles, Objective
from ravine.schema import Status

Progress = Callable[[int, int], None]

MAX_BYTES = 4 * 2**30
# Coordinates advanced between two looks at the clock and at the keyboard: some tens of milliseconds.
_CHUNK = 2**20
_COMPILED_METHODS = (GD, SGD, SAM, USAM)


@dataclass
class _Record:
    """The arrays of a Run in the making."""

    w: np.ndarray
    loss: np.ndarray
    grad_norm: np.ndarray
    event: np.ndarray
    event_step: np.ndarray
    vanished_step: np.ndarray
    underflow_step: np.ndarray
    interrupted_step: int = -1

    @classmethod
    def empty(cls, runs: int, records: int, dimension: int, dtype: Any) -> _Record:
        return cls(
            w=np.full((runs, records, dimension), np.nan, dtype),
            loss=np.full((runs, records), np.nan),
            grad_norm=np.full((runs, records), np.nan),
            event=np.full(runs, loops.RUNNING),
            event_step=np.full(runs, -1),
            vanished_step=np.full(runs, -1),
            underflow_step=np.full((runs, dimension), -1),
        )

    def status(self, steps: int) -> tuple[np.ndarray, np.ndarray]:
        """Status and its step for each run, by the order of `Status`."""
        underflow = np.where(self.underflow_step >= 0, self.underflow_step, np.iinfo(np.int64).max).min(axis=1)
        conditions = [
            (self.underflow_step >= 0).any(axis=1),
            self.vanished_step >= 0,
            self.event == loops.UNDEFINED,
            self.event == loops.DIVERGED,
            (self.event == loops.RUNNING) & (self.interrupted_step >= 0),
        ]
        at = [underflow, self.vanished_step, self.event_step, self.event_step, self.interrupted_step]
        status, step = np.full(self.event.size, int(Status.FINISHED)), np.full(self.event.size, steps)
        for member, condition, when in zip(list(Status)[1:], conditions, at, strict=True):
            status = np.where(condition, int(member), status)
            step = np.where(condition, when, step)
        return status, step


def trajectory(
    objective: Objective,
    method: Method,
    *,
    start: Any = None,
    steps: int,
    every: int = 1,
    seed: int = 0,
    progress: Progress | None = None,
) -> xr.Dataset:
    """Follow one run of `method` on `objective`.

    Parameters
    ----------
    objective
        What is minimised. Formulas and quadratics run compiled; any other objective, a network included,
        runs through its oracles in its own array library.
    method
        The update rule, such as ``SAM(eta=0.2, rho=1.0)``.
    start
        w₀, of shape (d,). A network starts from its own parameters unless another point is given.
    steps
        The number of updates, ≥ 0.
    every
        Record w₀ and each `every`-th iterate after it.
    seed
        Seed of the noise of methods that have any; run k of an ensemble draws from
        ``numpy.random.default_rng([seed, k])``, a trajectory is run 0.
    progress
        Called as ``progress(done, total)`` from time to time.

    Returns
    -------
    xarray.Dataset
        A Run (`ravine.schema`) with one run. Divergence, a vanished or undefined gradient, an underflow and
        an interrupt are statuses, with what was computed up to them.

    Raises
    ------
    ValueError
        If `start` has the wrong length or an entry that is not finite, or `steps`, `every` or `seed` is out of range.
    """
    if start is None:
        start = getattr(objective, "start", None)
        if start is None:
            raise ValueError(f"start: give {objective.dimension} numbers to start from")
    point = objective.point(start, "start")
    _check_counts(steps, every, seed)
    if objective.compiled is not None and type(method) in _COMPILED_METHODS:
        return _compiled(objective, objective.compiled, method, point[None, :], steps, every, seed, 1, progress)
    return _through_oracles(objective, method, point, steps, every, seed, progress)


def ensemble(
    objective: Objective,
    method: Method,
    *,
    starts: Any,
    steps: int,
    every: int = 1,
    seed: int = 0,
    workers: int | None = None,
    progress: Progress | None = None,
) -> xr.Dataset:
    """Follow runs of `method` from many starts.

    Parameters
    ----------
    starts
        Shape (runs, d).
    workers
        Threads; by default one for each processor. The result does not depend on it.

    The other parameters, the result and the errors are those of `trajectory`; run k equals the trajectory
    from ``starts[k]`` to the bit (with noise: drawn from ``default_rng([seed, k])``).
    """
    try:
        points = np.array(starts, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError("starts: pass an array of shape (runs, d)") from None
    if points.ndim != 2 or points.shape[0] == 0:
        raise ValueError(f"starts: pass an array of shape (runs, {objective.dimension}), not {points.shape}")
    for k, point in enumerate(points):
        objective.point(point, f"starts[{k}]")
    _check_counts(steps, every, seed)
    if workers is not None and workers < 1:
        raise ValueError(f"workers = {workers}: use at least one thread")
    compiled = objective.compiled
    if compiled is None or type(method) not in _COMPILED_METHODS:
        raise ValueError("ensemble: this objective or method has no compiled form; call trajectory for each start")
    workers = workers or os.cpu_count() or 1
    return _compiled(objective, compiled, method, points, steps, every, seed, workers, progress)


def _check_counts(steps: int, every: int, seed: int) -> None:
    for name, number, least in (("steps", steps, 0), ("every", every, 1), ("seed", seed, 0)):
        if isinstance(number, bool) or not isinstance(number, int | np.integer) or number < least:
            raise ValueError(f"{name} = {number!r}: pass an integer ≥ {least}")


def _check_size(runs: int, records: int, dimension: int) -> None:
    size = 8 * runs * records * dimension
    if size > MAX_BYTES:
        raise ValueError(
            f"the Run would hold {size / 2**30:.1f} GiB, of at most {MAX_BYTES / 2**30:.0f}; "
            "record fewer iterates with every=…"
        )


def _chunks(steps: int, length: int) -> Iterator[tuple[int, int]]:
    for first in range(0, steps, length):
        yield first, min(length, steps - first)


def _noise(method: Method, generators: list[np.random.Generator], steps: int, dimension: int) -> np.ndarray:
    """Samples of the method's noise, shape (run, step, coord), with no steps where it has none."""
    sigma = getattr(method, "sigma", 0.0)
    if sigma == 0.0:
        return np.empty((len(generators), 0, dimension))
    return sigma * np.stack([generator.standard_normal((steps, dimension)) for generator in generators])


def _compiled(
    objective: Objective,
    oracles: CompiledOracles,
    method: Method,
    starts: np.ndarray,
    steps: int,
    every: int,
    seed: int,
    workers: int,
    progress: Progress | None,
) -> xr.Dataset:
    runs, dimension = starts.shape
    records = steps // every + 1
    _check_size(runs, records, dimension)
    record = _Record.empty(runs, records, dimension, np.float64)
    record.w[:, 0] = starts
    loop = kernels.compiled(oracles.source)
    data = np.ascontiguousarray(oracles.data)
    w, velocity = starts.copy(), np.zeros_like(starts)
    parameters = (
        np.full(runs, method.eta),
        np.full(runs, getattr(method, "rho", 0.0)),
        np.full(runs, isinstance(method, SAM)),
        np.full(runs, method.momentum),
    )
    generators = [np.random.default_rng([seed, k]) for k in range(runs)] if isinstance(method, SGD) else []
    # A few pieces a worker, so that none waits long for the last.
    pieces = [
        slice(piece[0], piece[-1] + 1)
        for piece in np.array_split(np.arange(runs), min(runs, 4 * workers if workers > 1 else 1))
    ]

    def advance(piece: slice, first: int, count: int) -> None:
        samples = _noise(method, generators[piece], count, dimension) if generators else np.empty((runs, 0, dimension))
        loop.advance(
            w[piece],
            velocity[piece],
            samples,
            data,
            *(parameter[piece] for parameter in parameters),
            first,
            count,
            every,
            record.w[piece],
            record.event[piece],
            record.event_step[piece],
            record.vanished_step[piece],
            record.underflow_step[piece],
        )

    length = max(1, _CHUNK // (runs * dimension))
    first = count = 0
    with ThreadPoolExecutor(max_workers=workers) as pool:
        try:
            for first, count in _chunks(steps, length):
                list(pool.map(lambda piece, first=first, count=count: advance(piece, first, count), pieces))
                if progress is not None:
                    progress(first + count, steps)
                if (record.event != loops.RUNNING).all():
                    break
            first = steps
        except KeyboardInterrupt:
            record.interrupted_step = first
    if record.interrupted_step >= 0:
        # The chunk that was cut short may be half there.
        record.w[:, record.interrupted_step // every + 1 :] = np.nan
    loop.evaluate(record.w, data, record.loss, record.grad_norm)
    return _finished(objective, method, record, steps, every, seed)


def _through_oracles(
    objective: Objective, method: Method, start: Any, steps: int, every: int, seed: int, progress: Progress | None
) -> xr.Dataset:
    """One run through the oracles, in the objective's own array library."""
    xp = array_namespace(start)
    dtype = _numpy_dtype(start)
    _check_size(1, steps // every + 1, objective.dimension)
    record = _Record.empty(1, steps // every + 1, objective.dimension, dtype)
    smallest = float(np.finfo(dtype).smallest_normal)
    generator = np.random.default_rng([seed, 0])
    w, velocity = start, xp.zeros_like(start)
    k = 0
    try:
        # Overflow is divergence: a status, not a warning.
        with np.errstate(over="ignore", invalid="ignore"):
            for k in range(steps + 1):
                if k % every == 0:
                    record.w[0, k // every] = _as_numpy(w, dtype)
                if not bool(xp.all(xp.isfinite(w))):
                    record.event[0] = loops.UNDEFINED if bool(xp.any(xp.isnan(w))) else loops.DIVERGED
                    record.event_step[0] = k
                    break
                g = objective.grad(w)
                norm = gradient_norm(g)
                if k % every == 0:
                    record.loss[0, k // every] = float(objective.value(w))
                    record.grad_norm[0, k // every] = norm
                if not math.isfinite(norm):
                    record.event[0] = loops.UNDEFINED if math.isnan(norm) else loops.DIVERGED
                    record.event_step[0] = k
                    break
                if norm == 0.0 and record.vanished_step[0] < 0:
                    record.vanished_step[0] = k
                if k == steps:
                    break
                samples = _noise(method, [generator], 1, objective.dimension)
                noise = xp.asarray(samples[0, 0], dtype=start.dtype, device=start.device) if samples.size else None
                w, velocity = method.step(objective.grad, w, g, velocity, noise)
                tiny = (xp.abs(w) < smallest) & (w != 0)
                if bool(xp.any(tiny)):
                    w = xp.where(tiny, xp.zeros_like(w), w)
                    unseen = _as_numpy(tiny, np.dtype(bool)) & (record.underflow_step[0] < 0)
                    record.underflow_step[0, unseen] = k + 1
                if progress is not None:
                    progress(k + 1, steps)
    except KeyboardInterrupt:
        record.interrupted_step = k
    return _finished(objective, method, record, steps, every, seed)


def _numpy_dtype(array: Any) -> np.dtype:
    name = str(array.dtype).rpartition(".")[2]
    # NumPy has no bfloat16; float32 holds its values exactly.
    return np.dtype("float32" if name == "bfloat16" else name)


def _as_numpy(array: Any, dtype: np.dtype) -> np.ndarray:
    xp = array_namespace(array)
    return np.asarray(to_device(xp.astype(array, getattr(xp, dtype.name)), "cpu"))


def _finished(objective: Objective, method: Method, record: _Record, steps: int, every: int, seed: int) -> xr.Dataset:
    records = record.w.shape[1]
    # The last iterate takes no step, so the loop has not looked at its gradient.
    ended_still = (record.grad_norm[:, -1] == 0) & (record.vanished_step < 0) & (steps % every == 0)
    record.vanished_step[ended_still] = steps
    status, status_step = record.status(steps)
    return schema.dataset(
        w=record.w,
        loss=record.loss,
        grad_norm=record.grad_norm,
        status=status,
        status_step=status_step,
        underflow_step=record.underflow_step,
        steps=np.arange(records) * every,
        method=method,
        seed=seed,
        description=objective.description,
    )
