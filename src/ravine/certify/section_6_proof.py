"""Section 6's loss ℓ(w) = w₁²/(1+w₂²/2) + w₂²/2: its 2-cycle exists, is alone in a box, and attracts or repels.

Krawczyk's test on the two-step map G = F∘F, F(w) = w − η∇ℓ(w + ρ∇ℓ/‖∇ℓ‖): with c the box's centre and Y near
(G'(c) − I)⁻¹, the box X = c + [−r, r]² that holds K = c − Y(G(c)−c) + (I − Y(G'(X)−I))(X−c) in its interior has exactly
one fixed point of G. The multipliers of G over X are inside the unit circle iff |det| < 1 and |trace| < 1 + det.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ravine.certify.certificate import Certificate, CouldNotDecide, decimal, precision, sealed
from ravine.certify.checking import Invalid, verify_section_6
from ravine.theory.section_6 import cycle

Matrix = list[list[Any]]
BITS, MOST_BITS = 128, 2048


@dataclass(frozen=True)
class _Box:
    """A box that passes the test: its centre, Y, trace and determinant of G' on it, whether the cycle attracts."""

    centre: list[Any]
    preconditioner: Matrix
    trace: Any
    determinant: Any
    stable: bool


def prove_section_6(eta: float | str = "0.2", rho: float | str = "1") -> Certificate:
    """Prove that SAM's 2-cycle on Section 6's loss exists, that it is alone in a box, and whether it attracts.

    Parameters
    ----------
    eta, rho
        0 < η < 1, ρ > 0; read as the decimals they spell.

    Raises
    ------
    ValueError
        If they are out of range.
    CouldNotDecide
        If no box passes the test, as at the threshold ρ = 1 − η itself.
    MissingExtra
        If python-flint is not installed.
    """
    eta, rho = decimal("eta", eta), decimal("rho", rho)
    guess = cycle(float(eta), float(rho))[0]
    bits = BITS
    while bits <= MOST_BITS:
        with precision(bits) as flint:
            arb = flint.arb
            centre = _newton(arb, [arb(repr(float(x))) for x in guess], arb(eta), arb(rho), bits)
            for power in range(2, 25):
                found = _proved_box(arb, centre, arb(10) ** -power, arb(eta), arb(rho))
                if found is None:
                    continue
                proof = _sealed(eta, rho, found, f"1e-{power}", bits)
                try:
                    # The check is coarser by a little: take the first box that it too accepts.
                    verify_section_6(arb, proof.data)
                except Invalid:
                    continue
                return proof
        bits *= 2
    raise CouldNotDecide(f"no box about ({guess[0]:.6g}, {guess[1]:.6g}) passes the test at up to {MOST_BITS} bits")


def _step(w: list[Any], eta: Any, rho: Any) -> tuple[list[Any], Matrix]:
    """F and F' on a box: F' = I − η∇²ℓ(w_u)(I + ρ(I − nnᵀ)∇²ℓ(w)/‖∇ℓ‖), n = ∇ℓ/‖∇ℓ‖."""
    g, hessian = _derivatives(w)
    # Products, not powers: python-flint takes x**2 through a logarithm, which a ball that holds 0 has not.
    size = (g[0] * g[0] + g[1] * g[1]).sqrt()
    n = [x / size for x in g]
    project = [[1 - n[0] * n[0], -n[0] * n[1]], [-n[0] * n[1], 1 - n[1] * n[1]]]
    turn = _product(project, hessian)
    climb = [[(1 if i == j else 0) + rho * turn[i][j] / size for j in range(2)] for i in range(2)]
    up, upper = _derivatives([x + rho * y for x, y in zip(w, n, strict=True)])
    product = _product(upper, climb)
    moved = [x - eta * y for x, y in zip(w, up, strict=True)]
    return moved, [[(1 if i == j else 0) - eta * product[i][j] for j in range(2)] for i in range(2)]


def _derivatives(w: list[Any]) -> tuple[list[Any], Matrix]:
    a = 1 + w[1] * w[1] / 2
    share = w[0] / a
    cross = -2 * share * w[1] / a
    last = 1 - share * share + 2 * share * share * w[1] * w[1] / a
    return [2 * share, w[1] * (1 - share * share)], [[2 / a, cross], [cross, last]]


