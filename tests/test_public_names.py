"""What ``import ravine`` offers, and what it costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

import ravine as rv
from ravine.forecasts import forecast


def test_public_names_exist() -> None:
    for name in rv.__all__:
        assert getattr(rv, name) is not None
    assert dir(rv) == sorted(rv.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = rv.nothing


def fresh(code: str) -> str:
    """What a process of its own prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_the_package_itself_is_light() -> None:
    heavy = "[m for m in ('numpy', 'numba', 'scipy', 'xarray', 'sympy', 'torch', 'matplotlib') if m in sys.modules]"
    assert fresh(f"import sys, ravine; dir(ravine); print({heavy})") == "[]"


def test_rooms_resolve_by_themselves() -> None:
    names = "certify.prove claims.audit observations.bounce plots.style spectrum.eigenpairs theory.drift"
    names += " theory.bounds.theorem_3 theory.section_6.cycle arrivals.compare_arrivals"
    code = f"import ravine as rv; from operator import attrgetter as at; [at(name)(rv) for name in {names.split()}]"
    assert fresh(code) == ""


def test_the_verb_is_a_function_though_its_room_was_imported() -> None:
    assert rv.forecast is forecast
