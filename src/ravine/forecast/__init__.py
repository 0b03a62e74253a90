"""What a method will do next, from a few dozen Hessian-vector products, and how far that is to be believed."""

from __future__ import annotations

from ravine.forecast.foresee import Forecast, forecast

__all__ = ["Forecast", "forecast"]
