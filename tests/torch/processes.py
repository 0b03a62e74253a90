"""Starts a program on two processes of one gloo group, once for all test workers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock

Results = Callable[[str], list[Any]]


def results(program: str, factory: pytest.TempPathFactory, *, weights_only: bool = True) -> Results:
    """Both processes' results of a case, which `program RANK RENDEZVOUS OUT` saves as OUT/RANK.pt."""
    name = Path(program).stem
    out = factory.mktemp(name)
    if "PYTEST_XDIST_TESTRUNUID" in os.environ:
        out = factory.getbasetemp().parent / f"{name}-{os.environ['PYTEST_XDIST_TESTRUNUID']}"
        out.mkdir(exist_ok=True)
    with FileLock(out / "lock"):
        if not (out / "1.pt").exists():
            _start(program, out)
    found = [torch.load(out / f"{rank}.pt", weights_only=weights_only) for rank in range(2)]
    return lambda case: [result[case] for result in found]


def _start(program: str, out: Path) -> None:
    (out / "rendezvous").unlink(missing_ok=True)
    shared = str(Path(__file__).parent)  # what programs and tests have in common
    processes = [
        subprocess.Popen(
            [sys.executable, program, str(rank), str(out / "rendezvous"), str(out)],
            stderr=subprocess.STDOUT,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([shared, *filter(None, [os.environ.get("PYTHONPATH")])])},
        )
        for rank in range(2)
    ]
    outputs = [p.communicate(timeout=400)[0] for p in processes]
    assert [p.returncode for p in processes] == [0, 0], "\n".join(outputs)
