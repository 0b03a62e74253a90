# ruff: noqa: E501 (a formula in LaTeX stands on one line)
"""Lemma 7's proof and equation (6): the step as a map y = f(v) outside the sphere ‖v‖ = γ₁, and what it does to densities."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

from ravine.claims import proofs
from ravine.claims.hypotheses import standing
from ravine.claims.law import Law, vector
from ravine.claims.numbers import Numbers, Real, smallest
from ravine.claims.samplers import Draw, Instance, digits, given_gradient, quadratic
from ravine.claims.statement import Claim, Statement


class _Step(NamedTuple):
    """The step from v in the letters of the proof: r = ‖v‖, gᵢ = 1 − ηλᵢ, hᵢ = ηρλᵢ², y = f(v)."""

    law: Law
    v: list[Real]
    r: Real
    g: list[Real]
    h: list[Real]
    y: list[Real]


def _step(at: Instance, n: Numbers) -> _Step:
    law, v = Law(at, n), vector(at, n)
    g = [1 - law.eta * x for x in law.eigenvalues]
    h = [law.eta * law.rho * x * x for x in law.eigenvalues]
    return _Step(law, v, law.norm(v), g, h, law.step(v))


def _outside_draw(draw: Draw) -> Instance:
    at = quadratic(draw)
    gamma = at["eta"] * at["rho"] * at["eigenvalues"][0] ** 2 / (1 - at["eta"] * at["eigenvalues"][0])
    epsilon = at["eta"] * at["eigenvalues"][-1] / (2 - at["eta"] * at["eigenvalues"][-1])
    length = gamma * (1 + epsilon) * (1 + draw.log("", 1e-3, 30))
    shape = [draw.signed() for _ in at["eigenvalues"]]
    size = sum(x * x for x in shape) ** 0.5
    return at | {"v": given_gradient(draw, at) or tuple(digits(length * x / size) for x in shape)}


def _outside(at: Instance, n: Numbers) -> dict[str, Real]:
    law = Law(at, n)
    x = law.eta * law.least
    return standing(at, n) | {
        "‖v‖ > γ₁(1 + ηλ_d/(2−ηλ_d))": law.norm(vector(at, n)) - law.gamma[0] * (1 + x / (2 - x)),
        "v ≠ 0": law.norm(vector(at, n)),
    }


def _map_symbols() -> tuple[Any, ...]:
    """g, h, v, r with r² = v₁² + v₂², and y = f(v), for d = 2."""
    import sympy

    g = sympy.symbols("g1 g2", positive=True)
    h = sympy.symbols("h1 h2", positive=True)
    r, c = sympy.symbols("r c", positive=True)
    s = (1 - c**2) / (1 + c**2), 2 * c / (1 + c**2)  # a rational point of the circle
    v = [r * x for x in s]
    y = [(r * a - b) * x for a, b, x in zip(g, h, s, strict=True)]
    return g, h, v, r, y


def _jacobian(g: Any, h: Any, v: Any, r: Any) -> tuple[Any, list[Any]]:
    """∇f for d = 2, and gᵢ − hᵢ/r."""
    import sympy

    diagonal = [a - b / r for a, b in zip(g, h, strict=True)]
    return sympy.Matrix(2, 2, lambda i, j: (diagonal[i] if i == j else 0) + h[i] * v[i] * v[j] / r**3), diagonal


def _printed_map_margin(at: Instance, n: Numbers) -> Real:
    law, v, r, g, h, y = _step(at, n)
    f = [a * x + b * x / r for a, b, x in zip(g, h, v, strict=True)]
    return -law.norm([p - q for p, q in zip(f, y, strict=True)]) / law.norm(v)


def _map_margin(at: Instance, n: Numbers) -> Real:
    law, v, r, g, h, y = _step(at, n)
    f = [a * x - b * x / r for a, b, x in zip(g, h, v, strict=True)]
    return -law.norm([p - q for p, q in zip(f, y, strict=True)]) / law.norm(v)


def _map_proof() -> str:
    import sympy

    g, gamma, x, r = sympy.symbols("g gamma x r", positive=True)
    return proofs.identities((g * (r - gamma) * x / r, g * x - g * gamma * x / r))


LEMMA_7_1 = Statement(
    key="lemma-7.1",
    title="Lemma 7's proof, the map f",
    draw=_outside_draw,
    hypotheses=_outside,
    printed=Claim(latex=r"v_{t+1}=Gv_t+H\frac{v_t}{\|v_t\|}", margin=_printed_map_margin),
    corrected=Claim(latex=r"v_{t+1}=Gv_t-H\frac{v_t}{\|v_t\|}", margin=_map_margin, proof=_map_proof),
    repair="a minus sign, as the paper's own next line y = (rG − H)v̂ has it",
)


def _slope_margin(at: Instance, n: Numbers, *, times: int) -> Real:
    """`times` the true dr/dy against ∇f: Σⱼ (dr/dyⱼ) ∂yⱼ/∂v_k must be ∂r/∂v_k = v_k/r."""
    law, v, r, g, h, y = _step(at, n)
    gaps = [r * a - b for a, b in zip(g, h, strict=True)]
    total = sum((q * q * a / c**3 for q, a, c in zip(y, g, gaps, strict=True)), n.of(0))
    slope = [times * q / (c * c * total) for q, c in zip(y, gaps, strict=True)]
    pulled = sum((s * b * x for s, b, x in zip(slope, h, v, strict=True)), n.of(0)) / r**3
    found = [s * c / r + pulled * x for s, c, x in zip(slope, gaps, v, strict=True)]
    return -law.norm([p - x / r for p, x in zip(found, v, strict=True)])


def _slope_proof() -> str:
    g, h, v, r, y = _map_symbols()
    gaps = [r * a - b for a, b in zip(g, h, strict=True)]
    total = sum(q**2 * a / c**3 for q, a, c in zip(y, g, gaps, strict=True))
    slope = [q / (c**2 * total) for q, c in zip(y, gaps, strict=True)]
    pairs = []
    for k in range(2):
        found = sum(slope[j] * ((gaps[j] / r if j == k else 0) + h[j] * v[j] * v[k] / r**3) for j in range(2))
        pairs.append((found, v[k] / r))
    return proofs.identities(*pairs) + " (d = 2; in any d by h/(rg−h) = rg/(rg−h) − 1)"


LEMMA_7_2 = Statement(
    key="lemma-7.2",
    title="Lemma 7's proof, dr/dy",
    draw=_outside_draw,
    hypotheses=_outside,
    printed=Claim(
        latex=r"\frac{dr}{dy_j}=\frac{2y_j}{(rg_j-h_j)^2\sum_k\frac{y_k^2g_k}{2(rg_k-h_k)^3}}",
        margin=partial(_slope_margin, times=4),
    ),
    corrected=Claim(
        latex=r"\frac{dr}{dy_j}=\frac{y_j}{(rg_j-h_j)^2\sum_k\frac{y_k^2g_k}{(rg_k-h_k)^3}}",
        margin=partial(_slope_margin, times=1),
        proof=_slope_proof,
    ),
    repair="the printed derivative is four times the true one",
)


class _Determinant(NamedTuple):
    """det ∇f by the matrix determinant lemma, ∏(gᵢ − hᵢ/r), the terms yᵢ²hᵢ/((gᵢ−hᵢ/r)r²(rgᵢ−hᵢ)²), and S."""

    value: Real
    product: Real
    terms: list[Real]
    total: Real


def _determinant(at: Instance, n: Numbers) -> _Determinant:
    _law, v, r, g, h, y = _step(at, n)
    diagonal = [a - b / r for a, b in zip(g, h, strict=True)]
    product = n.of(1)
    for x in diagonal:
        product = product * x
    bracket = 1 + sum((b * x * x / (r**3 * e) for b, x, e in zip(h, v, diagonal, strict=True)), n.of(0))
    terms = [q * q * b / (e * r * r * (r * e) ** 2) for q, b, e in zip(y, h, diagonal, strict=True)]
    total = sum((q * q * a / (r * e) ** 3 for q, a, e in zip(y, g, diagonal, strict=True)), n.of(0))
    return _Determinant(product * bracket, product, terms, total)


def _determinant_margin(at: Instance, n: Numbers, *, rank_one: int) -> Real:
    """det ∇f⁻¹ as `rank_one` times the rank-one term has it, times det ∇f, against 1."""
    det, product, terms, total = _determinant(at, n)
    return -abs((1 + rank_one * sum(terms, n.of(0)) / total) / product * det - 1)


def _determinant_proof() -> str:
    g, h, v, r, y = _map_symbols()
    jacobian, diagonal = _jacobian(g, h, v, r)
    terms = sum(q**2 * b / (e * r**2 * (r * e) ** 2) for q, b, e in zip(y, h, diagonal, strict=True))
    total = sum(q**2 * a / (r * e) ** 3 for q, a, e in zip(y, g, diagonal, strict=True))
    claimed = (1 - terms / total) / (diagonal[0] * diagonal[1])
    return proofs.identities((claimed * jacobian.det(), 1)) + " (d = 2, the 2 × 2 determinant written out)"


EQUATION_6 = Statement(
    key="eq-6",
    title="(6)",
    draw=_outside_draw,
    hypotheses=_outside,
    printed=Claim(
        latex=r"\det\nabla f^{-1}=\frac{1+\sum_i\frac{2y_i^2h_i}{(g_i-h_i/r)r^2(rg_i-h_i)^2\sum_k\frac{y_k^2g_k}{2(rg_k-h_k)^3}}}{\prod_i(g_i-h_i/r)}",
        margin=partial(_determinant_margin, rank_one=4),
    ),
    corrected=Claim(
        latex=r"\det\nabla f^{-1}=\frac{1-\sum_i\frac{y_i^2h_i}{(g_i-h_i/r)r^2(rg_i-h_i)^2S}}{\prod_i(g_i-h_i/r)},\ S=\sum_k\frac{y_k^2g_k}{(rg_k-h_k)^3}",
        margin=partial(_determinant_margin, rank_one=-1),
        proof=_determinant_proof,
    ),
    repair="the rank-one term has the wrong sign and four times its size",
)


def _entry_margin(at: Instance, n: Numbers, *, divisor: int) -> Real:
    """Each entry against ηλ_d/`divisor`."""
    law, _, r, g, h, _ = _step(at, n)
    floor = law.eta * law.least / divisor
    return smallest(n, [(a - b / r) / floor - 1 for a, b in zip(g, h, strict=True)])


def _entry_proof() -> str:
    import sympy

    x, y, rho, r = sympy.symbols("x y rho r", positive=True)  # x = ηλ_d; y = ηλᵢ, in units η = 1
    return (
        proofs.identities(
            (1 - 1 / (1 + x / (2 - x)), x / 2), (sympy.diff(1 - y - rho * y**2 / r, y), -1 - 2 * rho * y / r)
        )
        + ": the entry falls with λᵢ, and at λ₁, r ≥ γ₁ + ε, it is at least (1−ηλ₁)ηλ_d/2"
    )


LEMMA_7_3 = Statement(
    key="lemma-7.3",
    title="Lemma 7's proof, the entries",
    draw=_outside_draw,
    hypotheses=_outside,
    printed=Claim(latex=r"|g_i-h_i/r|\ge\eta\lambda_d/6", margin=partial(_entry_margin, divisor=6)),
    corrected=Claim(latex=r"g_i-h_i/r\ge\eta\lambda_d/4", margin=partial(_entry_margin, divisor=4), proof=_entry_proof),
    repair="the print stands; (1−ηλ₁)ηλ_d/2 ≥ ηλ_d/4 is sharper",
)


def _printed_density_margin(at: Instance, n: Numbers) -> Real:
    law, _, r, _, _, _ = _step(at, n)
    x = law.eta * law.least
    bound = n.log(9 * r**3 / law.gamma[0] ** 3) + (law.size + 3) * n.log(6 / x)
    return (bound + n.log(_determinant(at, n).value)) / bound


def _density_margin(at: Instance, n: Numbers) -> Real:
    law = Law(at, n)
    bound = law.size * n.log(4 / (law.eta * law.least))
    return (bound + n.log(_determinant(at, n).value)) / bound


def _density_proof() -> str:
    g, h, v, r, _ = _map_symbols()
    jacobian, diagonal = _jacobian(g, h, v, r)
    bracket = 1 + sum(b * x**2 / (r**3 * e) for b, x, e in zip(h, v, diagonal, strict=True))
    return (
        proofs.identities((jacobian.det(), diagonal[0] * diagonal[1] * bracket))
        + " (d = 2; in any d the matrix determinant lemma), the bracket ≥ 1, and "
        + _entry_proof()
    )


LEMMA_7_4 = Statement(
    key="lemma-7.4",
    title="Lemma 7's proof, the density",
    draw=_outside_draw,
    hypotheses=_outside,
    printed=Claim(
        latex=r"|\det\nabla f^{-1}|\le\frac{9\cdot6^{d+3}R^3}{(\eta\lambda_d)^{d+3}\gamma_1^3}",
        margin=_printed_density_margin,
    ),
    corrected=Claim(
        latex=r"|\det\nabla f^{-1}|\le\left(\frac{4}{\eta\lambda_d}\right)^d",
        margin=_density_margin,
        proof=_density_proof,
    ),
    scope="at R = r, where the bound is tightest",
    repair="the print stands, by a proof that does not; without its errors the R³ and d + 3 fall away",
)


STATEMENTS = (LEMMA_7_1, LEMMA_7_2, EQUATION_6, LEMMA_7_3, LEMMA_7_4)
