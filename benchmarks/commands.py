"""How long the commands take as whole processes, first and later; run with ``make bench``."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RAVINE = str(Path(sys.executable).with_name("ravine"))
FORMULA = ["w1**2/(1+w2**2/2) + w2**2/2", "--eta", "0.2", "--rho", "1", "--start", "0.1,0.1", "--steps", "30"]
COMMANDS = {
    "ravine --help": ["--help"],
    "ravine simulate FORMULA": ["simulate", *FORMULA],
    "ravine simulate FORMULA --method sam --method gd --out run.nc --plot run.svg": [
        "simulate", *FORMULA, "--method", "sam", "--method", "gd", "--out", "run.nc", "--plot", "run.svg", "--force",
    ],
    "ravine simulate --quadratic 1,0.5 --json": [
        "simulate", "--quadratic", "1,0.5", "--eta", "0.2", "--rho", "1", "--start", "2,2", "--steps", "30", "--json",
    ],
}  # fmt: skip
ROUNDS = 7


def seconds(arguments: list[str], folder: Path) -> float:
    environment = os.environ | {"RAVINE_CACHE_DIR": str(folder / "cache")}
    began = time.perf_counter()
    subprocess.run([RAVINE, *arguments], cwd=folder, env=environment, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


def main() -> None:
    print(f"{'first':>8s}{'later':>8s}   seconds; later: median of {ROUNDS} interleaved rounds, compiled code cached")
    first: dict[str, float] = {}
    for name, arguments in COMMANDS.items():
        with tempfile.TemporaryDirectory() as folder:
            first[name] = seconds(arguments, Path(folder))
    later: dict[str, list[float]] = {name: [] for name in COMMANDS}
    with tempfile.TemporaryDirectory() as folder:
        for arguments in COMMANDS.values():
            seconds(arguments, Path(folder))
        for _ in range(ROUNDS):
            for name, arguments in COMMANDS.items():
                later[name].append(seconds(arguments, Path(folder)))
    for name in COMMANDS:
        print(f"{first[name]:8.2f}{sorted(later[name])[ROUNDS // 2]:8.2f}   {name}")


if __name__ == "__main__":
    main()
