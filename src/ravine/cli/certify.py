"""`ravine certify`: a proof that a run is on its cycle, and its check."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ravine.cli.options import numbers

if TYPE_CHECKING:
    from ravine.certify import Certificate

UNDECIDED = 1


def command(
    *,
    quadratic: Annotated[str | None, typer.Option(help="The eigenvalues, as λ₁,λ₂,….")] = None,
    section_6: Annotated[bool, typer.Option("--section-6", help="The 2-cycle of Section 6's loss instead.")] = False,
    eta: Annotated[str | None, typer.Option(help="Step size η, read as the decimal it spells.")] = None,
    rho: Annotated[str | None, typer.Option(help="Radius ρ.")] = None,
    start: Annotated[str | None, typer.Option(help="w₀, as w₁,w₂,….")] = None,
    within: Annotated[str | None, typer.Option(help="ε: the distance from the cycle, in ‖w‖.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the proof to this file.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite it.")] = False,
    check: Annotated[Path | None, typer.Option(help="Verify this proof again instead.")] = None,
) -> None:
    """Prove by ball arithmetic that SAM is within ε of its cycle from some step on, or check such a proof."""
    from ravine.certify import CouldNotDecide, prove_section_6
    from ravine.files import refuse_existing

    if sum([quadratic is not None, section_6, check is not None]) != 1:
        raise ValueError("give one of --quadratic, --section-6 and --check")
    if section_6 and (start is not None or within is not None):
        raise ValueError("--start and --within are for --quadratic; leave them out with --section-6")
    if check is not None:
        _check(check)
        return
    if out is not None:
        refuse_existing(out, force=force)
    try:
        if quadratic is not None:
            proof = _prove(quadratic, {"--eta": eta, "--rho": rho, "--start": start, "--within": within})
        else:
            given = {"eta": eta, "rho": rho}
            proof = prove_section_6(**{name: value for name, value in given.items() if value is not None})
    except CouldNotDecide as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(UNDECIDED) from None
    typer.echo(f"proved at {proof.bits} bits: {proof.claim}")
    if out is not None:
        proof.save(out, force=force)
        typer.echo(f"written to {out}; ravine certify --check {out} verifies it")


def _check(path: Path) -> None:
    from ravine.certify import Invalid, check

    try:
        typer.echo(f"holds: {check(path)}")
    except Invalid as error:
        typer.echo(f"{path} fails at {error}", err=True)
        raise typer.Exit(UNDECIDED) from None


def _prove(quadratic: str, given: dict[str, str | None]) -> Certificate:
    from ravine.certify import prove

    missing = [option for option, value in given.items() if value is None]
    if missing:
        raise ValueError(f"--quadratic: give {', '.join(missing)} too")
    eta, rho, start, within = (value or "" for value in given.values())
    return prove(_decimals("--quadratic", quadratic), eta, rho, _decimals("--start", start), within)


def _decimals(option: str, text: str) -> list[str]:
    """The numbers of a list as they are spelled: a proof reads decimals, not floats."""
    numbers(option, text)
    return [part.strip() for part in text.split(",")]
