"""`ravine audit`: the paper's statements on trial."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from ravine.cli.options import numbers


def command(
    statements: Annotated[
        list[str] | None, typer.Argument(help="Their names; none for all. lemma-5 stands for its parts.")
    ] = None,
    *,
    samples: Annotated[
        int, typer.Option(help="Random instances a statement; those that simulate long runs take fewer.")
    ] = 2000,
    seed: Annotated[int, typer.Option(help="Seed of the search.")] = 0,
    jobs: Annotated[int, typer.Option(help="Processes.")] = 2,
    quadratic: Annotated[str | None, typer.Option(help="Try these eigenvalues only, as λ₁,λ₂,….")] = None,
    eta: Annotated[float | None, typer.Option(help="Try this step size only.")] = None,
    rho: Annotated[float | None, typer.Option(help="Try this radius only.")] = None,
    start: Annotated[str | None, typer.Option(help="Try this w₀ only, as w₁,w₂,….")] = None,
    within: Annotated[float | None, typer.Option(help="Try this ε only.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    page: Annotated[
        Path | None, typer.Option(help="Write the verdicts into this Markdown page, between its marks.")
    ] = None,
) -> None:
    """Put the paper's statements on trial: as printed, as corrected, with counterexamples."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from ravine.claims import StatementOutcome, find
    from ravine.claims import audit as trial
    from ravine.claims import page as printer

    chosen = find(statements or [])
    given = _given_parameters(quadratic, eta, rho, start, within)
    text = _around_marks(page) if page is not None else None
    done: list[StatementOutcome] = []
    screen = Console(stderr=True)
    bars = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        console=screen, transient=True, disable=not screen.is_terminal,
    )  # fmt: skip
    interrupted = False
    with bars:
        task = bars.add_task("on trial", total=len(chosen))

        def advance(outcome: StatementOutcome) -> None:
            done.append(outcome)
            bars.update(task, advance=1, description=outcome.key)

        try:
            done = trial(chosen, samples=samples, seed=seed, given=given, jobs=jobs, progress=advance)
        except KeyboardInterrupt:
            interrupted = True
    if as_json:
        report = {"samples": samples, "seed": seed, "given": given, "complete": not interrupted}
        typer.echo(json.dumps(report | {"statements": printer.data(done)}, ensure_ascii=False, indent=1, default=list))
    else:
        _print(done)
    if page is not None and text is not None and not interrupted:
        page.write_text(text[0] + printer.markdown(done) + text[1], encoding="utf-8")
    if interrupted:
        raise typer.Exit(130)


_MARKS = ("<!-- verdicts: begin -->\n", "<!-- verdicts: end -->")


def _around_marks(page: Path) -> tuple[str, str]:
    """The page's text before and after the marks."""
    if not page.is_file():
        raise ValueError(f"{page}: name a page that has the lines {_MARKS[0].strip()} and {_MARKS[1]}")
    text = page.read_text(encoding="utf-8")
    begin, end = text.find(_MARKS[0]), text.find(_MARKS[1])
    if begin < 0 or end < begin:
        raise ValueError(f"{page}: the page has no lines {_MARKS[0].strip()} and {_MARKS[1]}; add them")
    return text[: begin + len(_MARKS[0])], text[end:]


def _given_parameters(
    quadratic: str | None, eta: float | None, rho: float | None, start: str | None, within: float | None
) -> dict[str, Any]:
    given: dict[str, Any] = {}
    if quadratic is not None:
        given["eigenvalues"] = numbers("--quadratic", quadratic)
        if len(given["eigenvalues"]) < 2:
            raise ValueError("--quadratic: the statements are of at least two eigenvalues")
    if start is not None:
        given["start"] = numbers("--start", start)
        if len(given["start"]) != len(given.get("eigenvalues", ())):
            raise ValueError("--start: give --quadratic with as many numbers")
    given |= {name: float(value) for name, value in (("eta", eta), ("rho", rho), ("eps", within)) if value is not None}
    return given


def _print(outcomes: list[Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    from ravine.claims import LEDGER
    from ravine.claims import page as printer

    table = Table(show_lines=False, pad_edge=False)
    for name in ("statement", "as printed", "as corrected", "evidence"):
        table.add_column(name, overflow="fold")
    colours = {"proved": "green", "refuted": "red", "outside": "yellow"}

    def cell(verdict: Any) -> str:
        text = printer.headline(verdict)
        colour = colours.get(verdict.status) if verdict is not None else None
        return f"[{colour}]{text}[/]" if colour else text

    for outcome in outcomes:
        title = printer.title(LEDGER[outcome.key])
        evidence = printer.evidence(outcome).replace("[", r"\[")
        table.add_row(f"{outcome.key}\n{title}", cell(outcome.printed), cell(outcome.corrected), evidence)
    console = Console()
    console.print(table)
    for name, counts in printer.summary(outcomes).items():
        if counts:
            console.print(f"as {name}: " + ", ".join(f"{count} {status}" for status, count in sorted(counts.items())))
