"""SAM and its relatives for PyTorch."""

from __future__ import annotations

from ravine.extras import require

require("torch", "torch")

from ravine.torch.relatives import ASAM, ESAM, GSAM, MSAM, FriendlySAM, LookSAM  # noqa: E402
from ravine.torch.sam import SAM  # noqa: E402
from ravine.torch.schedule import RhoSchedule  # noqa: E402
from ravine.torch.suggest import Advice, suggest_rho  # noqa: E402

__all__ = ["ASAM", "ESAM", "GSAM", "MSAM", "SAM", "Advice", "FriendlySAM", "LookSAM", "RhoSchedule", "suggest_rho"]
