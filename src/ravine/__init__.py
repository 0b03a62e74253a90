"""A laboratory for the dynamics of sharpness-aware minimization.

Public names are imported when first used, so that ``import ravine`` and ``ravine --help`` are quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ravine import arrivals, certify, claims, observations, plots, schema, spectrum, theory, torch
    from ravine.forecasts import Forecast, forecast
    from ravine.methods import GD, SAM, SGD, USAM, Method
    from ravine.objectives import FormulaError, Objective, expression, quadratic, section_6
    from ravine.schema import Status, load, save, statuses
    from ravine.simulate import ensemble, trajectory
    from ravine.version import __version__

_HOMES = {
    "Forecast": "forecasts",
    "forecast": "forecasts",
    "GD": "methods",
    "SAM": "methods",
    "SGD": "methods",
    "USAM": "methods",
    "Method": "methods",
    "FormulaError": "objectives",
    "Objective": "objectives",
    "expression": "objectives",
    "quadratic": "objectives",
    "section_6": "objectives",
    "Status": "schema",
    "load": "schema",
    "save": "schema",
    "statuses": "schema",
    "ensemble": "simulate",
    "trajectory": "simulate",
    "__version__": "version",
}
_ROOMS = ("arrivals", "certify", "claims", "observations", "plots", "schema", "spectrum", "theory", "torch")

__all__ = [
    "GD",
    "SAM",
    "SGD",
    "USAM",
    "Forecast",
    "FormulaError",
    "Method",
    "Objective",
    "Status",
    "__version__",
    "arrivals",
    "certify",
    "claims",
    "ensemble",
    "expression",
    "forecast",
    "load",
    "observations",
    "plots",
    "quadratic",
    "save",
    "schema",
    "section_6",
    "spectrum",
    "statuses",
    "theory",
    "torch",
    "trajectory",
]


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return import_module(f"ravine.{name}")
    if name in _HOMES:
        value = getattr(import_module(f"ravine.{_HOMES[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'ravine' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