def _two_steps(w: list[Any], eta: Any, rho: Any) -> tuple[list[Any], Matrix]:
    middle, first = _step(w, eta, rho)
    end, second = _step(middle, eta, rho)
    return end, _product(second, first)


def _product(a: Matrix, b: Matrix) -> Matrix:
    return [[a[i][0] * b[0][j] + a[i][1] * b[1][j] for j in range(2)] for i in range(2)]


def _preconditioner(jacobian: Matrix) -> Matrix:
    """The midpoint of (G' − I)⁻¹."""
    a, b, c, d = jacobian[0][0] - 1, jacobian[0][1], jacobian[1][0], jacobian[1][1] - 1
    det = a * d - b * c
    return [[(d / det).mid(), (-b / det).mid()], [(-c / det).mid(), (a / det).mid()]]


def _newton(arb: Any, w: list[Any], eta: Any, rho: Any, bits: int) -> list[Any]:
    for _ in range(bits.bit_length()):
        end, jacobian = _two_steps(w, eta, rho)
        y = _preconditioner(jacobian)
        gap = [end[0] - w[0], end[1] - w[1]]
        moved = [(w[i] - y[i][0] * gap[0] - y[i][1] * gap[1]).mid() for i in range(2)]
        if not all(x.is_finite() for x in moved):
            break
        w = moved
    return w


def _proved_box(arb: Any, centre: list[Any], radius: Any, eta: Any, rho: Any) -> _Box | None:
    """What is proved on the box of this radius, or None where the test fails or stability is open."""
    wide = [arb(x, radius) for x in centre]
    end, _ = _two_steps(centre, eta, rho)
    middle, _ = _step(wide, eta, rho)
    _, jacobian = _two_steps(wide, eta, rho)
    y = _preconditioner(_two_steps(centre, eta, rho)[1])
    less = [[jacobian[i][j] - (1 if i == j else 0) for j in range(2)] for i in range(2)]
    product = _product(y, less)
    rest = [[(1 if i == j else 0) - product[i][j] for j in range(2)] for i in range(2)]
    spread = arb(0, radius)
    gap = [end[i] - centre[i] for i in range(2)]
    inside = [-(y[i][0] * gap[0] + y[i][1] * gap[1]) + (rest[i][0] + rest[i][1]) * spread for i in range(2)]
    if not all(abs(x) < radius for x in inside):
        return None
    if all(x.overlaps(z) for x, z in zip(middle, wide, strict=True)):
        return None  # F(X) must miss X, or the fixed point of G might be one of F
    trace = jacobian[0][0] + jacobian[1][1]
    det = jacobian[0][0] * jacobian[1][1] - jacobian[0][1] * jacobian[1][0]
    if abs(det) < 1 and abs(trace) < 1 + det:
        stable = True
    elif abs(det) > 1 or abs(trace) > 1 + det:
        stable = False
    else:
        return None
    return _Box(centre, y, trace, det, stable)


def _sealed(eta: str, rho: str, box: _Box, radius: str, bits: int) -> Certificate:
    # The check starts from these decimals: they must pass the test themselves.
    short = [x.str(30, radius=False) for x in box.centre]
    shown = ", ".join(x.str(8, radius=False) for x in box.centre)
    verb = "attracts" if box.stable else "repels in some direction"
    claim = (
        f"SAM with η = {eta}, ρ = {rho} on w₁²/(1+w₂²/2) + w₂²/2 has a 2-cycle through ({shown}…); its two-step "
        f"map has exactly one fixed point within {radius} of that point in each coordinate, and the cycle {verb}"
    )
    return sealed(
        {
            "kind": "section 6", "eta": eta, "rho": rho, "claim": claim, "bits": bits, "centre": short,
            "radius": radius,
            "preconditioner": [[x.str(30, radius=False) for x in row] for row in box.preconditioner],
            "trace": box.trace.str(8), "determinant": box.determinant.str(8), "stable": box.stable,
        }
    )  # fmt: skip
