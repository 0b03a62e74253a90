"""Certificates checked again, by code that shares nothing with what made them.

The quadratic run is followed in w, not in ∇ℓ; Section 6's derivatives come from dual numbers, not from formulas, and
its fixed point from a contraction in the maximum norm, not from Krawczyk's operator.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ravine.certify.certificate import FORMAT, digest, precision
from ravine.certify.dual_numbers import Dual, sam_step


class Invalid(Exception):  # noqa: N818 (it is the verdict of a check)
    """A certificate that does not prove its claim.

    Attributes
    ----------
    step
        Where it fails: the step of the run, or the name of the stage.

    Examples
    --------
    >>> from ravine.certify import Invalid
    >>> print(Invalid(7, "the side does not alternate"))
    step 7: the side does not alternate
    """

    def __init__(self, step: int | str, reason: str) -> None:
        super().__init__(f"step {step}: {reason}" if isinstance(step, int) else f"{step}: {reason}")
        self.step = step


def check(path: str | Path) -> str:
    """Verify a certificate's file and return its claim.

    Raises
    ------
    Invalid
        If the proof fails, naming the step; or if every step holds and the file is still not the one that was written.
    ValueError
        If the file is not a certificate.
    """
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: not a certificate that can be read ({type(error).__name__})") from None
    checks = {"quadratic": _verify_quadratic, "section 6": verify_section_6}
    if not isinstance(data, dict) or data.get("format") != FORMAT or data.get("kind") not in checks:
        raise ValueError(f"{path}: not a {FORMAT}")
    try:
        bits = data["bits"]
        if not isinstance(bits, int) or not 32 <= bits <= 10**6:
            raise Invalid("precision", f"{bits!r} bits")
        with precision(bits + 64) as flint:
            checks[data["kind"]](flint.arb, data)
    except (KeyError, TypeError, IndexError, ValueError) as error:
        raise Invalid("reading", f"a field is missing or malformed ({error})") from None
    if data.get("digest") != digest(data):
        raise Invalid("digest", "every step holds, but the file is not the one that was written")
    return data["claim"]


@dataclass(frozen=True)
class _Setting:
    """λ, η, ρ of a certificate in balls, and what follows from them."""

    eigenvalues: list[Any]
    eta: Any
    rho: Any
    axis: int

    @property
    def sharpness(self) -> Any:
        return self.eigenvalues[self.axis]

    @property
    def others(self) -> list[Any]:
        return [x for i, x in enumerate(self.eigenvalues) if i != self.axis]

    @property
    def half_width(self) -> Any:
        return self.eta * self.rho * self.sharpness / (2 - self.eta * self.sharpness)


def _verify_quadratic(arb: Any, data: dict[str, Any]) -> None:
    lam = [arb(x) for x in data["eigenvalues"]]
    at = _Setting(lam, arb(data["eta"]), arb(data["rho"]), max(range(len(lam)), key=lambda i: float(lam[i])))
    start, eps, end = [arb(x) for x in data["start"]], arb(data["within"]), data["contraction"]
    ordered = bool(at.others) and all(0 < x < at.sharpness for x in at.others)
    if not (ordered and 0 < at.eta * at.sharpness < 2 and at.rho > 0 and eps > 0) or len(start) != len(lam):
        raise Invalid("hypotheses", "0 < λⱼ < λ₁, 0 < ηλ₁ < 2, ρ > 0 and ε > 0 are needed")
    if not (len(data["norms"]) == end and len(data["radii"]) == end + 1 and 0 <= data["arrival"] <= end):
        raise Invalid("hypotheses", "as many norms as steps and one radius more are needed")
    if arb(data["radii"][0]) < 0:
        raise Invalid(0, "a negative radius")
    away = arb(data["distance"])
    if not (_verify_path(arb, data, at, start) <= away and _contracts(at, away, arb(data["factor"]))):
        raise Invalid(end, "contraction to the cycle does not follow")
    if not away <= eps:
        raise Invalid(end, "the distance is not the one claimed")


def _verify_path(arb: Any, data: dict[str, Any], at: _Setting, w: list[Any]) -> Any:
    """Each enclosure holds the next iterate, and from the arrival on the cycle is near; the last distance from it."""
    lam, eta, rho, lam_1, end = at.eigenvalues, at.eta, at.rho, at.sharpness, data["contraction"]
    lowest, eps = min(at.others, key=float), arb(data["within"])
    side, distance = False, arb(0)
    for t in range(end + 1):
        radius = arb(data["radii"][t])
        if t >= data["arrival"]:
            off = [x if i != at.axis else abs(x) - at.half_width for i, x in enumerate(w)]
            distance = _length(arb, off) + radius
            if not (distance <= eps and distance < at.half_width):
                raise Invalid(t, f"not within {data['within']} of the cycle")
            if t > data["arrival"] and (w[at.axis] > 0) == side:
                raise Invalid(t, "the side does not alternate")
            side = w[at.axis] > 0
        if t == end:
            break
        size, near = _length(arb, [x * y for x, y in zip(lam, w, strict=True)]), arb(data["norms"][t])
        least = size - lam_1 * radius
        if not (least > 0 and near > 0):
            raise Invalid(t, "the gradient is not kept from 0")
        steepest = (1 - eta * lowest).max(eta * rho * lam_1**2 / least - 1 + eta * lam_1)
        if not arb(data["radii"][t + 1]) >= steepest * radius + eta * rho * lam_1 * abs(size / near - 1):
            raise Invalid(t, "the enclosure does not hold the next iterate")
        w = [x * (1 - eta * y * (1 + rho * y / near)) for x, y in zip(w, lam, strict=True)]
    return distance


def _contracts(at: _Setting, away: Any, claimed: Any) -> bool:
    """Whether each step shrinks the distance from the cycle, up to `away`, by the factor `claimed` < 1 at least."""
    eta, lam_1 = at.eta, at.sharpness
    reach = at.half_width * lam_1 - lam_1 * away
    factor = abs(1 - eta * lam_1)
    for x in at.others:
        factor = factor.max(abs(1 - eta * x - (2 - eta * lam_1) * (x / lam_1) ** 2))
    turn = eta * at.rho * lam_1**2 * away * (lam_1 + max(at.others, key=float)) / (at.half_width * lam_1 * reach)
    return bool(reach > 0 and factor + turn <= claimed < 1)


def _length(arb: Any, values: list[Any]) -> Any:
    total: Any = sum((x * x for x in values), arb(0))
    return total.sqrt()


def verify_section_6(arb: Any, data: dict[str, Any]) -> None:
    """Existence and uniqueness in the box, period two, and stability; raises `Invalid` at the stage that fails."""
    eta, rho, radius = arb(data["eta"]), arb(data["rho"]), arb(data["radius"])
    centre, y = [arb(x) for x in data["centre"]], [[arb(x) for x in row] for row in data["preconditioner"]]
    if not (0 < eta < 1 and rho > 0 and radius > 0):
        raise Invalid("hypotheses", "0 < η < 1, ρ > 0 and a positive radius are needed")

    def twice(point: list[Any]) -> tuple[tuple[Dual, Dual], tuple[Dual, Dual]]:
        once = sam_step(Dual(point[0], 1, 0), Dual(point[1], 0, 1), eta, rho)
        return once, sam_step(*once, eta, rho)

    wide = [x + arb(0, radius.upper()) for x in centre]
    _, at = twice(centre)
    middle, over = twice(wide)
    jacobian = [end.slope for end in over]
    bound, miss = arb(0), arb(0)
    for i in range(2):
        row = [sum(y[i][k] * (jacobian[k][j] - (k == j)) for k in range(2)) - (i == j) for j in range(2)]
        bound = bound.max(abs(row[0]) + abs(row[1]))
        miss = miss.max(abs(sum(y[i][k] * (at[k].value - centre[k]) for k in range(2))))
    if not abs(y[0][0] * y[1][1] - y[0][1] * y[1][0]) > 0:
        raise Invalid("preconditioner", "it may be singular")
    if not (bound < 1 and miss + bound * radius < radius):
        raise Invalid("existence", "no contraction of the box into itself")
    if all(end.value.overlaps(x) for end, x in zip(middle, wide, strict=True)):
        raise Invalid("period", "the box meets its image: a cycle of length one is not excluded")
    trace = jacobian[0][0] + jacobian[1][1]
    det = jacobian[0][0] * jacobian[1][1] - jacobian[0][1] * jacobian[1][0]
    inside, outside = abs(det) < 1 and abs(trace) < 1 + det, abs(det) > 1 or abs(trace) > 1 + det
    if not (inside if data["stable"] is True else outside and data["stable"] is False):
        raise Invalid("stability", "the multipliers are not where the certificate says")
