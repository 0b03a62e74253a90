"""The ends of what a Krylov space shows of a spectrum, and what it says of eigenvalues that it does not show."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ravine.spectrum.lanczos import Krylov


@dataclass(frozen=True)
class SpectrumEnd:
    """The wanted Ritz pairs at one end of the spectrum, from the outermost inwards."""

    chosen: np.ndarray
    values: np.ndarray
    residuals: np.ndarray
    gap_bounds: np.ndarray
    sign: int

    def reach(self, target: str) -> np.ndarray:
        """What counts as each pair's error."""
        return np.minimum(self.residuals, self.gap_bounds) if target == "values" else self.residuals


def ends_of(
    values: np.ndarray, residuals: np.ndarray, rounding: float, wanted: tuple[int, int], *, whole: bool
) -> list[SpectrumEnd]:
    """Both ends of the ascending Ritz pairs; `whole` if they are all that there are."""
    ends = []
    for k, sign in zip(wanted, (1, -1), strict=True):
        # One more than wanted: the last one's neighbour.
        order = np.arange(values.size)[::-sign][: k + 1]
        theta, r = values[order], residuals[order]
        gaps = np.abs(np.diff(theta))
        # The distance to the neighbours' intervals, above and below; a pair without a neighbour has no gap to show.
        outer = np.concatenate([[np.inf], gaps - r[:-1]])
        inner = np.concatenate([gaps - r[1:], [np.inf if whole else 0.0]])
        distance = np.minimum(outer, inner)[:k]
        with np.errstate(divide="ignore", invalid="ignore"):
            bounds = np.where(distance > r[:k], r[:k] ** 2 / distance + rounding, np.inf)
        ends.append(SpectrumEnd(order[:k], theta[:k], r[:k], bounds, sign))
    return ends


@dataclass(frozen=True)
class Unseen:
    """What a run without restarts says of eigenvalues that it has not seen.

    Let p be the characteristic polynomial of the projected operator after m steps from v. Then ‖p(H)v‖ = β₁⋯β_m
    (Lanczos), so that the component of v along an eigenvector of value λ is at most β₁⋯β_m/|p(λ)|. A random unit
    vector has a component as small as x with probability √(2d/π)x at most. Where a part of the start is a guess, x is
    divided by the random part's share, (1 + share)/share.
    """

    roots: np.ndarray
    log_betas: float
    scale: float
    floor: float

    @classmethod
    def of(cls, krylov: Krylov, values: np.ndarray, share: float) -> Unseen:
        m = len(krylov.log_betas)
        if m < krylov.size:  # steps outside an invariant subspace: its own values are the roots
            block = krylov.projected()[:m, :m]
            values = np.linalg.eigvalsh(block)
        spread = 1.0 if share == 1.0 else (1 + share) / share
        scale = math.sqrt(2 * krylov.dimension / math.pi) * spread
        return cls(values, float(sum(krylov.log_betas)), scale, krylov.epsilon * krylov.size)

    def missed(self, end: SpectrumEnd, floor: float) -> np.ndarray:
        """For each pair, the probability that an eigenvalue further out was missed."""
        if end.values.size == 0:
            return np.zeros(0)
        reach = np.maximum(end.residuals, floor)
        total, missed = 0.0, []
        for i, value in enumerate(end.values):
            inner = value + end.sign * reach[i]
            # log|p| is concave between its roots, so that the least is at an end of the interval, if no root lies in
            # it.
            worst = self._probability(inner)
            if i > 0:
                outer = end.values[i - 1] - end.sign * reach[i - 1]
                if (outer - inner) * end.sign <= 0:
                    worst = 0.0
                else:
                    low, high = min(inner, outer), max(inner, outer)
                    inside = ((self.roots > low) & (self.roots < high)).any()
                    worst = 1.0 if inside else max(worst, self._probability(outer))
            total = min(1.0, total + worst)
            missed.append(total)
        return np.array(missed)

    def _probability(self, lam: float) -> float:
        with np.errstate(divide="ignore"):
            log_component = self.log_betas - float(np.log(np.abs(lam - self.roots)).sum())
        component = math.exp(min(log_component, 0.0)) + self.floor
        return min(1.0, self.scale * component)
