"""Equations (1), (2) and (3): what SAM minimizes, its step, and the step on a quadratic (Sections 1, 3 and 4)."""

from __future__ import annotations

from ravine.claims import proofs
from ravine.claims.hypotheses import defined
from ravine.claims.law import Law, vector
from ravine.claims.numbers import Numbers, Real
from ravine.claims.samplers import Instance, run, run_with_ties
from ravine.claims.statement import Claim, Statement


def _minimax_margin(at: Instance, n: Numbers) -> Real:
    law = Law(at, n)
    w = law.point(vector(at, n))
    # max over ‖ε‖ ≤ ρ of ℓ(w + ε) is at least its value at ε = ±ρe₁, and at w = 0 it is λ₁ρ²/2.
    reached = sum(
        (y * x * x for x, y in zip(w[1:], law.eigenvalues[1:], strict=True)), law.sharpness * (abs(w[0]) + law.rho) ** 2
    )
    return reached / (law.sharpness * law.rho**2) - 1


def _minimax_proof() -> str:
    import sympy

    lam, w, rho = sympy.symbols("lam w rho", positive=True)
    return (
        proofs.identities((lam * (w + rho) ** 2 - lam * rho**2, lam * w**2 + 2 * lam * w * rho))
        + ", a sum of terms ≥ 0"
    )


EQUATION_1 = Statement(
    key="eq-1",
    title="(1)",
    draw=run_with_ties,
    hypotheses=defined,
    printed=Claim(
        latex=r"\arg\min_w\max_{\|\epsilon\|\le\rho}\ell(w+\epsilon)=0\ \text{for the quadratic}",
        margin=_minimax_margin,
        proof=_minimax_proof,
    ),
    scope="(1) is a definition; checked is Section 1's remark on it, that its solution is the quadratic's minimum",
)


def _step_margin(at: Instance, n: Numbers) -> Real:
    """`methods.SAM` against equation (2) written out, on the quadratic."""
    import numpy as np

    from ravine.methods import SAM

    eigenvalues, v = np.array(at["eigenvalues"]), np.array(at["v"])
    w, eta, rho = v / eigenvalues, at["eta"], at["rho"]
    found, _ = SAM(eta=eta, rho=rho).step(lambda p: eigenvalues * p, w, v, np.zeros_like(w))
    law = Law(at, n)
    exact = law.point(law.step(vector(at, n)))
    scale = law.norm(exact) + law.rho + law.norm([n.of(float(x)) for x in w])
    gap = law.norm([n.of(float(f)) - e for f, e in zip(found, exact, strict=True)])
    return n.of(1) / 10**12 - gap / scale


EQUATION_2 = Statement(
    key="eq-2",
    title="(2)",
    draw=run,
    hypotheses=defined,
    printed=Claim(
        latex=r"w_{t+1}=w_t-\eta\nabla\ell(w_t+\rho\nabla\ell(w_t)/\|\nabla\ell(w_t)\|)", margin=_step_margin
    ),
    scope="(2) is a definition, empty at ∇ℓ = 0; checked is that ravine.SAM takes this step on quadratics, to "
    "within 1e-12 of the largest term",
)


def _recurrence_margin(at: Instance, n: Numbers) -> Real:
    law, v = Law(at, n), vector(at, n)
    w = law.point(v)
    size = law.norm(v)
    climbed = [x + law.rho * y / size for x, y in zip(w, v, strict=True)]
    moved = [x - law.eta * y * z for x, y, z in zip(w, law.eigenvalues, climbed, strict=True)]
    closed = [(1 - law.eta * y - law.eta * law.rho * y * y / size) * x for x, y in zip(w, law.eigenvalues, strict=True)]
    return -law.norm([x - y for x, y in zip(moved, closed, strict=True)]) / law.norm(w)


def _recurrence_proof() -> str:
    import sympy

    lam, w, eta, rho, size = sympy.symbols("lam w eta rho N", positive=True)
    moved = w - eta * lam * (w + rho * lam * w / size)
    gamma = eta * rho * lam**2 / (1 - eta * lam)
    return proofs.identities(
        (moved, (1 - eta * lam - eta * rho / size * lam**2) * w),
        (lam * moved, (1 - eta * lam) * (size - gamma) * lam * w / size),
    )


EQUATION_3 = Statement(
    key="eq-3",
    title="(3)",
    draw=run_with_ties,
    hypotheses=defined,
    printed=Claim(
        latex=r"w_{t+1}=(I-\eta\Lambda-\tfrac{\eta\rho}{\|\Lambda w_t\|}\Lambda^2)w_t",
        margin=_recurrence_margin,
        proof=_recurrence_proof,
    ),
    scope="with the recurrence for v_t = Λw_t of Section 4, coordinate by coordinate",
)


STATEMENTS = (EQUATION_1, EQUATION_2, EQUATION_3)
