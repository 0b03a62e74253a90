"""A module and what its package exports never share a name: importing the one would hide the other."""

from __future__ import annotations

import ast
import inspect
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import ravine
from house.source import SourceFile, source_files


def defined(file: SourceFile) -> set[str]:
    """Functions and classes of the file's top level."""
    return {n.name for n in file.tree.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)}


def brought(file: SourceFile) -> set[str]:
    """Names that a package takes from its modules."""
    found = [node for node in ast.walk(file.tree) if isinstance(node, ast.ImportFrom) and node.module != file.name]
    return {alias.asname or alias.name for node in found for alias in node.names}


def shared_names(files: list[SourceFile]) -> Iterator[str]:
    """Each name that stands for a module and for something else in the same place."""
    modules = {file.name for file in files}
    for file in files:
        if file.name.rpartition(".")[2] in defined(file):
            yield f"{file.name} defines its own name"
        if file.path.name == "__init__.py":
            yield from (f"{file.name} hides its module {n}" for n in brought(file) if f"{file.name}.{n}" in modules)


def test_no_module_shares_its_name(root: Path) -> None:
    assert not list(shared_names(source_files(root / "src")))


def test_the_packages_own_names_are_no_modules() -> None:
    """They are imported when first used, which no import statement shows."""
    modules = {info.name for info in pkgutil.iter_modules(ravine.__path__)}
    assert all(inspect.ismodule(getattr(ravine, name)) for name in modules & set(ravine.__all__))


@pytest.mark.parametrize(
    ("texts", "count"),
    [
        ({"ravine.a": "def a(): ..."}, 1),
        ({"ravine.a": "def b(): ..."}, 0),
        ({"ravine.r": "from ravine.r.n import m", "ravine.r.m": "def f(): ...", "ravine.r.n": "def m(): ..."}, 1),
        ({"ravine.r": "from ravine.r import m", "ravine.r.m": "def f(): ..."}, 0),
    ],
)
def test_a_planted_name_is_seen(texts: dict[str, str], count: int) -> None:
    packages = {name.rpartition(".")[0] for name in texts}
    files = [
        SourceFile(name, Path("__init__.py" if name in packages else "module.py"), text) for name, text in texts.items()
    ]
    assert len(list(shared_names(files))) == count
