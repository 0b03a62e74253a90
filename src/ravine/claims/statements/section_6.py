# ruff: noqa: E501 (a formula in LaTeX stands on one line)
"""Section 6 and Figures 3, 4 and 5: a loss whose sharpness changes along its valley, and runs on it."""

from __future__ import annotations

from functools import partial

from ravine.claims import proofs
from ravine.claims.hypotheses import unconditional
from ravine.claims.numbers import Floats, Numbers, Real, norm, smallest
from ravine.claims.samplers import Draw, Instance, digits
from ravine.claims.statement import Claim, Statement

Pair = tuple[Real, Real]
STEPS = 400


def value(w: Pair) -> Real:
    """ℓ(w) = w₁²/(1+w₂²/2) + w₂²/2."""
    return w[0] * w[0] / (1 + w[1] * w[1] / 2) + w[1] * w[1] / 2


def gradient(w: Pair) -> Pair:
    """∇ℓ, a = 1 + w₂²/2: (2w₁/a, w₂(1 − w₁²/a²))."""
    # Products, not powers: a ball that holds 0 has no x**2 in python-flint.
    a = 1 + w[1] * w[1] / 2
    share = w[0] / a
    return 2 * share, w[1] * (1 - share * share)


def sharpness(w: Pair, n: Numbers) -> Real:
    """‖∇²ℓ(w)‖."""
    a = 1 + w[1] * w[1] / 2
    share = w[0] / a
    xx, xy = 2 / a, -2 * share * w[1] / a
    yy = 1 - share * share + 2 * share * share * w[1] * w[1] / a
    return abs(xx + yy) / 2 + norm(n, [(xx - yy) / 2, xy])


def sam(w: Pair, eta: Real, rho: Real, n: Numbers) -> Pair:
    """Equation (2)."""
    g = gradient(w)
    size = norm(n, g)
    g = gradient((w[0] + rho * g[0] / size, w[1] + rho * g[1] / size))
    return w[0] - eta * g[0], w[1] - eta * g[1]


def _anywhere(draw: Draw) -> Instance:
    return {"w": (digits(3 * draw.signed()), digits(3 * draw.signed()))}


def _nonzero(at: Instance, n: Numbers) -> dict[str, Real]:
    return {"w ≠ 0": norm(n, [n.of(x) for x in at["w"]])}


def _minimum_margin(at: Instance, n: Numbers) -> Real:
    w = (n.of(at["w"][0]), n.of(at["w"][1]))
    return smallest(n, [norm(n, gradient(w)), value(w)])


def _minimum_proof() -> str:
    import sympy

    x, y = sympy.symbols("x y", real=True)
    loss = x**2 / (1 + y**2 / 2) + y**2 / 2
    a = 1 + y**2 / 2
    hessian = sympy.hessian(loss, (x, y)).subs({x: 0, y: 0})
    return (
        proofs.identities(
            (sympy.diff(loss, x), 2 * x / a),
            (sympy.diff(loss, y), y * (1 - x**2 / a**2)),
            (hessian[0, 0], 2),
            (hessian[1, 1], 1),
            (hessian[0, 1], 0),
        )
        + ": ∇ℓ = 0 forces x = 0, then y = 0; the Hessian there is diag(2, 1)"
    )


SECTION_6_1 = Statement(
    key="section-6.1",
    title="Section 6, the loss",
    draw=_anywhere,
    hypotheses=_nonzero,
    printed=Claim(
        latex=r"\tfrac{w_1^2}{1+w_2^2/2}+\tfrac{w_2^2}2\text{ has the minimum of }w_1^2+\tfrac{w_2^2}2",
        margin=_minimum_margin,
        proof=_minimum_proof,
    ),
    scope="and no other stationary point; λ₁ = 2 there",
)


def _printed_sharpness_margin(at: Instance, n: Numbers) -> Real:
    x, y = n.of(at["w"][0]), n.of(at["w"][1])
    return sharpness((x, n.of(0)), n) - sharpness((x, y), n)


def _valley_margin(at: Instance, n: Numbers) -> Real:
    x, y = n.of(0), n.of(at["w"][1])
    return sharpness((x, n.of(0)), n) - sharpness((x, y), n)


def _valley_proof() -> str:
    import sympy

    y = sympy.symbols("y", positive=True)
    return (
        proofs.identities((2 - 2 / (1 + y**2 / 2), 2 * y**2 / (2 + y**2))) + ": on w₁ = 0 it is max{2/(1+w₂²/2), 1} < 2"
    )


SECTION_6_2 = Statement(
    key="section-6.2",
    title="Section 6, less sharp",
    draw=_anywhere,
    hypotheses=lambda at, n: {"w₂ ≠ 0": abs(n.of(at["w"][1]))},
    printed=Claim(
        latex=r"\text{as }w_2\text{ moves away from }0,\ \|\nabla^2\ell\|\text{ is smaller}",
        margin=_printed_sharpness_margin,
    ),
    corrected=Claim(
        latex=r"\text{on }w_1=0:\ \|\nabla^2\ell\|=\max\{2/(1+w_2^2/2),1\}<2",
        margin=_valley_margin,
        proof=_valley_proof,
    ),
    repair="it holds along the valley floor w₁ = 0, not at every w₁; and from |w₂| = √2 on the norm stays at 1",
)


def _near(draw: Draw, *, x: float, y: float) -> Instance:
    """A start within 5 % of (x, y), or the user's, at the figures' η and ρ."""
    given = draw.given.get("start", ())
    start = given if len(given) == 2 else (
        digits(x * (1 + draw.uniform("", -0.05, 0.05))), digits(y * (1 + draw.uniform("", -0.05, 0.05))),
    )  # fmt: skip
    return {"w": tuple(start), "eta": draw.uniform("eta", 0.2, 0.2), "rho": draw.uniform("rho", 1, 1)}


