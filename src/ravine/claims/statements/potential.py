# ruff: noqa: E501 (a formula in LaTeX stands on one line)
"""Section 4.3: SAM as gradient descent on J. Proposition 8, Remark 9, Lemmas 10 and 11."""

from __future__ import annotations

from ravine.claims import proofs
from ravine.claims.law import Law, convex, standing
from ravine.claims.ledger import Claim, Statement
from ravine.claims.numbers import Numbers, Real, norm, plus, smallest
from ravine.claims.samplers import Draw, Instance, digits, gradient, quadratic
from ravine.claims.statements.properties import run_ties, vector

WATCHED = 400  # steps in which Lemma 11's visits are counted


def _point(at: Instance, n: Numbers) -> dict[str, Real]:
    return convex(at, n) | {"v ≠ 0": norm(n, vector(at, n))}


def _derivatives(at: Instance, n: Numbers) -> Real:
    """∇²J(u)u = Cu at any u, since P⊥Λu = 0; with Lemma 10 this checks both displays against each other."""
    law, v = Law(at, n), vector(at, n)
    size = law.norm(v)
    u = [x / y for x, y in zip(v, law.lam, strict=True)]
    c = [(2 - law.eta * x) / (law.eta * law.rho) for x in law.lam]
    direction = [law.n.of(k + 1) / law.size for k in range(law.size)]
    a = [x * y for x, y in zip(law.lam, direction, strict=True)]
    along = sum((x * y for x, y in zip(a, v, strict=True)), n.of(0)) / size**2
    hessian = [
        p * q - lam * (s - along * x) / size for p, q, lam, s, x in zip(c, direction, law.lam, a, v, strict=True)
    ]
    # The quotient's derivative of ∇J along `direction`, written out: Λ²p/‖v‖ − Λ²u(v·Λp)/‖v‖³.
    twice = [
        p * q - lam**2 * q / size + lam**2 * y * (along * size**2) / size**3
        for p, q, lam, y in zip(c, direction, law.lam, u, strict=True)
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


def _stationary_draw(draw: Draw) -> Instance:
    at = quadratic(draw, ties=True)
    return at | {
        "which": draw.integer("which", 0, len(at["lam"]) - 1),
        "share": draw.uniform("share", 0.1, 0.9),
    }


def _stationary(at: Instance, law: Law, n: Numbers) -> tuple[int, list[Real]]:
    """A unit û in the span of eⱼ, λⱼ = λᵢ."""
    which = min(at["which"], law.size - 1)
    same = [k for k in range(law.size) if at["lam"][k] == at["lam"][which]]
    share = n.of(at["share"])
    parts = {same[0]: n.sqrt(share), same[-1]: n.sqrt(1 - share)} if len(same) > 1 else {which: n.of(1)}
    return which, [parts.get(k, n.of(0)) for k in range(law.size)]


def _slope_vanishes(at: Instance, n: Numbers) -> Real:
    law = Law(at, n)
    which, unit = _stationary(at, law, n)
    radius = law.beta[which] / law.lam[which]
    slope = law.slope([radius * x for x in unit])
    return -law.norm(slope) / law.lam[which]


def _slope_vanishes_proof() -> str:
    import sympy

    lam, eta, rho, _size, _beta = sympy.symbols("lam eta rho N beta", positive=True)
    curvature = (2 - eta * lam) / (eta * rho)
    return (
        proofs.identities((curvature, lam**2 / (eta * rho * lam**2 / (2 - eta * lam))))
        + ": (∇J)ᵢ = λᵢ²uᵢ(1/βᵢ − 1/‖Λu‖) vanishes iff uᵢ = 0 or ‖Λu‖ = βᵢ, and β increases with λ"
    )


def _curvatures(printed: bool):
    def margin(at: Instance, n: Numbers) -> Real:
        """∇²J at (βᵢ/λᵢ)û times a vector, by Proposition 8's general form and by its special one."""
        law = Law(at, n)
        which, unit = _stationary(at, law, n)
        size, lam = law.beta[which], law.lam[which]
        special = [
            n.of(0) if at["lam"][j] == at["lam"][which] else x * x * (1 / b - 1 / size)
            for j, (x, b) in enumerate(zip(law.lam, law.beta, strict=True))
        ]
        worst = n.of(0)
        for column in range(law.size):
            for row in range(law.size):
                projector = (1 if row == column else 0) - unit[row] * unit[column]
                general = -law.lam[row] * projector * law.lam[column] / size
                if row == column:
                    general = general + law.lam[row] ** 2 / law.beta[row]
                outer = n.of(1 if row == column == which else 0) if printed else unit[row] * unit[column]
                claimed = (special[row] if row == column else 0) + lam**2 * outer / size
                worst = n.largest([worst, abs(general - claimed) * size / law.top**2])
        return -worst

    return margin


def _curvatures_proof() -> str:
    import sympy

    same, other, beta, gamma, x, y = sympy.symbols("lam_i lam_j beta_i beta_j x y", positive=True)
    # Row and column within the tie (û's entries x, y), and off it, where û vanishes.
    return proofs.identities(
        (same**2 / beta - same * (1 - x * x) * same / beta, same**2 * x * x / beta),
        (-same * (-x * y) * same / beta, same**2 * x * y / beta),
        (other**2 / gamma - other * other / beta, other**2 * (1 / gamma - 1 / beta)),
    )


def _monotone_proof() -> str:
    import sympy

    x = sympy.symbols("x", positive=True)  # ηλ < 1, in units ηρ/η² = 1
    beta = x**2 / (2 - x)
    return proofs.identities((sympy.diff(beta, x), x * (4 - x) / (2 - x) ** 2)) + ": β increases with λ, 1/β decreases"


def _counts(at: Instance, n: Numbers) -> Real:
    """Signs of the eigenvalues: + along û and where βⱼ < βᵢ, − where βⱼ > βᵢ, 0 within a tie."""
    law = Law(at, n)
    which = min(at["which"], law.size - 1)
    worst = n.of(1)
    for j in range(law.size):
        gap = (1 / law.beta[j] - 1 / law.beta[which]) * law.beta[which]
        side = (law.lam[which] - law.lam[j]) / law.top
        if at["lam"][j] != at["lam"][which]:
            worst = smallest(n, [worst, gap * side])
    return worst


def _minimum_proof() -> str:
    import sympy

    z, b1, _bi = sympy.symbols("z beta1 beta_i", positive=True)
    text = proofs.identities(((z**2 / b1) / 2 - z + b1 / 2, (z - b1) ** 2 / (2 * b1)))
    return text + ": J(u) ≥ ‖Λu‖²/(2β₁) − ‖Λu‖ ≥ −β₁/2, with equality only for ‖Λu‖ = β₁ along the top eigenspace"


def _minimum(at: Instance, n: Numbers) -> Real:
    law = Law(at, n)
    u = [x / y for x, y in zip(vector(at, n), law.lam, strict=True)]
    return (law.potential(u) + law.beta[0] / 2) / law.beta[0]


def _saddle_draw(draw: Draw) -> Instance:
    at = quadratic(draw)
    return at | {"which": draw.integer("which", 1, len(at["lam"]) - 1)}


def _saddle(printed: bool):
    def margin(at: Instance, n: Numbers) -> Real:
        law = Law(at, n)
        which = max(1, min(at["which"], law.size - 1))
        lowest = law.top**2 * (1 / law.beta[0] - 1 / law.beta[which])
        bound = (1 / law.beta[0] - 1 / law.beta[1]) * (1 if printed else law.top**2)
        return (bound - lowest) / abs(bound)

    return margin


def _lemma10(at: Instance, n: Numbers) -> Real:
    law, v = Law(at, n), vector(at, n)
    u = [x / y for x, y in zip(v, law.lam, strict=True)]
    moved = [x - law.eta * law.rho * g for x, g in zip(u, law.slope(u), strict=True)]
    stepped = [-x / y for x, y in zip(law.step(v), law.lam, strict=True)]
    return -law.norm([x - y for x, y in zip(moved, stepped, strict=True)]) / law.norm(u)


def _lemma10_proof() -> str:
    import sympy

    lam, u, eta, rho, size = sympy.symbols("lam u eta rho N", positive=True)
    slope = (2 - eta * lam) / (eta * rho) * u - lam**2 * u / size
    w = -((1 - eta * lam) * u - eta * rho * lam**2 * u / size)
    return proofs.identities((u - eta * rho * slope, w))


def _descends(at: Instance, n: Numbers) -> Real:
    law, v = Law(at, n), vector(at, n)
    size = law.norm(v)
    u = [x / y for x, y in zip(v, law.lam, strict=True)]
    moved = [-x / y for x, y in zip(law.step(v), law.lam, strict=True)]
    drop = sum(
        (
            y * y * (1 - beta / size) ** 2 * (2 - law.eta * x) ** 2 * x
            for y, beta, x in zip(u, law.beta, law.lam, strict=True)
        ),
        n.of(0),
    ) / (2 * law.rho)
    return (law.potential(u) - drop - law.potential(moved)) / (abs(law.potential(u)) + abs(law.beta[0]))


def _descends_proof() -> str:
    import sympy

    # One coordinate of J(u') − J(u) + drop, with ‖Λu'‖ − ‖Λu‖ replaced by its tangent Λ²u·(u' − u)/N.
    lam, u, eta, rho, size = sympy.symbols("lam u eta rho N", positive=True)
    c = (2 - eta * lam) / (eta * rho)
    beta = eta * rho * lam**2 / (2 - eta * lam)
    moved = u - eta * rho * (c * u - lam**2 * u / size)
    change = c * (moved**2 - u**2) / 2 - lam**2 * u * (moved - u) / size
    drop = u**2 * (1 - beta / size) ** 2 * (2 - eta * lam) ** 2 * lam / (2 * rho)
    return proofs.identities((change, -drop)) + "; the tangent lies below ‖Λu'‖ by Cauchy and Schwarz"


def _visits_draw(draw: Draw) -> Instance:
    at = quadratic(draw, step=(0.02, 0.49), condition=20)
    v = gradient(draw, at, 0.05, 1)
    return at | {"v": v, "eps": digits(draw.log("eps", 0.01, 1))}


def _visits_hypotheses(at: Instance, n: Numbers) -> dict[str, Real]:
    law = Law(at, n)
    return convex(at, n) | {
        "ε > 0": n.of(at["eps"]),
        "‖v_{T₀}‖ < b": law.b - law.norm(vector(at, n)),
        "v ≠ 0": law.norm(vector(at, n)),
    }


def visits(law: Law, v: list[Real], eps: Real) -> int:
    """How many of the steps watched have ‖v_t‖ ≥ (1+ε)β₁."""
    n, level, count = law.n, (1 + eps) * law.beta[0], 0
    for _ in range(WATCHED):
        count += not n.less(law.norm(v), level)
        v = law.step(v)
    return count


def room(law: Law) -> Real:
    """max_{‖Λw‖≤b} J − min J; the maximum is at ‖Λw‖ = 0 or b, along e_d."""
    return plus(law.n, law.b**2 / (2 * law.beta[-1]) - law.b) + law.beta[0] / 2


def _visits(bound_of):
    def margin(at: Instance, n: Numbers) -> Real:
        law, eps = Law(at, n), n.of(at["eps"])
        bound = bound_of(law, eps)
        return (bound - visits(law, vector(at, n), eps)) / (1 + bound)

    return margin


def _by_room(law: Law, eps: Real) -> Real:
    return 2 * room(law) / (law.eta * eps**2 * law.top * law.beta[0])


def _by_print(law: Law, eps: Real) -> Real:
    return 3 * law.beta[0] / (law.eta * eps**2 * law.top * law.beta[-1])


def sharp_visits(law: Law, eps: Real) -> Real:
    """(1/(aηε²λ₁)) max{1, a²β₁/β_d − 2a + 1}, a = 2−ηλ₁: Lemma 11 with the factor a kept."""
    a = 2 - law.h
    room = law.n.largest([law.n.of(1), a * a * law.beta[0] / law.beta[-1] - 2 * a + 1])
    return room / (a * law.eta * eps**2 * law.top)


def _visits_proof() -> str:
    import sympy

    x, eta, rho, lam, eps = sympy.symbols("x eta rho lam eps", positive=True)
    beta = eta * rho * lam**2 / (2 - eta * lam)
    return (
        proofs.identities(
            ((2 - eta * lam) * lam / beta, (2 - eta * lam) ** 2 / (eta * rho * lam)),
            (sympy.diff((2 - x) ** 2 / x, x), -(4 - x**2) / x**2),
            (1 - 1 / (1 + eps), eps / (1 + eps)),
            (
                eta / 2 * (2 - eta * lam) * lam / beta * eps**2 * beta**2,
                (2 - eta * lam) * eta * eps**2 * lam * beta / 2,
            ),
        )
        + ": by Lemma 10 a visit costs J at least (2−ηλ₁)ηε²λ₁β₁/2, and J has max J − min J to lose"
    )


def _last_step(factor: int):
    def margin(at: Instance, n: Numbers) -> Real:
        """The last inequality: 2/(ηε²λ₁β₁)·(…) against the bound, whatever ε."""
        law = Law(at, n)
        if factor == 3:  # the paper's chain: 2β₁²/β_d + β₁/2 ≤ 3β₁²/(2β_d)
            left, right = 2 * room(law), 3 * law.beta[0] ** 2 / law.beta[-1]
        else:
            left, right = 2 * room(law) / (2 - law.h), 2 * law.beta[0] ** 2 / law.beta[-1]
        return (right - left) / right

    return margin


def last_step_proof() -> str:
    """Lemma 11's last inequality with the factor a = 2−ηλ₁ kept: max{1, a²k − 2a + 1}/a ≤ 2k, k = β₁/β_d."""
    import sympy

    a, k = sympy.symbols("a k", positive=True)  # k = β₁/β_d ≥ 1, 3/2 < a < 2
    branch = (a * a * k - 2 * a + 1) / a
    x, y = sympy.symbols("x y", positive=True)
    # 2k − branch at a = 3/2 + … : (2 − a)k + 2 − 1/a > 0 for a < 2; and max{1,…}/a ≤ 1 < 2k
    text = proofs.identities((2 * k - branch, (2 - a) * k + (2 * a - 1) / a))
    positive = proofs.coefficients_positive(
        ((2 - a) * k + 2 - 1 / a).subs(a, 1 + x / (x + y)).together().as_numer_denom()[0], x, y, k
    )
    return f"{text}; {positive} (1 < a < 2); the branch 1/a is below 1"


STATEMENTS = (
    Statement(
        key="proposition-8.1",
        title="Proposition 8, derivatives",
        draw=run_ties,
        hypotheses=_point,
        printed=Claim(
            latex=r"\nabla J=Cu-\frac{\Lambda^2u}{\|\Lambda u\|},\ \nabla^2J=C-\frac{1}{\|\Lambda u\|}\Lambda P_\perp\Lambda",
            margin=_derivatives,
            proof=_derivatives_proof,
        ),
    ),
    Statement(
        key="proposition-8.2",
        title="Proposition 8, stationary points",
        draw=_stationary_draw,
        hypotheses=convex,
        printed=Claim(
            latex=r"\nabla J(u)=0\iff\exists i:\|u\|=\beta_i/\lambda_i,\ u\in\mathrm{span}\{e_j:\lambda_j=\lambda_i\}",
            margin=_slope_vanishes,
            proof=_slope_vanishes_proof,
        ),
    ),
    Statement(
        key="proposition-8.3",
        title="Proposition 8, the Hessian there",
        draw=_stationary_draw,
        hypotheses=convex,
        printed=Claim(
            latex=r"\nabla^2J(\tfrac{\beta_i}{\lambda_i}\hat u)=\Lambda^2\Big(\sum_{\beta_j\ne\beta_i}(\tfrac1{\beta_j}-\tfrac1{\beta_i})e_je_j^\top+\tfrac1{\beta_i}e_ie_i^\top\Big)",
            margin=_curvatures(True),
            seeds=({"lam": (1.0, 1.0), "eta": 0.2, "rho": 1.0, "which": 0, "share": 0.5},),
        ),
        corrected=Claim(
            latex=r"\ldots+\tfrac1{\beta_i}\hat u\hat u^\top\Big)", margin=_curvatures(False), proof=_curvatures_proof
        ),
        repair="with a tie û need not be eᵢ: eᵢeᵢᵀ → ûûᵀ",
    ),
    Statement(
        key="proposition-8.4",
        title="Proposition 8, signs",
        draw=_stationary_draw,
        hypotheses=convex,
        printed=Claim(
            latex=r"|\{\beta_j<\beta_i\}|+1\text{ positive},\ |\{\beta_j>\beta_i\}|\text{ negative},\ |\{\beta_j=\beta_i\}|-1\text{ zero}",
            margin=_counts,
            proof=_monotone_proof,
        ),
        scope="the eigenvalues λⱼ²(1/βⱼ − 1/βᵢ) off the tie; within it by proposition-8.3",
    ),
    Statement(
        key="remark-9.1",
        title="Remark 9, the minimum",
        draw=run_ties,
        hypotheses=_point,
        printed=Claim(latex=r"\min J=-\beta_1/2\text{ on }M", margin=_minimum, proof=_minimum_proof),
    ),
    Statement(
        key="remark-9.2",
        title="Remark 9, the saddles",
        draw=_saddle_draw,
        hypotheses=standing,
        printed=Claim(latex=r"\lambda_{\min}(\nabla^2J)\le1/\beta_1-1/\beta_2", margin=_saddle(True)),
        corrected=Claim(
            latex=r"\lambda_{\min}(\nabla^2J)\le\lambda_1^2(1/\beta_1-1/\beta_2)",
            margin=_saddle(False),
            proof=_monotone_proof,
        ),
        scope="at the stationary points other than M",
        repair="λ₁² is missing; the print fails whenever λ₁ < 1",
    ),
    Statement(
        key="lemma-10.1",
        title="Lemma 10, gradient descent",
        draw=run_ties,
        hypotheses=_point,
        printed=Claim(latex=r"u_{t+1}=u_t-\eta\rho\nabla J(u_t)", margin=_lemma10, proof=_lemma10_proof),
    ),
    Statement(
        key="lemma-10.2",
        title="Lemma 10, descent",
        draw=run_ties,
        hypotheses=_point,
        printed=Claim(
            latex=r"J(u_{t+1})-J(u_t)\le-\frac1{2\rho}\sum_iu_{t,i}^2(1-\tfrac{\beta_i}{\|\Lambda u_t\|})^2(2-\eta\lambda_i)^2\lambda_i",
            margin=_descends,
            proof=_descends_proof,
        ),
    ),
    Statement(
        key="lemma-11.1",
        title="Lemma 11, first bound",
        draw=_visits_draw,
        hypotheses=_visits_hypotheses,
        printed=Claim(
            latex=r"|\{t\ge T_0:\|v_t\|\ge(1+\epsilon)\beta_1\}|\le\frac{2}{\eta\epsilon^2\lambda_1\beta_1}(\max J-\min J)",
            margin=_visits(_by_room),
            proof=_visits_proof,
        ),
        scope=f"visits among {WATCHED} steps",
        cost=4,
    ),
    Statement(
        key="lemma-11.2",
        title="Lemma 11, last inequality",
        draw=lambda draw: quadratic(draw, condition=100),
        hypotheses=convex,
        printed=Claim(
            latex=r"\frac{2}{\eta\epsilon^2\lambda_1\beta_1}(\max J-\min J)\le\frac{3\beta_1}{\eta\epsilon^2\lambda_1\beta_d}",
            margin=_last_step(3),
            seeds=({"lam": (1.0, 0.1), "eta": 0.1, "rho": 1.0},),
        ),
        corrected=Claim(
            latex=r"\frac{2}{(2-\eta\lambda_1)\eta\epsilon^2\lambda_1\beta_1}(\max J-\min J)\le\frac{2\beta_1}{\eta\epsilon^2\lambda_1\beta_d}",
            margin=_last_step(2),
            proof=last_step_proof,
        ),
        repair="2β₁²/β_d + β₁/2 exceeds 3β₁²/(2β_d). But the proof drops a factor 2−ηλ₁ > 3/2; kept, it gives even 2 for 3",
    ),
    Statement(
        key="lemma-11.3",
        title="Lemma 11, end to end",
        draw=_visits_draw,
        hypotheses=_visits_hypotheses,
        printed=Claim(
            latex=r"|\{t\ge T_0:\|v_t\|\ge(1+\epsilon)\beta_1\}|\le\frac{3\beta_1}{\eta\epsilon^2\lambda_1\beta_d}",
            margin=_visits(_by_print),
            proof=lambda: f"{_visits_proof()}; {last_step_proof()}; and 2 ≤ 3",
        ),
        corrected=Claim(
            latex=r"|\{\ldots\}|\le\frac{1}{a\eta\epsilon^2\lambda_1}\max\{1,a^2\tfrac{\beta_1}{\beta_d}-2a+1\}\le\frac{2\beta_1}{\eta\epsilon^2\lambda_1\beta_d},\ a=2-\eta\lambda_1",
            margin=_visits(sharp_visits),
            proof=_visits_proof,
        ),
        scope=f"visits among {WATCHED} steps",
        repair="the end-to-end bound stands, by the corrected proof of lemma-11.2, with room to spare",
        cost=4,
    ),
)
