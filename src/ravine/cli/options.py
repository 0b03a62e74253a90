"""What several commands read from their options."""

from __future__ import annotations

import math
from pathlib import Path


def numbers(option: str, text: str) -> tuple[float, ...]:
    """The finite numbers of a comma-separated list.

    Raises
    ------
    ValueError
        Naming the option, if one is not a finite number.
    """
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"{option} {text!r}: give numbers separated by commas, such as 1,0.5") from None
    if not all(math.isfinite(value) for value in values):
        raise ValueError(f"{option} {text!r}: give finite numbers")
    return values


def check_picture(option: str, path: Path | None, *, force: bool) -> None:
    """Refuse a picture that cannot be written, before any work.

    Raises
    ------
    ValueError
        If it exists and may not be overwritten, or its name's ending is none of a picture.
    MissingExtra
        If matplotlib is not installed.
    """
    if path is None:
        return
    from ravine.extras import require
    from ravine.files import refuse_existing

    refuse_existing(path, force=force)
    if path.suffix.lower() not in (".svg", ".png", ".pdf"):
        raise ValueError(f"{option}: {path}: a picture's name ends in .svg, .png or .pdf")
    require("matplotlib", "report")
