"""The sharded network that two processes probe, its data, and what must be left as it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from ravine.torch import SAM, Probe

# Samples of each process's batches: ragged, and different on the two.
SIZES = ((7, 4), (3, 5))
STEPS, EVERY, AHEAD = 12, 6, 8
ETA, RHO = 0.05, 0.02


class Counter(nn.Module):
    """Counts its calls in a buffer, in place and by a new tensor, as layers with running statistics do."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: torch.Tensor
        self.last: torch.Tensor
        self.register_buffer("calls", torch.zeros(1))
        self.register_buffer("last", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls.add_(1)
        self.last = x.detach().sum()
        return x


class Recomputed(nn.Module):
    """Activation checkpointing: its forward pass runs again in the backward pass."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> Any:
        return checkpoint(self.inner, x, use_reentrant=False)


def model(norm: bool = True, dropout: float = 0.0) -> Any:
    """Every parameter has an odd number of rows: no two shards are equal, and some are empty."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(4, 5), nn.BatchNorm1d(5) if norm else nn.Identity(), nn.Tanh(), nn.Dropout(dropout),
        nn.Linear(5, 3), nn.Tanh(), Counter(), nn.Linear(3, 1),
    ).double()  # fmt: skip


def squares(net: Any, batch: Any) -> torch.Tensor:
    return ((net(batch[0]) - batch[1]) ** 2).mean()


def data() -> list[list[Any]]:
    """Each process's batches."""
    generator = torch.Generator().manual_seed(1)
    return [
        [tuple(torch.randn(n, width, generator=generator, dtype=torch.float64) for width in (4, 1)) for n in sizes]
        for sizes in SIZES
    ]


def elsewhere(w: torch.Tensor) -> torch.Tensor:
    return w + 0.1 * torch.linspace(-1, 1, w.numel(), dtype=w.dtype)


def closure_of(net: Any, opt: Any, batches: list[Any], divisor: float = 1.0) -> Callable[[], torch.Tensor]:
    """The training loop's closure: the mean over all samples, FSDP's division of the sum taken back."""
    total = sum(map(sum, SIZES))

    def closure() -> torch.Tensor:
        opt.zero_grad()
        losses = [divisor * len(batch[0]) / total * squares(net, batch) for batch in batches]
        for loss in losses:
            loss.backward()
        return torch.stack(losses).sum().detach()

    return closure


def optimizer(net: Any) -> SAM:
    return SAM(torch.optim.SGD(net.parameters(), lr=ETA, momentum=0.5), rho=RHO, model=net)


def figures(probe: Probe) -> dict[str, Any]:
    """What the probe finds, the same calls on one process and on two."""
    objective = probe.objective
    w = objective.start
    there = elsewhere(w)
    return {
        "w": w,
        "value": [objective.value(w), objective.value(there)],
        "grad": [objective.grad(w), objective.grad(there)],
        "eigenpairs": probe.eigenpairs(2, 1e-6),
        "ends": probe.extremal_eigenpairs(1, 1e-5),
        "sharpness": probe.sharpness_gradient(),
    }


def fully(net: Any, layers: tuple[int, ...] = (0, 4), root: bool = True, **options: Any) -> Any:
    from torch.distributed.fsdp import fully_shard

    for k in layers:
        fully_shard(net[k], **options)
    if root:
        fully_shard(net, **options)
    return net


def mine(net: Any) -> dict[str, Any]:
    """This process's part of everything that the probe must leave as it was, and which tensors they are."""
    for module in net.modules():
        if hasattr(module, "reshard"):
            module.reshard()
    parameters = dict(net.named_parameters())
    return {
        "shards": {k: _local(p).detach().clone() for k, p in parameters.items()},
        "grads": {k: None if p.grad is None else _local(p.grad).clone() for k, p in parameters.items()},
        "buffers": {k: b.clone() for k, b in net.named_buffers()},
        "which": [id(p.grad) for p in parameters.values()] + [id(b) for b in net.buffers()],
        "modes": [m.training for m in net.modules()],
    }


def _local(t: Any) -> torch.Tensor:
    return t.to_local() if hasattr(t, "to_local") else t


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    tensors = all(
        x is y if x is None or y is None else torch.equal(x, y)
        for kind in ("shards", "grads", "buffers")
        for x, y in zip(a[kind].values(), b[kind].values(), strict=True)
    )
    return tensors and a["which"] == b["which"] and a["modes"] == b["modes"]


def equal(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    if isinstance(a, torch.Tensor):
        return torch.equal(_local(a), _local(b))
    return a == b


def message(call: Callable[[], Any]) -> str:
    try:
        call()
    except ValueError as error:
        return str(error)
    return "nothing was raised"


class Broken(nn.Module):
    """Fails inside the forward pass when it is told to."""

    def __init__(self, at: str) -> None:
        super().__init__()
        self.at, self.fails = at, False
        self.linear = nn.Linear(5, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.linear(x)
        if self.fails and self.at == "forward":
            raise RuntimeError("out of memory")
        if self.fails and self.at == "backward" and y.requires_grad:
            y.register_hook(self._fail)
        return y

    def _fail(self, g: torch.Tensor) -> None:
        raise RuntimeError("out of memory")
