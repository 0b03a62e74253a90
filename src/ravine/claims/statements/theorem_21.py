# ruff: noqa: E501 (a formula in LaTeX stands on one line)
"""Theorem 21 and equations (15), (16), (17) and (18): at the bounce SAM drifts down ∇λ₁ (Section 5).

All are tried on polynomial losses with every derivative known,
ℓ = ½λ₁x² + ½λ₂y² + gx³/6 + cx²y/2 + fxy²/2 + ey³/6 + qx⁴/24: at w_z = 0 the Hessian is diag(λ₁, λ₂),
∇λ₁ = D³ℓ(e₁, e₁, ·) = (g, c), ‖D³ℓ(0)‖ ≤ L = √(g²+3c²+3f²+e²), and D³ℓ is |q|-Lipschitz.
"""

from __future__ import annotations

from ravine.claims import proofs
from ravine.claims.numbers import Numbers, Real, norm
from ravine.claims.samplers import Draw, Instance, digits
from ravine.claims.statement import Claim, Statement

Vector = tuple[Real, Real]
_LOSSES = "on two-dimensional polynomial losses with cubic terms and a quartic one"
_CURVED: Instance = {
    "lam1": 1.0, "lam2": 0.5, "eta": 0.2, "rho": 0.1, "c": 1.0, "g": 0.0, "f": 0.0, "e": 0.0, "q": 0.0, "side": 0,
}  # fmt: skip


class PolynomialLoss:
    """The loss of an instance, and SAM's step from w_t = s(β₁/λ₁)e₁ on it (arXiv:2210.01513, Section 5).

    Attributes
    ----------
    sharpness, second, eta, rho, h, g, c, f, e, q
        λ₁, λ₂, η, ρ, ηλ₁, and the coefficients of the loss.
    s, amplitude, start
        Its side, β₁/λ₁, and w_t.
    lipschitz2, lipschitz3
        L and B: Lipschitz constants of D²ℓ at 0, and of D³ℓ.
    reach
        β₁/λ₁ + ρ, how far the climb ends from 0.

    Examples
    --------
    >>> from ravine.claims.numbers import Floats
    >>> loss = PolynomialLoss(_CURVED, Floats())
    >>> loss.printed_bound < loss.printed_remainder, loss.remainder <= loss.corrected_bound
    (True, True)
    """

    def __init__(self, at: Instance, n: Numbers) -> None:
        self.n = n
        self.sharpness, self.second, self.eta, self.rho = (n.of(at[k]) for k in ("lam1", "lam2", "eta", "rho"))
        self.g, self.c, self.f, self.e, self.q = (n.of(at[k]) for k in "gcfeq")
        self.s = -1 if at["side"] else 1
        self.h = self.eta * self.sharpness
        self.amplitude = self.eta * self.rho * self.sharpness / (2 - self.h)
        self.lipschitz2 = n.sqrt(self.g**2 + 3 * self.c**2 + 3 * self.f**2 + self.e**2)
        self.lipschitz3 = abs(self.q)
        self.reach = self.amplitude + self.rho
        self.start = (self.s * self.amplitude, n.of(0))

    def __repr__(self) -> str:
        return f"PolynomialLoss(λ = {self.sharpness}, {self.second}; η = {self.eta}; ρ = {self.rho})"

    def gradient(self, w: Vector) -> Vector:
        """∇ℓ(w)."""
        x, y = w
        return (
            self.sharpness * x + self.g * x * x / 2 + self.c * x * y + self.f * y * y / 2 + self.q * x**3 / 6,
            self.second * y + self.c * x * x / 2 + self.f * x * y + self.e * y * y / 2,
        )

    def curvature(self, w: Vector) -> Real:
        """‖∇²ℓ(w)‖."""
        x, y = w
        xx = self.sharpness + self.g * x + self.c * y + self.q * x * x / 2
        yy, xy = self.second + self.f * x + self.e * y, self.c * x + self.f * y
        middle, spread = (xx + yy) / 2, self.n.sqrt(((xx - yy) / 2) ** 2 + xy * xy)
        return abs(middle) + spread

    @property
    def climbed(self) -> Vector:
        """w_u = w_t + ρ∇ℓ/‖∇ℓ‖."""
        g = self.gradient(self.start)
        size = norm(self.n, g)
        return self.start[0] + self.rho * g[0] / size, self.rho * g[1] / size

    @property
    def straight(self) -> Vector:
        """w̃_u = s(β₁/λ₁ + ρ)e₁."""
        return self.s * self.reach, self.n.of(0)

    @property
    def printed_remainder(self) -> Real:
        """‖w_{t+1} − w_t − (the printed explicit terms)‖."""
        return self._remainder(self._drift * self.c)

    @property
    def remainder(self) -> Real:
        """‖w_{t+1} − w_t − (the corrected explicit terms)‖: with the term along HP∇λ₁, of second order in ρ too."""
        extra = self.eta**2 * self.rho**2 * self.second / (2 * (2 - self.h))
        return self._remainder((self._drift + extra) * self.c)

    @property
    def _drift(self) -> Real:
        """2ηρ²/(2−ηλ₁)², the coefficient of −∇λ₁."""
        return 2 * self.eta * self.rho**2 / (2 - self.h) ** 2

    def _remainder(self, drift_across: Real) -> Real:
        g = self.gradient(self.climbed)
        along = -self.eta * g[0] + 2 * self.start[0] + self._drift * self.g
        across = -self.eta * g[1] + drift_across
        return norm(self.n, [along, across])

    @property
    def printed_bound(self) -> Real:
        """ηρ²((1+ηλ₁)³ρ/6 + 2(2λ₁+Bρ)η)B."""
        b = self.lipschitz3
        return (
            self.eta
            * self.rho**2
            * ((1 + self.h) ** 3 * self.rho / 6 + 2 * (2 * self.sharpness + b * self.rho) * self.eta)
            * b
        )

    @property
    def tilt(self) -> Real:
        """ζ = (β₁L/(2λ₁) + Bβ₁²/(6λ₁²))/λ₁: ‖∇ℓ(w_t) − sβ₁e₁‖ ≤ ζβ₁."""
        a = self.amplitude
        return (a * self.lipschitz2 / 2 + self.lipschitz3 * a * a / 6) / self.sharpness

    @property
    def corrected_bound(self) -> Real:
        """Of third order in ρ: η[ρλ₁(3ζ² + Ba²/(6λ₁)) + 2ζLρ(a+ρ) + 2ζ²Lρ² + B(a+(1+2ζ)ρ)³/6], a = β₁/λ₁."""
        a, z, rho = self.amplitude, self.tilt, self.rho
        second, third = self.lipschitz2, self.lipschitz3
        return self.eta * (
            rho * self.sharpness * (3 * z * z + third * a * a / (6 * self.sharpness))
            + 2 * z * second * rho * self.reach
            + 2 * z * z * second * rho * rho
            + third * (a + (1 + 2 * z) * rho) ** 3 / 6
        )


