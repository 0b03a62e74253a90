"""What a reader finds under ``help``: an example that runs, and where the thing comes from."""

from __future__ import annotations

import enum
import inspect
import re
from importlib import import_module

import pytest

ROOMS = ["", ".certify", ".claims", ".forecasts", ".objectives", ".observations", ".spectrum", ".theory", ".torch"]


def public_classes() -> dict[str, type]:
    """The classes that rooms list in ``__all__``, by the name under which they are found first."""
    found: dict[str, type] = {}
    for room in ROOMS:
        module = import_module(f"ravine{room}")
        for name in getattr(module, "__all__", ()):
            value = getattr(module, name)
            plain = inspect.isclass(value) and not issubclass(value, enum.Enum | Exception)
            if plain and value not in found.values():
                found[f"ravine{room}.{name}"] = value
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
