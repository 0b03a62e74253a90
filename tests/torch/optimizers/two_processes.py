"""What each of two gloo processes runs; test_sam_distributed.py starts them and compares what they save.

python two_processes.py RANK RENDEZVOUS_FILE OUT_DIRECTORY
"""

from __future__ import annotations

import os
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from networks import closure_of, flat
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ravine.torch import GSAM, SAM, LookSAM

STEPS = 300
SKIPPED = 40  # the step of the FSDP2 runs that one shard cannot take


def network(dtype: torch.dtype, norm: bool = False) -> nn.Sequential:
    torch.manual_seed(0)
    middle: nn.Module = nn.BatchNorm1d(16) if norm else nn.Identity()
    return nn.Sequential(nn.Linear(6, 16), middle, nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 3)).to(dtype)


def data(t: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(t)
    x = torch.randn(32, 6, generator=generator)
    return x.to(dtype), (x[:, :3] + 0.5 * torch.randn(32, 3, generator=generator)).argmax(1)


def optimizer(model: nn.Module, wrapped: nn.Module, rule: type[SAM] = SAM, **switches: Any) -> SAM:
    base = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-3)
    return rule(base, rho=0.1, model=wrapped, **switches)


def loss_of(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return nn.functional.cross_entropy(model(x).float(), y)


def step(opt: SAM, model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> None:
    opt.step(closure_of(opt, model, x, y, loss_of))


def ddp(rank: int, case: str, dtype: torch.dtype, steps: int = STEPS) -> dict[str, Any]:
    """Train on this rank's half of each batch; float64 for the comparison with one process."""
    switches: dict[str, Any] = {"perturb": "replica"} if case == "replica" else {}
    rule = {"gsam": GSAM, "looksam": LookSAM}.get(case, SAM)
    model = network(dtype, norm=case == "batchnorm")
    wrapped = DistributedDataParallel(model, gradient_as_bucket_view=case != "replica")
    first: Any = model[0]
    opt = optimizer(model, wrapped, rule, **switches)
    skips = []
    for t in range(steps):
        x, y = (half.chunk(2)[rank] for half in data(t, dtype))
        if case == "nan" and t == 20 and rank == 1:
            x = x * torch.nan
        if case == "replica" and t == 20 and rank == 1:
            # Not finite in this replica's first pass alone: nothing of it reaches the other's second gradient.
            with_nan = iter((torch.nan, 1.0))
            handle = first.weight.register_hook(lambda g, it=with_nan: g * next(it))
            step(opt, wrapped, x, y)
            handle.remove()
        else:
            step(opt, wrapped, x, y)
        skips.append(opt.skipped)
    return {"w": flat(model), "skipped": skips[-1], "grad_norm": opt.last.grad_norm, "radius": opt.last.radius}


def fsdp(rank: int, rule: type[SAM], *, lone: bool = False) -> dict[str, Any]:
    """FSDP2 with every shard of unequal size, a checkpoint in the middle, and the norm over all of them.

    A lone reader: the first process alone reads and logs what it can, with the switches as they come.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import DTensor

    mesh = init_device_mesh("cpu", (2,))
    model: Any = network(torch.float64)
    for layer in (model[0], model[3], model[5]):
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    switches = {} if lone else {"watch": True, "bounce": True}
    opt = optimizer(model, model, rule, **switches)
    seen = {}
    for t in range(60):
        x, y = (half.chunk(2)[rank] for half in data(t, torch.float64))
        if t == 30:
            state = opt.state_dict()
            opt = optimizer(model, model, rule, **switches)
            opt.load_state_dict(state)
            if lone and rank == 0:
                opt.log_to(Path(tempfile.mkdtemp()) / "log.csv")
        if t == SKIPPED:
            closure_of(opt, model, x, y, loss_of)()
            if rank == 1:
                last = model[5].weight.grad
                assert isinstance(last, DTensor)
                last.to_local()[0, 0] = torch.inf  # in this process's shard alone
            with opt.ascended():
                closure_of(opt, model, x, y, loss_of)()
            opt.step()
            assert opt.last.status == "non-finite"
        else:
            step(opt, model, x, y)
        if lone and rank == 0:
            opt.last.as_dict()
    assert all(isinstance(p, DTensor) for p in model.parameters())
    for name in ("grad_norm", "sam_grad_norm", "cosine", "radius", "bounce"):
        seen[name] = getattr(opt.last, name)
    whole = [p.full_tensor() for p in model.parameters() if isinstance(p, DTensor)]
    return {"w": torch.cat([p.detach().reshape(-1) for p in whole]), **seen}


RULES: dict[str, type[SAM]] = {"sam": SAM, "gsam": GSAM, "looksam": LookSAM}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}
CASES = [
    *("plain-float32", "plain-bfloat16", "plain-float64", "gsam-float64", "looksam-float64", "nan-float32"),
    *("replica-float32", "replica-bfloat16", "replica-float64", "fsdp-sam", "fsdp-gsam", "fsdp-looksam"),
    "fsdp-lone",
]


def main(rank: int, rendezvous: str, out: str) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("error")
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    results = {}
    for case in CASES:
        name, _, kind = case.partition("-")
        if name == "fsdp":
            results[case] = fsdp(rank, RULES.get(kind, SAM), lone=kind == "lone")
        else:
            results[case] = ddp(rank, name, DTYPES[kind])
    torch.save(results, Path(out) / f"{rank}.pt")
    dist.barrier()
    os._exit(0)  # gloo's threads may outlive the interpreter, and abort it then


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3])
