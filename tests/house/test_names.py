"""A module and what its package exports never share a name: importing the one would hide the other."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from house.source import SourceFile, source_files


def defined(file: SourceFile) -> set[str]:
    """Functions and classes of the file's top level."""
    return {n.name for n in file.tree.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)}


def exported(file: SourceFile) -> set[str]:
    """What a package's ``__all__`` lists."""
    for node in file.tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
            return set(ast.literal_eval(node.value))
    return set()


def shared_names(files: list[SourceFile]) -> Iterator[str]:
    """Each name that stands for a module and for something else in the same place."""
    homes = {file.name: defined(file) for file in files}
    for file in files:
        stem = file.name.rpartition(".")[2]
        if stem in homes[file.name]:
            yield f"{file.name} defines {stem}"
        if file.path.name != "__init__.py":
            continue
        for name in exported(file):
            module = f"{file.name}.{name}"
            # A package may list its modules; it must not list a function or class under a module's name.
            if module in homes and any(name in things for home, things in homes.items() if home.startswith(file.name)):
                yield f"{file.name} exports {name}, which is also its module"


def test_no_module_shares_its_name(root: Path) -> None:
    assert not list(shared_names(source_files(root / "src")))


@pytest.mark.parametrize(
    ("texts", "count"),
    [
        ({"ravine.a": "def a(): ..."}, 1),
        ({"ravine.a": "def b(): ..."}, 0),
        ({"ravine.r": '__all__ = ["m"]', "ravine.r.m": "def f(): ...", "ravine.r.n": "def m(): ..."}, 1),
        ({"ravine.r": '__all__ = ["m"]', "ravine.r.m": "def f(): ..."}, 0),
    ],
)
def test_a_planted_name_is_seen(texts: dict[str, str], count: int) -> None:
    packages = {name.rpartition(".")[0] for name in texts}
    files = [
        SourceFile(name, Path("__init__.py" if name in packages else "module.py"), text) for name, text in texts.items()
    ]
    assert len(list(shared_names(files))) == count
