"""No file reaches into what another keeps to itself."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from house.source import SourceFile, source_files

# Other people's privates that have no public name. Each is one that a new version of theirs may take away.
THIRD_PARTY: set[str] = set()


@pytest.fixture
def files(root: Path) -> list[SourceFile]:
    return source_files(root / "src")


def test_no_private_of_another_file(files: list[SourceFile]) -> None:
    found = [
        f"{file.path}:{line}: {name}"
        for file in files
        for line, name in file.foreign_privates()
        if name not in THIRD_PARTY
    ]
    assert not found, "\n".join(found)


def test_each_exception_is_used_and_none_of_ours(files: list[SourceFile]) -> None:
    used = {name for file in files for _, name in file.foreign_privates()}
    assert used >= THIRD_PARTY
    assert not THIRD_PARTY & {name for file in files for name in file.own_privates}


@pytest.mark.parametrize(
    ("text", "caught"),
    [
        ("def f(objective): return objective._weights", ["_weights"]),
        ("from ravine.torch.network import _counts", ["_counts"]),
        ("class A:\n def f(self, other): self._x = 1; return other._x", []),
        ("class A:\n def f(self): return self._x + super()._y", []),
        ("def f(model): model._x = 1", ["_x"]),
        ("_T = 1\ndef f(a): return a.__dict__", []),
    ],
)
def test_a_planted_reach_is_seen(text: str, caught: list[str]) -> None:
    ast.parse(text)
    file = SourceFile("ravine.planted", Path("planted.py"), text)
    assert [name for _, name in file.foreign_privates()] == caught
