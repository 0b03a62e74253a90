# ruff: noqa: E501 (a formula in LaTeX stands on one line)
"""Sections 4.4 and 4.5: arrival at the bounce, Lemmas 17 to 20."""

from __future__ import annotations

from collections.abc import Callable

from ravine.claims import proofs
from ravine.claims.law import Law, standing
from ravine.claims.ledger import Claim, Statement
from ravine.claims.numbers import Numbers, Real, norm, plus, smallest
from ravine.claims.samplers import Draw, Instance, digits
from ravine.claims.statements.alignment import FOLLOWED, REMOTE, REMOTER, aligned, last_failure, off_axis, remote
from ravine.claims.statements.properties import run, vector


def _range17(law: Law) -> Real:
    n = law.n
    return smallest(
        n,
        [
            n.sqrt(law.h * law.beta[0] / (2 * law.gamma[0])),
            law.h / (2 * law.gamma[0]),
            1 / law.b,
            law.beta[0] / 2,
        ],
    )


def range19(law: Law) -> Real:
    """The range of λ_dε in which Lemma 19 holds: below this."""
    n = law.n
    return smallest(
        n,
        [
            n.sqrt(2 * law.h * law.beta[0] / law.gamma[0]),
            law.h / (2 * law.gamma[0]),
            2 / law.b,
            law.beta[0],
            n.of(1),
        ],
    )


def _small(at: Instance, limit: Callable[[Law], Real], draw: Draw) -> float:
    from ravine.claims.numbers import Floats

    return (
        float(draw.given["eps"]) if "eps" in draw.given else digits(limit(Law(at, Floats())) * draw.log("", 0.05, 0.99))
    )


def _draw17(draw: Draw) -> Instance:
    at = remote(draw)
    return at | {"eps": _small(at, _range17, draw)}


def _draw19(draw: Draw) -> Instance:
    at = remote(draw)
    return at | {"eps": _small(at, range19, draw)}


def _in_range(limit: Callable[[Law], Real]):
    def hypotheses(at: Instance, n: Numbers) -> dict[str, Real]:
        law, eps = Law(at, n), n.of(at["eps"])
        return off_axis(at, n) | {
            "ε > 0": eps,
            "ε in range": limit(law) - eps,
            "v not along e₁": norm(n, law.step(vector(at, n))[1:]),
        }

    return hypotheses


def _lemma17(counted_from_descent: bool):
    def margin(at: Instance, n: Numbers) -> Real:
        law, eps = Law(at, n), n.of(at["eps"])
        last, start, ratio = last_failure(
            law,
            vector(at, n),
            lambda v: not n.less(eps, abs(abs(v[0]) - law.beta[0])) and not n.less(eps**2, law.misalignment(v)),
            smallest(n, [eps, law.beta[0] * eps**2]) / 10,
        )
        wait = 2 / law.mu * (law.steps_lost * n.log(4 / law.h) + n.log(ratio / (2 * eps**2)) / 2)
        bound = (plus(n, wait) + start if counted_from_descent else wait) + 6 / law.h * n.log(1 / eps)
        return (bound - last) / (1 + abs(bound))

    return margin


def _lemma19(counted_from_descent: bool):
    def margin(at: Instance, n: Numbers) -> Real:
        law, eps = Law(at, n), n.of(at["eps"])
        last, start, ratio = last_failure(law, vector(at, n), lambda v: not n.less(eps, law.distance(v)), eps / 10)
        scale = 2 * (1 + law.beta[0]) / eps
        wait = 2 / law.mu * (law.steps_lost * n.log(4 / law.h) + n.log(scale**2 * ratio / 2) / 2)
        bound = (plus(n, wait) + start if counted_from_descent else wait) + 6 / law.h * n.log(scale)
        return (bound - last) / (1 + abs(bound))

    return margin


def _eq12_draw(draw: Draw) -> Instance:
    return run(draw) | {"eps": draw.uniform("eps", 0.01, 1)}


