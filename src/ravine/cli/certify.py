"""`ravine certify`: a proof that a run is on its cycle, and its check."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ravine.cli.options import numbers

UNDECIDED = 1


def command(
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
    from ravine import certify as library
    from ravine.files import refuse_existing

    chosen = [name for name, given in _kinds(quadratic, section_6, check).items() if given]
    if len(chosen) != 1:
        raise ValueError("give one of --quadratic, --section-6 and --check")
    if check is not None:
        try:
            typer.echo(f"holds: {library.check(check)}")
        except library.Invalid as error:
            typer.echo(f"{check} fails at {error}", err=True)
            raise typer.Exit(UNDECIDED) from None
        return
    if out is not None:
        refuse_existing(out, force=force)
    try:
        if section_6:
            proof = library.prove_section_6(eta or "0.2", rho or "1")
        else:
            assert quadratic is not None
            proof = _quadratic(quadratic, eta, rho, start, within)
    except library.CouldNotDecide as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(UNDECIDED) from None
    typer.echo(f"proved at {proof.bits} bits: {proof.claim}")
    if out is not None:
        proof.save(out, force=force)
        typer.echo(f"written to {out}; ravine certify --check {out} verifies it")


def _kinds(quadratic: str | None, section_6: bool, check: Path | None) -> dict[str, bool]:
    return {"--quadratic": quadratic is not None, "--section-6": section_6, "--check": check is not None}


def _quadratic(quadratic: str, eta: str | None, rho: str | None, start: str | None, within: str | None) -> Any:
    from ravine.certify import prove

    needed = {"--eta": eta, "--rho": rho, "--start": start, "--within": within}
    missing = [name for name, value in needed.items() if value is None]
    if missing:
        raise ValueError(f"--quadratic: give {', '.join(missing)} too")
    numbers("--quadratic", quadratic)
    numbers("--start", start or "")
    return prove(
        [part.strip() for part in quadratic.split(",")],
        eta or "", rho or "", [part.strip() for part in (start or "").split(",")], within or "",
    )  # fmt: skip
