"""Quadratic losses of a known spectrum in coordinates of no meaning."""

from __future__ import annotations

import numpy as np
from scipy.stats import ortho_group

from ravine.objectives import Objective, quadratic


def rotated(lam: np.ndarray, seed: int) -> tuple[Objective, np.ndarray]:
    """½wᵀQΛQᵀw and Q, drawn by the seed."""
    basis = ortho_group.rvs(len(lam), random_state=seed)
    return quadratic(basis @ np.diag(lam) @ basis.T), basis