def _eq12_hypotheses(at: Instance, n: Numbers) -> dict[str, Real]:
    law = Law(at, n)
    return off_axis(at, n) | {
        "ε ≤ 1": n.of(1) - n.of(at["eps"]) + n.of(1e-9),
        "δ ≤ ε²": n.of(at["eps"]) ** 2 - law.misalignment(vector(at, n)),
    }


def _eq12(at: Instance, n: Numbers) -> Real:
    v = vector(at, n)
    return v[0] ** 2 / norm(n, v) ** 2 - (1 - n.of(at["eps"]) ** 2) ** 2


def _eq12_proof() -> str:
    import sympy

    x, d = sympy.symbols("x delta", positive=True)
    return proofs.identities(((1 - d) ** 2 - (1 - x) ** 2, (x - d) * (2 - x - d))) + ", both factors ≥ 0 for δ ≤ ε² ≤ 1"


def _lemma18_draw(draw: Draw) -> Instance:
    return {
        "beta1": draw.log("beta1", 0.001, 1000),
        "eps": draw.uniform("eps", 0.01, 1),
        "off": draw.pick([1.0, 0.0, draw.uniform("off", -1, 1)]),
        "share": draw.pick([1.0, draw.uniform("share", 0, 1)]),
    }


def _lemma18_hypotheses(at: Instance, n: Numbers) -> dict[str, Real]:
    tiny = n.of(1e-9)
    return {
        "β₁ > 0": n.of(at["beta1"]),
        "ε > 0": n.of(at["eps"]),
        "ε ≤ 1": 1 + tiny - n.of(at["eps"]),
        "|v₁ − β₁| ≤ ε": 1 + tiny - abs(n.of(at["off"])),
        "0 ≤ δ": n.of(at["share"]) + tiny,
        "δ ≤ ε²": 1 + tiny - n.of(at["share"]),
        "δ < 1": 1 - n.of(at["share"]) * n.of(at["eps"]) ** 2,
    }


def _lemma18(at: Instance, n: Numbers) -> Real:
    beta, eps = n.of(at["beta1"]), n.of(at["eps"])
    first, delta = beta + n.of(at["off"]) * eps, n.of(at["share"]) * eps**2
    away = n.sqrt((first - beta) ** 2 + first**2 * (1 / (1 - delta) ** 2 - 1))
    return 1 - away / (2 * (1 + beta) * eps)


def _lemma18_proof() -> str:
    # With x = ε², c(x) = (2−x)/(1−x)² and v₁ = β₁ + ε: 4(1+β₁)² − 1 − c(β₁+ε)² as a quadratic in β₁.
    def coefficients(eps):
        x = eps * eps
        c = (2 - x) / (1 - x) ** 2
        return 4 - c, 8 - 2 * c * eps, 3 - c * x

    texts = [proofs.positive_on(lambda eps, k=k: coefficients(eps)[k], [(0, 0.5996)]) for k in range(3)]
    return f"{texts[0]} of ε: the three coefficients in β₁ of 4(1+β₁)² − 1 − c(β₁+ε)² are positive"


def _lemma20(at: Instance, n: Numbers) -> Real:
    law, v = Law(at, n), vector(at, n)
    s = -1 if at["side"] else 1
    off = [v[0] - s * law.beta[0], *v[1:]]
    left = law.norm([x / y for x, y in zip(off, law.lam, strict=True)])
    right = law.norm(off) / law.least
    return (right - left) / right


def _lemma20_proof() -> str:
    import sympy

    low, gap = sympy.symbols("low gap", positive=True)
    return proofs.identities((1 / low**2 - 1 / (low + gap) ** 2, gap * (2 * low + gap) / (low * (low + gap)) ** 2))


