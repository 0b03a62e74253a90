"""A Run along real training: λ_max, the edges, alignments, loss and gradient norm, every so many steps."""

from __future__ import annotations

import math
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, final

import numpy as np
import torch
import xarray as xr

from ravine.arrays import as_numpy
from ravine.files import write_beside
from ravine.spectrum import Eigenpairs
from ravine.torch.curvature.probed_network import ProbedNetwork
from ravine.torch.optimizers.trials import on_trial
from ravine.torch.settings import settings_of

_UNITS = {
    "loss": "loss",
    "grad_norm": "norm of the gradient",
    "eigenvalues": "eigenvalues of the Hessian, largest first (curvature)",
    "residual": "bound of each eigenvalue (curvature)",
    "missed": "probability that a random start missed a larger eigenvalue",
    "gd_edge": "2(1+m)/η, the edge of gradient descent with heavy ball m (curvature)",
    "sam_edge": "SAM-edge at this gradient norm, with heavy ball m (curvature); NaN without ρ",
    "momentum": "heavy-ball coefficient m of the optimizer",
    "gradient_alignment": "|cos| between the gradient and e₁",
    "alignment": "|cos| between the last step and e₁",
    "continuity": "|cos| between e₁ and the e₁ before",
    "products": "Hessian products spent here",
}
_BY_PAIR = ("eigenvalues", "residual", "missed")
_WRITTEN = ("loss", "grad_norm", "gd_edge", "sam_edge", "gradient_alignment", "alignment")


class RecordedProbe(Protocol):
    """What a recorder asks of a probe."""

    objective: ProbedNetwork

    @property
    def precision(self) -> str:
        """The precision that its figures carry."""
        ...

    def eigenpairs(self, k: int = 1, tol: float = 1e-3, *, warm: bool = False) -> Eigenpairs:
        """The k largest eigenvalues; ``warm`` starts from those of the last call."""
        ...


@final
class TrainingRecorder:
    """Looks at a probe's loss after every `every`-th step of an optimizer, while its ``with`` block runs.

    Made by `Probe.follow`. The edges are those of the optimizer's step size, radius and momentum at each look:
    2(1+m)/η (Cohen et al., arXiv 2103.00065), and the SAM-edge (Long and Bartlett, arXiv 2309.12488).

    Attributes
    ----------
    run
        What was seen, an `xarray.Dataset` along ``step`` (steps of the optimizer since the block began) and ``pair``.

    Examples
    --------
    >>> import torch
    >>> from ravine.torch import Probe
    >>> model = torch.nn.Linear(2, 1, bias=False)
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    >>> x = torch.eye(2)
    >>> with Probe(model, lambda model, batch: (model(batch) ** 2).mean(), [x]).follow(optimizer, every=2) as log:
    ...     for _ in range(4):
    ...         optimizer.zero_grad()
    ...         (model(x) ** 2).mean().backward()
    ...         optimizer.step()
    >>> log
    TrainingRecorder(3 looks, up to step 4)
    >>> [round(float(edge), 6) for edge in log.run["gd_edge"]]
    [38.0, 38.0, 38.0]
    """

    def __init__(
        self, probe: RecordedProbe, optimizer: Any, *, every: int, k: int, tol: float, rho: float | None, writer: Any
    ) -> None:
        if every < 1:
            raise ValueError(f"every = {every}: give a number ≥ 1")
        if not hasattr(optimizer, "register_step_post_hook"):
            raise ValueError(f"optimizer: pass a torch.optim.Optimizer, not {type(optimizer).__name__}")
        self._probe, self._optimizer, self._every, self._k, self._tol = probe, optimizer, every, k, tol
        self._rho, self._writer = rho, writer
        self._handle: Any = None
        self._count = 0
        self._records: list[dict[str, Any]] = []
        self._last: Eigenpairs | None = None
        self._before: torch.Tensor | None = None

    def __repr__(self) -> str:
        return f"TrainingRecorder({len(self._records)} looks, up to step {self._count})"

    def __enter__(self) -> TrainingRecorder:
        self._record_step()
        self._handle = self._optimizer.register_step_post_hook(self._after_step)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._handle.remove()
        self._probe.objective.release()

    def _after_step(self, *_: Any) -> None:
        if on_trial(self._optimizer):
            return
        self._count += 1
        if self._count % self._every == 0:
            self._record_step()
        elif (self._count + 1) % self._every == 0:
            self._before = self._probe.objective.start

    def _record_step(self) -> None:
        objective = self._probe.objective
        w = objective.start
        loss, g = objective.value(w), objective.grad(w)
        norm = float(torch.linalg.vector_norm(g))
        record: dict[str, Any] = {"step": self._count, "loss": loss, "grad_norm": norm}
        if not math.isfinite(loss) or not math.isfinite(norm):
            self._records.append(record)
            return
        # Near the last point its vectors save most products; from afar they are no better than a random start.
        pairs = self._probe.eigenpairs(self._k, self._tol, warm=self._last is not None)
        e = pairs.vectors[0]
        moved = np.full(1, np.nan) if self._before is None else as_numpy(w - self._before)
        self._before = w if self._every == 1 else None
        record |= self._edges(norm) | {
            "eigenvalues": pairs.values,
            "residual": pairs.residuals,
            "missed": pairs.missed,
            "gradient_alignment": _cosine(as_numpy(g), e),
            "alignment": _cosine(moved, e),
            "continuity": math.nan if self._last is None else _cosine(self._last.vectors[0], e),
            "products": pairs.products,
        }
        self._records.append(record)
        self._last = pairs
        if self._writer is not None:
            self._write(record)

    def _edges(self, grad_norm: float) -> dict[str, float]:
        """Both edges as the optimizer stands now."""
        now = settings_of(self._optimizer, self._rho)
        return {"gd_edge": now.gd_edge, "sam_edge": now.sam_edge(grad_norm), "momentum": now.momentum}

    def _write(self, record: dict[str, Any]) -> None:
        for name in _WRITTEN:
            if math.isfinite(record[name]):
                self._writer.add_scalar(f"ravine/{name}", record[name], self._count)
        self._writer.add_scalar("ravine/sharpness", float(record["eigenvalues"][0]), self._count)

    @property
    def run(self) -> xr.Dataset:
        columns: dict[str, Any] = {}
        for name, text in _UNITS.items():
            wide = name in _BY_PAIR
            blank = np.full(self._k, np.nan) if wide else np.nan
            values = np.array([record.get(name, blank) for record in self._records], dtype=np.float64)
            columns[name] = (("step", "pair") if wide else "step", values, {"long_name": text})
        coordinates = {"step": [record["step"] for record in self._records], "pair": np.arange(1, self._k + 1)}
        attributes = {"objective": self._probe.objective.description, "precision": self._probe.precision}
        return xr.Dataset(columns, coordinates, attributes)

    def save(self, path: str | Path, *, force: bool = False) -> None:
        """Write the Run as NetCDF; the file appears whole or not at all.

        Raises
        ------
        ValueError
            If the file exists and `force` is not set.
        """
        with write_beside(path, force=force) as temporary:
            self.run.to_netcdf(temporary, engine="h5netcdf")


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    length = float(np.linalg.norm(a) * np.linalg.norm(b)) if a.size == b.size else 0.0
    return abs(float(a @ b)) / length if length > 0 else math.nan
