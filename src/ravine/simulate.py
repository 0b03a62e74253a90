"""Trajectories of a method on an objective: one run, or many side by side."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import xarray as xr
from array_api_compat import array_namespace

from ravine import kernels, schema
from ravine.arrays import as_numpy
from ravine.kernels import loops
from ravine.methods import GD, SAM, SGD, USAM, Method, gradient_norm
from ravine.objectives import CompiledOracles, Objective, beginning
from ravine.schema import Status

Progress = Callable[[int, int], None]

MAX_BYTES = 4 * 2**30
"""The largest Run that is made: iterates of 4 GiB."""
CHUNK = 2**20
"""Coordinates advanced between two looks at the clock and at the keyboard: some tens of milliseconds."""
_COMPILED_METHODS = (GD, SGD, SAM, USAM)


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
        What is minimized. Formulas and quadratics run compiled; any other objective, a network included,
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

    Examples
    --------
    >>> import ravine as rv
    >>> run = rv.trajectory(rv.quadratic([1.0, 0.5]), rv.SAM(eta=0.2, rho=1.0), start=[2.0, 2.0], steps=200)
    >>> abs(run["w"].values[0, -1]).round(4)  # on the 2-cycle ±ηρ/(2−ηλ₁)·e₁
    array([0.1111, 0.    ])
    """
    point = beginning(objective, start)
    task = _Task(objective, method, steps, every, seed, progress)
    compiled = task.compiled
    return _through_oracles(task, [point]) if compiled is None else _compiled(task, compiled, point[None, :], workers=1)


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
        Threads; by default one for each processor. The result does not depend on it. Runs without compiled form, such
        as a network's, follow one another in one thread.

    The other parameters, the result and the errors are those of `trajectory`; run k equals the trajectory
    from ``starts[k]`` to the bit (with noise: drawn from ``default_rng([seed, k])``).

    Examples
    --------
    >>> import ravine as rv
    >>> runs = rv.ensemble(rv.section_6(), rv.SAM(eta=0.2, rho=1.0), starts=[[0.1, 0.1], [1.0, 2.0]], steps=50)
    >>> rv.statuses(runs)
    ['finished', 'finished']
    """
    try:
        points = np.array(starts, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError("starts: pass an array of shape (runs, d)") from None
    if points.ndim != 2 or points.shape[0] == 0:
        raise ValueError(f"starts: pass an array of shape (runs, {objective.dimension}), not {points.shape}")
    own = [objective.point(point, f"starts[{k}]") for k, point in enumerate(points)]
    task = _Task(objective, method, steps, every, seed, progress)
    if workers is not None and workers < 1:
        raise ValueError(f"workers = {workers}: use at least one thread")
    compiled = task.compiled
    if compiled is None:
        return _through_oracles(task, own)
    return _compiled(task, compiled, points, workers=workers or os.cpu_count() or 1)


@dataclass(frozen=True)
class _Task:
    """What is run, from where it starts on."""

    objective: Objective
    method: Method
    steps: int
    every: int
    seed: int
    progress: Progress | None

    def __post_init__(self) -> None:
        if not isinstance(self.method, Method):
            raise ValueError("method: give a rule with its numbers, such as SAM(eta=0.1, rho=0.05)")
        for name, number, least in (("steps", self.steps, 0), ("every", self.every, 1), ("seed", self.seed, 0)):
            if isinstance(number, bool) or not isinstance(number, int | np.integer) or number < least:
                raise ValueError(f"{name} = {number!r}: pass an integer ≥ {least}")

    @property
    def compiled(self) -> CompiledOracles | None:
        """The oracles for the compiled loops, where objective and method both have that form."""
        return self.objective.compiled if type(self.method) in _COMPILED_METHODS else None

    @property
    def records(self) -> int:
        return self.steps // self.every + 1

    def generator(self, k: int) -> np.random.Generator:
        """Where run k draws its noise from."""
        return np.random.default_rng([self.seed, k])

    def noise(self, generators: Sequence[np.random.Generator], steps: int) -> np.ndarray:
        """Samples of the method's noise, shape (run, step, coord), with no steps where it has none."""
        sigma = self.method.sigma if isinstance(self.method, SGD) else 0.0
        if sigma == 0.0:
            return np.empty((len(generators), 0, self.objective.dimension))
        shape = (steps, self.objective.dimension)
        return sigma * np.stack([generator.standard_normal(shape) for generator in generators])

    def report(self, done: int, total: int) -> None:
        if self.progress is not None:
            self.progress(done, total)


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
    interrupted_step: np.ndarray

    @classmethod
    def empty(cls, task: _Task, runs: int, dtype: Any) -> _Record:
        """Nothing recorded yet.

        Raises
        ------
        ValueError
            If it would be larger than `MAX_BYTES`.
        """
        records, dimension = task.records, task.objective.dimension
        size = 8 * runs * records * dimension
        if size > MAX_BYTES:
            raise ValueError(
                f"the Run would hold {size / 2**30:.1f} GiB, of at most {MAX_BYTES / 2**30:.0f}; "
                "record fewer iterates with every=…"
            )
        return cls(
            w=np.full((runs, records, dimension), np.nan, dtype),
            loss=np.full((runs, records), np.nan),
            grad_norm=np.full((runs, records), np.nan),
            event=np.full(runs, loops.RUNNING),
            event_step=np.full(runs, -1),
            vanished_step=np.full(runs, -1),
            underflow_step=np.full((runs, dimension), -1),
            interrupted_step=np.full(runs, -1),
        )

    def end(self, k: int, step: int, *, undefined: bool) -> None:
        """Run k has diverged at this step, or met what is undefined."""
        self.event[k], self.event_step[k] = loops.UNDEFINED if undefined else loops.DIVERGED, step

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

    def run(self, task: _Task) -> xr.Dataset:
        """The finished Run."""
        # The last iterate takes no step, so the loop has not looked at its gradient.
        ended_still = (self.grad_norm[:, -1] == 0) & (self.vanished_step < 0) & (task.steps % task.every == 0)
        self.vanished_step[ended_still] = task.steps
        status, status_step = self.status(task.steps)
        return schema.dataset(
            w=self.w,
            loss=self.loss,
            grad_norm=self.grad_norm,
            status=status,
            status_step=status_step,
            underflow_step=self.underflow_step,
            steps=np.arange(task.records) * task.every,
            method=task.method,
            seed=task.seed,
            description=task.objective.description,
        )


