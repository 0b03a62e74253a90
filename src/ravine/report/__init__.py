"""Experiments, bound into one page with its figures and its list of checks."""

from __future__ import annotations

from ravine.report.building import build, check_destination
from ravine.report.origin import provenance

__all__ = ["build", "check_destination", "provenance"]
