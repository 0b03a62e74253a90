"""What a reader can hold in the head: functions of 60 lines, classes of 300, files of 400."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

FUNCTION, CLASS, FILE = 60, 300, 400
# Compiled loops: Numba inlines nothing that would be as fast, and the whole step stands in one place.
EXCEPT = {("src/ravine/kernels/loops.py", "advance")}
FOLDERS = ("src", "tests", "benchmarks", "examples")


def too_long(name: str, text: str) -> Iterator[str]:
    """What of the file called `name` is over its size."""
    lines = text.count("\n")
    if lines > FILE:
        yield f"{name}: {lines} lines"
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        limit = CLASS if isinstance(node, ast.ClassDef) else FUNCTION
        length = (node.end_lineno or node.lineno) - node.lineno + 1
        if length > limit and (name, node.name) not in EXCEPT:
            yield f"{name}:{node.lineno}: {node.name}, {length} lines"


def test_nothing_is_longer_than_a_reader_holds(root: Path) -> None:
    files = [path for folder in FOLDERS for path in sorted((root / folder).rglob("*.py"))]
    assert len(files) > 100
    found = [
        line for path in files for line in too_long(path.relative_to(root).as_posix(), path.read_text(encoding="utf-8"))
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("def f():\n" + "    x = 1\n" * 59, 0),
        ("def f():\n" + "    x = 1\n" * 60, 1),
        ("class A:\n" + "    x = 1\n" * 299, 0),
        ("class A:\n" + "    x = 1\n" * 300, 1),
        ("x = 1\n" * 400, 0),
        ("x = 1\n" * 401, 1),
    ],
)
def test_a_planted_length_is_seen(text: str, count: int) -> None:
    assert len(list(too_long("planted.py", text))) == count
