"""The paper in a few lines of NumPy: the twin that every fast path is held to."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Gradient = Callable[[np.ndarray], np.ndarray]


def step(rule: str, grad: Gradient, w: np.ndarray, eta: float, rho: float = 0.0) -> np.ndarray:
    """One step of equation (2), of gradient descent, or of SAM without normalization."""
    g = grad(w)
    norm = np.linalg.norm(g)
    if rule == "sam" and norm > 0:
        g = grad(w + rho * g / norm)
    if rule == "usam":
        g = grad(w + rho * g)
    return w - eta * g


def run(
    rule: str,
    grad: Gradient,
    w: np.ndarray,
    steps: int,
    eta: float,
    *,
    rho: float = 0.0,
    momentum: float = 0.0,
    noise: np.ndarray | None = None,
) -> np.ndarray:
    """The iterates w₀ … w_steps. Heavy ball: w_{t+1} = w_t − ηd_t + m(w_t − w_{t−1})."""
    iterates = [np.asarray(w, dtype=float)]
    for t in range(steps):
        w = iterates[-1]
        moved = step(rule, grad, w, eta, rho)
        if noise is not None:
            moved = moved - eta * noise[t]
        if t > 0:
            moved = moved + momentum * (w - iterates[-2])
        iterates.append(moved)
    return np.array(iterates)


def quadratic_sam(eigenvalues: np.ndarray, w: np.ndarray, eta: float, rho: float) -> np.ndarray:
    """Equation (3): w_{t+1} = (I − ηΛ − ηρΛ²/‖Λw_t‖) w_t."""
    lam = np.asarray(eigenvalues, dtype=float)
    return (1 - eta * lam - eta * rho * lam**2 / np.linalg.norm(lam * w)) * w
