# ruff: noqa: E501 (a formula in LaTeX stands on one line)
"""What the paper leaves open: the exact local rate, every ηλ₁ < 2, the drift's second-order term, Section 6's threshold."""

from __future__ import annotations

from ravine.claims import proofs
from ravine.claims.hypotheses import convex
from ravine.claims.law import Law, vector
from ravine.claims.numbers import Numbers, Real, is_zero, norm, smallest
from ravine.claims.runs import LONGEST
from ravine.claims.samplers import Draw, Instance, digits, gradient, quadratic
from ravine.claims.statement import Claim, Statement, Untested
from ravine.claims.statements.lemma_10 import descent_margin, descent_proof
from ravine.claims.statements.section_6 import sam
from ravine.claims.statements.theorem_21 import PolynomialLoss, polynomial_loss


def _below_two(at: Instance, n: Numbers) -> dict[str, Real]:
    law = Law(at, n)
    return _any_step(at, n) | {"ηλ₁ < 2": 2 - law.h, "λ₁ > λ₂": law.sharpness - law.eigenvalues[1]}


def _any_step(at: Instance, n: Numbers) -> dict[str, Real]:
    """`convex` without its bound on η."""
    return {name: value for name, value in convex(at, n).items() if name != "ηλ₁ < 1/2"}


def multipliers(law: Law) -> list[Real]:
    """Of −(step) at β₁e₁: −(1−ηλ₁) along e₁, −(1 − ηλⱼ − (λⱼ/λ₁)²(2−ηλ₁)) along eⱼ; signs dropped by the rate."""
    across = [1 - law.eta * x - (x / law.sharpness) ** 2 * (2 - law.h) for x in law.eigenvalues[1:]]
    return [1 - law.h, *across]


def _near_cycle_draw(draw: Draw) -> Instance:
    at = quadratic(draw, step=(0.1, 1.9), condition=3)
    return at | {"v": tuple(draw.signed(0.1) for _ in at["eigenvalues"])}


def _rate_margin(at: Instance, n: Numbers) -> Real:
    """1 − r > 0, and the multipliers are the step's factors at ‖v‖ = β₁ (along eⱼ), its slope (along e₁)."""
    law = Law(at, n)
    claimed = multipliers(law)
    factors = law.factors(law.beta[0])
    gaps = [abs(a - b) for a, b in zip(claimed[1:], factors[1:], strict=True)]
    inside = [1 - abs(x) for x in claimed]
    return smallest(n, [*inside, -n.largest(gaps)])


def _rate_proof() -> str:
    import sympy

    h, x, v, w = sympy.symbols("h x v w", positive=True)  # x = λⱼ/λ₁ in (0, 1), v = (v₁, w) in units of β₁
    size = sympy.sqrt(v**2 + w**2)
    first = (1 - h - (2 - h) / size) * v
    other = (1 - h * x - (2 - h) * x**2 / size) * w
    at = {v: 1, w: 0}
    m = 1 - h * x - x**2 * (2 - h)
    return (
        proofs.identities(
            (sympy.diff(first, v).subs(at), 1 - h),
            (sympy.diff(first, w).subs(at), 0),
            (sympy.diff(other, v).subs(at), 0),
            (sympy.diff(other, w).subs(at), m),
            (1 + m, (1 - x) * (2 + (2 - h) * x)),
            (1 - m, h * x + x**2 * (2 - h)),
        )
        + ": the Jacobian is diagonal with these entries, and each is in (−1, 1) for 0 < ηλ₁ < 2"
    )


OURS_RATE = Statement(
    key="ours-rate",
    title="Exact local rate",
    draw=_near_cycle_draw,
    hypotheses=_below_two,
    corrected=Claim(
        latex=r"r=\max\{|1-\eta\lambda_1|,\max_{j\ge2}|1-\eta\lambda_j-(\lambda_j/\lambda_1)^2(2-\eta\lambda_1)|\}<1",
        margin=_rate_margin,
        proof=_rate_proof,
    ),
    ours=True,
)


def _measured_rate_margin(at: Instance, n: Numbers) -> Real:
    """From β₁e₁ plus a millionth of it: the distance after 10 steps, against r¹⁰ with 1e-4 to spare for curvature."""
    law = Law(at, n)
    tiny = n.of(1) / 10**6
    v = [law.beta[0] * (tiny * n.of(x) + (1 if k == 0 else 0)) for k, x in enumerate(at["v"])]

    def away(state: list[Real]) -> Real:
        w = law.point(state)
        w[0] = abs(w[0]) - law.beta[0] / law.sharpness
        return norm(n, w)

    before = away(v)
    for _ in range(10):
        v = law.step(v)
    rate = n.largest([abs(x) for x in multipliers(law)])
    return rate**10 + n.of(1) / 10**4 - away(v) / before