def polynomial_loss(draw: Draw) -> Instance:
    """A loss with λ₁ > λ₂ ≥ 0, cubic terms of size up to λ₁, at times a quartic one."""
    sharpness = draw.log("lam1", 0.1, 10)
    second = draw.pick([0.0, digits(sharpness * draw.uniform("", 0.01, 0.95))])
    h = draw.uniform("", 0.02, 0.95)
    rho = draw.log("rho", 1e-3, 0.3)
    cubic = {k: digits(sharpness * draw.signed(1e-2)) if draw.unit() < 0.7 else 0.0 for k in "gfe"}
    return {
        "lam1": sharpness,
        "lam2": second,
        "eta": float(draw.given.get("eta", digits(h / sharpness))),
        "rho": rho,
        "c": digits(sharpness * draw.signed(1e-2)),
        **cubic,
        "q": draw.pick([0.0, digits(sharpness * draw.signed(1e-2))]),
        "side": draw.integer("side", 0, 1),
    }


def _hypotheses(at: Instance, n: Numbers) -> dict[str, Real]:
    this = PolynomialLoss(at, n)
    return {
        "λ₁ > λ₂": this.sharpness - this.second,
        "λ₂ ≥ 0": this.second + n.of(1e-300),
        "η > 0": this.eta,
        "ρ > 0": this.rho,
        "ηλ₁ < 1": 1 - this.h,
        "Bηρ ≤ 1": 1 - this.lipschitz3 * this.eta * this.rho,
        "Bβ₁ < 2λ₁²": 2 * this.sharpness - this.lipschitz3 * this.amplitude,
        "∇ℓ(w_t) ≠ 0": norm(n, this.gradient(this.start)),
    }


def _printed_margin(at: Instance, n: Numbers) -> Real:
    this = PolynomialLoss(at, n)
    bound = this.printed_bound
    return (bound - this.printed_remainder) / (this.eta * this.rho**2 * this.lipschitz2 + bound)