@dataclass(frozen=True)
class _SideBySide:
    """Runs that the compiled loop advances side by side."""

    task: _Task
    loop: ModuleType
    data: np.ndarray
    record: _Record
    w: np.ndarray
    velocity: np.ndarray
    parameters: tuple[np.ndarray, ...]
    generators: list[np.random.Generator]

    @classmethod
    def at(cls, task: _Task, oracles: CompiledOracles, starts: np.ndarray, record: _Record) -> _SideBySide:
        runs, method = len(starts), task.method
        parameters = (
            np.full(runs, method.eta),
            np.full(runs, method.rho if isinstance(method, SAM | USAM) else 0.0),
            np.full(runs, isinstance(method, SAM)),
            np.full(runs, method.momentum),
        )
        generators = [task.generator(k) for k in range(runs)] if isinstance(method, SGD) else []
        loop, data = kernels.compiled(oracles.source), np.ascontiguousarray(oracles.data)
        return cls(task, loop, data, record, starts.copy(), np.zeros_like(starts), parameters, generators)

    def advance(self, piece: slice, first: int, count: int) -> None:
        """Take `count` steps from step `first` in some of the runs."""
        record = self.record
        # Without noise one empty array serves all.
        samples = self.task.noise(self.generators[piece], count) if self.generators else self.task.noise([], 0)
        self.loop.advance(
            self.w[piece],
            self.velocity[piece],
            samples,
            self.data,
            *(parameter[piece] for parameter in self.parameters),
            first,
            count,
            self.task.every,
            record.w[piece],
            record.event[piece],
            record.event_step[piece],
            record.vanished_step[piece],
            record.underflow_step[piece],
        )


