# ruff: noqa: E501 (a formula in LaTeX stands on one line)
"""Section 4.2: the descent into ‖v‖ ≤ b, Lemmas 6 and 7, equations (4) to (6)."""

from __future__ import annotations

from ravine.claims import proofs
from ravine.claims.law import Law, standing
from ravine.claims.ledger import Claim, Statement, Untested
from ravine.claims.numbers import Numbers, Real, plus, smallest
from ravine.claims.samplers import Draw, Instance, digits, given_gradient, gradient, quadratic
from ravine.claims.statements.properties import vector

LONGEST = 3000  # steps of descent that a check simulates


def far(draw: Draw) -> Instance:
    """A start with ‖v₀‖ from b/3 to 100b, and R ≥ ‖v₀‖."""
    at = quadratic(draw, step=(0.05, 0.49), condition=10)
    v = gradient(draw, at, *draw.pick([(0.3, 100.0), (1.0, 1.3)]))
    size = sum(x * x for x in v) ** 0.5
    return at | {"v": v, "R": digits(size * (1.002 + draw.unit() ** 4), 4)}


def within_radius(at: Instance, n: Numbers) -> dict[str, Real]:
    """Standing hypotheses, ‖v₀‖ < R and v_{0,1} ≠ 0."""
    law, v = Law(at, n), vector(at, n)
    return standing(at, n) | {"‖v₀‖ < R": n.of(at["R"]) - law.norm(v), "v_{0,1} ≠ 0": abs(v[0])}


def descent(at: Instance, n: Numbers) -> tuple[Law, list[list[Real]]]:
    """The law, and v₀ … v_{T₀}."""
    law = Law(at, n)
    states = law.until_ball(vector(at, n), LONGEST)
    if len(states) > LONGEST:
        raise Untested
    return law, states


def time_bound(law: Law, radius: Real) -> Real:
    """T = [log(R/b)]₊/(ηλ_d) of Lemma 6."""
    return plus(law.n, law.n.log(radius / law.b)) / (law.eta * law.least)


def clearance(law: Law, states: list[list[Real]]) -> Real:
    """The largest Δ with |‖v_t‖ − γ₁| ≥ Δ for all t; once ‖v_t‖ ≤ b it is at least γ₁ − b."""
    gaps = [abs(law.norm(v) - law.gamma[0]) for v in states[:-1]]
    return smallest(law.n, [*gaps, law.gamma[0] - law.b])


def _arrives(at: Instance, n: Numbers) -> Real:
    law, states = descent(at, n)
    bound = time_bound(law, n.of(at["R"]))
    return n.of(max(0, n.ceil(bound)) - (len(states) - 1))


def _early(at: Instance, n: Numbers) -> Real:
    law, states = descent(at, n)
    bound = time_bound(law, n.of(at["R"]))
    return (bound - (len(states) - 1)) / (1 + bound)


def _ratio(rounded: bool, radius_only: bool):
    def margin(at: Instance, n: Numbers) -> Real:
        law, states = descent(at, n)
        radius = n.of(at["R"])
        bound = time_bound(law, radius)
        steps = n.of(max(0, n.ceil(bound))) if rounded else bound
        gap = clearance(law, states)
        if _zero(states[-1][0]):
            raise Untested
        first = radius**2 / states[0][0] ** 2 if radius_only else law.ratio(states[0])
        return 2 * steps * n.log(2 * radius / gap) + n.log(first) - n.log(law.ratio(states[-1]))

    return margin


def _zero(x: Real) -> bool:
    return bool(x == 0)


def _arrives_proof() -> str:
    import sympy

    x = sympy.symbols("x", positive=True)
    text = proofs.identities((sympy.diff(-sympy.log(1 - x) - x, x), x / (1 - x)))
    return text + ": (1−ηλ_d)ᵗ ≤ exp(−ηλ_d t), with (5) outside the ball and Lemma 5.5 inside; T₀ is an integer"


