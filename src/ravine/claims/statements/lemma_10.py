# ruff: noqa: E501 (a formula in LaTeX stands on one line)
"""Lemma 10: SAM is gradient descent on J, and J falls (Section 4.3)."""

from __future__ import annotations

from ravine.claims import proofs
from ravine.claims.hypotheses import defined
from ravine.claims.law import Law, vector
from ravine.claims.numbers import Numbers, Real
from ravine.claims.samplers import Instance, run_with_ties
from ravine.claims.statement import Claim, Statement


def _gradient_step_margin(at: Instance, n: Numbers) -> Real:
    law, v = Law(at, n), vector(at, n)
    u = law.point(v)
    moved = [x - law.eta * law.rho * g for x, g in zip(u, law.slope(u), strict=True)]
    stepped = [-x for x in law.point(law.step(v))]
    return -law.norm([x - y for x, y in zip(moved, stepped, strict=True)]) / law.norm(u)


def _gradient_step_proof() -> str:
    import sympy

    lam, u, eta, rho, size = sympy.symbols("lam u eta rho N", positive=True)
    slope = (2 - eta * lam) / (eta * rho) * u - lam**2 * u / size
    w = -((1 - eta * lam) * u - eta * rho * lam**2 * u / size)
    return proofs.identities((u - eta * rho * slope, w))


LEMMA_10_1 = Statement(
    key="lemma-10.1",
    title="Lemma 10, gradient descent",
    draw=run_with_ties,
    hypotheses=defined,
    printed=Claim(latex=r"u_{t+1}=u_t-\eta\rho\nabla J(u_t)", margin=_gradient_step_margin, proof=_gradient_step_proof),
)


def descent_margin(at: Instance, n: Numbers) -> Real:
    """What J falls by in a step from v beyond what the lemma says, per unit of |J| + β₁."""
    law, v = Law(at, n), vector(at, n)
    size = law.norm(v)
    u = law.point(v)
    moved = [-x for x in law.point(law.step(v))]
    drop = sum(
        (
            y * y * (1 - beta / size) ** 2 * (2 - law.eta * x) ** 2 * x
            for y, beta, x in zip(u, law.beta, law.eigenvalues, strict=True)
        ),
        n.of(0),
    ) / (2 * law.rho)
    return (law.potential(u) - drop - law.potential(moved)) / (abs(law.potential(u)) + abs(law.beta[0]))


def descent_proof() -> str:
    """Coordinate by coordinate, with the norm replaced by its tangent: no bound on η is used."""
    import sympy

    # One coordinate of J(u') − J(u) + drop, with ‖Λu'‖ − ‖Λu‖ replaced by its tangent Λ²u·(u' − u)/N.
    lam, u, eta, rho, size = sympy.symbols("lam u eta rho N", positive=True)
    c = (2 - eta * lam) / (eta * rho)
    beta = eta * rho * lam**2 / (2 - eta * lam)
    moved = u - eta * rho * (c * u - lam**2 * u / size)
    change = c * (moved**2 - u**2) / 2 - lam**2 * u * (moved - u) / size
    drop = u**2 * (1 - beta / size) ** 2 * (2 - eta * lam) ** 2 * lam / (2 * rho)
    return proofs.identities((change, -drop)) + "; the tangent lies below ‖Λu'‖ by Cauchy and Schwarz"


LEMMA_10_2 = Statement(
    key="lemma-10.2",
    title="Lemma 10, descent",
    draw=run_with_ties,
    hypotheses=defined,
    printed=Claim(
        latex=r"J(u_{t+1})-J(u_t)\le-\frac1{2\rho}\sum_iu_{t,i}^2(1-\tfrac{\beta_i}{\|\Lambda u_t\|})^2(2-\eta\lambda_i)^2\lambda_i",
        margin=descent_margin,
        proof=descent_proof,
    ),
)


STATEMENTS = (LEMMA_10_1, LEMMA_10_2)
