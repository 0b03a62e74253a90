"""SAM on ½ Σ λᵢwᵢ² (arXiv 2210.01513): a proof that from some step on the run is within ε of its cycle.

Write f for the step, f(w) = (I − ηΛ − ηρΛ²/‖Λw‖)w. Its derivative, (I − ηΛ) − (ηρ/N)Λ(I − v̂v̂ᵀ)Λ with v = Λw, N = ‖v‖,
is symmetric in these coordinates (SAM is gradient descent on J); its eigenvalues lie in [1 − ηλ₁ − b/N, 1 − ηλ_d].

*Enclosure.* A sequence of decimals n_t near ‖v_t‖ defines a pseudo-run m₀ = w₀, m_{t+1} = (I − ηΛ − ηρΛ²/n_t)m_t. If
‖w_t − m_t‖ ≤ r_t then ‖w_{t+1} − m_{t+1}‖ ≤ L r_t + ηρλ₁|‖Λm_t‖/n_t − 1| with
L = max{1−ηλ_d, b/(‖Λm_t‖−λ₁r_t) − 1 + ηλ₁}. Only where ‖v‖ < β₁ is L > 1: the radius grows where the run itself is
unstable, and nowhere else.

*Contraction.* p = (β₁/λ₁)e₁ has f(±p) = ∓p, and f' at p has the norm r of the exact local rate. On ‖w − p‖ ≤ D the
derivative is within bD(λ₁+λ₂)/(β₁(β₁−λ₁D)) of that at p. Where the sum, κ, is below 1, distances to the cycle shrink by
κ a step, for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from ravine.certify.certificate import Certificate, CouldNotDecide, decimal, precision, sealed, upward

LEAST_BITS, MOST_BITS, MOST_STEPS = 64, 8192, 200_000
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class _Undecided:
    """Why a precision gave no proof, and whether more of it might."""

    reason: str
    precision_helps: bool


def prove(
    eigenvalues: Sequence[float | str],
    eta: float | str,
    rho: float | str,
    start: Sequence[float | str],
    within: float | str,
    *,
    most_bits: int = MOST_BITS,
    most_steps: int = MOST_STEPS,
    progress: Progress | None = None,
) -> Certificate:
    """Prove that ‖w_t ∓ (β₁/λ₁)e₁‖ ≤ ε for all t from some step on, alternately.

    Parameters
    ----------
    eigenvalues
        λ > 0 in any order, λ₁ simple. Numbers are read as the decimals they spell.
    eta, rho
        0 < ηλ₁ < 2, ρ > 0.
    start
        w₀, with a part along e₁.
    within
        ε > 0, in units of ‖w‖.
    most_bits, most_steps
        Where to give up.
    progress
        Called as ``progress(step, bits)`` from time to time.

    Returns
    -------
    Certificate
        `arrival` is the first step from which the enclosure shows it: no earlier than the true arrival, and equal to
        it unless the run passes ε by less than ε/500.

    Raises
    ------
    ValueError
        If the parameters are outside these hypotheses.
    CouldNotDecide
        If the limits are reached.
    MissingExtra
        If python-flint is not installed.
    """
    given = _parameters(eigenvalues, eta, rho, start, within)
    bits, reason = LEAST_BITS, ""
    while bits <= most_bits:
        with precision(bits) as flint:
            outcome = _attempt(flint.arb, given, bits, most_steps, progress)
        if isinstance(outcome, Certificate):
            return outcome
        reason = outcome.reason
        if not outcome.precision_helps:
            break
        bits *= 2
    raise CouldNotDecide(f"could not decide with at most {most_bits} bits and {most_steps} steps: {reason}")


def _parameters(eigenvalues: Any, eta: Any, rho: Any, start: Any, within: Any) -> dict[str, Any]:
    given = {
        "eigenvalues": [decimal("eigenvalues", x) for x in eigenvalues],
        "eta": decimal("eta", eta),
        "rho": decimal("rho", rho),
        "start": [decimal("start", x) for x in start],
        "within": decimal("within", within),
    }
    lam = [Fraction(x) for x in given["eigenvalues"]]
    if len(lam) < 2 or min(lam) <= 0:
        raise ValueError("eigenvalues: give two or more positive numbers; flat directions do not move, leave them out")
    sharpness = max(lam)
    if lam.count(sharpness) > 1:
        raise ValueError("eigenvalues: λ₁ = λ₂, the limit is a sphere; merge equal eigenvalues into one coordinate")
    if len(lam) != len(given["start"]):
        raise ValueError(f"start: give {len(lam)} numbers, one for each eigenvalue")
    for name in ("eta", "rho", "within"):
        if Fraction(given[name]) <= 0:
            raise ValueError(f"{name} = {given[name]}: give a positive number")
    if Fraction(given["eta"]) * sharpness >= 2:
        raise ValueError(
            f"eta·λ₁ = {float(Fraction(given['eta']) * sharpness):.6g}: there is a cycle only for η < 2/λ₁"
        )
    if Fraction(given["start"][lam.index(sharpness)]) == 0:
        raise ValueError("start: w₀ has no part along e₁, and never gets one; move it")
    return given


def _attempt(
    arb: Any, given: dict[str, Any], bits: int, most_steps: int, progress: Progress | None
) -> Certificate | _Undecided:
    """A certificate at this precision, or why there is none."""
    lam, eta, rho = [arb(x) for x in given["eigenvalues"]], arb(given["eta"]), arb(given["rho"])
    order = sorted(range(len(lam)), key=lambda i: float(given["eigenvalues"][i]))
    axis, (second, lam_1) = order[-1], (lam[order[-2]], lam[order[-1]])
    eps, b, h = arb(given["within"]), eta * rho * lam_1**2, eta * lam_1
    beta = b / (2 - h)
    keep, pull = [1 - eta * x for x in lam], [eta * rho * x**2 for x in lam]
    rate = _rate(lam, axis, eta)
    slowest = keep[order[0]]
    amplitude, digits = beta / lam_1, int(bits * 0.301)

    v = [x * arb(w) for x, w in zip(lam, given["start"], strict=True)]
    radius, norms, radii = arb(0), [], ["0"]
    arrival, side = -1, None
    for t in range(most_steps + 1):
        size = _length(arb, v)
        if not size > lam_1 * radius:
            return _Undecided(f"step {t}: ‖v‖ is not kept from 0", precision_helps=True)
        # ‖v − β₁e₁‖ ≤ λ₁‖w − p‖: far from the cycle the sum over w is not worth its time.
        away, distance = "", None
        if not abs(size - beta) > lam_1 * (eps + radius):
            off = [x / y for x, y in zip(v, lam, strict=True)]
            off[axis] = abs(off[axis]) - amplitude
            away = upward(_length(arb, off) + radius)
            distance = arb(away)
        if distance is not None and distance <= eps and distance < amplitude:
            turned = v[axis] > 0
            if arrival < 0 or turned == side:
                arrival = t
            side = turned
            factor = rate + b * distance * (lam_1 + second) / (beta * (beta - lam_1 * distance))
            if beta > lam_1 * distance and factor < 1:
                return _sealed(
                    given, {"norms": norms, "radii": radii}, bits=bits, arrival=arrival,
                    contraction=t, distance=away, factor=upward(factor),
                )  # fmt: skip
        else:
            arrival = -1
        if radius > eps / 1000 or (radius > amplitude / 8 and distance is not None):
            return _Undecided(f"step {t}: the enclosure has grown to {float(radius):.3g}", precision_helps=True)
        near = size.mid().str(digits, radius=False)
        norms.append(near)
        guess = arb(near)
        grow = slowest.max(b / (size - lam_1 * radius) - 1 + h)
        radii.append(upward(grow * radius + eta * rho * lam_1 * abs(size / guess - 1)))
        radius = arb(radii[-1])
        inverse = 1 / guess
        v = [(k - p * inverse) * x for k, p, x in zip(keep, pull, v, strict=True)]
        if progress is not None and t % 100 == 0:
            progress(t, bits)
    return _Undecided(f"{most_steps} steps were not enough", precision_helps=False)


def _length(arb: Any, values: list[Any]) -> Any:
    total: Any = sum((x * x for x in values), arb(0))
    return total.sqrt()


def _rate(lam: list[Any], axis: int, eta: Any) -> Any:
    """The exact local rate, max{|1−ηλ₁|, |1 − ηλⱼ − (λⱼ/λ₁)²(2−ηλ₁)|}."""
    lam_1 = lam[axis]
    rate = abs(1 - eta * lam_1)
    for j, x in enumerate(lam):
        if j != axis:
            rate = rate.max(abs(1 - eta * x - (x / lam_1) ** 2 * (2 - eta * lam_1)))
    return rate


def _sealed(
    given: dict[str, Any], enclosure: dict[str, list[str]], *,
    bits: int, arrival: int, contraction: int, distance: str, factor: str,
) -> Certificate:  # fmt: skip
    claim = (
        f"SAM with η = {given['eta']}, ρ = {given['rho']} on the quadratic with the {len(given['eigenvalues'])} "
        f"eigenvalues given, from the start given: for all t ≥ {arrival}, w_t is within {given['within']} of "
        f"±(ηρλ₁/(2−ηλ₁))e₁, the sign alternating; for t ≥ {contraction} within {distance}·{factor}^(t−{contraction})"
    )
    numbers = {"bits": bits, "arrival": arrival, "contraction": contraction, "distance": distance, "factor": factor}
    return sealed({"kind": "quadratic"} | given | {"claim": claim} | numbers | enclosure)
