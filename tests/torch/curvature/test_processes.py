"""Two processes, each with a part of the data, see the loss of all of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import os
import sys
import torch
from ravine.torch import Probe

torch.set_num_threads(1)
rank, file = int(sys.argv[1]), sys.argv[2]
torch.distributed.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Tanh(), torch.nn.Linear(6, 2)).double()
x, y = torch.randn(15, 4).double(), torch.randn(15, 2).double()
loss = lambda model, batch: ((model(batch[0]) - batch[1]) ** 2).mean()
own = slice(0, 9) if rank == 0 else slice(9, 15)
ddp = torch.nn.parallel.DistributedDataParallel(model)
split = Probe(ddp, loss, [(x[own], y[own])], distributed=True)
whole = Probe(model, loss, [(x, y)])
w = whole.objective.start
assert abs(split.objective.value(w) - whole.objective.value(w)) < 1e-12
assert torch.allclose(split.objective.grad(w), whole.objective.grad(w), rtol=1e-10, atol=1e-13)
a, b = (probe.eigenpairs(2, 1e-9) for probe in (split, whole))
assert abs(a.values - b.values).max() < 1e-9 * b.values[0]
c, d = (probe.sharpness_gradient().value for probe in (split, whole))
assert torch.allclose(c, d, rtol=1e-6, atol=1e-8 * float(d.norm()))
a, b = (probe.gauss_newton().values[0] for probe in (split, whole))
assert abs(a - b) < 1e-6 * b
alone = Probe(model, loss, [(x[own], y[own])])
assert abs(alone.objective.value(w) - whole.objective.value(w)) > 1e-6
torch.distributed.barrier()
os._exit(0)  # gloo's threads may outlive the interpreter, and abort it then
"""


def test_two_processes_see_the_whole_loss(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM]
    running = [
        subprocess.Popen([*command, str(rank), str(tmp_path / "meet")], stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    errors = [process.communicate(timeout=100)[1] for process in running]
    assert [process.returncode for process in running] == [0, 0], errors
