"""The update rules as one compiled loop over many runs.

This file is a template: `ravine.kernels` puts the oracles of an objective in place of the import below
and compiles the whole, so that the gradient is inlined into the step. ``DIMENSION`` is a constant of
those oracles (0 when it is known only at run time), which lets the compiler unroll small problems.
"""

from __future__ import annotations

from math import isinf, isnan, sqrt

import numpy as np
from numba import carray, njit  # pyright: ignore[reportPrivateImportUsage]

from ravine.kernels.stack import stack_memory
from ravine.objectives.diagonal import DIMENSION, gradient, value

# A square below this is subnormal: slow on many processors, and negligible in any sum that reaches
# the square of SAFE_NORM.
SQUARE_IS_NORMAL = 2.0**-511
SAFE_NORM = 2.0**-440
HUGE_NORM = 2.0**511
SMALLEST_NORMAL = 2.0**-1022

RUNNING = 0
DIVERGED = 1
UNDEFINED = 2


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def workspace(n):
    """A scratch vector: on the stack where its length is known when compiling."""
    if DIMENSION > 0:
        return carray(stack_memory(DIMENSION), DIMENSION)  # pyright: ignore[reportCallIssue]
    return np.empty(n)


@njit(cache=True, nogil=True, error_model="numpy")
def rescaled_norm(g, n):
    """Scale g in place by a power of two that keeps its squares in range; return the new norm and the factor."""
    largest = 0.0
    for i in range(n):
        if isnan(g[i]):
            return g[i], 1.0
        largest = max(largest, abs(g[i]))
    if largest == 0.0 or isinf(largest):
        return largest, 1.0
    factor = 1.0
    if largest < 2.0**-400:
        factor = 2.0**600
    elif largest > 2.0**400:
        factor = 2.0**-600
    total = 0.0
    for i in range(n):
        g[i] *= factor
        total += g[i] * g[i]
    return sqrt(total), factor


@njit(cache=True, nogil=True, error_model="numpy")
def advance(
    w,
    velocity,
    noise,
    data,
    eta,
    rho,
    over_norms,
    momentum,
    first,
    steps,
    every,
    trajectory,
    event,
    event_step,
    vanished_step,
    underflow_step,
):
    """Advance every run `steps` steps from step `first`, recording each `every`-th iterate.

    Shapes: ``w, velocity, underflow_step (run, coord)``; ``noise (run, steps, coord)``, with no steps for
    rules without it; ``eta, rho, over_norms, momentum, event, event_step, vanished_step (run,)``;
    ``trajectory (run, record, coord)``. A run that has met its event is over and is passed by.
    """
    n = DIMENSION if DIMENSION > 0 else w.shape[1]
    noisy = noise.shape[1] > 0
    position = workspace(n)
    ascended = workspace(n)
    g = workspace(n)
    descent = workspace(n)
    for run in range(w.shape[0]):
        if event[run] != RUNNING:
            continue
        step_size = eta[run]
        radius = rho[run]
        inertia = momentum[run]
        over_norm = over_norms[run]
        for i in range(n):
            position[i] = w[run, i]
        due = every - first % every
        record = first // every
        for k in range(first, first + steps):
            gradient(position, data, g)
            total = 0.0
            for i in range(n):
                size = abs(g[i])
                # Written so that a NaN is added, not skipped.
                total += 0.0 if size < SQUARE_IS_NORMAL else size * size
            norm = sqrt(total)
            if SAFE_NORM < norm < HUGE_NORM:
                # One division a step instead of one a coordinate.
                scale = radius / norm if over_norm else radius
                for i in range(n):
                    ascended[i] = position[i] + scale * g[i]
            else:
                if isnan(norm):
                    event[run] = UNDEFINED
                    event_step[run] = k
                    break
                for i in range(n):
                    ascended[i] = g[i]
                norm, factor = rescaled_norm(ascended, n)
                if isinf(norm):
                    event[run] = DIVERGED
                    event_step[run] = k
                    break
                if norm == 0.0 and vanished_step[run] < 0:
                    vanished_step[run] = k
                scale = radius / norm if over_norm else radius / factor
                for i in range(n):
                    ascended[i] = position[i] + (scale * ascended[i] if norm > 0.0 else 0.0)
            if radius > 0.0 and norm > 0.0:
                gradient(ascended, data, descent)
            else:
                for i in range(n):
                    descent[i] = g[i]
            if noisy:
                for i in range(n):
                    descent[i] += noise[run, k - first, i]
            if inertia > 0.0:
                for i in range(n):
                    descent[i] += inertia * velocity[run, i]
                    if abs(descent[i]) < SMALLEST_NORMAL:
                        descent[i] = 0.0
                    velocity[run, i] = descent[i]
            outcome = RUNNING
            for i in range(n):
                moved = position[i] - step_size * descent[i]
                if abs(moved) < SMALLEST_NORMAL and moved != 0.0:
                    moved = 0.0
                    if underflow_step[run, i] < 0:
                        underflow_step[run, i] = k + 1
                if isnan(moved):
                    outcome = UNDEFINED
                elif isinf(moved) and outcome == RUNNING:
                    outcome = DIVERGED
                position[i] = moved
            due -= 1
            if due == 0:
                due = every
                record += 1
                for i in range(n):
                    trajectory[run, record, i] = position[i]
            if outcome != RUNNING:
                event[run] = outcome
                event_step[run] = k + 1
                break
        for i in range(n):
            w[run, i] = position[i]


@njit(cache=True, nogil=True, error_model="numpy")
def evaluate(points, data, loss, grad_norm):
    """The loss and the gradient's norm at ``points (run, record, coord)``."""
    n = DIMENSION if DIMENSION > 0 else points.shape[2]
    g = np.empty(n)
    for run in range(points.shape[0]):
        for record in range(points.shape[1]):
            point = points[run, record]
            loss[run, record] = value(point, data)
            gradient(point, data, g)
            norm, factor = rescaled_norm(g, n)
            grad_norm[run, record] = norm / factor