def _ratio_proof() -> str:
    import sympy

    size, gamma, h, low = sympy.symbols("N gamma h low", positive=True)
    return (
        proofs.identities(
            (size**2 - (size - gamma) ** 2, gamma * (2 * size - gamma)), (2 * (1 - h) - (1 - low), (1 - 2 * h) + low)
        )
        + ": while ‖v_t‖ > b ≥ γᵢ/2 each step multiplies vᵢ²/v₁² by at most (2R/Δ)², 2R/Δ ≥ 1, and there are T₀ ≤ ⌈T⌉ such steps"
    )


def _outside_draw(draw: Draw) -> Instance:
    at = quadratic(draw)
    return at | {"v": gradient(draw, at, 1.01, 1000)}


def _outside(at: Instance, n: Numbers) -> dict[str, Real]:
    law = Law(at, n)
    return standing(at, n) | {"‖v_t‖ > b": law.norm(vector(at, n)) - law.b}


def _eq5(at: Instance, n: Numbers) -> Real:
    law, v = Law(at, n), vector(at, n)
    size = law.norm(v)
    return ((1 - law.eta * law.least) * size - law.norm(law.step(v))) / size


def _eq5_proof() -> str:
    import sympy

    # factor = (1−x)N − p with p = ηρλᵢ², x = ηλᵢ, N = b + s, b = p + q (p ≤ b), and x ≤ h < 1/2
    p, q, s, x, k = sympy.symbols("p q s x k", positive=True)
    size = p + q + s
    factor = (1 - x) * size - p
    room = (1 - 2 * x) * p + 2 * (1 - x) * (q + s)  # (1−x)N + factor
    return (
        proofs.identities(
            ((1 - x) * size + factor, room),
            ((1 - x + k) * size - factor, k * size + p),  # ηλ_d = x − k ≤ x
        )
        + ": |(1−ηλᵢ)N − ηρλᵢ²| ≤ (1−ηλ_d)N for N ≥ b, ηλ₁ ≤ 1/2"
    )


def _ring_draw(draw: Draw) -> Instance:
    at = quadratic(draw)
    gamma = at["eta"] * at["rho"] * at["lam"][0] ** 2 / (1 - at["eta"] * at["lam"][0])
    epsilon = at["eta"] * at["lam"][-1] / (2 - at["eta"] * at["lam"][-1])
    length = gamma * (1 + epsilon) * (1 + draw.log("", 1e-3, 30))
    shape = [draw.signed() for _ in at["lam"]]
    size = sum(x * x for x in shape) ** 0.5
    return at | {"v": given_gradient(draw, at) or tuple(digits(length * x / size) for x in shape)}


def _ring(at: Instance, n: Numbers) -> dict[str, Real]:
    law = Law(at, n)
    x = law.eta * law.least
    return standing(at, n) | {
        "‖v‖ > γ₁(1 + ηλ_d/(2−ηλ_d))": law.norm(vector(at, n)) - law.gamma[0] * (1 + x / (2 - x)),
        "v ≠ 0": law.norm(vector(at, n)),
    }


def _parts(at: Instance, n: Numbers) -> tuple[Law, list[Real], Real, list[Real], list[Real], list[Real]]:
    """law, v, r = ‖v‖, g, h, y = f(v)."""
    law, v = Law(at, n), vector(at, n)
    g = [1 - law.eta * x for x in law.lam]
    h = [law.eta * law.rho * x * x for x in law.lam]
    return law, v, law.norm(v), g, h, law.step(v)


def _map(sign: int):
    def margin(at: Instance, n: Numbers) -> Real:
        law, v, r, g, h, y = _parts(at, n)
        f = [a * x + sign * b * x / r for a, b, x in zip(g, h, v, strict=True)]
        return -law.norm([p - q for p, q in zip(f, y, strict=True)]) / law.norm(v)

    return margin


def _map_proof() -> str:
    import sympy

    g, gamma, x, r = sympy.symbols("g gamma x r", positive=True)
    return proofs.identities((g * (r - gamma) * x / r, g * x - g * gamma * x / r))


