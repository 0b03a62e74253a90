"""Ravine for PyTorch networks."""

from __future__ import annotations

from ravine.extras import require

require("torch", "torch")

from ravine.torch.network import Network, network  # noqa: E402 (after the check that names the extra)
from ravine.torch.probe import Probe  # noqa: E402
from ravine.torch.problem import load_problem  # noqa: E402

__all__ = ["Network", "Probe", "load_problem", "network"]
