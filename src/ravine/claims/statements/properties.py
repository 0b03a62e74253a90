# ruff: noqa: E501 (a formula in LaTeX stands on one line)
"""Sections 3 and 4.1: SAM's step on a quadratic, and Lemmas 4 and 5."""

from __future__ import annotations

from ravine.claims import proofs
from ravine.claims.law import Law, convex, standing
from ravine.claims.ledger import Claim, Statement
from ravine.claims.numbers import Numbers, Real, smallest
from ravine.claims.samplers import Draw, Instance, gradient, quadratic


def run(draw: Draw) -> Instance:
    """A quadratic with λ₁ > λ₂ and v, ‖v‖ from b/100 to 100b."""
    at = quadratic(draw)
    return at | {"v": gradient(draw, at, 0.01, 100)}


def run_ties(draw: Draw) -> Instance:
    """The same with ties and zero coordinates."""
    at = quadratic(draw, ties=True)
    return at | {"v": gradient(draw, at, 0.01, 100, zeros=True)}


def _defined(at: Instance, n: Numbers) -> dict[str, Real]:
    return convex(at, n) | {"v ≠ 0": sum((n.of(x) ** 2 for x in at["v"]), n.of(0))}


def vector(at: Instance, n: Numbers, name: str = "v") -> list[Real]:
    """A tuple of the instance as numbers."""
    return [n.of(x) for x in at[name]]


def _eq1(at: Instance, n: Numbers) -> Real:
    law = Law(at, n)
    w = [x / y for x, y in zip(vector(at, n), law.lam, strict=True)]
    # max over ‖ε‖ ≤ ρ of ℓ(w + ε) is at least its value at ε = ±ρe₁, and at w = 0 it is λ₁ρ²/2.
    reached = sum((y * x * x for x, y in zip(w[1:], law.lam[1:], strict=True)), law.top * (abs(w[0]) + law.rho) ** 2)
    return reached / (law.top * law.rho**2) - 1


def _eq1_proof() -> str:
    import sympy

    lam, w, rho = sympy.symbols("lam w rho", positive=True)
    return (
        proofs.identities((lam * (w + rho) ** 2 - lam * rho**2, lam * w**2 + 2 * lam * w * rho))
        + ", a sum of terms ≥ 0"
    )


def _eq2(at: Instance, n: Numbers) -> Real:
    """`methods.SAM` against equation (2) written out, on the quadratic."""
    import numpy as np

    from ravine.methods import SAM

    lam, v = np.array(at["lam"]), np.array(at["v"])
    w, eta, rho = v / lam, at["eta"], at["rho"]
    found, _ = SAM(eta=eta, rho=rho).step(lambda p: lam * p, w, v, np.zeros_like(w))
    law = Law(at, n)
    exact = [x / y for x, y in zip(law.step(vector(at, n)), law.lam, strict=True)]
    scale = law.norm(exact) + law.rho + law.norm([n.of(float(x)) for x in w])
    gap = law.norm([n.of(float(f)) - e for f, e in zip(found, exact, strict=True)])
    return n.of(1) / 10**12 - gap / scale


def _eq3(at: Instance, n: Numbers) -> Real:
    law, v = Law(at, n), vector(at, n)
    w = [x / y for x, y in zip(v, law.lam, strict=True)]
    size = law.norm(v)
    climbed = [x + law.rho * y / size for x, y in zip(w, v, strict=True)]
    moved = [x - law.eta * y * z for x, y, z in zip(w, law.lam, climbed, strict=True)]
    closed = [(1 - law.eta * y - law.eta * law.rho * y * y / size) * x for x, y in zip(w, law.lam, strict=True)]
    return -law.norm([x - y for x, y in zip(moved, closed, strict=True)]) / law.norm(w)


def _eq3_proof() -> str:
    import sympy

    lam, w, eta, rho, size = sympy.symbols("lam w eta rho N", positive=True)
    moved = w - eta * lam * (w + rho * lam * w / size)
    gamma = eta * rho * lam**2 / (1 - eta * lam)
    return proofs.identities(
        (moved, (1 - eta * lam - eta * rho / size * lam**2) * w),
        (lam * moved, (1 - eta * lam) * (size - gamma) * lam * w / size),
    )