def _slope(factor: int):
    def margin(at: Instance, n: Numbers) -> Real:
        """dr/dy against ∇f: Σⱼ (dr/dyⱼ) ∂yⱼ/∂v_k must be ∂r/∂v_k = v_k/r."""
        law, v, r, g, h, y = _parts(at, n)
        gaps = [r * a - b for a, b in zip(g, h, strict=True)]
        total = sum((q * q * a / c**3 for q, a, c in zip(y, g, gaps, strict=True)), n.of(0))
        slope = [factor * q / (c * c * total) for q, c in zip(y, gaps, strict=True)]
        pulled = sum((s * b * x for s, b, x in zip(slope, h, v, strict=True)), n.of(0)) / r**3
        found = [s * c / r + pulled * x for s, c, x in zip(slope, gaps, v, strict=True)]
        return -law.norm([p - x / r for p, x in zip(found, v, strict=True)])

    return margin


def _two() -> tuple:
    """Symbols for d = 2: g, h, v, r with r² = v₁² + v₂², and y = f(v)."""
    import sympy

    g = sympy.symbols("g1 g2", positive=True)
    h = sympy.symbols("h1 h2", positive=True)
    r, c = sympy.symbols("r c", positive=True)
    s = (1 - c**2) / (1 + c**2), 2 * c / (1 + c**2)  # a rational point of the circle
    v = [r * x for x in s]
    y = [(r * a - b) * x for a, b, x in zip(g, h, s, strict=True)]
    return g, h, v, r, y


def _slope_proof() -> str:
    g, h, v, r, y = _two()
    gaps = [r * a - b for a, b in zip(g, h, strict=True)]
    total = sum(q**2 * a / c**3 for q, a, c in zip(y, g, gaps, strict=True))
    slope = [q / (c**2 * total) for q, c in zip(y, gaps, strict=True)]
    pairs = []
    for k in range(2):
        found = sum(slope[j] * ((gaps[j] / r if j == k else 0) + h[j] * v[j] * v[k] / r**3) for j in range(2))
        pairs.append((found, v[k] / r))
    return proofs.identities(*pairs) + " (d = 2; in any d by h/(rg−h) = rg/(rg−h) − 1)"


def _determinant(at: Instance, n: Numbers) -> tuple[Real, Real, list[Real], Real]:
    """det ∇f by the matrix determinant lemma, ∏(gᵢ − hᵢ/r), the terms yᵢ²hᵢ/((gᵢ−hᵢ/r)r²(rgᵢ−hᵢ)²), S."""
    _law, v, r, g, h, y = _parts(at, n)
    diagonal = [a - b / r for a, b in zip(g, h, strict=True)]
    product = n.of(1)
    for x in diagonal:
        product = product * x
    bracket = 1 + sum((b * x * x / (r**3 * e) for b, x, e in zip(h, v, diagonal, strict=True)), n.of(0))
    terms = [q * q * b / (e * r * r * (r * e) ** 2) for q, b, e in zip(y, h, diagonal, strict=True)]
    total = sum((q * q * a / (r * e) ** 3 for q, a, e in zip(y, g, diagonal, strict=True)), n.of(0))
    return product * bracket, product, terms, total


def _eq6(factor: int):
    def margin(at: Instance, n: Numbers) -> Real:
        det, product, terms, total = _determinant(at, n)
        return -abs((1 + factor * sum(terms, n.of(0)) / total) / product * det - 1)

    return margin


def _eq6_proof() -> str:
    import sympy

    g, h, v, r, y = _two()
    diagonal = [a - b / r for a, b in zip(g, h, strict=True)]
    jacobian = sympy.Matrix(2, 2, lambda i, j: (diagonal[i] if i == j else 0) + h[i] * v[i] * v[j] / r**3)
    terms = sum(q**2 * b / (e * r**2 * (r * e) ** 2) for q, b, e in zip(y, h, diagonal, strict=True))
    total = sum(q**2 * a / (r * e) ** 3 for q, a, e in zip(y, g, diagonal, strict=True))
    claimed = (1 - terms / total) / (diagonal[0] * diagonal[1])
    return proofs.identities((claimed * jacobian.det(), 1)) + " (d = 2, the 2 × 2 determinant written out)"


