"""What each of two gloo processes runs under FSDP2; test_probe_sharded.py starts them and compares what they save.

python sharded_processes.py RANK RENDEZVOUS_FILE OUT_DIRECTORY
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from sharded_models import (
    AHEAD,
    ETA,
    EVERY,
    RHO,
    STEPS,
    Broken,
    Recomputed,
    closure_of,
    data,
    elsewhere,
    equal,
    figures,
    fully,
    message,
    mine,
    model,
    optimizer,
    same,
    squares,
)
from torch import nn

from ravine.methods import SAM as SAM_RULE
from ravine.torch import Probe, network


def main_case(rank: int) -> dict[str, Any]:
    net, own = fully(model()), data()[rank]
    # Gradients that training left, and a forward pass after which FSDP holds whole copies.
    squares(net, own[0]).backward()
    with torch.no_grad():
        net(own[0][0])
    before = mine(net)
    with torch.no_grad():
        net(own[0][0])
    for name, buffer in net.named_buffers():
        buffer.copy_(before["buffers"][name])
    probe = Probe(net, squares, own, distributed=True)
    seen = {
        **figures(probe),
        "choice": probe.choice,
        "precision": probe.precision,
    }
    seen["kept"] = same({**before, "which": []}, {**mine(net), "which": []})
    before = mine(net)
    probe.sharpness_gradient(1e-3)
    seen["kept"] &= same(before, mine(net))
    seen["exact"] = message(lambda: probe.sharpness_gradient(how="exact"))
    seen["gauss_newton"] = message(probe.gauss_newton)
    seen["description"] = probe.objective.description
    w = probe.objective.start
    probe.objective.assign(elsewhere(w))
    seen["assigned"] = probe.objective.start
    return seen


def training(rank: int) -> dict[str, Any]:
    """SAM under FSDP2, followed; its bounce, twice; a forecast and a drift from where it ends."""
    net, own = fully(model(norm=False)), data()[rank]
    opt = optimizer(net)
    closure = closure_of(net, opt, own, divisor=2)
    probe = Probe(net, squares, own, distributed=True)
    with probe.follow(opt, every=EVERY, tol=1e-4) as log:
        for _ in range(STEPS):
            opt.step(closure)
    seen: dict[str, Any] = {"w": probe.objective.start}
    if rank == 0:
        seen["run"] = log.run  # by one process alone
    before, state = {**mine(net), "which": []}, deepcopy(opt.state_dict())
    seen["bounces"] = [probe.bounce(opt, tol=1e-3), probe.bounce(opt, lambda: opt.step(closure), tol=1e-3)]
    seen["kept"] = same(before, {**mine(net), "which": []}) and equal(state, opt.state_dict())
    seen["forecast"] = probe.forecast(SAM_RULE(eta=ETA, rho=RHO), steps=AHEAD, products=9)
    seen["drift"] = probe.drift(ETA, RHO, 100, products=8)
    for _ in range(3):
        opt.step(closure)
    seen["end"] = probe.objective.start
    return seen


def ways() -> dict[str, Callable[[], Any]]:
    """Every way of FSDP2, as functions that make the model."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy
    from torch.distributed.tensor import Shard

    def divided() -> Any:
        net = fully(model())
        for module in net.modules():
            if hasattr(module, "set_gradient_divide_factor"):
                module.set_gradient_divide_factor(1.0)
        return net

    def frozen() -> Any:
        net = model()
        net[4].weight.requires_grad_(False)
        return fully(net)

    def columns(p: nn.Parameter) -> Any:
        # The second dimension of no other parameter is even.
        return Shard(1) if p.ndim == 2 and p.shape[1] % 2 == 0 else Shard(0)

    def recomputed() -> Any:
        net = model()
        for k in (0, 1, 4):
            net[k] = Recomputed(net[k])
        return fully(net)

    return {
        "activations recomputed": recomputed,
        "kept whole after forward": lambda: fully(model(), reshard_after_forward=False),
        "resharded after forward": lambda: fully(model(), reshard_after_forward=True),
        "the root alone": lambda: fully(model(), layers=()),
        "some layers alone": lambda: fully(model(), root=False),
        "HSDP of one shard": lambda: fully(model(), mesh=init_device_mesh("cpu", (2, 1), mesh_dim_names=("r", "s"))),
        "HSDP of one replica": lambda: fully(model(), mesh=init_device_mesh("cpu", (1, 2), mesh_dim_names=("r", "s"))),
        "a factor of one's own": divided,
        "a frozen layer": frozen,
        "columns": lambda: fully(model(), shard_placement_fn=columns),
        "a policy that changes nothing": lambda: fully(
            model(), mp_policy=MixedPrecisionPolicy(param_dtype=torch.float64, reduce_dtype=torch.float64)
        ),
    }


def kinds(rank: int) -> dict[str, Any]:
    """The gradient, whatever way of FSDP2."""
    seen = {}
    for name, make in ways().items():
        net = make()
        before = mine(net)
        probe = Probe(net, squares, data()[rank], distributed=True)
        w = probe.objective.start
        seen[name] = {
            "grad": probe.objective.grad(elsewhere(w)),
            "hvp": probe.objective.hvp(w, elsewhere(w)),
            "value": probe.objective.value(elsewhere(w)),
            "kept": same(before, mine(net)),
        }
    dropping = Probe(fully(model(dropout=0.3)), squares, data()[rank], seed=3, distributed=True).objective
    seen["dropout"] = {"grad": dropping.grad(dropping.start)}
    for mode in ("eval", "batch"):
        normed = Probe(fully(model()), squares, data()[rank], batchnorm=mode, distributed=True).objective
        seen[mode] = {"grad": normed.grad(normed.start)}
    return seen