def _margin(at: Instance, n: Numbers) -> Real:
    this = PolynomialLoss(at, n)
    bound = this.corrected_bound
    return (bound - this.remainder) / (this.eta * this.rho**2 * this.lipschitz2 + bound)


def _tilted(at: Instance, n: Numbers) -> dict[str, Real]:
    return {"ζ < 1/2": n.of(1) / 2 - PolynomialLoss(at, n).tilt}


THEOREM_21_1 = Statement(
    key="theorem-21.1",
    title="Theorem 21",
    draw=polynomial_loss,
    hypotheses=_hypotheses,
    printed=Claim(
        latex=r"w_{t+1}-w_t=-2\tfrac{\eta\rho\lambda_1s_t}{2-\eta\lambda_1}e_1-\tfrac{\eta\rho^2}2\Big(1+\tfrac{\eta\lambda_1}{2-\eta\lambda_1}\Big)^2\nabla\lambda_{\max}+\eta\rho^2\Big(\tfrac{(1+\eta\lambda_1)^3}6\rho+2(2\lambda_1+B\rho)\eta\Big)B\zeta",
        margin=_printed_margin,
        seeds=(_CURVED,),
    ),
    corrected=Claim(
        latex=r"\ldots-\tfrac{2\eta\rho^2}{(2-\eta\lambda_1)^2}\nabla\lambda_1-\tfrac{\eta^2\rho^2}{2(2-\eta\lambda_1)}HP\nabla\lambda_1+K\zeta,\ K=\eta\big[\rho\lambda_1(3z^2+\tfrac{Ba^2}{6\lambda_1})+2zL\rho(a+\rho)+2z^2L\rho^2+\tfrac B6(a+(1+2z)\rho)^3\big]=O(\rho^3),\ a=\tfrac{\beta_1}{\lambda_1},\ z=\tfrac{aL}{2\lambda_1}+\tfrac{Ba^2}{6\lambda_1}\le\tfrac12",
        margin=_margin,
        also=_tilted,
    ),
    scope=_LOSSES + "; L = ‖D³ℓ(w_z)‖",
    repair="the proof takes D²ℓ for B-Lipschitz where D³ℓ is: with B = 0 the printed remainder is 0 and the true one is "
    "not. The gradient's turn at w_t adds a term of the same order ρ², along HP∇λ₁",
)


def _coefficient_margin(at: Instance, n: Numbers) -> Real:
    this = PolynomialLoss(at, n)
    printed = this.eta * this.rho**2 / 2 * (1 + this.h / (2 - this.h)) ** 2
    return -abs(printed * (2 - this.h) ** 2 / (2 * this.eta * this.rho**2) - 1)


def _coefficient_proof() -> str:
    import sympy

    eta, rho, lam = sympy.symbols("eta rho lam", positive=True)
    h = eta * lam
    psi = 2 * lam / (2 - h)
    a = eta * rho * lam / (2 - h)
    return proofs.identities(
        (eta * rho**2 / 2 * (1 + h / (2 - h)) ** 2, 2 * eta * rho**2 / (2 - h) ** 2),
        (2 * eta * rho**2 / (2 - h) ** 2, eta * rho**2 / 2 * sympy.diff(psi, lam)),
        (eta * (a + rho) ** 2 / 2, 2 * eta * rho**2 / (2 - h) ** 2),
    )


THEOREM_21_2 = Statement(
    key="theorem-21.2",
    title="Theorem 21, the coefficient",
    draw=polynomial_loss,
    hypotheses=_hypotheses,
    printed=Claim(
        latex=r"\tfrac{\eta\rho^2}2\Big(1+\tfrac{\eta\lambda_1}{2-\eta\lambda_1}\Big)^2=\tfrac{2\eta\rho^2}{(2-\eta\lambda_1)^2}",
        margin=_coefficient_margin,
        proof=_coefficient_proof,
    ),
)


def _split_margin(at: Instance, n: Numbers) -> Real:
    this = PolynomialLoss(at, n)
    near, true = this.gradient(this.straight), this.gradient(this.climbed)
    gap = [-this.eta * t - (-this.eta * a + this.eta * (a - t)) for a, t in zip(near, true, strict=True)]
    return -norm(n, gap) / this.reach


def _split_proof() -> str:
    import sympy

    a, t, eta = sympy.symbols("a t eta")
    return proofs.identities((-eta * t, -eta * a + eta * (a - t)))