def _entry(divisor: int):
    def margin(at: Instance, n: Numbers) -> Real:
        law, _, r, g, h, _ = _parts(at, n)
        floor = law.eta * law.least / divisor
        return smallest(n, [(a - b / r) / floor - 1 for a, b in zip(g, h, strict=True)])

    return margin


def _entry_proof() -> str:
    import sympy

    x, y, rho, r = sympy.symbols("x y rho r", positive=True)  # x = ηλ_d; y = ηλᵢ, in units η = 1
    return (
        proofs.identities(
            (1 - 1 / (1 + x / (2 - x)), x / 2), (sympy.diff(1 - y - rho * y**2 / r, y), -1 - 2 * rho * y / r)
        )
        + ": the entry falls with λᵢ, and at λ₁, r ≥ γ₁ + ε, it is at least (1−ηλ₁)ηλ_d/2"
    )


def _density_proof() -> str:
    import sympy

    g, h, v, r, _ = _two()
    diagonal = [a - b / r for a, b in zip(g, h, strict=True)]
    jacobian = sympy.Matrix(2, 2, lambda i, j: (diagonal[i] if i == j else 0) + h[i] * v[i] * v[j] / r**3)
    bracket = 1 + sum(b * x**2 / (r**3 * e) for b, x, e in zip(h, v, diagonal, strict=True))
    return (
        proofs.identities((jacobian.det(), diagonal[0] * diagonal[1] * bracket))
        + " (d = 2; in any d the matrix determinant lemma), the bracket ≥ 1, and "
        + _entry_proof()
    )


def _density(printed: bool):
    def margin(at: Instance, n: Numbers) -> Real:
        det, _, _, _ = _determinant(at, n)
        law, _, r, _, _, _ = _parts(at, n)
        x = law.eta * law.least
        if printed:
            bound = n.log(9 * r**3 / law.gamma[0] ** 3) + (law.size + 3) * n.log(6 / x)
        else:
            bound = law.size * n.log(4 / x)
        return (bound + n.log(det)) / bound

    return margin


def _density_draw(draw: Draw) -> Instance:
    at = quadratic(draw, step=(0.05, 0.49), condition=10)
    b = at["eta"] * at["rho"] * at["lam"][0] ** 2
    radius = digits(b * draw.log("", 0.3, 100), 4)
    d = len(at["lam"])
    volume = 3.1415926535 ** (d / 2) / _gamma(d / 2 + 1) * radius**d
    return at | {"R": radius, "A": digits(1.001 / volume, 5), "delta": draw.log("delta", 1e-6, 0.49)}


def _gamma(x: float) -> float:
    import math

    return math.gamma(x)


def _density_hypotheses(at: Instance, n: Numbers) -> dict[str, Real]:
    return standing(at, n) | {
        "R > 0": n.of(at["R"]),
        "A > 0": n.of(at["A"]),
        "δ > 0": n.of(at["delta"]),
        "δ < 1/2": n.of(1) / 2 - n.of(at["delta"]),
        # The uniform start on the ball of radius R has density at most A.
        "A ≥ 1/vol": n.log(n.of(at["A"])) + _log_volume(len(at["lam"]), n) + len(at["lam"]) * n.log(n.of(at["R"])),
    }


def _log_volume(d: int, n: Numbers) -> Real:
    return n.of(d) / 2 * n.log(n.pi()) - n.lgamma(n.of(d) / 2 + 1)


