"""λ_max and ∇λ_max on three networks, untrained and trained: Ravine's probe beside its peers.

Wall time is counted in gradients of the same loss, measured in the same round; memory is by how much the peak of a
process of its own exceeds a gradient's (Linux). A peer that is not installed, or fails, is named with its error.
Run with ``python benchmarks/curvature.py``.
"""

from __future__ import annotations

import multiprocessing
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from networks import Problem, loss_fn, problems
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ravine.spectrum import Eigenpairs, eigenpairs
from ravine.torch import Probe
from ravine.torch.curvature.third import Third

TOL, ROUNDS, STATES = 1e-3, 3, (0, 100)


def timed(run: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    out = run()
    return time.perf_counter() - began, out


def gradient(problem: Problem) -> Any:
    return torch.autograd.grad(loss_fn(problem.model, problem.batch), list(problem.model.parameters()))


def ravine_residual(problem: Problem) -> tuple[float, int]:
    pairs = Probe(problem.model, loss_fn, [problem.batch]).eigenpairs(1, TOL)
    return float(pairs.values[0]), pairs.products


def ravine_gap(problem: Problem) -> tuple[float, int]:
    pairs = Probe(problem.model, loss_fn, [problem.batch]).eigenpairs(1, TOL, target="values")
    return float(pairs.values[0]), pairs.products


def scipy_eigsh(problem: Problem) -> tuple[float, int]:
    parameters, products = list(problem.model.parameters()), 0
    sizes = [p.numel() for p in parameters]

    def apply(v: np.ndarray) -> np.ndarray:
        nonlocal products
        products += 1
        parts = torch.from_numpy(np.asarray(v, np.float32).reshape(-1)).split(sizes)
        g = torch.autograd.grad(loss_fn(problem.model, problem.batch), parameters, create_graph=True)
        h = torch.autograd.grad(g, parameters, [part.view_as(p) for part, p in zip(parts, parameters, strict=True)])
        return torch.cat([part.reshape(-1) for part in h]).numpy()

    n = sum(sizes)
    operator = LinearOperator((n, n), matvec=apply, dtype=np.float32)  # pyright: ignore[reportCallIssue]
    start = np.random.default_rng(0).standard_normal(n).astype(np.float32)
    value = eigsh(operator, k=1, which="LA", tol=TOL, ncv=8, v0=start, return_eigenvectors=False)[0]  # pyright: ignore[reportArgumentType]
    return float(value), products


def pyhessian(problem: Problem) -> tuple[float, int]:
    library: Any = import_module("pyhessian.hessian")
    counted, original = 0, library.hessian_vector_product

    def product(*arguments: Any) -> Any:
        nonlocal counted
        counted += 1
        return original(*arguments)

    for p in problem.model.parameters():
        p.grad = None  # it accumulates into it
    library.hessian_vector_product = product
    try:
        seen = library.hessian(problem.model, nn.CrossEntropyLoss(), data=problem.batch, cuda=False)
        return float(seen.eigenvalues(top_n=1)[0][0]), counted
    finally:
        library.hessian_vector_product = original
        problem.model.train()


def eigenthings(problem: Problem) -> tuple[float, int]:
    operators: Any = import_module("hessian_eigenthings.operators")
    algorithms: Any = import_module("hessian_eigenthings.algorithms")
    operator = operators.HessianOperator(problem.model, [problem.batch], loss_fn)
    # Its default, two iterations, is 45 to 90 % off.
    found = algorithms.lanczos(operator, k=1, max_iter=30, which="LA", seed=0)
    return float(found.eigenvalues[0]), 30


def curvlinops(problem: Problem) -> tuple[float, int]:
    library: Any = import_module("curvlinops")
    parameters = list(problem.model.parameters())
    operator = library.HessianLinearOperator(
        problem.model, nn.CrossEntropyLoss(), parameters, [problem.batch], check_deterministic=False
    ).to_scipy(np.float32)
    value = eigsh(operator, k=1, which="LA", tol=TOL, ncv=8, return_eigenvectors=False)[0]  # pyright: ignore[reportArgumentType]
    return float(value), -1


PEERS = {
    "Ravine, residual ≤ 1e-3": ravine_residual, "Ravine, gap bound ≤ 1e-3": ravine_gap,
    "scipy eigsh, ncv=8": scipy_eigsh, "PyHessian": pyhessian, "hessian-eigenthings, 30": eigenthings,
    "curvlinops + eigsh, ncv=8": curvlinops,
}  # fmt: skip


def memory(peer: str, problem: Problem) -> float:
    """MiB by which the peak of a process of its own exceeds a gradient's."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak, (peer, problem))


def _peak(peer: str, problem: Problem) -> float:
    set_up()
    for _ in range(2):
        gradient(problem)
    before = _highest()
    with sdpa_kernel(SDPBackend.MATH):
        PEERS[peer](problem)
    return _highest() - before


def _highest() -> float:
    """The most memory that this process has had, MiB; getrusage's figure may be its parent's."""
    status = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) / 1024


@dataclass
class Table:
    """What was measured of each way: seconds in gradients, what it found, or why it failed."""

    times: dict[str, list[float]] = field(default_factory=dict)
    found: dict[str, tuple[float, int]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    thirds: dict[str, Third] = field(default_factory=dict)

    def time(self, row: str, gradients: float) -> None:
        self.times.setdefault(row, []).append(gradients)


def side_by_side(problem: Problem, steps: int) -> None:
    probe = Probe(problem.model, loss_fn, [problem.batch])
    w = probe.objective.start
    exact = eigenpairs(probe.objective, w, 2, 1e-4)
    held = probe.choice.bytes / 2**20
    table = Table()
    for _ in range(ROUNDS):
        unit = float(np.median([timed(lambda: gradient(problem))[0] for _ in range(7)]))
        time_peers(table, problem, unit)
        time_thirds(table, probe, exact, unit)
    gap = 1 - exact.values[1] / exact.values[0]
    print(
        f"{problem.name}, {w.numel()} parameters, {steps} steps: λ₁ = {exact.values[0]:.3g}, λ₂ {gap:.0%} below; "
        f"graph {held:.0f} MiB, {probe.choice.path}"
    )
    for peer in PEERS:
        if peer in table.failed:
            print(f"  {peer:28s}{table.failed[peer]}")
            continue
        value, products = table.found[peer]
        print(
            f"  {peer:28s}{np.median(table.times[peer]):8.1f} gradients{products if products > 0 else '?':>5} products"
            f"   error {abs(value / exact.values[0] - 1):.1e}{memory(peer, problem):8.0f} MiB"
        )
    for row, third in table.thirds.items():
        print(
            f"  {row:28s}{np.median(table.times[row]):8.1f} gradients   stated error "
            f"{third.error / float(third.value.norm()):.1e}, {third.gradients:.0f} evaluations"
        )
    follow(problem, probe)


def time_peers(table: Table, problem: Problem, unit: float) -> None:
    for peer, run in PEERS.items():
        if peer in table.failed:
            continue
        try:
            # Fused attention has no second derivative; the probe sees to it itself.
            with sdpa_kernel(SDPBackend.MATH):
                seconds, table.found[peer] = timed(lambda run=run: run(problem))
        except Exception as error:
            table.failed[peer] = f"{type(error).__name__}: {' '.join(str(error).split())[:70]}"
            continue
        table.time(peer, seconds / unit)


def time_thirds(table: Table, probe: Probe, exact: Eigenpairs, unit: float) -> None:
    objective, w = probe.objective, probe.objective.start
    e = objective.point(exact.vectors[0])
    product = float(exact.values[0]) * e, float(exact.residuals[0])
    ways = {
        "∇λ_max, exact": lambda: objective.third_exact(w, e),
        "∇λ_max, difference": lambda: objective.third_difference(w, e, product),
    }
    for row, third in ways.items():
        # The graph belongs to λ_max, after which ∇λ_max is asked for.
        objective.hvp(w, e)
        seconds, table.thirds[row] = timed(third)
        table.time(row, seconds / unit)


def follow(problem: Problem, probe: Probe) -> None:
    """Warm starts along training."""
    optimizer = torch.optim.SGD(problem.model.parameters(), lr=0.01)
    last = probe.eigenpairs(1, TOL)
    spent, turned = [], []
    for _ in range(5):
        for _ in range(10):
            optimizer.zero_grad()
            loss_fn(problem.model, problem.batch).backward()
            optimizer.step()
        now = probe.eigenpairs(1, TOL, warm=True, target="values")
        spent.append(now.products)
        turned.append(f"{abs(float(now.vectors[0] @ last.vectors[0])):.2f}")
        last = now
    print(f"  warm-started every 10 steps of SGD, products: {spent}; |cos| with the vector before: {', '.join(turned)}")


def set_up() -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")


def main() -> None:
    set_up()
    for steps in STATES:
        for problem in problems(steps):
            side_by_side(problem, steps)
            sys.stdout.flush()


if __name__ == "__main__":
    main()
