"""Training beside a probe: plain SAM, a task with a minimum of zero, closures and phases."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from specimens import squares
from torch import nn

from ravine.torch import SAM

Step = Callable[[], Any]


class PlainSAM(torch.optim.Optimizer):
    """SAM with a closure, in ten lines."""

    def __init__(self, parameters: Any, lr: float, rho: float) -> None:
        super().__init__(parameters, {"lr": lr, "rho": rho})

    def step(self, closure: Callable[[], Any]) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        loss = closure()
        group = self.param_groups[0]
        gradients = [p.grad.clone() for p in group["params"]]
        scale = group["rho"] / torch.sqrt(sum((g**2).sum() for g in gradients))  # pyright: ignore[reportArgumentType]
        with torch.no_grad():
            before = [p.clone() for p in group["params"]]
            for p, g in zip(group["params"], gradients, strict=True):
                p.add_(scale * g)
        closure()
        with torch.no_grad():
            for p, old in zip(group["params"], before, strict=True):
                p.copy_(old - group["lr"] * p.grad)
        return loss


def task() -> tuple[nn.Module, Any, list[Any]]:
    """A teacher's labels, so that the loss has a minimum of zero, and training that ends there."""
    x = torch.randn(12, 4, dtype=torch.float64)
    teacher = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)).double()
    model = nn.Sequential(nn.Linear(4, 12), nn.Tanh(), nn.Linear(12, 2)).double()
    with torch.no_grad():
        y = teacher(x)
    optimizer = torch.optim.LBFGS(
        model.parameters(), max_iter=2000, line_search_fn="strong_wolfe", tolerance_grad=1e-12, tolerance_change=0
    )

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = squares(model, (x, y))
        loss.backward()
        return loss

    optimizer.step(closure)
    return model, squares, [(x, y)]


def small(*extra: nn.Module) -> nn.Sequential:
    """The network that `task` trains, untrained, and more layers."""
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 12), nn.Tanh(), nn.Linear(12, 2), *extra).double()


def closed(opt: SAM, model: nn.Module, batch: Any) -> Step:
    closure = closure_of(model, opt, batch)
    return lambda: opt.step(closure)


def in_two_phases(opt: SAM, model: nn.Module, batch: Any) -> Step:
    def step() -> None:
        opt.zero_grad()
        loss = squares(model, batch)
        loss.backward()
        if opt.due:
            with opt.ascended(loss.detach()) as second:
                again = squares(model, batch)
                again.backward()
                second.loss = again.detach()
        opt.step()

    return step


def equal(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


LOOPS = {"closure": closed, "two phases": in_two_phases}


def closure_of(model: nn.Module, optimizer: Any, batch: Any) -> Callable[[], torch.Tensor]:
    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = squares(model, batch)
        loss.backward()
        return loss

    return closure
