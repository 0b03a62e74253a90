"""What the statements assume: names and numbers that must be positive, shared by many of them."""

from __future__ import annotations

from ravine.claims.law import Law, vector
from ravine.claims.numbers import Numbers, Real, smallest
from ravine.claims.samplers import Instance


def convex(at: Instance, n: Numbers) -> dict[str, Real]:
    """Section 4's standing hypotheses but λ₁ > λ₂: λ₁ ≥ … ≥ λ_d > 0, 0 < η < 1/(2λ₁), ρ > 0."""
    spectrum = at["eigenvalues"]
    eigenvalues = [n.of(value) for value in spectrum]
    ordered = all(spectrum[i] >= spectrum[i + 1] for i in range(len(spectrum) - 1))
    return {
        "λ₁ ≥ … ≥ λ_d": n.of(1 if ordered else -1),
        "λ_d > 0": eigenvalues[-1],
        "η > 0": n.of(at["eta"]),
        "ρ > 0": n.of(at["rho"]),
        "ηλ₁ < 1/2": n.of(1) / 2 - n.of(at["eta"]) * eigenvalues[0],
    }


def standing(at: Instance, n: Numbers) -> dict[str, Real]:
    """Section 4's standing hypotheses: λ₁ > λ₂ ≥ … ≥ λ_d > 0, 0 < η < 1/(2λ₁), ρ > 0."""
    spectrum = at["eigenvalues"]
    gap = n.of(spectrum[0]) - n.of(spectrum[1]) if len(spectrum) > 1 else n.of(1)
    return convex(at, n) | {"λ₁ > λ₂": gap}


def defined(at: Instance, n: Numbers) -> dict[str, Real]:
    """`convex`, and a gradient along which SAM's step can climb."""
    return convex(at, n) | {"v ≠ 0": sum((n.of(x) ** 2 for x in at["v"]), n.of(0))}


def off_axis(at: Instance, n: Numbers) -> dict[str, Real]:
    """The standing hypotheses, and a start with something along e₁."""
    return standing(at, n) | {"v_1 ≠ 0": abs(n.of(at["v"][0]))}


def no_zero_coordinate(at: Instance, n: Numbers) -> dict[str, Real]:
    """Every coordinate of the gradient moves."""
    return {"every v_i ≠ 0": smallest(n, [abs(x) for x in vector(at, n)])}


def inside_ball(at: Instance, n: Numbers) -> dict[str, Real]:
    """‖v‖ < b, the ball that Lemma 5.5 says SAM does not leave."""
    law = Law(at, n)
    return {"‖v‖ < b": law.b - law.norm(vector(at, n))}


def unconditional(at: Instance, n: Numbers) -> dict[str, Real]:
    """Nothing is assumed: the statement is of the one instance that is drawn."""
    return {}
