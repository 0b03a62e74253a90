"""Theorem 3's steps beside what runs do: starts such as it speaks of, simulated, and the slowest of them certified."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import betainc, gammaln

from ravine.certify import CouldNotDecide, prove
from ravine.methods import SAM
from ravine.objectives import quadratic
from ravine.simulate import ensemble
from ravine.theory import QuadraticLaw, bounds

MOST_STEPS = 100_000
# Coordinates of iterates that are held at once, over all runs.
_HELD = 2**20
# A run has arrived for good where it is this much nearer than asked.
_SETTLED = 0.1


@dataclass(frozen=True)
class Comparison:
    """Theorem 3 of arXiv:2210.01513 beside runs; made by `compare_arrivals`.

    Attributes
    ----------
    counts
        Theorem 3's steps, printed, corrected and sharp.
    start
        The simulated start that arrives last, in the order of the law's eigenvalues; None if there was none, or not
        every run arrived.
    simulated
        The step from which it is within ε of the cycle.
    certified
        The step from which it is proved to be; None if the proof was not decided.
    notes
        In what the starts differ from the theorem's, and what is missing.

    Examples
    --------
    >>> import ravine as rv
    >>> law = rv.theory.quadratic([1.0, 0.5], eta=0.2, rho=1.0)
    >>> found = rv.arrivals.compare_arrivals(law, radius=3, density=1, q=0.01, delta=0.05, within=0.01, starts=50)
    >>> found
    Comparison(sharp bound 62610, simulated 24, certified 24)
    """

    counts: bounds.Versions[bounds.Count]
    start: tuple[float, ...] | None
    simulated: int | None
    certified: int | None
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        sharp = round(self.counts.sharp.total)
        return f"Comparison(sharp bound {sharp}, simulated {self.simulated}, certified {self.certified})"


def compare_arrivals(
    law: QuadraticLaw,
    *,
    radius: float,
    density: float,
    q: float,
    delta: float,
    within: float,
    starts: int = 200,
    seed: int = 0,
) -> Comparison:
    """Theorem 3's steps beside the slowest of many simulated starts, and the proof of that one.

    Parameters
    ----------
    law
        SAM on a quadratic in the setting of Section 4.
    radius, density, q, delta, within
        R, A, q, δ and ε of `theory.bounds.theorem_3`.
    starts, seed
        How many starts, uniform on ‖w₀‖ ≤ R with w₀₁² ≥ q, and the seed of their draw.

    Raises
    ------
    ValueError
        If a parameter is out of range, or the law is outside Section 4.
    MissingExtra
        If python-flint is not installed.
    """
    counts = bounds.theorem_3(law, radius=radius, density=density, q=q, delta=delta, within=within)
    points = uniform_starts(law, radius=radius, q=q, starts=starts, seed=seed)
    notes = _differences(law.eigenvalues.size, radius=radius, density=density, q=q, delta=delta)
    if not len(points):
        return Comparison(counts, None, None, None, (*notes, "no start in the ball had w₀₁² ≥ q"))
    arrived = arrival_steps(law, points, within=within)
    if (arrived < 0).any():
        reason = f"not every simulated start arrived in {MOST_STEPS} steps"
        return Comparison(counts, None, None, None, (*notes, reason))
    slowest = int(arrived.argmax())
    start, certified = points[slowest].tolist(), None
    try:
        certified = prove(law.eigenvalues.tolist(), law.eta, law.rho, start, within).arrival
    except CouldNotDecide as error:
        notes = (*notes, f"no certificate: {error}")
    return Comparison(counts, tuple(start), int(arrived[slowest]), certified, notes)


def uniform_starts(law: QuadraticLaw, *, radius: float, q: float, starts: int, seed: int = 0) -> np.ndarray:
    """Starts uniform on ‖w₀‖ ≤ R with w₀₁² ≥ q, w₀₁ along the law's largest eigenvalue, shape (starts, d).

    Each number has six digits, so that a certificate reads the decimals that are simulated. Drawn from the whole ball:
    none is returned, shape (0, d), if of the first 4·starts not one has w₀₁² ≥ q.

    Raises
    ------
    ValueError
        If R ≤ 0, q is not in [0, R²], there are no starts to draw, or the seed is negative.
    """
    if not (radius > 0 and 0 <= q <= radius**2):
        raise ValueError(f"radius = {radius}, q = {q}: give R > 0 and 0 ≤ q ≤ R²")
    if starts < 1 or seed < 0:
        raise ValueError(f"starts = {starts}, seed = {seed}: give a positive number of starts and a seed ≥ 0")
    d, axis = law.eigenvalues.size, int(np.argmax(law.eigenvalues))
    rng = np.random.default_rng(seed)
    points = np.empty((0, d))
    while len(points) < starts:
        drawn = rng.standard_normal((4 * starts, d))
        drawn *= (radius * rng.random((4 * starts, 1)) ** (1 / d)) / np.linalg.norm(drawn, axis=1, keepdims=True)
        points = np.concatenate([points, drawn[drawn[:, axis] ** 2 >= q]])
        if not len(points):
            break
    return np.array([[float(f"{x:.6g}") for x in row] for row in points[:starts]]).reshape(-1, d)


def arrival_steps(law: QuadraticLaw, starts: np.ndarray, *, within: float, most_steps: int = MOST_STEPS) -> np.ndarray:
    """The step from which each simulated run is within ε of its cycle, shape (starts,); −1 where it is not settled.

    A run is settled where it is within ε/10. One that is not by `most_steps` counts as not arrived.

    Parameters
    ----------
    law
        SAM on a quadratic with λ₁ > λ₂, without momentum.
    starts
        w₀, shape (starts, d), each with a part along e₁.
    within
        ε > 0, in units of ‖w‖.
    most_steps
        Where to give up.

    Raises
    ------
    ValueError
        If ε ≤ 0, there is momentum, no bounce, or no single cycle, or the starts are not of the law's dimension.
    """
    if within <= 0:
        raise ValueError(f"within = {within}: give a positive distance")
    if law.momentum > 0 or law.tie or not law.bounces:
        raise ValueError(f"{law!r}: arrivals are for SAM without momentum, λ₁ > λ₂, ηλ₁ < 2, ρ > 0")
    axis = int(np.argmax(law.eigenvalues))
    loss, method = quadratic(law.eigenvalues), SAM(eta=law.eta, rho=law.rho)
    w = np.array(starts, dtype=np.float64)
    outside, settled = np.full(len(w), -1), np.zeros(len(w), dtype=bool)
    length = max(1, _HELD // max(1, w.size))
    for first in range(0, most_steps, length):
        count = min(length, most_steps - first)
        # Without momentum a run goes on from where it stands; the last iterate opens the next stretch.
        path = ensemble(loss, method, starts=w, steps=count)["w"].values
        off = path.copy()
        off[:, :, axis] = np.abs(off[:, :, axis]) - law.amplitude
        away = np.linalg.norm(off, axis=2)[:, :count]
        far = away > within
        outside = np.where(far.any(axis=1), first + count - 1 - far[:, ::-1].argmax(axis=1), outside)
        settled |= away[:, -1] < within * _SETTLED
        if settled.all():
            break
        w = path[:, -1]
    return np.where(settled, outside + 1, -1)


def _differences(d: int, *, radius: float, density: float, q: float, delta: float) -> tuple[str, ...]:
    """In what starts uniform on the ball, with w₀₁² ≥ q, are not those of the theorem."""
    volume = math.exp(d / 2 * math.log(math.pi) - gammaln(d / 2 + 1) + d * math.log(radius))
    missed = float(betainc(0.5, (d + 1) / 2, q / radius**2))
    notes = []
    if 1 / volume > density:
        notes.append(f"the uniform law on the ball has density {1 / volume:.4g} > A: the starts are not the theorem's")
    if missed > delta:
        notes.append(f"w₀₁² < q has probability {missed:.4g} > δ under it: the starts are conditioned on w₀₁² ≥ q")
    return tuple(notes)
