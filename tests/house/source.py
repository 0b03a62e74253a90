"""The package's source as the tests of the house read it: files, what they import, and what they reach into."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path


@dataclass(frozen=True)
class SourceFile:
    """One Python file, by the dotted name under which it is imported."""

    name: str
    path: Path
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @property
    def room(self) -> str:
        """The folder or file directly under ``ravine``; empty for the package itself."""
        return [*self.name.split("."), ""][1]

    @cached_property
    def imported(self) -> set[str]:
        """Every dotted name that is imported anywhere in the file: under TYPE_CHECKING and inside functions, too."""
        names: set[str] = set()
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                if node.level or node.module is None:
                    raise AssertionError(f"{self.path}:{node.lineno} imports relatively")
                names |= {f"{node.module}.{alias.name}" for alias in node.names}
        return names

    @cached_property
    def own_privates(self) -> set[str]:
        """Private names that this file defines: functions, classes, fields, and attributes of its own objects."""
        names: set[str] = set()
        for node in ast.walk(self.tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                names.add(node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                names.add(node.id)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and is_own(node.value):
                names.add(node.attr)
        return {name for name in names if is_private(name)}

    def foreign_privates(self) -> Iterator[tuple[int, str]]:
        """Line and name of each private attribute of another object, and of each private name that is imported."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Attribute) and is_private(node.attr) and not is_own(node.value):
                if node.attr not in self.own_privates:
                    yield node.lineno, node.attr
            elif isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    if is_private(alias.name):
                        yield node.lineno, alias.name


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name != "_"


def is_own(value: ast.expr) -> bool:
    """Whether an attribute's owner is the object itself: ``self``, ``cls``, ``super()``."""
    if isinstance(value, ast.Call):
        value = value.func
    return isinstance(value, ast.Name) and value.id in ("self", "cls", "super")


def source_files(source: Path) -> list[SourceFile]:
    """All files of the package under the folder `source`."""
    found = []
    for path in sorted((source / "ravine").rglob("*.py")):
        parts = path.relative_to(source).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found.append(SourceFile(name, path, path.read_text(encoding="utf-8")))
    return found


def file_imports(files: list[SourceFile]) -> dict[str, set[str]]:
    """Which files of the package each file imports from, by name."""
    known = {file.name for file in files}

    def home(name: str) -> str | None:
        # `from ravine.theory import bounds` is the file theory/bounds.py; `from ravine.theory import sam_edge` is
        # theory/__init__.py; `from ravine.theory.edge import sam_edge` is theory/edge.py.
        for candidate in (name, name.rpartition(".")[0]):
            if candidate in known and candidate != "ravine":
                return candidate
        return None

    return {file.name: {h for name in file.imported if (h := home(name)) is not None} for file in files}


def circle(graph: dict[str, set[str]]) -> list[str]:
    """The names on circles and between them; empty if there is none."""
    left = dict(graph)
    while True:
        used = {name for uses in left.values() for name in uses}
        through = {name: uses for name, uses in left.items() if name in used and uses & left.keys()}
        if len(through) == len(left):
            return sorted(left)
        left = {name: uses & through.keys() for name, uses in through.items()}
