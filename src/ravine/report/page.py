"""The page: experiments, their drawings and checks, as one HTML text."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from typing import Any

from ravine.experiments import ExperimentOutcome, Formula, repeated

PAPER = {
    "arXiv 2210.01513": "https://arxiv.org/abs/2210.01513",
    "JMLR 24 (316), 2023": "https://jmlr.org/papers/v24/23-043.html",
}
"""Where the paper is. The page links to nothing else outside its folder."""

STEP = Formula(
    r"w_{t+1} = w_t - \eta\,\nabla\ell\left(w_t + \rho\,\frac{\nabla\ell(w_t)}"
    r"{\left\lVert\nabla\ell(w_t)\right\rVert}\right)",
    "SAM's step on a loss ℓ: step size η, radius ρ.",
)
_SUBSCRIPT = re.compile(r"(?<![A-Za-z_])([A-Za-zλ])_(\w+|\([^()]*\))")


def write(
    outcomes: Sequence[ExperimentOutcome],
    missing: dict[str, str],
    origin: dict[str, Any],
    drawings: dict[str, list[str]],
) -> str:
    """The page's HTML; `drawings` has for each picture its panels as SVG."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("ravine.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "typeset": typeset, "math": _math}
    again = repeated(outcomes)
    counted = {outcome.name: [check for check in outcome.checks if check not in again] for outcome in outcomes}
    checks = [check for one in counted.values() for check in one]
    return environment.get_template("index.html.j2").render(
        outcomes=outcomes,
        counted=counted,
        elsewhere={outcome.name: _elsewhere(outcome, again) for outcome in outcomes},
        missing=missing,
        origin=origin,
        drawings=drawings,
        paper=PAPER,
        step=STEP,
        total=len(checks),
        holding=sum(check.holds for check in checks),
    )


def _elsewhere(outcome: ExperimentOutcome, again: dict[Any, str]) -> dict[str, int]:
    """How many of an experiment's checks are counted in which other one."""
    where = [again[check] for check in outcome.checks if check in again]
    return {name: where.count(name) for name in dict.fromkeys(where)}


def _math(formula: Formula) -> str:
    from latex2mathml.converter import convert

    return convert(formula.latex, display="block")


def typeset(text: str) -> str:
    """Text as HTML: escaped, and with the subscripts of λ_max, w_t and w_(t+2) below the line."""
    return _SUBSCRIPT.sub(lambda found: f"{found[1]}<sub>{found[2].strip('()')}</sub>", html.escape(text))


def number(value: float, digits: int = 6) -> str:
    """So many digits, with a minus that is one, and powers of ten as people write them: 1e−9, not 1.000e-09."""
    mantissa, _, exponent = f"{value:.{digits}g}".partition("e")
    text = f"{float(mantissa):.4g}e{int(exponent)}" if exponent else mantissa
    return text.replace("-", "−")
