"""`ravine bound`: Theorem 3's steps beside what the runs do."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from ravine.cli.options import numbers


def command(
    quadratic: Annotated[str, typer.Option(help="The eigenvalues, as λ₁,λ₂,….")],
    eta: Annotated[float, typer.Option(help="Step size η.")],
    rho: Annotated[float, typer.Option(help="Radius ρ.")],
    radius: Annotated[float, typer.Option(help="R: ‖w₀‖ ≤ R with probability ≥ 1 − δ.")],
    density: Annotated[float, typer.Option(help="A: bound on the density of w₀.")],
    q: Annotated[float, typer.Option(help="q: w₀₁² ≥ q with the same probability.")],
    delta: Annotated[float, typer.Option(help="δ.")],
    within: Annotated[float, typer.Option(help="ε: the distance from the cycle to reach, in ‖w‖.")],
    starts: Annotated[int, typer.Option(help="Simulated starts, uniform on ‖w₀‖ ≤ R with w₀₁² ≥ q.")] = 200,
    seed: Annotated[int, typer.Option(help="Seed of the starts.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Theorem 3's steps, term by term, printed and corrected, beside the certified and the simulated arrival."""
    from ravine.certify import CouldNotDecide, prove
    from ravine.theory import bounds

    eigenvalues = numbers("--quadratic", quadratic)
    law = bounds.spectrum(eigenvalues, eta, rho)
    if starts < 1 or seed < 0:
        raise ValueError("--starts and --seed: give a positive number of starts and a seed ≥ 0")
    counts = bounds.theorem_3(law, radius=radius, density=density, q=q, delta=delta, within=within)
    point, simulated, notes = _slowest(law, radius, density, q, delta, within, starts, seed)
    certified: int | None = None
    if point is not None:
        try:
            certified = prove(law.lam.tolist(), eta, rho, point, within).arrival
        except CouldNotDecide as error:
            notes.append(f"no certificate: {error}")
    report = {
        "counts": {
            name: {"terms": count.terms, "total": count.total, "outside": list(count.outside)}
            for name, count in vars(counts).items()
        },
        "simulated": simulated,
        "certified": certified,
        "start": point,
        "starts": starts,
        "seed": seed,
        "notes": notes,
    }
    if as_json:
        typer.echo(json.dumps(report, ensure_ascii=False, indent=1))
    else:
        _print(report)


def _slowest(
    law: Any, radius: float, density: float, q: float, delta: float, within: float, starts: int, seed: int
) -> tuple[list[float] | None, int | None, list[str]]:
    """The simulated start that arrives last, its arrival, and in what the starts differ from the theorem's."""
    import numpy as np
    from scipy.special import betainc, gammaln

    d, notes = law.lam.size, []
    volume = np.exp(d / 2 * np.log(np.pi) - gammaln(d / 2 + 1) + d * np.log(radius))
    missed = float(betainc(0.5, (d + 1) / 2, q / radius**2))
    if 1 / volume > density:
        notes.append(f"the uniform law on the ball has density {1 / volume:.4g} > A: the starts are not the theorem's")
    if missed > delta:
        notes.append(f"w₀₁² < q has probability {missed:.4g} > δ under it: the starts are conditioned on w₀₁² ≥ q")
    rng = np.random.default_rng(seed)
    points = np.empty((0, d))
    while len(points) < starts:
        drawn = rng.standard_normal((4 * starts, d))
        drawn *= (radius * rng.random((4 * starts, 1)) ** (1 / d)) / np.linalg.norm(drawn, axis=1, keepdims=True)
        points = np.concatenate([points, drawn[drawn[:, 0] ** 2 >= q]])
        if not len(points):
            return None, None, [*notes, "no start in the ball had w₀₁² ≥ q"]
    points = np.array([[float(f"{x:.6g}") for x in row] for row in points[:starts]])
    w, last, amplitude = points.copy(), np.full(starts, -1), law.beta[0] / law.lam[0]
    for t in range(100_000):
        off = w.copy()
        off[:, 0] = np.abs(off[:, 0]) - amplitude
        away = np.linalg.norm(off, axis=1)
        last[away > within] = t
        if (away < within / 10).all():
            slowest = int(last.argmax())
            return points[slowest].tolist(), int(last[slowest]) + 1, notes
        size = np.linalg.norm(law.lam * w, axis=1, keepdims=True)
        w = (1 - law.eta * law.lam - law.eta * law.rho * law.lam**2 / size) * w
    return None, None, [*notes, "not every simulated start arrived in 100 000 steps"]


def _print(report: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    counts = report["counts"]
    table = Table(pad_edge=False)
    for name in ("term", *counts):
        table.add_column(name, justify="left" if name == "term" else "right")
    for term in ("descent", "lost", "aligning", "clearance", "bouncing"):
        table.add_row(term, *(f"{c['terms'][term]:,.1f}" if term in c["terms"] else "—" for c in counts.values()))
    table.add_section()
    table.add_row("all", *(f"{c['total']:,.1f}" for c in counts.values()))
    console = Console()
    console.print(table)
    if report["simulated"] is not None:
        console.print(f"simulated: the slowest of {report['starts']} starts arrives at step {report['simulated']}")
    if report["certified"] is not None:
        start = ", ".join(f"{x:g}" for x in report["start"])
        console.print(f"certified: from that start, ({start}), within ε for all t ≥ {report['certified']}")
    for name, count in counts.items():
        for text in count["outside"]:
            console.print(f"outside, {name}: {text}")
    for note in report["notes"]:
        console.print(f"note: {note}")