def _lemma4_draw(draw: Draw) -> Instance:
    b = draw.log("b", 0.01, 100)
    a = draw.pick([0.0, b * draw.uniform("", 0.001, 0.999)])
    alpha = draw.log("alpha", 0.01, 100)
    share = draw.pick([0.0, 0.1, 0.5, 0.9, 0.99])
    return {"a": a, "b": b, "alpha": alpha, "beta": share * a * alpha / b, "x": draw.log("x", 0.001, 1000) * alpha}


def _lemma4_hypotheses(at: Instance, n: Numbers) -> dict[str, Real]:
    a, b, alpha, beta = (n.of(at[name]) for name in ("a", "b", "alpha", "beta"))
    tiny = n.of(1e-300)  # ≥ read as > −10⁻³⁰⁰, so that equality stays admissible
    return {
        "x > 0": n.of(at["x"]),
        "a ≥ 0": a + tiny,
        "a < b": b - a,
        "α > β": alpha - beta,
        "β ≥ 0": beta + tiny,
        "aα ≥ bβ": a * alpha - b * beta + tiny,
    }


def _lemma4(at: Instance, n: Numbers) -> Real:
    a, b, alpha, beta, x = (n.of(at[name]) for name in ("a", "b", "alpha", "beta", "x"))
    left = a * a * (x - alpha) ** 2 - b * b * (x - beta) ** 2
    right = (a * alpha + b * beta) / (a + b) - x
    return left * right / ((b * b * (x * x + alpha**2)) * (x + alpha))


def _lemma4_proof() -> str:
    import sympy

    a, b, alpha, beta, x = sympy.symbols("a b alpha beta x", positive=True)
    gap = a**2 * (x - alpha) ** 2 - b**2 * (x - beta) ** 2
    factors = ((b - a) * x + (a * alpha - b * beta)) * (a + b) * ((a * alpha + b * beta) / (a + b) - x)
    return proofs.identities((gap, factors)) + "; the first factor is positive for x > 0"


def _fixed_draw(draw: Draw) -> Instance:
    at = quadratic(draw, ties=True)
    which = draw.integer("which", 0, len(at["lam"]) - 1)
    return at | {"which": which, "share": draw.uniform("share", 0, 1)}


def _fixed(at: Instance, n: Numbers) -> Real:
    """A member of the right-hand set of Lemma 5.1 as s: the step from v = √s must exist and keep every vᵢ²."""
    law = Law(at, n)
    if at.get("zero", 0):
        return n.of(-1)  # s = 0 is v = 0, where (2) divides by ‖∇ℓ‖ = 0
    return _kept(at, law, n)


def _kept(at: Instance, law: Law, n: Numbers) -> Real:
    which = min(at["which"], law.size - 1)
    same = [k for k in range(law.size) if at["lam"][k] == at["lam"][which]]
    share, beta = n.of(at["share"]), law.beta[which]
    parts = {same[0]: share, same[-1]: 1 - share} if len(same) > 1 else {which: n.of(1)}
    v = [beta * n.sqrt(parts[k]) if k in parts else n.of(0) for k in range(law.size)]
    moved = law.step(v)
    return -n.largest([abs(x * x - y * y) for x, y in zip(moved, v, strict=True)]) / beta**2


def _step_factor() -> tuple:
    import sympy

    lam, eta, rho, size = sympy.symbols("lam eta rho N", positive=True)
    factor = (1 - eta * lam) * size - eta * rho * lam**2  # v_{t+1,i} = factor·v_{t,i}/N
    beta = eta * rho * lam**2 / (2 - eta * lam)
    return lam, eta, rho, size, factor, beta


def _lemma5_proof() -> str:
    lam, eta, rho, size, factor, beta = _step_factor()
    falls = eta * lam * (size + rho * lam) * (2 - eta * lam) * (size - beta)
    return proofs.identities((size**2 - factor**2, falls)) + ": the sign of v²_t − v²_{t+1} is that of ‖v‖ − β"


def _shrinks(at: Instance, n: Numbers) -> Real:
    """For each i: v_{t+1,i}² < v_{t,i}² iff ‖v‖ > βᵢ; −1 where exactly one of the two holds."""
    law, v = Law(at, n), vector(at, n)
    size, worst = law.norm(v), n.of(1)
    for x, y, beta in zip(v, law.step(v), law.beta, strict=True):
        margin = n.of(-1) if _is_zero(x) and n.less(beta, size) else _agree(x * x - y * y, size - beta, x * x, size)
        worst = smallest(n, [worst, margin])
    return worst


def _is_zero(x: Real) -> bool:
    return bool(x == 0)


