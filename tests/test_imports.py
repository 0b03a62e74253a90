"""Imports point one way, and the core does without its extras."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOMS = {
    "arrays": set(),
    "extras": set(),
    "files": set(),
    "version": set(),
    "theory": set(),
    "generated": {"files"},
    "objectives": {"generated"},
    "methods": set(),
    "kernels": {"generated", "objectives"},
    "schema": {"files", "methods", "version"},
    "simulate": {"arrays", "kernels", "methods", "objectives", "schema"},
    "spectrum": {"arrays", "objectives"},
    "observations": {"arrays", "objectives", "spectrum", "theory"},
    "forecasts": {"arrays", "methods", "objectives", "spectrum", "theory"},
    "plots": {"extras", "files", "objectives", "schema"},
    "torch": {"arrays", "extras", "files", "forecasts", "methods", "objectives", "observations", "spectrum", "theory"},
    "experiments": {
        "extras", "forecasts", "methods", "objectives", "observations", "plots", "simulate", "spectrum", "theory",
        "torch",
    },
    "report": {"experiments", "extras", "plots", "version"},
    "claims": {"extras", "generated", "methods"},
    "certify": {"extras", "files", "theory"},
    "arrivals": {"certify", "methods", "objectives", "simulate", "theory"},
    "cli": {
        "arrivals", "certify", "claims", "experiments", "extras", "files", "forecasts", "methods", "objectives",
        "plots", "report", "schema", "simulate", "theory", "torch", "version",
    },
}  # fmt: skip
# What may be imported, and by which rooms only.
GUARDED = {
    "torch": {"torch", "experiments"},
    "matplotlib": {"plots", "experiments", "torch"},
    "jinja2": {"report"},
    "latex2mathml": {"report"},
    "sklearn": {"experiments"},
    "typer": {"cli"},
    "rich": {"cli"},
    "flint": set(),  # through extras.require, in claims and certify
}


def modules(root: Path) -> list[tuple[str, Path]]:
    package = root / "src" / "ravine"
    found = [(path.relative_to(package).parts[0].removesuffix(".py"), path) for path in package.rglob("*.py")]
    return [(room, path) for room, path in found if room != "__init__"]


def imported(path: Path) -> set[str]:
    """Every module that a file imports, wherever in the file, as a dotted name."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            assert node.module is not None
            names.add(node.module)
            if node.module == "ravine":
                names |= {f"ravine.{alias.name}" for alias in node.names}
    return names - {"ravine"}


def test_every_room_is_on_the_plan(root: Path) -> None:
    assert {room for room, _ in modules(root)} == set(ROOMS)


def test_imports_point_one_way(root: Path) -> None:
    for room, path in modules(root):
        used = {name.split(".")[1] for name in imported(path) if name.startswith("ravine.")}
        assert used - {room} <= ROOMS[room], f"{path} imports {used - {room} - ROOMS[room]}"


def test_the_plan_has_no_cycle() -> None:
    below: set[str] = set()
    waiting = dict(ROOMS)
    while waiting:
        ready = {room for room, uses in waiting.items() if uses <= below}
        assert ready, f"cycle among {sorted(waiting)}"
        below |= ready
        waiting = {room: uses for room, uses in waiting.items() if room not in ready}


def test_theory_and_kernels_never_meet() -> None:
    def reach(room: str) -> set[str]:
        return ROOMS[room] | {further for near in ROOMS[room] for further in reach(near)}

    assert "kernels" not in reach("theory")
    assert "theory" not in reach("kernels") | reach("simulate")


@pytest.mark.parametrize("library", GUARDED)
def test_optional_libraries_stay_in_their_rooms(root: Path, library: str) -> None:
    users = {room for room, path in modules(root) if any(name.split(".")[0] == library for name in imported(path))}
    assert users <= GUARDED[library]


def test_the_core_loads_no_extra() -> None:
    code = (
        "import sys, ravine as rv; rv.trajectory(rv.quadratic([1.0]), rv.SAM(eta=0.1, rho=1.0), start=[1.0], steps=1);"
        "rv.theory.quadratic([1.0], 0.1, 1.0);"
        "print([m for m in ('torch', 'matplotlib', 'jinja2', 'sklearn', 'bokeh', 'panel', 'dask') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom ravine.cli import main\n"
        "try:\n main(['--help'])\nexcept SystemExit as e:\n assert e.code == 0\n"
        "print([m for m in ('numpy', 'numba', 'xarray', 'sympy', 'torch') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == "[]"