def _compiled(task: _Task, oracles: CompiledOracles, starts: np.ndarray, *, workers: int) -> xr.Dataset:
    runs, dimension = starts.shape
    record = _Record.empty(task, runs, np.float64)
    record.w[:, 0] = starts
    together = _SideBySide.at(task, oracles, starts, record)
    # A few pieces a worker, so that none waits long for the last.
    pieces = [
        slice(piece[0], piece[-1] + 1)
        for piece in np.array_split(np.arange(runs), min(runs, 4 * workers if workers > 1 else 1))
    ]
    first = 0
    with ThreadPoolExecutor(max_workers=workers) as pool:
        try:
            for first, count in _chunks(task.steps, max(1, CHUNK // (runs * dimension))):
                list(pool.map(lambda piece, first=first, count=count: together.advance(piece, first, count), pieces))
                task.report(first + count, task.steps)
                if (record.event != loops.RUNNING).all():
                    break
        except KeyboardInterrupt:
            record.interrupted_step[:] = first
            # The chunk that was cut short may be half there.
            record.w[:, first // task.every + 1 :] = np.nan
    together.loop.evaluate(record.w, together.data, record.loss, record.grad_norm)
    return record.run(task)


def _chunks(steps: int, length: int) -> Iterator[tuple[int, int]]:
    for first in range(0, steps, length):
        yield first, min(length, steps - first)


def _through_oracles(task: _Task, starts: Sequence[Any]) -> xr.Dataset:
    """Runs through the oracles, in the objective's own array library, one after the other."""
    dtype, runs = _numpy_dtype(starts[0]), len(starts)
    record = _Record.empty(task, runs, dtype)
    for k, start in enumerate(starts):
        record.w[k, 0] = as_numpy(start, dtype)
    for k, start in enumerate(starts):
        try:
            # Overflow is divergence: a status, not a warning.
            with np.errstate(over="ignore", invalid="ignore"):
                _walk(task, start, record, k)
        except KeyboardInterrupt:
            record.interrupted_step[k + 1 :] = 0
            break
        task.report((k + 1) * task.steps, runs * task.steps)
    return record.run(task)


def _walk(task: _Task, start: Any, record: _Record, k: int) -> None:
    """Run k, into the record."""
    xp, dtype, grad = array_namespace(start), record.w.dtype, task.objective.grad
    smallest, generator = float(np.finfo(dtype).smallest_normal), task.generator(k)
    w, velocity, step = start, xp.zeros_like(start), 0
    try:
        for step in range(task.steps + 1):
            here = step // task.every if step % task.every == 0 else None
            if here is not None:
                record.w[k, here] = as_numpy(w, dtype)
            if not bool(xp.all(xp.isfinite(w))):
                record.end(k, step, undefined=bool(xp.any(xp.isnan(w))))
                return
            g = grad(w)
            norm = gradient_norm(g)
            if here is not None:
                record.loss[k, here], record.grad_norm[k, here] = float(task.objective.value(w)), norm
            if not math.isfinite(norm):
                record.end(k, step, undefined=math.isnan(norm))
                return
            if norm == 0.0 and record.vanished_step[k] < 0:
                record.vanished_step[k] = step
            if step == task.steps:
                return
            samples = task.noise([generator], 1)
            noise = xp.asarray(samples[0, 0], dtype=start.dtype, device=start.device) if samples.size else None
            w, velocity = task.method.step(grad, w, g, velocity, noise)
            tiny = (xp.abs(w) < smallest) & (w != 0)
            if bool(xp.any(tiny)):
                w = xp.where(tiny, xp.zeros_like(w), w)
                record.underflow_step[k, as_numpy(tiny, bool) & (record.underflow_step[k] < 0)] = step + 1
            task.report(k * task.steps + step + 1, len(record.w) * task.steps)
    except KeyboardInterrupt:
        record.interrupted_step[k] = step
        raise


def _numpy_dtype(array: Any) -> np.dtype:
    name = str(array.dtype).rpartition(".")[2]
    # NumPy has no bfloat16; float32 holds its values exactly.
    return np.dtype("float32" if name == "bfloat16" else name)
