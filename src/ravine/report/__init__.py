"""Experiments, bound into one page with its figures and its list of checks."""

from __future__ import annotations

from ravine.report.build import build, check_destination
from ravine.report.provenance import provenance

__all__ = ["build", "check_destination", "provenance"]
