# ruff: noqa: E501 (a formula in LaTeX stands on one line)
"""Proposition 8: the function J that SAM descends, its stationary points and its curvature there (Section 4.3)."""

from __future__ import annotations

from ravine.claims import proofs
from ravine.claims.hypotheses import convex, defined
from ravine.claims.law import Law, vector
from ravine.claims.numbers import Numbers, Real, smallest
from ravine.claims.samplers import Draw, Instance, quadratic, run_with_ties
from ravine.claims.statement import Claim, Statement


def _derivatives_margin(at: Instance, n: Numbers) -> Real:
    """∇²J(u)u = Cu at any u, since P⊥Λu = 0; with Lemma 10 this checks both displays against each other."""
    law, v = Law(at, n), vector(at, n)
    size = law.norm(v)
    u = law.point(v)
    c = [(2 - law.eta * x) / (law.eta * law.rho) for x in law.eigenvalues]
    direction = [law.n.of(k + 1) / law.size for k in range(law.size)]
    a = law.gradient(direction)
    along = sum((x * y for x, y in zip(a, v, strict=True)), n.of(0)) / size**2
    hessian = [
        p * q - lam * (s - along * x) / size
        for p, q, lam, s, x in zip(c, direction, law.eigenvalues, a, v, strict=True)
    ]
    # The quotient's derivative of ∇J along `direction`, written out: Λ²p/‖v‖ − Λ²u(v·Λp)/‖v‖³.
    twice = [
        p * q - lam**2 * q / size + lam**2 * y * (along * size**2) / size**3
        for p, q, lam, y in zip(c, direction, law.eigenvalues, u, strict=True)
    ]
    scale = law.norm([p * q for p, q in zip(c, direction, strict=True)])
    return -law.norm([x - y for x, y in zip(hessian, twice, strict=True)]) / scale


def _derivatives_proof() -> str:
    import sympy

    u = sympy.symbols("u1 u2", real=True)
    lam = sympy.symbols("lam1 lam2", positive=True)
    eta, rho = sympy.symbols("eta rho", positive=True)
    c = [(2 - eta * x) / (eta * rho) for x in lam]
    size = sympy.sqrt(sum(x**2 * y**2 for x, y in zip(lam, u, strict=True)))
    potential = sum(a * y**2 for a, y in zip(c, u, strict=True)) / 2 - size
    pairs = []
    for i in range(2):
        slope = c[i] * u[i] - lam[i] ** 2 * u[i] / size
        pairs.append((sympy.diff(potential, u[i]), slope))
        for j in range(2):
            projector = (1 if i == j else 0) - lam[i] * u[i] * lam[j] * u[j] / size**2
            printed = (c[i] if i == j else 0) - lam[i] * projector * lam[j] / size
            pairs.append((sympy.diff(slope, u[j]), printed))
    return proofs.identities(*pairs) + " (d = 2; the entries of a pair of coordinates)"


PROPOSITION_8_1 = Statement(
    key="proposition-8.1",
    title="Proposition 8, derivatives",
    draw=run_with_ties,
    hypotheses=defined,
    printed=Claim(
        latex=r"\nabla J=Cu-\frac{\Lambda^2u}{\|\Lambda u\|},\ \nabla^2J=C-\frac{1}{\|\Lambda u\|}\Lambda P_\perp\Lambda",
        margin=_derivatives_margin,
        proof=_derivatives_proof,
    ),
)


def _stationary_draw(draw: Draw) -> Instance:
    at = quadratic(draw, ties=True)
    return at | {
        "which": draw.integer("which", 0, len(at["eigenvalues"]) - 1),
        "share": draw.uniform("share", 0.1, 0.9),
    }


def _stationary_point(at: Instance, law: Law, n: Numbers) -> tuple[int, list[Real]]:
    """A unit û in the span of eⱼ, λⱼ = λᵢ."""
    which = min(at["which"], law.size - 1)
    same = [k for k in range(law.size) if at["eigenvalues"][k] == at["eigenvalues"][which]]
    share = n.of(at["share"])
    parts = {same[0]: n.sqrt(share), same[-1]: n.sqrt(1 - share)} if len(same) > 1 else {which: n.of(1)}
    return which, [parts.get(k, n.of(0)) for k in range(law.size)]


def _stationary_margin(at: Instance, n: Numbers) -> Real:
    law = Law(at, n)
    which, unit = _stationary_point(at, law, n)
    radius = law.beta[which] / law.eigenvalues[which]
    slope = law.slope([radius * x for x in unit])
    return -law.norm(slope) / law.eigenvalues[which]


def _stationary_proof() -> str:
    import sympy

    lam, eta, rho = sympy.symbols("lam eta rho", positive=True)
    curvature = (2 - eta * lam) / (eta * rho)
    return (
        proofs.identities((curvature, lam**2 / (eta * rho * lam**2 / (2 - eta * lam))))
        + ": (∇J)ᵢ = λᵢ²uᵢ(1/βᵢ − 1/‖Λu‖) vanishes iff uᵢ = 0 or ‖Λu‖ = βᵢ, and β increases with λ"
    )


