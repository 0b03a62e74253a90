"""λ_max and ∇λ_max on three networks: Ravine's probe beside SciPy, PyHessian and curvlinops.

Wall time is counted in gradients of the same loss, measured in the same round. A peer that is not installed is
left out. Run with ``python benchmarks/curvature.py``.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import nn

from ravine.spectrum import top_eigenpairs
from ravine.torch import Probe

TOL, ROUNDS = 1e-3, 3


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)
        self.first, self.second = nn.GroupNorm(4, width), nn.GroupNorm(4, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = nn.functional.silu(self.first(self.one(x)))
        return nn.functional.silu(x + self.second(self.two(h)))


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(64, 48)
        layer = nn.TransformerEncoderLayer(48, 4, 192, dropout=0.0, activation="gelu", batch_first=True)
        self.body, self.out = nn.TransformerEncoder(layer, 4, enable_nested_tensor=False), nn.Linear(48, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.body(self.embed(x)).mean(dim=1))


def resnet() -> nn.Module:
    body: list[nn.Module] = [nn.Conv2d(3, 16, 3, padding=1)]
    for before, width in ((16, 16), (16, 32), (32, 64)):
        if width != before:
            body += [nn.Conv2d(before, width, 3, stride=2, padding=1)]
        body += [Block(width) for _ in range(3)]
    return nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(256, 640), nn.Tanh(), nn.Linear(640, 640), nn.Tanh(), nn.Linear(640, 10))


def problems() -> dict[str, tuple[nn.Module, torch.Tensor, torch.Tensor]]:
    torch.manual_seed(0)
    labels = torch.randint(0, 10, (256,))
    made = {
        "transformer": (Transformer(), torch.randint(0, 64, (64, 24)), labels[:64]),
        "MLP": (mlp(), torch.randn(256, 256), labels),
        "ResNet-20": (resnet(), torch.randn(32, 3, 24, 24), labels[:32]),
    }
    for model, x, y in made.values():
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        for _ in range(20):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
    return made


def loss_fn(model: nn.Module, batch: Any) -> torch.Tensor:
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def timed(run: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    out = run()
    return time.perf_counter() - began, out


def scipy_eigsh(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> tuple[float, int]:
    parameters, products = list(model.parameters()), 0
    sizes = [p.numel() for p in parameters]

    def apply(v: np.ndarray) -> np.ndarray:
        nonlocal products
        products += 1
        parts = torch.from_numpy(np.asarray(v, np.float32).reshape(-1)).split(sizes)
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            g = torch.autograd.grad(loss_fn(model, (x, y)), parameters, create_graph=True)
        dot = torch.stack([(a * b.view_as(a)).sum() for a, b in zip(g, parts, strict=True)]).sum()
        h = torch.autograd.grad([dot], parameters)
        return torch.cat([part.reshape(-1) for part in h]).numpy()

    n = sum(sizes)
    operator = LinearOperator((n, n), matvec=apply, dtype=np.float32)  # pyright: ignore[reportCallIssue]
    start = np.random.default_rng(0).standard_normal(n).astype(np.float32)
    value = eigsh(operator, k=1, which="LA", tol=TOL, ncv=8, v0=start, return_eigenvectors=False)[0]  # pyright: ignore[reportArgumentType]
    return float(value), products


def pyhessian(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> tuple[float, int]:
    hessian: Any = import_module("pyhessian").hessian
    for p in model.parameters():
        p.grad = None  # it accumulates into it
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        found = hessian(model, nn.CrossEntropyLoss(), data=(x, y), cuda=False).eigenvalues(top_n=1)[0][0]
    model.train()
    return float(found), -1


def curvlinops(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> tuple[float, int]:
    library: Any = import_module("curvlinops")
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        operator = library.HessianLinearOperator(
            model, nn.CrossEntropyLoss(), dict(model.named_parameters()), [(x, y)], check_deterministic=False
        ).to_scipy()
        value = eigsh(operator, k=1, which="LA", tol=TOL, ncv=8, return_eigenvectors=False)[0]  # pyright: ignore[reportArgumentType]
    return float(value), -1


def ours(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> tuple[float, int]:
    pairs = Probe(model, loss_fn, [(x, y)]).top_eigenpairs(1, TOL, target="values")
    return float(pairs.values[0]), pairs.products


PEERS = {
    "Ravine": ours, "scipy eigsh, ncv=8": scipy_eigsh, "PyHessian": pyhessian, "curvlinops + eigsh": curvlinops,
}  # fmt: skip


def side_by_side(name: str, model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> None:
    def gradient() -> Any:
        return torch.autograd.grad(loss_fn(model, (x, y)), list(model.parameters()))

    probe = Probe(model, loss_fn, [(x, y)])
    w = probe.objective.start
    exact = float(top_eigenpairs(probe.objective, w, 1, 1e-5).values[0])
    found = probe.sharpness_gradient(check_tie=False)
    e = probe.objective.point(found.top.vectors[0])
    held = probe.choice.bytes / 2**20
    rows: dict[str, list[float]] = {}
    values: dict[str, tuple[float, int]] = {}
    for _ in range(ROUNDS):
        unit = float(np.median([timed(gradient)[0] for _ in range(5)]))
        for peer, run in PEERS.items():
            try:
                seconds, values[peer] = timed(lambda run=run: run(model, x, y))
            except Exception as error:
                rows.setdefault(f"{peer}: {type(error).__name__}", []).append(float("nan"))
                continue
            rows.setdefault(peer, []).append(seconds / unit)
        for how in ("exact", "difference"):
            fresh = Probe(model, loss_fn, [(x, y)])
            fresh.objective.hvp(w, e)  # the graph and the choice belong to λ_max
            seconds, _ = timed(lambda fresh=fresh, how=how: fresh.objective.third_checked(w, e, how))
            rows.setdefault(f"∇λ_max, {how}", []).append(seconds / unit)
    print(f"{name}, {w.numel()} parameters; retained graph {held:.0f} MiB, {probe.choice.path}")
    for row, times in rows.items():
        value, products = values.get(row, (float("nan"), -1))
        error = abs(value / exact - 1)
        tail = f"{products:8d}{error:12.1e}" if row in values else ""
        print(f"  {row:28s}{np.median(times):8.1f} gradients{tail}")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    spent = []
    for _ in range(5):
        for _ in range(10):
            optimizer.zero_grad()
            loss_fn(model, (x, y)).backward()
            optimizer.step()
        spent.append(probe.top_eigenpairs(1, TOL, warm=True, target="values").products)
    print(f"  warm-started along training, products: {spent}")


def main() -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    for name, (model, x, y) in problems().items():
        side_by_side(name, model, x, y)


if __name__ == "__main__":
    main()
