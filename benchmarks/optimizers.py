"""What a SAM step costs over two forward–backward passes and the base step: ours, pytorch-optimizer's, by hand.

python benchmarks/optimizers.py [--rounds 60] [--threads 1]

Times are the process's own CPU time, in which other programs do not count, and all contestants take turns in each
round. A ratio is the median over rounds of (contestant's time) / (baseline's time) of one round; excess is ratio − 1.
"""

# torch has no public name for its foreach kernels.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

import argparse
import functools
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import pytorch_optimizer
import torch
from torch import Tensor, nn

from ravine.torch import SAM, LookSAM

Step = Callable[[], Any]


def layers60() -> tuple[nn.Module, Tensor, Tensor]:
    model = nn.Sequential(*(layer for _ in range(60) for layer in (nn.Linear(32, 32), nn.Tanh())))
    return model, torch.randn(64, 32), torch.randint(32, (64,))


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(100, 64)
        layer = nn.TransformerEncoderLayer(64, 4, 128, dropout=0.0, batch_first=True)
        self.body = nn.TransformerEncoder(layer, 6)
        self.head = nn.Linear(64, 100)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.embed(x)).mean(1))


def transformer() -> tuple[nn.Module, Tensor, Tensor]:
    return Transformer(), torch.randint(100, (16, 32)), torch.randint(100, (16,))


def mlp() -> tuple[nn.Module, Tensor, Tensor]:
    model = nn.Sequential(nn.Linear(784, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 10))
    return model, torch.randn(64, 784), torch.randint(10, (64,))


MODELS = {"60 layers of 32×32": layers60, "transformer, 6 layers, d = 64": transformer, "784-1024-1024-10": mlp}
SGD: dict[str, Any] = {"lr": 1e-3, "momentum": 0.9}


def contestants(make: Callable[[], tuple[nn.Module, Tensor, Tensor]]) -> dict[str, Step]:
    steps: dict[str, Step] = {}

    def prepared(foreach: bool | None = True) -> tuple[nn.Module, Any, Callable[[Any], Step]]:
        torch.manual_seed(0)
        model, x, y = make()
        base = torch.optim.SGD(model.parameters(), foreach=foreach, **SGD)

        def closure_for(optimizer: Any) -> Step:
            def closure() -> Tensor:
                optimizer.zero_grad()
                loss = nn.functional.cross_entropy(model(x), y)
                loss.backward()
                return loss

            return closure

        return model, base, closure_for

    _, base, closure_for = prepared()
    passes = closure_for(base)

    def baseline(passes: Step = passes, base: Any = base) -> None:
        passes()
        passes()
        base.step()

    steps["two passes + base"] = baseline

    model, base, closure_for = prepared()
    steps["by hand"] = by_hand(list(model.parameters()), base, closure_for(base))

    # The default looks as long as somebody reads: nobody does here, so False is what it comes to after 500 steps.
    for name, watch in (("ravine, nobody reads", False), ("ravine, read at every step", True)):
        model, base, closure_for = prepared()
        opt = SAM(base, rho=0.05, model=model, watch=watch)
        steps[name] = functools.partial(opt.step, closure_for(opt))

    model, base, closure_for = prepared()
    look = LookSAM(base, rho=0.05, model=model, watch=False)
    steps["ravine LookSAM, k=5"] = functools.partial(look.step, closure_for(look))

    for name, foreach in (("pytorch-optimizer, foreach", True), ("pytorch-optimizer, default", None)):
        model, _, closure_for = prepared()
        peer = pytorch_optimizer.SAM(model.parameters(), torch.optim.SGD, rho=0.05, foreach=foreach, **SGD)
        closure = closure_for(peer)

        def peer_step(peer: Any = peer, closure: Step = closure) -> None:
            closure()
            peer.step(closure)

        steps[name] = peer_step
    return steps


def by_hand(params: list[Tensor], base: Any, closure: Step) -> Step:
    """What one would write with foreach and a buffer kept from step to step."""
    kept = [torch.empty_like(p) for p in params]

    def step() -> None:
        closure()
        with torch.no_grad():
            grads = [p.grad for p in params if p.grad is not None]
            norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(grads)))
            torch._foreach_copy_(kept, params)
            torch._foreach_add_(params, torch._foreach_mul(grads, 0.05 / norm))
        closure()
        with torch.no_grad():
            torch._foreach_copy_(params, kept)
        base.step()

    return step


def race(steps: dict[str, Step], rounds: int, repeats: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        for _ in range(3):
            step()
    for k in range(rounds):
        names = list(steps)
        for name in names[k % len(names) :] + names[: k % len(names)]:
            begin = time.process_time()
            for _ in range(repeats):
                steps[name]()
            times[name].append((time.process_time() - begin) / repeats)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=1, help="times five steps to a timing")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(f"torch {torch.__version__}, pytorch-optimizer {version('pytorch-optimizer')}, {arguments.threads} thread(s)")
    for title, make in MODELS.items():
        # A multiple of LookSAM's period, so that every timing holds its share of second passes.
        times = race(contestants(make), arguments.rounds, 5 * arguments.repeats)
        base = times["two passes + base"]
        ratios = {
            name: statistics.median(t / b for t, b in zip(taken, base, strict=True)) for name, taken in times.items()
        }
        peer = ratios["pytorch-optimizer, foreach"] - 1
        print(f"\n{title}: two passes and the base step take {1e3 * statistics.median(base):.2f} ms\n")
        print("| contestant | time | of pytorch-optimizer foreach's excess |\n|---|---|---|")
        for name, ratio in ratios.items():
            print(f"| {name} | {ratio:.3f} | {(ratio - 1) / peer:.2f} |")
    look = LookSAM(torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1), k=5)
    for _ in range(100):
        look.step(lambda: (look.zero_grad(), (look.param_groups[0]["params"][0] ** 2).backward()))
    print(f"\nLookSAM, k = 5: {look.passes / look.steps:.2f} passes a step")


if __name__ == "__main__":
    main()