def beside(rank: int) -> dict[str, Any]:
    """A loss with a parameter of its own, whose gradient is not the probe's to change."""
    scale = torch.tensor([2.0], dtype=torch.float64, requires_grad=True)
    scale.grad = torch.tensor([5.0], dtype=torch.float64)

    def loss(net: Any, batch: Any) -> torch.Tensor:
        return (scale * squares(net, batch)).mean()

    Probe(fully(model()), loss, data()[rank], distributed=True)
    return {"grad": scale.grad}


def misuse(rank: int) -> dict[str, str]:
    """The message of every mistake, on this process."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy
    from torch.distributed.tensor.parallel import ColwiseParallel, parallelize_module

    own = data()[rank]

    def probe(net: Any = None, loss: Any = squares, batches: Any = own, **options: Any) -> Callable[[], Any]:
        net = fully(model()) if net is None else net
        return lambda: Probe(net, loss, batches, **{"distributed": True, **options})

    def late(net: Any, batch: Any) -> torch.Tensor:
        out = squares(net, batch)
        if rank == 1:
            raise RuntimeError("labels are missing")
        return out

    held = fully(model())
    held.set_requires_gradient_sync(False)
    waiting = fully(model())
    waiting.set_requires_gradient_sync(False)
    squares(waiting, own[0]).backward()
    waiting.set_requires_gradient_sync(True)
    hooked = fully(model())
    for module in hooked.modules():
        if hasattr(module, "set_all_reduce_hook"):
            module.set_all_reduce_hook(lambda g: g.mul_(3))
    mesh = init_device_mesh("cpu", (2,))
    parallel = parallelize_module(nn.Sequential(nn.Linear(4, 6)).double(), mesh, {"0": ColwiseParallel()})
    low = fully(model().float(), mp_policy=MixedPrecisionPolicy(param_dtype=torch.bfloat16))
    floats = [(x.float(), y.float()) for x, y in own]
    return {
        "distributed": message(probe(distributed=False)),
        "network": message(lambda: network(fully(model()), squares, own)),
        "numbers": message(probe(batches=own[: 2 - rank])),
        "empty": message(probe(batches=own if rank == 0 else [own[0], (own[0][0][:0], own[0][1][:0])])),
        "none": message(probe(batches=own if rank == 0 else [])),
        "late": message(probe(loss=late)),
        "scalar": message(probe(loss=lambda net, batch: net(batch[0]))),
        "detached": message(probe(loss=lambda net, batch: squares(net, batch).detach())),
        "nan": message(probe(loss=lambda net, batch: squares(net, batch) * (torch.nan if rank else 1))),
        "random": message(probe(fully(model(dropout=0.5)))),
        "path": message(probe(path="retained")),
        "held": message(probe(held)),
        "waiting": message(probe(waiting)),
        "hooked": message(probe(hooked)),
        "parallel": message(probe(parallel)),
        "low": message(probe(low, batches=floats)),
        "bfloat16": message(probe(fully(model().bfloat16()))),
        "dtype": message(probe(fully(model().float()))),
    }


def broken(rank: int) -> dict[str, bool]:
    """After a pass that fails in its middle, training goes on as if the probe had not been there."""
    seen = {}
    for at in ("forward", "backward"):
        ends = []
        for looked in (False, True):
            net = model()
            net[5] = nn.Sequential(nn.Tanh(), nn.Linear(3, 5), Broken(at), nn.Linear(5, 3)).double()
            net = fully(net, layers=(0, 4, 5))
            opt = torch.optim.SGD(net.parameters(), lr=0.1)
            closure = closure_of(net, opt, data()[rank], divisor=2)
            opt.step(closure)
            if looked:
                probe = Probe(net, squares, data()[rank], distributed=True)
                before, w = mine(net), probe.objective.start
                net[5][2].fails = True
                try:
                    probe.objective.grad(elsewhere(w))
                except RuntimeError as error:
                    seen[f"raised in {at}"] = "out of memory" in str(error)
                net[5][2].fails = False
                seen[f"kept in {at}"] = same(before, mine(net))
                seen[f"works after {at}"] = bool(torch.isfinite(probe.objective.grad(w)).all())
                for buffer, value in zip(net.buffers(), before["buffers"].values(), strict=True):
                    buffer.copy_(value)
            opt.step(closure)
            ends.append(mine(net)["shards"])
        seen[f"trains after {at}"] = all(torch.equal(ends[0][k], ends[1][k]) for k in ends[0])
    return seen


def single_precision(rank: int) -> dict[str, Any]:
    net, own = fully(model().float()), [(x.float(), y.float()) for x, y in data()[rank]]
    probe = Probe(net, squares, own, distributed=True)

    def cast(net: Any, batch: Any) -> torch.Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return squares(net, batch).float()

    low = Probe(net, cast, own, distributed=True)
    smooth = Probe(fully(model(norm=False).float()), squares, own, distributed=True)
    return {
        "eigenpairs": probe.eigenpairs(2, 1e-4),
        "ends": probe.extremal_eigenpairs(1, 1e-4),
        "tie": probe.sharpness_gradient().tie,
        "sharpness": smooth.sharpness_gradient(),
        "low": low.eigenpairs(1, 1e-4),
    }


CASES: dict[str, Callable[[int], Any]] = {
    "main": main_case,
    "training": training,
    "kinds": kinds,
    "beside": beside,
    "misuse": misuse,
    "broken": broken,
    "single": single_precision,
}


def main(rank: int, rendezvous: str, out: str) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("error")
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    torch.save({name: case(rank) for name, case in CASES.items()}, Path(out) / f"{rank}.pt")
    dist.barrier()
    os._exit(0)  # gloo's threads may outlive the interpreter, and abort it then


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3])
