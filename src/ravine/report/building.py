"""One self-contained page from experiments: HTML with the figures inside, PNG and SVG beside it, and JSON."""

from __future__ import annotations

import io
import json
import math
import os
import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ravine import plots
from ravine.experiments import Check, ExperimentOutcome, repeated
from ravine.extras import require
from ravine.report import page
from ravine.report.drawings import inline

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
    outcomes: Sequence[ExperimentOutcome], missing: dict[str, str], origin: dict[str, Any], out: Path, *, force: bool
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
        If jinja2, latex2mathml or matplotlib is not installed.
    """
    for module in ("jinja2", "latex2mathml"):
        require(module, "report")
    out = check_destination(out, force=force)
    beside = out.absolute().with_name(f".{out.name}.{os.getpid()}.{secrets.token_hex(4)}")
    beside.mkdir()
    try:
        drawings = _draw(outcomes, beside)
        record = as_record(outcomes, missing, origin)
        (beside / CHECKS).write_text(json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")
        (beside / PAGE).write_text(page.write(outcomes, missing, origin, drawings), encoding="utf-8")
        if out.exists():
            old = beside.with_name(beside.name + ".old")
            out.rename(old)
            beside.rename(out)
            shutil.rmtree(old)
        else:
            beside.rename(out)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _draw(outcomes: Sequence[ExperimentOutcome], folder: Path) -> dict[str, list[str]]:
    """Write the pictures into a folder; for each its panels as SVG for the page."""
    drawings: dict[str, list[str]] = {}
    with plots.style():
        for picture in (picture for outcome in outcomes for picture in outcome.pictures):
            figure = picture.whole()
            plots.save(figure, folder / f"{picture.name}.svg")
            # Where things go is found; finding it again costs as much as drawing.
            figure.set_layout_engine("none")
            plots.save(figure, folder / f"{picture.name}.png")
            drawings[picture.name] = []
            for k in range(len(picture.panels)):
                svg = io.StringIO()
                picture.alone(k).savefig(svg, format="svg", metadata={"Date": None})
                drawings[picture.name].append(inline(svg.getvalue(), f"{picture.name}-{k}"))
    return drawings


def as_record(outcomes: Sequence[ExperimentOutcome], missing: dict[str, str], origin: dict[str, Any]) -> dict[str, Any]:
    """The report for JSON: every check once, and which others say the same again."""
    again = repeated(outcomes)
    checks = [check for outcome in outcomes for check in outcome.checks]
    return {
        "provenance": origin,
        "not_run": missing,
        "checks": [_check_record(check) for check in checks if check not in again],
        "repeated": [
            {"experiment": check.experiment, "quantity": check.quantity, "counted_in": first}
            for check, first in again.items()
        ],
    }


def _check_record(check: Check) -> dict[str, Any]:
    """A check for JSON, which has no NaN: a number that is not finite becomes null, and the check fails."""
    numbers = {name: getattr(check, name) for name in ("predicted", "measured", "tol")}
    finite = {name: float(value) if math.isfinite(value) else None for name, value in numbers.items()}
    words = {"experiment": check.experiment, "run": check.run, "quantity": check.quantity}
    return {**words, **finite, "holds": check.holds}
