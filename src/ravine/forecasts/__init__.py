"""What a method will do next, from a few dozen Hessian-vector products, and up to which step that is valid."""

from __future__ import annotations

from ravine.forecasts.prediction import Forecast, forecast

__all__ = ["Forecast", "forecast"]