OURS_RATE_MEASURED = Statement(
    key="ours-rate-measured",
    title="Exact local rate, on runs",
    draw=_near_cycle_draw,
    hypotheses=_below_two,
    corrected=Claim(
        latex=r"\|w_{t+10}\mp c\|\le(r^{10}+10^{-4})\|w_t\mp c\|\text{ near }c", margin=_measured_rate_margin
    ),
    scope="from a distance of a millionth of the amplitude or so, in ‖w‖",
    ours=True,
    cost=2,
)


def _descent_draw(draw: Draw) -> Instance:
    at = quadratic(draw, step=(0.1, 6.0), condition=10)
    return at | {"v": gradient(draw, at, 0.03, 30)}


def _descent_hypotheses(at: Instance, n: Numbers) -> dict[str, Real]:
    law = Law(at, n)
    return _any_step(at, n) | {"no ηλᵢ = 2": smallest(n, [abs(2 - law.eta * x) for x in law.eigenvalues])}


OURS_DESCENT = Statement(
    key="ours-descent",
    title="J falls for every η",
    draw=_descent_draw,
    hypotheses=_descent_hypotheses,
    corrected=Claim(
        latex=r"\text{Lemma 10's descent needs no bound on }\eta", margin=descent_margin, proof=descent_proof
    ),
    ours=True,
)


def _convergence_draw(draw: Draw) -> Instance:
    at = quadratic(draw, step=(0.05, 1.95), condition=5)
    return at | {"v": gradient(draw, at, 0.1, 10)}


def _convergence_margin(at: Instance, n: Numbers) -> Real:
    law, v = Law(at, n), vector(at, n)
    goal = law.beta[0] / 1000
    for t in range(LONGEST):
        if n.less(law.distance(v), goal):
            return 1 - n.of(t) / LONGEST
        before, v = v, law.step(v)
        if is_zero(v[0]):
            raise Untested
        # A step that raises J would refute descent, on which the proof rests.
        if t < 50:
            u, w = (law.point(state) for state in (before, v))
            rise = law.potential(w) - law.potential(u)
            if n.less(law.beta[0] / 10**9, rise):
                return -rise / law.beta[0]
    raise Untested


OURS_CONVERGENCE = Statement(
    key="ours-convergence",
    title="Convergence for ηλ₁ < 2",
    draw=_convergence_draw,
    hypotheses=lambda at, n: _below_two(at, n) | {"v_1 ≠ 0": abs(n.of(at["v"][0]))},
    corrected=Claim(
        latex=r"0<\eta\lambda_1<2\Rightarrow w_t\to\pm\tfrac{\eta\rho\lambda_1}{2-\eta\lambda_1}e_1\text{ from almost every }w_0",
        margin=_convergence_margin,
    ),
    scope=f"single starts, until within a thousandth of the cycle's width, in at most {LONGEST} steps; J must not rise in the "
    "first 50. `ravine certify` proves it for a given start",
    ours=True,
    cost=8,
)


def _drift_hypotheses(at: Instance, n: Numbers) -> dict[str, Real]:
    this = PolynomialLoss(at, n)
    return {
        "λ₁ > λ₂": this.sharpness - this.second,
        "η > 0": this.eta,
        "ρ > 0": this.rho,
        "ηλ₁ < 2": 2 - this.h,
        "Bηρ ≤ 1": 1 - this.lipschitz3 * this.eta * this.rho,
        "ρL < λ₁": this.sharpness - this.rho * this.lipschitz2,
    }


def _drift_margin(at: Instance, n: Numbers) -> Real:
    """Halving ρ from ρ/100: the remainder past the second-order term falls by nearly 8."""
    small = at | {"rho": digits(at["rho"] / 100)}
    half = at | {"rho": small["rho"] / 2}
    first, second = PolynomialLoss(small, n), PolynomialLoss(half, n)
    # Relative to the drift itself the remainder must be O(ρ); the printed law leaves a constant there.
    scale = first.eta * first.rho**2 * first.lipschitz2
    return (first.remainder / 4 - second.remainder) / scale


def _drift_proof() -> str:
    import sympy

    lam1, lam2, rho, room = sympy.symbols("lam1 lam2 rho room", positive=True)
    g, c, f, e, q = sympy.symbols("g c f e q", real=True)
    eta = (2 - room) / lam1  # room = 2 − ηλ₁ > 0
    a = eta * rho * lam1 / room

    def slope(x, y):
        return (
            lam1 * x + g * x**2 / 2 + c * x * y + f * y**2 / 2 + q * x**3 / 6,
            lam2 * y + c * x**2 / 2 + f * x * y + e * y**2 / 2,
        )

    # The direction (1, τ)/√(1+τ²), τ = g₂/g₁ = O(ρ): its expansion to first order in ρ is (1, τ₁ρ), and the second order
    # moves w_u by ρ³ only. h < 2 makes g₁ > 0 for small ρ.
    first, second = slope(a, sympy.Integer(0))
    tilt = sympy.limit(sympy.cancel(second / first) / rho, rho, 0)
    x, y = a + rho, rho * tilt * rho
    pairs = []
    for k, extra in ((0, 0), (1, eta**2 * lam2 / (2 * room))):
        moved = sympy.expand(-eta * slope(x, y)[k])
        claimed = -(2 * eta / room**2 + extra) * (g if k == 0 else c)
        pairs += [(moved.coeff(rho, 2), claimed), (moved.coeff(rho, 1), -2 * a / rho if k == 0 else 0)]
    return proofs.identities(*pairs) + ": the coefficients of ρ and ρ² on every such loss"


