"""What a step knows of itself: `Last`, and where it is written."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

FIELDS = (
    "step",
    "loss",
    "loss_ascended",
    "loss_gap",
    "grad_norm",
    "sam_grad_norm",
    "cosine",
    "radius",
    "unmoved",
    "bounce",
    "passes",
    "status",
)

# What takes sweeps over the weights or a buffer: kept up while somebody reads it.
COSTLY = ("cosine", "radius", "unmoved", "bounce")


class Last:
    """The last step's diagnostics. Tensors stay on their device until an attribute is read.

    Reading waits for the device; a step that nobody reads waits for nothing. None: not known.

    Attributes
    ----------
    step
        Steps taken, this one included (skipped ones too).
    loss, loss_ascended
        ℓ(w) and ℓ(w + ε): what the closure returned, or what a loop in two phases handed to `ascended`.
    loss_gap
        ℓ(w + ε) − ℓ(w), the sharpness of the paper's Section 1.
    grad_norm, sam_grad_norm
        ‖g‖ of the gradient that was ascended along, and of the second pass's, before any clipping.
    cosine
        Of the two gradients.
    radius
        ‖(w + ε) − w‖ as the model saw it, after rounding to the weights' precision. 0 where nothing was perturbed.
    unmoved
        The fraction of coordinates that rounding left where they were; for bfloat16 weights only.
    bounce
        Cosine with the previous step's SAM gradient: near −1 the run bounces across the ravine. It needs the
        previous gradient, a second parameter-sized buffer: kept from the first reading on, or with bounce=True.
    passes
        Forward–backward passes of this step, in whole batches.
    status
        "ok"; "zero gradient" (‖g‖ = 0: not perturbed); "no gradient" (no parameter had one); "non-finite"
        (a gradient of either pass: weights restored, base step left out); "single pass" (the rule saved the second).
    """

    def __init__(self, raw: dict[str, Any], looked: Callable[[str], None] | None = None):
        self._raw = raw
        self._looked = looked

    def __getattr__(self, name: str) -> Any:
        if name not in FIELDS:
            raise AttributeError(f"opt.last has no {name!r}; it has {', '.join(FIELDS)}")
        if name in COSTLY and self._looked is not None:
            self._looked(name)
        if name == "loss_gap":
            before, after = self.loss, self.loss_ascended
            return None if before is None or after is None else after - before
        if name == "status":
            return self._status()
        value = self._raw.get(name)
        return value.item() if isinstance(value, Tensor) else value

    def _status(self) -> str:
        raw = self._raw
        if not bool(raw.get("finite", True)):
            return "non-finite"
        if raw.get("status") is not None:
            return raw["status"]
        return "zero gradient" if self.grad_norm == 0 else "ok"

    def as_dict(self) -> dict[str, Any]:
        """All of it, as plain numbers."""
        return {name: getattr(self, name) for name in FIELDS}

    def __repr__(self) -> str:
        return "Last(" + ", ".join(f"{name}={value!r}" for name, value in self.as_dict().items()) + ")"


class CsvLog:
    """One row a step; a run that is resumed goes on in the same file."""

    def __init__(self, path: Path):
        fresh = not path.exists() or path.stat().st_size == 0
        if not fresh:
            with path.open(newline="") as file:
                if next(csv.reader(file), None) != list(FIELDS):
                    raise ValueError(f"{path} holds something else than a log of these columns: name another file")
        self.path = path
        if fresh:
            self._append(FIELDS)

    def _append(self, row: Any) -> None:
        # Opened for each row: nothing is lost with the process, and nothing is left open.
        with self.path.open("a", newline="") as file:
            csv.writer(file).writerow(row)

    def __call__(self, last: Last) -> None:
        self._append("" if value is None else value for value in last.as_dict().values())


class ScalarLog:
    """Every number to a TensorBoard writer, or to whatever has its `add_scalar`."""

    def __init__(self, writer: Any, prefix: str):
        self.writer = writer
        self.prefix = prefix

    def __call__(self, last: Last) -> None:
        values = last.as_dict()
        step = values.pop("step")
        for name, value in values.items():
            if isinstance(value, int | float) and math.isfinite(value):
                self.writer.add_scalar(f"{self.prefix}/{name}", value, step)


def log_for(target: Any, prefix: str) -> Callable[[Last], None]:
    """The log that writes to `target`: a path, or an object with `add_scalar`.

    Raises
    ------
    ValueError
        For anything else.
    """
    if hasattr(target, "add_scalar"):
        return ScalarLog(target, prefix)
    if isinstance(target, str | Path):
        return CsvLog(Path(target))
    raise ValueError(f"log_to takes a path for CSV or a TensorBoard SummaryWriter, and got {type(target).__name__}")