PROPOSITION_8_2 = Statement(
    key="proposition-8.2",
    title="Proposition 8, stationary points",
    draw=_stationary_draw,
    hypotheses=convex,
    printed=Claim(
        latex=r"\nabla J(u)=0\iff\exists i:\|u\|=\beta_i/\lambda_i,\ u\in\mathrm{span}\{e_j:\lambda_j=\lambda_i\}",
        margin=_stationary_margin,
        proof=_stationary_proof,
    ),
)


def _curvature_gap(at: Instance, law: Law, *, which: int, unit: list[Real], axis: list[Real]) -> Real:
    """∇²J at (βᵢ/λᵢ)û by the general form, against the special one with `axis` for the direction of its last term."""
    n = law.n
    size, lam = law.beta[which], law.eigenvalues[which]
    special = [
        n.of(0) if at["eigenvalues"][j] == at["eigenvalues"][which] else x * x * (1 / b - 1 / size)
        for j, (x, b) in enumerate(zip(law.eigenvalues, law.beta, strict=True))
    ]
    worst = n.of(0)
    for column in range(law.size):
        for row in range(law.size):
            projector = (1 if row == column else 0) - unit[row] * unit[column]
            general = -law.eigenvalues[row] * projector * law.eigenvalues[column] / size
            if row == column:
                general = general + law.eigenvalues[row] ** 2 / law.beta[row]
            claimed = (special[row] if row == column else 0) + lam**2 * (axis[row] * axis[column]) / size
            worst = n.largest([worst, abs(general - claimed) * size / law.sharpness**2])
    return worst


def _printed_curvature_margin(at: Instance, n: Numbers) -> Real:
    law = Law(at, n)
    which, unit = _stationary_point(at, law, n)
    return -_curvature_gap(at, law, which=which, unit=unit, axis=[n.of(int(k == which)) for k in range(law.size)])


def _curvature_margin(at: Instance, n: Numbers) -> Real:
    law = Law(at, n)
    which, unit = _stationary_point(at, law, n)
    return -_curvature_gap(at, law, which=which, unit=unit, axis=unit)


def _curvature_proof() -> str:
    import sympy

    same, other, beta, gamma, x, y = sympy.symbols("lam_i lam_j beta_i beta_j x y", positive=True)
    # Row and column within the tie (û's entries x, y), and off it, where û vanishes.
    return proofs.identities(
        (same**2 / beta - same * (1 - x * x) * same / beta, same**2 * x * x / beta),
        (-same * (-x * y) * same / beta, same**2 * x * y / beta),
        (other**2 / gamma - other * other / beta, other**2 * (1 / gamma - 1 / beta)),
    )


PROPOSITION_8_3 = Statement(
    key="proposition-8.3",
    title="Proposition 8, the Hessian there",
    draw=_stationary_draw,
    hypotheses=convex,
    printed=Claim(
        latex=r"\nabla^2J(\tfrac{\beta_i}{\lambda_i}\hat u)=\Lambda^2\Big(\sum_{\beta_j\ne\beta_i}(\tfrac1{\beta_j}-\tfrac1{\beta_i})e_je_j^\top+\tfrac1{\beta_i}e_ie_i^\top\Big)",
        margin=_printed_curvature_margin,
        seeds=({"eigenvalues": (1.0, 1.0), "eta": 0.2, "rho": 1.0, "which": 0, "share": 0.5},),
    ),
    corrected=Claim(
        latex=r"\ldots+\tfrac1{\beta_i}\hat u\hat u^\top\Big)", margin=_curvature_margin, proof=_curvature_proof
    ),
    repair="with a tie û need not be eᵢ: eᵢeᵢᵀ → ûûᵀ",
)


def _signs_margin(at: Instance, n: Numbers) -> Real:
    """Signs of the eigenvalues: + along û and where βⱼ < βᵢ, − where βⱼ > βᵢ, 0 within a tie."""
    law = Law(at, n)
    which = min(at["which"], law.size - 1)
    worst = n.of(1)
    for j in range(law.size):
        gap = (1 / law.beta[j] - 1 / law.beta[which]) * law.beta[which]
        side = (law.eigenvalues[which] - law.eigenvalues[j]) / law.sharpness
        if at["eigenvalues"][j] != at["eigenvalues"][which]:
            worst = smallest(n, [worst, gap * side])
    return worst


def beta_increases_proof() -> str:
    """β grows with λ, on which the signs and the order of the saddles rest."""
    import sympy

    x = sympy.symbols("x", positive=True)  # ηλ < 1, in units ηρ/η² = 1
    beta = x**2 / (2 - x)
    return proofs.identities((sympy.diff(beta, x), x * (4 - x) / (2 - x) ** 2)) + ": β increases with λ, 1/β decreases"


PROPOSITION_8_4 = Statement(
    key="proposition-8.4",
    title="Proposition 8, signs",
    draw=_stationary_draw,
    hypotheses=convex,
    printed=Claim(
        latex=r"|\{\beta_j<\beta_i\}|+1\text{ positive},\ |\{\beta_j>\beta_i\}|\text{ negative},\ |\{\beta_j=\beta_i\}|-1\text{ zero}",
        margin=_signs_margin,
        proof=beta_increases_proof,
    ),
    scope="the eigenvalues λⱼ²(1/βⱼ − 1/βᵢ) off the tie; within it by proposition-8.3",
)


STATEMENTS = (PROPOSITION_8_1, PROPOSITION_8_2, PROPOSITION_8_3, PROPOSITION_8_4)
