"""One self-contained page from experiments: HTML with the figures inside, PNG and SVG beside it, and JSON."""

from __future__ import annotations

import json
import math
import os
import re
import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ravine import plots
from ravine.experiments import Check, Outcome
from ravine.extras import require

PAGE, CHECKS = "index.html", "report.json"


def check_destination(out: str | Path, *, force: bool) -> Path:
    """The folder, if a report may be written there.

    An existing folder is replaced only if `force` is set and it is empty or holds a report of ours: a name typed wrong
    must not cost anybody a folder.

    Raises
    ------
    ValueError
        With the cure.
    """
    out = Path(out)
    if not out.absolute().parent.is_dir():
        raise ValueError(f"--out: the folder {out.absolute().parent} does not exist; make it first")
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out: {out} is a file; name a folder")
    if out.is_dir() and any(out.iterdir()):
        if not (out / CHECKS).is_file() or not (out / PAGE).is_file():
            raise ValueError(f"--out: {out} holds something else than a report; name another folder")
        if not force:
            raise ValueError(f"--out: {out} exists; name another folder or overwrite the report with --force")
    return out


def build(
    outcomes: Sequence[Outcome], missing: dict[str, str], origin: dict[str, Any], out: Path, *, force: bool
) -> None:
    """Write the report; the folder appears whole or not at all.

    Parameters
    ----------
    outcomes
        The experiments that ran.
    missing
        For each experiment that did not, why.
    origin
        Provenance.
    out, force
        See `check_destination`.

    Raises
    ------
    ValueError
        As `check_destination`.
    MissingExtra
        If jinja2 or matplotlib is not installed.
    """
    require("jinja2", "report")
    out = check_destination(out, force=force)
    beside = out.absolute().with_name(f".{out.name}.{os.getpid()}.{secrets.token_hex(4)}")
    beside.mkdir()
    try:
        drawings = {}
        with plots.style():
            for picture in (picture for outcome in outcomes for picture in outcome.pictures):
                for ending in ("svg", "png"):
                    plots.save(picture.figure, beside / f"{picture.name}.{ending}")
                drawings[picture.name] = _inline(
                    (beside / f"{picture.name}.svg").read_text(encoding="utf-8"), picture.name
                )
        checks = [as_record(check) for outcome in outcomes for check in outcome.checks]
        record = {"provenance": origin, "not_run": missing, "checks": checks}
        (beside / CHECKS).write_text(json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")
        (beside / PAGE).write_text(_page(outcomes, missing, origin, drawings), encoding="utf-8")
        if out.exists():
            old = beside.with_name(beside.name + ".old")
            out.rename(old)
            beside.rename(out)
            shutil.rmtree(old)
        else:
            beside.rename(out)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def as_record(check: Check) -> dict[str, Any]:
    """A check for JSON, which has no NaN: a number that is not finite becomes null, and the check fails."""
    numbers = {name: getattr(check, name) for name in ("predicted", "measured", "tolerance")}
    finite = {name: float(value) if math.isfinite(value) else None for name, value in numbers.items()}
    return {"experiment": check.experiment, "quantity": check.quantity, **finite, "holds": check.holds}


def _inline(svg: str, name: str) -> str:
    """An SVG for use inside HTML: no prologue, and identifiers that are unique among several on one page."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", svg)
    return re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', svg)


def _page(
    outcomes: Sequence[Outcome], missing: dict[str, str], origin: dict[str, Any], drawings: dict[str, str]
) -> str:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("ravine.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = _number
    checks = [check for outcome in outcomes for check in outcome.checks]
    return environment.get_template("index.html.j2").render(
        outcomes=outcomes,
        missing=missing,
        origin=origin,
        drawings=drawings,
        total=len(checks),
        holding=sum(check.holds for check in checks),
    )


def _number(value: float) -> str:
    """Six digits, and powers of ten as people write them: 1e-9, not 1.000e-09."""
    mantissa, _, exponent = f"{value:.6g}".partition("e")
    return f"{float(mantissa):.4g}e{int(exponent)}" if exponent else mantissa