def _setting(at: Instance, n: Numbers) -> dict[str, Real]:
    return {
        "η = 1/5": n.of(1e-9) - abs(n.of(at["eta"]) - n.of(0.2)),
        "ρ = 1": n.of(1e-9) - abs(n.of(at["rho"]) - 1),
        "w₀ off both axes": smallest(n, [abs(n.of(x)) for x in at["w"]]),
    }


def _end(at: Instance, n: Numbers) -> Pair:
    w, eta, rho = (n.of(at["w"][0]), n.of(at["w"][1])), n.of(at["eta"]), n.of(at["rho"])
    for _ in range(STEPS):
        w = sam(w, eta, rho, n)
    return w


def _less_sharp_margin(at: Instance, n: Numbers) -> Real:
    """GD near 0 with the loss's sharpness 2; SAM where it is lower and the loss higher."""
    w, eta = (n.of(at["w"][0]), n.of(at["w"][1])), n.of(at["eta"])
    for _ in range(STEPS):
        g = gradient(w)
        w = (w[0] - eta * g[0], w[1] - eta * g[1])
    end = _end(at, n)
    return smallest(
        n, [1 - 10**9 * norm(n, w), value(end) - value(w), sharpness(w, n) - sharpness((n.of(0), end[1]), n)]
    )


FIGURE_3 = Statement(
    key="figure-3",
    title="Figure 3",
    draw=partial(_near, x=0.1, y=0.1),
    hypotheses=_setting,
    printed=Claim(
        latex=r"\text{from }(0.1,0.1)\text{ GD dives to 0, SAM goes to less sharp points of larger loss}",
        margin=_less_sharp_margin,
    ),
    scope=f"{STEPS} steps from starts within 5 % of the figure's; sharpness of the valley floor below the iterate",
    cost=40,
)


FIGURE_4 = Statement(
    key="figure-4",
    title="Figure 4",
    draw=partial(_near, x=1.0, y=1.0),
    hypotheses=_setting,
    printed=Claim(
        latex=r"\text{from }(1,1)\text{ SAM's oscillations carry it to less sharp points of larger loss}",
        margin=_less_sharp_margin,
    ),
    scope=f"{STEPS} steps from starts within 5 % of the figure's",
    cost=40,
)


def _minimum_reached_margin(at: Instance, n: Numbers) -> Real:
    return 1 - 10**9 * norm(n, gradient(_end(at, n)))


def _cycle_reached_margin(at: Instance, n: Numbers) -> Real:
    """The end is a 2-cycle (±η, w₂), w₂ = 0.157967…, not a minimum."""
    end = _end(at, n)
    then = sam(end, n.of(at["eta"]), n.of(at["rho"]), n)
    gap = [abs(end[0]) - n.of(at["eta"]), end[0] + then[0], end[1] - then[1], abs(end[1]) - n.of(0.1579677)]
    return 1 - 10**6 * n.largest([abs(x) for x in gap])


SECTION_6_3 = Statement(
    key="section-6.3",
    title="Section 6, a less sharp minimum",
    draw=partial(_near, x=1.0, y=1.0),
    hypotheses=_setting,
    printed=Claim(latex=r"\text{SAM ends in a less sharp }\textit{minimum}", margin=_minimum_reached_margin),
    corrected=Claim(
        latex=r"\text{SAM ends in the 2-cycle }(\pm\eta,w_2),\ |w_2|=0.157967\ldots", margin=_cycle_reached_margin
    ),
    scope=f"{STEPS} steps, to 1e-6; `ravine certify --section-6` proves that the cycle exists, is alone in a box and attracts",
    repair="the loss has one minimum, at 0 with λ₁ = 2 (section-6.1); SAM ends in a 2-cycle beside it. Its width in the "
    "noise of Figure 5, σ = ρ/(2−η), is that of a bounce with λ₁ = 1",
    cost=40,
)


def _figure5_draw(draw: Draw) -> Instance:
    return {"seed": draw.integer("seed", 0, 10**6), "w": (1.0, 1.0), "eta": 0.2, "rho": 1.0}


def _figure5_margin(at: Instance, n: Numbers) -> Real:
    """The spread of the sharpness met in the later half: SGD's less SAM's, per unit of SGD's."""
    import numpy as np

    eta, rho, floats = 0.2, 1.0, Floats()
    noise = np.random.default_rng(at["seed"]).normal(0, rho / (2 - eta), (STEPS, 2))
    w, u = (1.0, 1.0), (1.0, 1.0)
    met: tuple[list[float], list[float]] = ([], [])
    for t in range(STEPS):
        g = gradient(w)
        w = (w[0] - eta * (g[0] + noise[t, 0]), w[1] - eta * (g[1] + noise[t, 1]))
        u = sam(u, eta, rho, floats)
        if t >= STEPS // 2:
            met[0].append(sharpness((0.0, w[1]), floats))
            met[1].append(sharpness((0.0, u[1]), floats))
    return float((np.std(met[0]) - np.std(met[1])) / np.std(met[0]))


FIGURE_5 = Statement(
    key="figure-5",
    title="Figure 5",
    draw=_figure5_draw,
    hypotheses=unconditional,
    printed=Claim(
        latex=r"\text{SGD with }\sigma=\rho/(2-\eta)\text{ samples a mix of smoothness; SAM drifts and stays}",
        margin=_figure5_margin,
    ),
    scope=f"the spread of sharpness over the later half of {STEPS} steps, by seed; floats only",
    exact=False,
    cost=20,
)


STATEMENTS = (SECTION_6_1, SECTION_6_2, FIGURE_3, FIGURE_4, SECTION_6_3, FIGURE_5)