OURS_DRIFT = Statement(
    key="ours-drift",
    title="The drift's second-order term",
    draw=polynomial_loss,
    hypotheses=_drift_hypotheses,
    corrected=Claim(
        latex=r"w_{t+1}-w_t=-2s\varepsilon-\tfrac{2\eta\rho^2}{(2-\eta\lambda_1)^2}\nabla\lambda_1-\tfrac{\eta^2\rho^2}{2(2-\eta\lambda_1)}HP\nabla\lambda_1+O(\rho^3)",
        margin=_drift_margin,
        proof=_drift_proof,
    ),
    scope="on two-dimensional polynomial losses: the coefficient of ρ² by SymPy; on instances, that halving ρ divides the "
    "rest by more than 4. With an explicit remainder: theorem-21.1 as corrected",
    ours=True,
)


def _threshold_draw(draw: Draw) -> Instance:
    eta = draw.uniform("eta", 0.02, 0.9)
    return {"eta": eta, "rho": float(draw.given.get("rho", digits((1 - eta) * draw.log("", 0.05, 3))))}


def _threshold_hypotheses(at: Instance, n: Numbers) -> dict[str, Real]:
    eta, rho = n.of(at["eta"]), n.of(at["rho"])
    half = eta * rho / (1 - eta)
    return {
        "η > 0": eta,
        "η < 1": 1 - eta,
        "ρ > 0": rho,
        "ρ ≠ 1 − η": abs(1 - eta - rho),
        "(ηρ/(1−η))² < (1+η)/(1−η)": (1 + eta) / (1 - eta) - half * half,
    }


def _threshold_margin(at: Instance, n: Numbers) -> Real:
    """The multiplier of w₂ per step at the axis's cycle, by its formula and by a step from w₂ = 10⁻⁸; and its side of 1."""
    eta, rho = n.of(at["eta"]), n.of(at["rho"])
    half, near = eta * rho / (1 - eta), n.of(1) / 10**8
    climb = 1 + (1 - eta) * (1 - half * half) / (2 * eta)
    multiplier = 1 + eta * climb * ((rho / (1 - eta)) ** 2 - 1)
    moved = sam((half, near), eta, rho, n)[1] / near
    agreed = 1 - 10**6 * abs(moved - multiplier) / multiplier
    return smallest(n, [agreed, multiplier, (multiplier - 1) * (rho - (1 - eta))])


def _threshold_proof() -> str:
    import sympy

    eta, rho, y = sympy.symbols("eta rho y", positive=True)

    def slope(w, z):
        a = 1 + z**2 / 2
        return 2 * w / a, z * (1 - (w / a) ** 2)

    half = eta * rho / (1 - eta)
    # To first order in y: g = (2·half, y(1−half²)), ‖g‖ = 2·half, and the ascended point is (half + ρ, y + ρg₂/‖g‖).
    first, second = slope(half, y)
    size = sympy.limit(first, y, 0)
    up = (half + rho, y + rho * sympy.diff(second, y).subs(y, 0) * y / size)
    across = sympy.diff(y - eta * slope(*up)[1], y).subs(y, 0)
    along = half - eta * slope(*up)[0].subs(y, 0)
    climb = 1 + (1 - eta) * (1 - half**2) / (2 * eta)
    text = proofs.identities(
        (along, -half),
        (across, 1 + eta * climb * ((rho / (1 - eta)) ** 2 - 1)),
        ((1 + eta) / 2 - eta * climb, (1 - eta) * half**2 / 2),
    )
    return text + ": above 1 iff ρ > 1 − η where climb > 0; and above 0 below the threshold, as η·climb ≤ (1+η)/2 < 1"


OURS_THRESHOLD = Statement(
    key="ours-threshold",
    title="Section 6's threshold",
    draw=_threshold_draw,
    hypotheses=_threshold_hypotheses,
    corrected=Claim(
        latex=r"\text{the 2-cycle }(\pm\tfrac{\eta\rho}{1-\eta},0)\text{ attracts along }w_2\iff\rho<1-\eta",
        margin=_threshold_margin,
        proof=_threshold_proof,
    ),
    scope="the multiplier of w₂ on Section 6's loss, by its formula and by a step from w₂ = 10⁻⁸",
    ours=True,
)


STATEMENTS = (OURS_RATE, OURS_RATE_MEASURED, OURS_DESCENT, OURS_CONVERGENCE, OURS_DRIFT, OURS_THRESHOLD)
