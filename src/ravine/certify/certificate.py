"""What a certificate is: plain data, enough to check the proof again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import ROUND_CEILING, Context, Decimal
from pathlib import Path
from typing import Any

from ravine.extras import require
from ravine.files import write_beside

FORMAT = "ravine certificate, version 1"
_UP = Context(prec=8, rounding=ROUND_CEILING, Emin=-(10**9), Emax=10**9)


class CouldNotDecide(Exception):  # noqa: N818 (it is an outcome: neither proved nor refuted)
    """The proof did not go through within the limits on precision and steps.

    Examples
    --------
    >>> from ravine.certify import prove
    >>> prove([1, 0.5], eta=0.2, rho=1, start=[2, 2], within=1e-6, most_steps=50)
    Traceback (most recent call last):
    ravine.certify.certificate.CouldNotDecide: could not decide with at most 8192 bits and 50 steps: ...
    """


@dataclass(frozen=True, repr=False)
class Certificate:
    """A proof that can be checked again, of a run or a cycle of SAM (arXiv:2210.01513); made by `prove` and its like.

    Attributes
    ----------
    data
        What is written to the file: the parameters and the proof's numbers as decimal strings.

    Examples
    --------
    >>> from ravine.certify import prove
    >>> prove([1, 0.5], eta=0.2, rho=1, start=[2, 2], within=1e-6)
    Certificate(quadratic, arrival = 63, 64 bits)
    """

    data: dict[str, Any]

    def __repr__(self) -> str:
        arrival = f"arrival = {self.arrival}, " if "arrival" in self.data else ""
        return f"Certificate({self.data['kind']}, {arrival}{self.bits} bits)"

    @property
    def claim(self) -> str:
        """What is proved, in words."""
        return self.data["claim"]

    @property
    def arrival(self) -> int:
        """The step from which the run is within ε of its cycle (quadratic certificates)."""
        return self.data["arrival"]

    @property
    def bits(self) -> int:
        """The precision that sufficed."""
        return self.data["bits"]

    def save(self, path: str | Path, *, force: bool = False) -> Path:
        """Write the JSON file.

        Raises
        ------
        ValueError
            If the file exists and `force` is not set, or its folder does not exist.
        """
        path = Path(path)
        with write_beside(path, force=force) as temporary:
            temporary.write_text(json.dumps(self.data, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")
        return path


def sealed(data: dict[str, Any]) -> Certificate:
    """The certificate, with the digest that tells a changed file from the one written."""
    data = {"format": FORMAT} | data
    return Certificate(data | {"digest": digest(data)})


def digest(data: dict[str, Any]) -> str:
    """SHA-256 of everything but the digest itself."""
    rest = {name: value for name, value in data.items() if name != "digest"}
    return hashlib.sha256(json.dumps(rest, ensure_ascii=True, sort_keys=True).encode()).hexdigest()


@contextmanager
def precision(bits: int) -> Iterator[Any]:
    """python-flint at `bits` bits inside the block."""
    flint = require("flint", "certify")
    before, flint.ctx.prec = flint.ctx.prec, bits
    try:
        yield flint
    finally:
        flint.ctx.prec = before


def upward(ball: Any) -> str:
    """A decimal above the ball, short."""
    value = Decimal(ball.upper().str(20, radius=False))
    return str(_UP.multiply(value, Decimal("1.0000001")) if value > 0 else _UP.plus(value))


def decimal(name: str, value: Any) -> str:
    """The decimal that `value` spells: a string as it stands, a float by its shortest form.

    Raises
    ------
    ValueError
        If it is not a finite number.
    """
    text = value if isinstance(value, str) else repr(float(value))
    try:
        number = Decimal(text)
    except ArithmeticError:
        raise ValueError(f"{name} = {value!r}: give a decimal number") from None
    if not number.is_finite():
        raise ValueError(f"{name} = {value!r}: give a finite number")
    return text
