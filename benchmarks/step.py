"""One SAM step of the paper's Section 6 loss: Ravine's compiled loop beside the same loop in C and in JAX.

Each peer records every iterate in float64. The peers are run in turn, several times over; what counts is the
ratio within a round. Run with ``make bench``.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

# Before JAX is imported: one run is one chain of operations, and a second thread only adds noise.
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

import numpy as np

from ravine import kernels
from ravine.objectives import section_6

ETA, RHO, START = 0.2, 1.0, (0.1, 0.1)
STEPS, ROUNDS = 1_000_000, 15

C_SOURCE = r"""
#include <math.h>
static inline void gradient(const double *w, double *g) {
    double a = 1 + w[1] * w[1] / 2;
    g[0] = 2 * w[0] / a;
    g[1] = w[1] - w[0] * w[0] * w[1] / (a * a);
}
void run(double *w, double eta, double rho, long steps, double *out) {
    double p[2] = {w[0], w[1]}, g[2], h[2], q[2];
    for (long k = 0; k < steps; k++) {
        gradient(p, g);
        double norm = sqrt(g[0] * g[0] + g[1] * g[1]), scale = norm > 0 ? rho / norm : 0;
        q[0] = p[0] + scale * g[0];
        q[1] = p[1] + scale * g[1];
        gradient(q, h);
        p[0] -= eta * h[0];
        p[1] -= eta * h[1];
        out[2 * k + 2] = p[0];
        out[2 * k + 3] = p[1];
    }
}
"""


def in_ravine() -> Callable[[], np.ndarray]:
    oracles = section_6().compiled
    loop = kernels.compiled(oracles.source)

    def run() -> np.ndarray:
        w = np.array([START])
        out = np.empty((1, STEPS + 1, 2))
        none, parameter = np.full(1, -1), np.ones(1)
        event, underflow = np.zeros(1, np.int64), np.full((1, 2), -1)
        loop.advance(
            w, np.zeros_like(w), np.empty((1, 0, 2)), oracles.data, ETA * parameter, RHO * parameter,
            np.array([True]), 0 * parameter, 0, STEPS, 1, out, event, none, none.copy(), underflow,
        )  # fmt: skip
        return out[0, 1:]

    return run


def in_c(folder: Path) -> Callable[[], np.ndarray] | None:
    compiler = shutil.which("gcc")
    if compiler is None:
        return None
    (folder / "step.c").write_text(C_SOURCE)
    options = ["-O3", "-march=native", "-shared", "-fPIC"]
    subprocess.run([compiler, *options, "step.c", "-o", "step.so", "-lm"], cwd=folder, check=True)
    library = ctypes.CDLL(str(folder / "step.so"))
    pointer = ctypes.POINTER(ctypes.c_double)
    library.run.argtypes = [pointer, ctypes.c_double, ctypes.c_double, ctypes.c_long, pointer]

    def run() -> np.ndarray:
        start, out = np.array(START), np.empty((STEPS + 1, 2))
        library.run(start.ctypes.data_as(pointer), ETA, RHO, STEPS, out.ctypes.data_as(pointer))
        return out[1:]

    return run


def in_jax() -> Callable[[], np.ndarray] | None:
    try:
        # By name: a peer that is not installed is no error to a type checker either.
        jax: Any = import_module("jax")
    except ModuleNotFoundError:
        return None
    jax.config.update("jax_enable_x64", True)
    jnp = jax.numpy
    grad = jax.grad(lambda w: w[0] ** 2 / (1 + w[1] ** 2 / 2) + w[1] ** 2 / 2)

    def step(w: Any, _: None) -> tuple[Any, Any]:
        g = grad(w)
        w = w - ETA * grad(w + RHO * g / jnp.sqrt((g**2).sum()))
        return w, w

    scan = jax.jit(lambda w: jax.lax.scan(step, w, None, length=STEPS)[1])
    return lambda: np.asarray(scan(jnp.array(START)).block_until_ready())


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = {"Ravine": in_ravine(), "C (gcc -O3 -march=native)": in_c(Path(folder)), "JAX scan": in_jax()}
        peers = {name: run for name, run in found.items() if run is not None}
        ends = {name: run()[-2:] for name, run in peers.items()}  # compiles, too
        reference = ends["Ravine"]
        for name, end in ends.items():
            assert np.allclose(np.abs(end), np.abs(reference), rtol=1e-9), f"{name} ends elsewhere: {end}"
        times: dict[str, list[float]] = {name: [] for name in peers}
        for _ in range(ROUNDS):
            for name, run in peers.items():
                began = time.perf_counter()
                run()
                times[name].append(time.perf_counter() - began)
    ours = np.array(times["Ravine"])
    print(f"one SAM step, {STEPS} steps, median of {ROUNDS} interleaved rounds")
    print(f"{'':28s}{'ns/step':>10s}{'Ravine/peer':>14s}")
    for name, values in times.items():
        print(f"{name:28s}{np.median(values) / STEPS * 1e9:10.1f}{np.median(ours / np.array(values)):14.2f}")
    for name in found.keys() - peers.keys():
        print(f"{name}: not installed")


if __name__ == "__main__":
    main()
