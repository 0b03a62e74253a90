"""`ravine bound`: Theorem 3's steps beside what the runs do."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from ravine.cli.options import numbers

if TYPE_CHECKING:
    from ravine.arrivals import Comparison


def command(
    *,
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
    from ravine import theory
    from ravine.arrivals import compare_arrivals

    law = theory.quadratic(numbers("--quadratic", quadratic), eta, rho)
    found = compare_arrivals(
        law, radius=radius, density=density, q=q, delta=delta, within=within, starts=starts, seed=seed
    )
    if as_json:
        report = {
            "counts": {
                name: {"terms": count.terms, "total": count.total, "outside": list(count.outside)}
                for name, count in vars(found.counts).items()
            },
            **{name: getattr(found, name) for name in ("simulated", "certified", "start", "notes")},
            "starts": starts,
            "seed": seed,
        }
        typer.echo(json.dumps(report, ensure_ascii=False, indent=1))
    else:
        _print(found, starts)


def _print(found: Comparison, starts: int) -> None:
    from rich.console import Console
    from rich.table import Table

    counts = vars(found.counts)
    table = Table(pad_edge=False)
    for name in ("term", *counts):
        table.add_column(name, justify="left" if name == "term" else "right")
    for term in ("descent", "lost", "aligning", "clearance", "bouncing"):
        table.add_row(term, *(f"{c.terms[term]:,.1f}" if term in c.terms else "—" for c in counts.values()))
    table.add_section()
    table.add_row("all", *(f"{c.total:,.1f}" for c in counts.values()))
    console = Console()
    console.print(table)
    if found.simulated is not None:
        console.print(f"simulated: the slowest of {starts} starts arrives at step {found.simulated}")
    if found.certified is not None and found.start is not None:
        start = ", ".join(f"{x:g}" for x in found.start)
        console.print(f"certified: from that start, ({start}), within ε for all t ≥ {found.certified}")
    for name, count in counts.items():
        for text in count.outside:
            console.print(f"outside, {name}: {text}")
    for note in found.notes:
        console.print(f"note: {note}")