def _agree(left: Real, right: Real, left_scale: Real, right_scale: Real) -> Real:
    """≥ 0 iff the two have the same sign."""
    if _is_zero(left_scale):
        return left_scale
    return (left / left_scale) * (right / right_scale)


def _nonzero(at: Instance, n: Numbers) -> dict[str, Real]:
    return {"every v_i ≠ 0": smallest(n, [abs(x) for x in vector(at, n)])}


def _relative(at: Instance, n: Numbers) -> Real:
    law, v = Law(at, n), vector(at, n)
    size, moved, worst = law.norm(v), law.step(v), n.of(1)
    for i in range(1, law.size):
        # v²_{t+1,1}/v²_{t+1,i} > v²_{t,1}/v²_{t,i}, cross-multiplied: also right where v_{t+1,i} = 0
        left = moved[0] ** 2 * v[i] ** 2 - v[0] ** 2 * moved[i] ** 2
        worst = smallest(n, [worst, _agree(left, law.alpha[i] - size, size**4, size + law.alpha[i])])
    return worst


def _relative_proof() -> str:
    import sympy

    top, lam, eta, rho, size = sympy.symbols("lam1 lam eta rho N", positive=True)
    a, b = 1 - eta * top, 1 - eta * lam
    first, other = a * size - eta * rho * top**2, b * size - eta * rho * lam**2
    alpha = eta * rho * (top**2 + lam**2) / (a + b)
    split = (eta * (top - lam) * size + eta * rho * (top**2 - lam**2)) * (a + b) * (alpha - size)
    return proofs.identities((first**2 - other**2, split)) + ", the first factor positive for λᵢ < λ₁"


def _chain(at: Instance, n: Numbers) -> Real:
    law = Law(at, n)
    down = [law.beta[i] - law.beta[i + 1] for i in range(law.size - 1)]
    up = [law.alpha[i] - law.alpha[i + 1] for i in range(law.size - 1)]
    return smallest(n, [*down, *up, law.alpha[-1] - law.beta[0], law.b - law.beta[0]]) / law.b


def _chain_proof() -> str:
    import sympy

    top, x, _y = sympy.symbols("lam1 x y", positive=True)  # in units η = 1, ηρ = 1; x ≤ y ≤ λ₁ < 1
    beta = x**2 / (2 - x)
    alpha = (top**2 + x**2) / (2 - top - x)
    text = proofs.identities(
        (sympy.diff(beta, x), x * (4 - x) / (2 - x) ** 2),
        (sympy.diff(alpha, x), (2 * x * (2 - top - x) + top**2 + x**2) / (2 - top - x) ** 2),
        (alpha.subs(x, 0), beta.subs(x, top)),
        (alpha.subs(x, top), top**2 / (1 - top)),
        (top**2 - beta.subs(x, top), top**2 * (1 - top) / (2 - top)),
    )
    return text + ": β and α increase with λ, α(0) = β₁, α(λ₁) = γ₁, b > β₁"


def _absorbing(at: Instance, n: Numbers) -> Real:
    law, v = Law(at, n), vector(at, n)
    return (law.b - law.norm(law.step(v))) / law.b


def _absorbing_proof() -> str:
    lam, eta, rho, size, factor, _ = _step_factor()
    import sympy

    b, room = sympy.symbols("b room", positive=True)
    return (
        proofs.identities(
            (b + factor, (b - eta * rho * lam**2) + (1 - eta * lam) * size),
            ((b - factor).subs(size, b - room), eta * lam * b + (1 - eta * lam) * room + eta * rho * lam**2),
        )
        + ": |factor| ≤ b for ‖v‖ ≤ b, ηρλᵢ² ≤ b and ηλᵢ ≤ 1, for each coordinate, hence for the norm"
    )


def _inside_draw(draw: Draw) -> Instance:
    at = quadratic(draw, ties=True)
    return at | {"v": gradient(draw, at, 0.001, 1, zeros=True)}


def _inside(at: Instance, n: Numbers) -> dict[str, Real]:
    law = Law(at, n)
    return _defined(at, n) | {"‖v‖ < b": law.b - law.norm(vector(at, n))}


