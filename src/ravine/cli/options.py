"""Numbers given on the command line."""

from __future__ import annotations

import math


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
        raise ValueError(f"{option} {text!r}: give numbers separated by commas") from None
    if not all(math.isfinite(value) for value in values):
        raise ValueError(f"{option} {text!r}: give finite numbers")
    return values
