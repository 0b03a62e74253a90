"""``ravine probe`` and ``ravine forecast`` on a problem in a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from ravine.cli import main

PROBLEM = """
import torch

def problem():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Tanh(), torch.nn.Linear(6, 2)).double()
    x = torch.randn(16, 4).double()
    return model, lambda model, batch: (model(batch[0]) ** 2).mean(), [(x,)]

def two():
    return 1, 2

number = 3
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    # A module of its own name: imported once in a process.
    (tmp_path / "their_task.py").write_text(PROBLEM)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(__import__("sys").modules, "their_task", raising=False)
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    captured = capsys.readouterr()
    return int(end.value.code or 0), captured.out, captured.err


def test_probe(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "probe", "their_task:problem", "--json", "--eta", "0.1", "--rho", "0.05")
    record = json.loads(out)
    assert (code, err) == (0, "")
    assert len(record["eigenvalues"]) == 3
    assert record["gd_edge"] == 20
    assert 0 < record["sam_edge"] < 20
    assert record["sharpness_gradient"]["error"] < 1e-3 * record["sharpness_gradient"]["norm"]
    code, out, _ = run(capsys, "probe", "their_task:problem", "-k", "1")
    assert code == 0
    assert f"λ1 = {record['eigenvalues'][0]:.4g}" in out


def test_the_edges_are_those_with_momentum(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["probe", "their_task:problem", "--no-sharpness-gradient", "-k", "1", "--eta", "0.1", "--rho", "0.05"]
    for momentum, label in ((0.0, "2/η"), (0.9, "2(1+m)/η")):
        _, out, _ = run(capsys, *arguments, "--momentum", str(momentum), "--json")
        record = json.loads(out)
        lam, g = record["sam_edge"], record["grad_norm"]
        assert record["momentum"] == momentum
        assert record["gd_edge"] == pytest.approx(2 * (1 + momentum) / 0.1)
        assert 0.1 * lam * (1 + 0.05 * lam / g) == pytest.approx(2 * (1 + momentum))
        _, out, _ = run(capsys, *arguments, "--momentum", str(momentum))
        assert f"{label} = {record['gd_edge']:.6g}\n" in out
        assert f"SAM-edge = {lam:.6g}\n" in out


def test_a_checkpoint_changes_the_answer(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    namespace: dict[str, Any] = {}
    exec(PROBLEM, namespace)
    state = {name: 2 * value for name, value in namespace["problem"]()[0].state_dict().items()}
    torch.save(state, here / "plain.pt")
    torch.save({"model_state_dict": state, "step": 3}, here / "wrapped.pt")
    torch.save({"other": torch.zeros(2)}, here / "bad.pt")
    losses = []
    for extra in ([], ["--checkpoint", "plain.pt"], ["--checkpoint", "wrapped.pt"]):
        code, out, _ = run(capsys, "probe", "their_task:problem", "--json", "--no-sharpness-gradient", *extra)
        assert code == 0
        losses.append(json.loads(out)["loss"])
    assert losses[0] != losses[1] == losses[2]
    code, _, err = run(capsys, "probe", "their_task:problem", "--checkpoint", "bad.pt")
    assert code == 2
    assert "does not fit" in err


def test_forecast(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["forecast", "their_task:problem", "--eta", "0.1", "--rho", "0.01", "--steps", "40", "--products", "20"]
    code, out, err = run(capsys, *arguments, "--json")
    record = json.loads(out)
    assert (code, err) == (0, "")
    assert len(record["run"]["grad_norm"]) == 41
    assert 0 <= record["horizon"] <= 40
    code, out, _ = run(capsys, *arguments, "--plot", "forecast.svg")
    assert code == 0
    assert record["verdict"] in out
    assert (here / "forecast.svg").read_text().startswith("<?xml")
    code, _, err = run(capsys, *arguments, "--plot", "forecast.svg")
    assert code == 2
    assert "exists" in err
    code, out, _ = run(capsys, "forecast", "their_task:problem", "--eta", "0.1", "--method", "gd", "--json")
    assert code == 0


@pytest.mark.parametrize(
    ("arguments", "cure"),
    [
        (["probe", "nothing_here:problem"], "no module"),
        (["probe", "their_task"], "package.module:function"),
        (["probe", "their_task:number"], "no function"),
        (["probe", "their_task:two"], "must return"),
        (["probe", "their_task:problem", "--checkpoint", "none.pt"], "no such file"),
        (["probe", "their_task:problem", "--checkpoint", "their_task.py"], "not a checkpoint"),
        (["probe", "their_task:problem", "--rho", "1"], "--eta"),
        (["probe", "their_task:problem", "--momentum", "0.9"], "--eta"),
        (["probe", "their_task:problem", "--eta", "0.1", "--momentum", "1.5"], "[0, 1)"),
        (["probe", "their_task:problem", "--eta", "0"], "--eta"),
        (["forecast", "their_task:problem", "--eta", "0.1"], "needs --rho"),
        (["forecast", "their_task:problem", "--eta", "0.1", "--rho", "1", "--method", "gd"], "leave it out"),
        (["forecast", "their_task:problem", "--eta", "0.1", "--method", "adam"], "sam, usam or gd"),
        (["forecast", "their_task:problem", "--eta", "0.1", "--rho", "1", "--plot", "a.txt"], ".svg"),
    ],
)
def test_misuse(here: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], cure: str) -> None:
    code, _, err = run(capsys, *arguments)
    assert code == 2
    assert cure in err
    assert err.count("\n") == 1