STATEMENTS = (
    Statement(
        key="lemma-17",
        title="Lemma 17",
        draw=_draw17,
        hypotheses=_in_range(_range17),
        printed=Claim(
            latex=r"t\ge T_2=\frac2\mu(\ldots)+\frac6{\eta\lambda_1}\ln\frac1\epsilon\Rightarrow|v_{t,1}-(-1)^{t-T_2}s_{T_2}\beta_1|\le\epsilon,\ \delta_t\le\epsilon^2",
            margin=_lemma17(False),
            seeds=(REMOTE | {"eps": 0.01},),
        ),
        corrected=Claim(latex=r"t\ge T_0+T_2\Rightarrow\ldots", margin=_lemma17(True)),
        scope=FOLLOWED + "; the alternating sign by Definition 15",
        repair="add T₀; and (−1)^{t−T₂} needs ⌈T₂⌉",
        cost=8,
    ),
    Statement(
        key="eq-11",
        title="(11)",
        draw=_draw17,
        hypotheses=_in_range(_range17),
        printed=Claim(latex=r"\forall t\ge t^*:\delta_t\le\epsilon^2", margin=aligned(False, 2), seeds=(REMOTER,)),
        corrected=Claim(latex=r"\forall t>T_0+t^*:\delta_t\le\epsilon^2", margin=aligned(True, 2)),
        scope=FOLLOWED,
        repair="add T₀; Lemma 14 speaks of δ_{T+1}, one step later",
        cost=8,
    ),
    Statement(
        key="eq-12",
        title="(12)",
        draw=_eq12_draw,
        hypotheses=_eq12_hypotheses,
        printed=Claim(latex=r"v_{t,1}^2/\|v_t\|^2\ge(1-\epsilon^2)^2", margin=_eq12, proof=_eq12_proof),
    ),
    Statement(
        key="lemma-18",
        title="Lemma 18",
        draw=_lemma18_draw,
        hypotheses=_lemma18_hypotheses,
        printed=Claim(
            latex=r"\epsilon\le1,\ |v_{t,1}\mp\beta_1|\le\epsilon,\ \delta_t\le\epsilon^2\Rightarrow\|v_t\mp\beta_1e_1\|\le2(1+\beta_1)\epsilon",
            margin=_lemma18,
            seeds=({"beta1": 10.0, "eps": 0.9, "off": 0.0, "share": 1.0},),
        ),
        corrected=Claim(
            latex=r"\epsilon\le0.5996<\sqrt{(7-\sqrt{17})/8}",
            margin=_lemma18,
            also=lambda at, n: {"ε ≤ 0.5996": n.of(0.5996) - n.of(at["eps"])},
            proof=_lemma18_proof,
        ),
        repair="1/(1−x)² − 1 ≤ 3x holds to x = 0.232 only, so the paper's proof to ε = 0.482; the statement itself holds "
        "to ε = √((7−√17)/8) = 0.59967…, and no further for large β₁",
    ),
    Statement(
        key="lemma-19",
        title="Lemma 19",
        draw=_draw19,
        hypotheses=_in_range(range19),
        printed=Claim(
            latex=r"t\ge\frac2\mu\Big(\frac{3\beta_1\lambda_1^3}{\eta\beta_d\lambda_d^4}\log\frac4{\eta\lambda_1}+\frac12\log\frac{2(1+\beta_1)^2\sum v_{T_0,i}^2}{\epsilon^2v_{T_0,1}^2}\Big)+\frac6{\eta\lambda_1}\ln\frac{2(1+\beta_1)}\epsilon\Rightarrow\|v_t\mp\beta_1e_1\|\le\epsilon",
            margin=_lemma19(False),
            seeds=(REMOTE | {"eps": 0.01},),
        ),
        corrected=Claim(latex=r"t\ge T_0+\ldots", margin=_lemma19(True)),
        scope=FOLLOWED,
        repair="add T₀; Lemma 18 is used at ε/(2(1+β₁)) < 1/2, where it holds",
        cost=8,
    ),
    Statement(
        key="lemma-20",
        title="Lemma 20",
        draw=lambda draw: run(draw) | {"side": draw.integer("side", 0, 1)},
        hypotheses=standing,
        printed=Claim(
            latex=r"\|w_t-s\beta_1e_1/\lambda_1\|\le\|v_t-s\beta_1e_1\|/\lambda_d",
            margin=_lemma20,
            proof=_lemma20_proof,
        ),
    ),
)
