"""What works without the extras, and what says which one it needs; run by `make bare`, where none is installed."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import ravine as rv


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = str(Path(sys.executable).with_name("ravine"))
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=False)


def test_no_extra_is_here() -> None:
    assert [name for name in ("torch", "matplotlib", "jinja2", "sklearn") if find_spec(name)] == []


def test_the_core_works(tmp_path: Path) -> None:
    run = rv.trajectory(rv.section_6(), rv.SAM(eta=0.2, rho=1.0), start=[0.1, 0.1], steps=2000)
    assert abs(run["w"].values[0, -1, 0]) == pytest.approx(0.2)
    rv.save(run, tmp_path / "run.nc")
    assert rv.load(tmp_path / "run.nc")["w"].equals(run["w"])
    assert rv.theory.quadratic([1.0, 0.5], eta=0.2, rho=1.0).rate == 0.8


def test_simulate_works() -> None:
    done = command("simulate", "w1**2", "--eta", "0.2", "--rho", "1", "--start", "1", "--steps", "5", "--json")
    assert done.returncode == 0, done.stderr


def test_what_needs_an_extra_names_it(tmp_path: Path) -> None:
    with pytest.raises(ImportError, match=r"pip install 'ravine\[torch\]'"):
        _ = rv.torch.network
    out = tmp_path / "report"
    plot = ["--plot", str(tmp_path / "run.svg")]
    for arguments in (
        ["reproduce", "paper", "--out", str(out)],
        ["simulate", "w1**2", "--eta", "0.2", "--rho", "1", "--start", "1", "--steps", "5", *plot],
    ):
        done = command(*arguments)
        assert done.returncode == 2
        assert "ravine[report]" in done.stderr
        assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