STATEMENTS = (
    Statement(
        key="eq-1",
        title="(1)",
        draw=run_ties,
        hypotheses=_defined,
        printed=Claim(
            latex=r"\arg\min_w\max_{\|\epsilon\|\le\rho}\ell(w+\epsilon)=0\ \text{for the quadratic}",
            margin=_eq1,
            proof=_eq1_proof,
        ),
        scope="(1) is a definition; checked is Section 1's remark on it, that its solution is the quadratic's minimum",
    ),
    Statement(
        key="eq-2",
        title="(2)",
        draw=run,
        hypotheses=_defined,
        printed=Claim(latex=r"w_{t+1}=w_t-\eta\nabla\ell(w_t+\rho\nabla\ell(w_t)/\|\nabla\ell(w_t)\|)", margin=_eq2),
        scope="(2) is a definition, empty at ∇ℓ = 0; checked is that ravine.SAM takes this step on quadratics, to "
        "within 1e-12 of the largest term",
    ),
    Statement(
        key="eq-3",
        title="(3)",
        draw=run_ties,
        hypotheses=_defined,
        printed=Claim(
            latex=r"w_{t+1}=(I-\eta\Lambda-\tfrac{\eta\rho}{\|\Lambda w_t\|}\Lambda^2)w_t",
            margin=_eq3,
            proof=_eq3_proof,
        ),
        scope="with the recurrence for v_t = Λw_t of Section 4, coordinate by coordinate",
    ),
    Statement(
        key="lemma-4",
        title="Lemma 4",
        draw=_lemma4_draw,
        hypotheses=_lemma4_hypotheses,
        printed=Claim(
            latex=r"a^2(x-\alpha)^2>b^2(x-\beta)^2\iff x<(a\alpha+b\beta)/(a+b)", margin=_lemma4, proof=_lemma4_proof
        ),
    ),
    Statement(
        key="lemma-5.1",
        title="Lemma 5, part 1",
        draw=_fixed_draw,
        hypotheses=convex,
        printed=Claim(
            latex=r"\{s:\exists v_t\ \forall i\ v_{t+1,i}^2=v_{t,i}^2=s_i\}=\{0\}\cup\bigcup_i\mathrm{co}\{\beta_i^2e_j:\beta_j=\beta_i\}",
            margin=_fixed,
            seeds=({"lam": (1.0, 0.5), "eta": 0.2, "rho": 1.0, "which": 0, "share": 0.5, "zero": 1},),
        ),
        corrected=Claim(
            latex=r"\{s:\ldots\}=\bigcup_i\mathrm{co}\{\beta_i^2e_j:\beta_j=\beta_i\}",
            margin=lambda at, n: _kept(at, Law(at, n), n),
            proof=_lemma5_proof,
        ),
        repair="s = 0 is v_t = 0, from which (2) takes no step: the set has no 0",
    ),
    Statement(
        key="lemma-5.2",
        title="Lemma 5, part 2",
        draw=run_ties,
        hypotheses=_defined,
        printed=Claim(latex=r"v_{t+1,i}^2<v_{t,i}^2\iff\|v_t\|>\beta_i", margin=_shrinks),
        corrected=Claim(
            latex=r"v_{t,i}\ne0:\ v_{t+1,i}^2<v_{t,i}^2\iff\|v_t\|>\beta_i",
            margin=_shrinks,
            also=_nonzero,
            proof=_lemma5_proof,
        ),
        repair="a coordinate at 0 stays at 0: the equivalence needs v_{t,i} ≠ 0",
    ),
    Statement(
        key="lemma-5.3",
        title="Lemma 5, part 3",
        draw=run,
        hypotheses=lambda at, n: standing(at, n) | _nonzero(at, n),
        printed=Claim(
            latex=r"v_{t+1,1}^2/v_{t+1,i}^2>v_{t,1}^2/v_{t,i}^2\iff\|v_t\|<\alpha_i",
            margin=_relative,
            proof=_relative_proof,
        ),
        scope="with x/0 = ∞ at ‖v_t‖ = γᵢ",
    ),
    Statement(
        key="lemma-5.4",
        title="Lemma 5, part 4",
        draw=lambda draw: quadratic(draw, ties=True),
        hypotheses=convex,
        printed=Claim(
            latex=r"\beta_d\le\cdots\le\beta_1<\alpha_d\le\cdots\le\alpha_1=\gamma_1,\ \beta_1\le b",
            margin=_chain,
            proof=_chain_proof,
        ),
    ),
    Statement(
        key="lemma-5.5",
        title="Lemma 5, part 5",
        draw=_inside_draw,
        hypotheses=_inside,
        printed=Claim(latex=r"\|v_t\|\le b\Rightarrow\|v_{t+1}\|\le b", margin=_absorbing, proof=_absorbing_proof),
    ),
)
