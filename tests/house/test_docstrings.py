"""What a reader finds under ``help``: an example that runs, and where the thing comes from."""

from __future__ import annotations

import ast
import builtins
import doctest
import enum
import inspect
import re
from importlib import import_module

import pytest

ROOMS = ["", ".certify", ".claims", ".forecasts", ".objectives", ".observations", ".spectrum", ".theory", ".torch"]


def listed() -> dict[str, object]:
    """What rooms list in ``__all__``."""
    rooms = [import_module(f"ravine{room}") for room in ROOMS]
    return {f"{room.__name__}.{name}": getattr(room, name) for room in rooms for name in getattr(room, "__all__", ())}


def names_from_nowhere(docstring: str) -> set[str]:
    """Names that the examples use and neither import nor define: whoever copies them gets a `NameError`."""
    nodes = [
        node
        for example in doctest.DocTestParser().get_examples(docstring)
        for node in ast.walk(ast.parse(example.source))
    ]
    used = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    made = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    made |= {node.arg for node in nodes if isinstance(node, ast.arg)}
    made |= {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    made |= {node.name for node in nodes if isinstance(node, ast.ExceptHandler) and node.name}
    made |= {
        alias.asname or alias.name
        for node in nodes
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    return used - made - set(dir(builtins))


def public_classes() -> dict[str, type]:
    """The classes that rooms list in ``__all__``, by the name under which they are found first."""
    found: dict[str, type] = {}
    for name, value in listed().items():
        if inspect.isclass(value) and not issubclass(value, enum.Enum | Exception) and value not in found.values():
            found[name] = value
    return found


CLASSES = public_classes()


def test_there_is_something_to_look_at() -> None:
    assert len(CLASSES) > 25


@pytest.mark.parametrize("name", CLASSES)
def test_a_public_class_shows_an_example(name: str) -> None:
    # The examples run with the tests (--doctest-modules).
    assert ">>> " in (CLASSES[name].__doc__ or "")


@pytest.mark.parametrize("name", CLASSES)
def test_a_public_class_names_its_source(name: str) -> None:
    assert re.search(r"arXiv \d{4}\.\d{5}", CLASSES[name].__doc__ or "")


@pytest.mark.parametrize("name", CLASSES)
def test_a_public_class_has_a_repr_of_its_own(name: str) -> None:
    assert CLASSES[name].__repr__ is not object.__repr__


EXAMPLES = {name: inspect.getdoc(value) or "" for name, value in listed().items() if callable(value)}


@pytest.mark.parametrize("name", [name for name, text in EXAMPLES.items() if ">>> " in text])
def test_an_example_can_be_copied(name: str) -> None:
    # The doctests themselves run among the module's own names, and cannot tell.
    assert not names_from_nowhere(EXAMPLES[name])


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_come_last(name: str) -> None:
    headings = re.findall(r"^(\w+)\n-{3,}$", EXAMPLES[name], re.MULTILINE)
    assert "Examples" not in headings[:-1]


def test_an_example_that_cannot_be_copied_is_found() -> None:
    assert names_from_nowhere(">>> from ravine import SAM\n>>> x = [y for y in range(3)]\n>>> SAM(x, z)") == {"z"}
