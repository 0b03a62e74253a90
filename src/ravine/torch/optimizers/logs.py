"""Where steps' diagnostics are written: a CSV file, or a TensorBoard writer."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ravine.torch.optimizers.diagnostics import FIELDS, StepDiagnostics

Log = Callable[[StepDiagnostics], None]


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

    def __repr__(self) -> str:
        return f"CsvLog({str(self.path)!r})"

    def _append(self, row: Iterable[Any]) -> None:
        # Opened for each row: nothing is lost with the process, and nothing is left open.
        with self.path.open("a", newline="") as file:
            csv.writer(file).writerow(row)

    def __call__(self, last: StepDiagnostics) -> None:
        self._append("" if value is None else value for value in last.as_dict().values())


class ScalarLog:
    """Every number to a TensorBoard writer, or to whatever has its `add_scalar`."""

    def __init__(self, writer: Any, prefix: str):
        self.writer = writer
        self.prefix = prefix

    def __repr__(self) -> str:
        return f"ScalarLog({type(self.writer).__name__}, {self.prefix!r})"

    def __call__(self, last: StepDiagnostics) -> None:
        values = last.as_dict()
        step = values.pop("step")
        for name, value in values.items():
            if isinstance(value, int | float) and math.isfinite(value):
                self.writer.add_scalar(f"{self.prefix}/{name}", value, step)


def log_for(target: Any, prefix: str) -> Log:
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