def log_clearance(law: Law, radius: Real, density: Real, delta: Real, *, least_steps: int, sharp: bool) -> Real:
    """log Δ of Lemma 7; `sharp` takes the density's true growth, 4/(ηλ_d) a dimension and step."""
    n, d, x = law.n, law.size, law.eta * law.least
    steps = max(least_steps, n.ceil(time_bound(law, radius)))
    if steps == 0:
        raise ZeroDivisionError("T̄₀ = 0")
    growth = d * n.log(x / 4) if sharp else (d + 3) * n.log(x / 6) + n.log(law.gamma[0] ** 3 / (9 * radius**3))
    return (
        n.lgamma(n.of(d) / 2)
        + n.log(delta / 4)
        - n.of(d) / 2 * n.log(n.pi())
        - (d - 1) * n.log(2 * law.gamma[0])
        - n.log(steps * density)
        + steps * growth
    )


def _clear(printed: bool):
    def margin(at: Instance, n: Numbers) -> Real:
        law, radius, delta = Law(at, n), n.of(at["R"]), n.of(at["delta"])
        if printed and n.ceil(time_bound(law, radius)) == 0:
            return n.of(-1)  # Δ divides by T̄₀ = 0, and no number is ≥ ∞
        gap = n.exp(
            log_clearance(law, radius, n.of(at["A"]), delta, least_steps=0 if printed else 1, sharp=not printed)
        )
        x = law.eta * law.least
        if not printed:
            gap = smallest(n, [gap, law.gamma[0] - law.b, law.gamma[0] * x / (2 - x)])
        d, ring = law.size, n.of(0)
        if n.less(law.gamma[0] - gap, radius):
            outer = smallest(n, [radius, law.gamma[0] + gap])
            ring = (outer**d - (law.gamma[0] - gap) ** d) / radius**d
        # Step 0's share of the union bound, and Δ ≤ ε, on which the later steps' shares rest.
        return smallest(n, [delta - ring, (law.gamma[0] * x / (2 - x) - gap) / law.gamma[0]])

    return margin


def _log_display(rounded: bool):
    def margin(at: Instance, n: Numbers) -> Real:
        law, radius, density, delta = Law(at, n), n.of(at["R"]), n.of(at["A"]), n.of(at["delta"])
        if not n.less(law.b, radius):
            raise Untested
        x, d = law.eta * law.least, law.size
        steps = n.log(radius / law.b) / x + (1 if rounded else 0)
        per_step = n.log(9 * radius**3 / law.gamma[0] ** 3) + (d + 3) * n.log(6 / x)
        surface = n.of(d) / 2 * n.log(n.pi()) + (d - 1) * n.log(2 * law.gamma[0]) - n.lgamma(n.of(d) / 2)
        claimed = steps * per_step + n.log(4 * steps * density / delta) + surface
        exact = -log_clearance(law, radius, density, delta, least_steps=1, sharp=False)
        return (claimed - exact) / (1 + abs(exact))

    return margin