EQUATION_15 = Statement(
    key="eq-15",
    title="(15)",
    draw=polynomial_loss,
    hypotheses=_hypotheses,
    printed=Claim(
        latex=r"w_{t+1}-w_t=-\eta\nabla\ell(\tilde w_u)+\eta(\nabla\ell(\tilde w_u)-\nabla\ell(w_u))",
        margin=_split_margin,
        proof=_split_proof,
    ),
)


def _straight_margin(at: Instance, n: Numbers) -> Real:
    this = PolynomialLoss(at, n)
    g = this.gradient(this.straight)
    half = this.eta * this.reach**2 / 2
    along = this.eta * g[0] - 2 * this.s * this.amplitude - half * this.g
    across = this.eta * g[1] - half * this.c
    return (this.eta * this.reach**3 * this.lipschitz3 / 6 - norm(n, [along, across])) / this.reach


EQUATION_16 = Statement(
    key="eq-16",
    title="(16)",
    draw=polynomial_loss,
    hypotheses=_hypotheses,
    printed=Claim(
        latex=r"\eta\nabla\ell(\tilde w_u)=\tfrac{2\beta_1s_t}{\lambda_1}e_1+\tfrac{\eta(\beta_1/\lambda_1+\rho)^2}2\nabla\lambda_{\max}+\tfrac{\eta(\beta_1/\lambda_1+\rho)^3B}6\zeta",
        margin=_straight_margin,
    ),
    scope=_LOSSES + ", for which it is an equality with |ζ| = 1 or B = 0",
)


def _printed_curvature_margin(at: Instance, n: Numbers) -> Real:
    this = PolynomialLoss(at, n)
    bound = this.sharpness + this.lipschitz3 * this.reach
    return (bound - _largest_curvature(this)) / bound


def _curvature_margin(at: Instance, n: Numbers) -> Real:
    this = PolynomialLoss(at, n)
    bound = this.sharpness + this.lipschitz2 * this.reach + this.lipschitz3 * this.reach**2 / 2
    return (bound - _largest_curvature(this)) / bound


def _largest_curvature(this: PolynomialLoss) -> Real:
    """Among five points of the path from w̃_u to w_u."""
    n, worst = this.n, this.n.of(0)
    for k in range(5):
        x, y = (a + (b - a) * k / 4 for a, b in zip(this.straight, this.climbed, strict=True))
        worst = n.largest([worst, this.curvature((x, y))])
    return worst


EQUATION_17 = Statement(
    key="eq-17",
    title="(17)",
    draw=polynomial_loss,
    hypotheses=_hypotheses,
    printed=Claim(
        latex=r"\|\nabla^2\ell(w)\|\le\lambda_1+B(\beta_1/\lambda_1+\rho)",
        margin=_printed_curvature_margin,
        seeds=(_CURVED,),
    ),
    corrected=Claim(
        latex=r"\|\nabla^2\ell(w)\|\le\lambda_1+L(\beta_1/\lambda_1+\rho)+\tfrac B2(\beta_1/\lambda_1+\rho)^2",
        margin=_curvature_margin,
    ),
    scope=_LOSSES + ", at five points of the path from w_u to w̃_u",
    repair="B bounds the change of D³ℓ, not of D²ℓ",
)


def _turn_margin(at: Instance, n: Numbers) -> Real:
    this = PolynomialLoss(at, n)
    g = this.gradient(this.start)
    size = norm(n, g)
    left = norm(n, [a - b for a, b in zip(this.climbed, this.straight, strict=True)])
    right = this.rho * norm(n, [this.s - g[0] / size, g[1] / size])
    return -abs(left - right) / this.rho


def _turn_proof() -> str:
    import sympy

    w, rho, s, x = sympy.symbols("w rho s x")
    return proofs.identities(((w + rho * x) - (w + s * rho), rho * (x - s))) + ", coordinate by coordinate"


EQUATION_18 = Statement(
    key="eq-18",
    title="(18)",
    draw=polynomial_loss,
    hypotheses=_hypotheses,
    printed=Claim(
        latex=r"\|w_u-\tilde w_u\|=\rho\|s_te_1-\nabla\ell(w_t)/\|\nabla\ell(w_t)\|\|",
        margin=_turn_margin,
        proof=_turn_proof,
    ),
)


STATEMENTS = (THEOREM_21_1, THEOREM_21_2, EQUATION_15, EQUATION_16, EQUATION_17, EQUATION_18)