STATEMENTS = (
    Statement(
        key="eq-4",
        title="(4)",
        draw=far,
        hypotheses=within_radius,
        printed=Claim(
            latex=r"\frac{\sum_{i\ge2}v_{T_0,i}^2}{v_{T_0,1}^2}\le\left(\frac{2R}{\Delta}\right)^{2T}\frac{\sum_{i\ge2}v_{0,i}^2}{v_{0,1}^2}",
            margin=_ratio(False, False),
        ),
        corrected=Claim(
            latex=r"\ldots\le\left(\frac{2R}{\Delta}\right)^{2\lceil T\rceil}\frac{\sum_{i\ge2}v_{0,i}^2}{v_{0,1}^2}",
            margin=_ratio(True, False),
            proof=_ratio_proof,
        ),
        scope=f"T₀ the first step in the ball, Δ the run's own; runs that reach it in {LONGEST} steps",
        repair="T₀ is an integer: it may be ⌈T⌉, one more factor (2R/Δ)² than T allows",
        cost=2,
    ),
    Statement(
        key="eq-5",
        title="(5)",
        draw=_outside_draw,
        hypotheses=_outside,
        printed=Claim(
            latex=r"\|v_t\|\ge b\Rightarrow\|v_{t+1}\|^2\le(1-\eta\lambda_d)^2\|v_t\|^2", margin=_eq5, proof=_eq5_proof
        ),
    ),
    Statement(
        key="lemma-6.1",
        title="Lemma 6, the ball",
        draw=far,
        hypotheses=within_radius,
        printed=Claim(
            latex=r"t\ge T=[\log(R/b)]_+/(\eta\lambda_d)\Rightarrow\|v_t\|\le b", margin=_arrives, proof=_arrives_proof
        ),
        scope="for integer t; all later t by Lemma 5.5",
        cost=2,
    ),
    Statement(
        key="lemma-6.2",
        title="Lemma 6, T₀",
        draw=far,
        hypotheses=within_radius,
        printed=Claim(latex=r"\exists T_0\le T:\ \|v_{T_0}\|\le b", margin=_early),
        corrected=Claim(
            latex=r"\exists T_0\le\lceil T\rceil:\ \|v_{T_0}\|\le b", margin=_arrives, proof=_arrives_proof
        ),
        repair="T need not be an integer; T₀ ≤ ⌈T⌉",
        cost=2,
    ),
    Statement(
        key="lemma-6.3",
        title="Lemma 6, the logarithm",
        draw=far,
        hypotheses=within_radius,
        printed=Claim(
            latex=r"\log\frac{\sum_{i\ge2}v_{T_0,i}^2}{v_{T_0,1}^2}\le\frac{2}{\eta\lambda_d}\left[\log\frac Rb\right]_+\log\frac{2R}{\Delta}+\log\frac{R^2}{v_{0,1}^2}",
            margin=_ratio(False, True),
        ),
        corrected=Claim(
            latex=r"\ldots\le2\lceil T\rceil\log\frac{2R}{\Delta}+\log\frac{R^2}{v_{0,1}^2}",
            margin=_ratio(True, True),
            proof=_ratio_proof,
        ),
        scope="Δ the run's own",
        repair="as (4): ⌈T⌉ for T",
        cost=2,
    ),
    Statement(
        key="lemma-7.1",
        title="Lemma 7's proof, the map f",
        draw=_ring_draw,
        hypotheses=_ring,
        printed=Claim(latex=r"v_{t+1}=Gv_t+H\frac{v_t}{\|v_t\|}", margin=_map(1)),
        corrected=Claim(latex=r"v_{t+1}=Gv_t-H\frac{v_t}{\|v_t\|}", margin=_map(-1), proof=_map_proof),
        repair="a minus sign, as the paper's own next line y = (rG − H)v̂ has it",
    ),
    Statement(
        key="lemma-7.2",
        title="Lemma 7's proof, dr/dy",
        draw=_ring_draw,
        hypotheses=_ring,
        printed=Claim(
            latex=r"\frac{dr}{dy_j}=\frac{2y_j}{(rg_j-h_j)^2\sum_k\frac{y_k^2g_k}{2(rg_k-h_k)^3}}", margin=_slope(4)
        ),
        corrected=Claim(
            latex=r"\frac{dr}{dy_j}=\frac{y_j}{(rg_j-h_j)^2\sum_k\frac{y_k^2g_k}{(rg_k-h_k)^3}}",
            margin=_slope(1),
            proof=_slope_proof,
        ),
        repair="the printed derivative is four times the true one",
    ),
    Statement(
        key="eq-6",
        title="(6)",
        draw=_ring_draw,
        hypotheses=_ring,
        printed=Claim(
            latex=r"\det\nabla f^{-1}=\frac{1+\sum_i\frac{2y_i^2h_i}{(g_i-h_i/r)r^2(rg_i-h_i)^2\sum_k\frac{y_k^2g_k}{2(rg_k-h_k)^3}}}{\prod_i(g_i-h_i/r)}",
            margin=_eq6(4),
        ),
        corrected=Claim(
            latex=r"\det\nabla f^{-1}=\frac{1-\sum_i\frac{y_i^2h_i}{(g_i-h_i/r)r^2(rg_i-h_i)^2S}}{\prod_i(g_i-h_i/r)},\ S=\sum_k\frac{y_k^2g_k}{(rg_k-h_k)^3}",
            margin=_eq6(-1),
            proof=_eq6_proof,
        ),
        repair="the rank-one term has the wrong sign and four times its size",
    ),
    Statement(
        key="lemma-7.3",
        title="Lemma 7's proof, the entries",
        draw=_ring_draw,
        hypotheses=_ring,
        printed=Claim(latex=r"|g_i-h_i/r|\ge\eta\lambda_d/6", margin=_entry(6)),
        corrected=Claim(latex=r"g_i-h_i/r\ge\eta\lambda_d/4", margin=_entry(4), proof=_entry_proof),
        repair="the print stands; (1−ηλ₁)ηλ_d/2 ≥ ηλ_d/4 is sharper",
    ),
    Statement(
        key="lemma-7.4",
        title="Lemma 7's proof, the density",
        draw=_ring_draw,
        hypotheses=_ring,
        printed=Claim(
            latex=r"|\det\nabla f^{-1}|\le\frac{9\cdot6^{d+3}R^3}{(\eta\lambda_d)^{d+3}\gamma_1^3}",
            margin=_density(True),
        ),
        corrected=Claim(
            latex=r"|\det\nabla f^{-1}|\le\left(\frac{4}{\eta\lambda_d}\right)^d",
            margin=_density(False),
            proof=_density_proof,
        ),
        scope="at R = r, where the bound is tightest",
        repair="the print stands, by a proof that does not; without its errors the R³ and d + 3 fall away",
    ),
    Statement(
        key="lemma-7.5",
        title="Lemma 7",
        draw=_density_draw,
        hypotheses=_density_hypotheses,
        printed=Claim(
            latex=r"\Pr[\forall t:|\|v_t\|-\gamma_1|\ge\Delta]\ge1-2\delta,\ \Delta=\frac{\Gamma(d/2)\delta}{4\pi^{d/2}(2\gamma_1)^{d-1}\bar T_0A}\left(\frac{(\eta\lambda_d)^{d+3}\gamma_1^3}{9\cdot6^{d+3}R^3}\right)^{\bar T_0}",
            margin=_clear(True),
            seeds=({"lam": (1.0, 0.5), "eta": 0.2, "rho": 1.0, "R": 0.1, "A": 32.0, "delta": 0.1},),
        ),
        corrected=Claim(
            latex=r"\Delta=\min\left\{\frac{\Gamma(d/2)\delta}{4\pi^{d/2}(2\gamma_1)^{d-1}\bar T_0A}\left(\frac{\eta\lambda_d}{4}\right)^{d\bar T_0},\frac{\eta\lambda_d\gamma_1}{2-\eta\lambda_d},\gamma_1-b\right\},\ \bar T_0\ge1",
            margin=_clear(False),
        ),
        scope="starts uniform on ‖v₀‖ ≤ R: the ring's probability at step 0, exactly, and Δ ≤ ε; the later steps rest on "
        "the density's growth, lemma-7.4, by the union bound",
        repair="for R ≤ b, T̄₀ = 0 and Δ = 1/0; take T̄₀ ≥ 1 and cap Δ. The repaired density makes Δ far larger",
    ),
    Statement(
        key="lemma-7.6",
        title="Lemma 7, log 1/Δ",
        draw=_density_draw,
        hypotheses=_density_hypotheses,
        printed=Claim(
            latex=r"\log\frac1\Delta\le\frac{[\log(R/b)]_+\log\frac{9\cdot6^{d+3}R^3}{(\eta\lambda_d)^{d+3}\gamma_1^3}}{\eta\lambda_d}+\log\frac{4\pi^{d/2}(2\gamma_1)^{d-1}[\log(R/b)]_+A}{\Gamma(d/2)\delta\eta\lambda_d}",
            margin=_log_display(False),
        ),
        corrected=Claim(
            latex=r"\text{the same with }1+\log(R/b)/(\eta\lambda_d)\text{ for }[\log(R/b)]_+/(\eta\lambda_d),\ R>b",
            margin=_log_display(True),
        ),
        repair="T̄₀ = ⌈T⌉ is at least T, not at most: it is below T + 1",
    ),
)
