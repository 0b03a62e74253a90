"""``ravine probe``: the curvature of a network's loss."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from ravine.torch import Probe


def command(  # noqa: D103 (its docstring is the command's help, without sections)
    problem: Annotated[
        str, typer.Argument(metavar="MODULE:FUNCTION", help="A function that returns (model, loss_fn, batches).")
    ],
    *,
    checkpoint: Annotated[Path | None, typer.Option(help="Parameters from this file of torch.save.")] = None,
    k: Annotated[int, typer.Option("-k", "--eigenpairs", help="How many of the largest eigenvalues.")] = 3,
    tol: Annotated[float, typer.Option(help="Residual of each, relative to the largest.")] = 1e-3,
    eta: Annotated[float | None, typer.Option(help="Step size: compare λ_max with the edges of stability.")] = None,
    rho: Annotated[float | None, typer.Option(help="Radius of SAM, for the SAM-edge.")] = None,
    momentum: Annotated[float, typer.Option(help="Heavy-ball coefficient in [0, 1), for both edges.")] = 0.0,
    sharpness_gradient: Annotated[bool, typer.Option(help="Also ∇λ_max, its length and its check.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    _check_step(eta, rho, momentum)
    from ravine.extras import require

    require("torch", "torch")
    from ravine.torch import load_problem

    probe = load_problem(problem, checkpoint)
    record = {"problem": problem, **_measure(probe, k, tol)}
    if eta is not None:
        record |= _edges(record["grad_norm"], eta, rho, momentum)
    if sharpness_gradient:
        record["sharpness_gradient"] = _sharpness_gradient(probe)
    if as_json:
        typer.echo(json.dumps(record, allow_nan=False))
    else:
        _print(record)


command.__doc__ = (
    "Measure how sharp a network's loss is, with error bounds.\n\n"
    "Example: ravine probe my_package.my_task:problem --checkpoint ck.pt --json"
)


def _check_step(eta: float | None, rho: float | None, momentum: float) -> None:
    if eta is None and (rho is not None or momentum != 0):
        raise ValueError(f"--{'rho' if rho is not None else 'momentum'}: the edges of stability need --eta as well")
    if eta is not None and not 0 < eta < math.inf:
        raise ValueError(f"--eta {eta}: give a positive number")
    if not 0 <= momentum < 1:
        raise ValueError(f"--momentum {momentum}: give a number in [0, 1)")


def _measure(probe: Probe, k: int, tol: float) -> dict[str, Any]:
    pairs = probe.eigenpairs(k, tol)
    objective = probe.objective
    return {
        "objective": objective.description,
        "precision": probe.precision,
        "path": probe.choice.path,
        "loss": objective.value(objective.start),
        "grad_norm": float((objective.grad(objective.start) ** 2).sum() ** 0.5),
        "eigenvalues": pairs.values.tolist(),
        "residuals": pairs.residuals.tolist(),
        "gap_bounds": [bound if bound < math.inf else None for bound in pairs.gap_bounds.tolist()],
        "missed": pairs.missed.tolist(),
        "products": pairs.products,
    }


def _edges(grad_norm: float, eta: float, rho: float | None, momentum: float) -> dict[str, float]:
    from ravine.torch.settings import Settings

    settings = Settings(eta, rho, momentum)
    edges = {"momentum": momentum, "gd_edge": settings.gd_edge}
    return edges if rho is None else edges | {"sam_edge": settings.sam_edge(grad_norm)}


def _sharpness_gradient(probe: Probe) -> dict[str, float] | None:
    found = probe.sharpness_gradient()
    if found.value is None:
        return None
    return {"norm": float((found.value**2).sum() ** 0.5), "error": found.error, "angle": found.angle}


def _print(record: dict[str, Any]) -> None:
    typer.echo(
        f"{record['objective']}; {record['precision']}; loss {record['loss']:.6g}, ‖g‖ {record['grad_norm']:.6g}"
    )
    rows = zip(record["eigenvalues"], record["residuals"], record["missed"], strict=True)
    for i, (value, residual, missed) in enumerate(rows, 1):
        typer.echo(f"λ{i} = {value:.8g} ± {residual:.2g}   a larger one missed: p ≤ {missed:.1g}")
    typer.echo(f"{record['products']} Hessian products, {record['path']}")
    edge = "2(1+m)/η" if record.get("momentum") else "2/η"
    for name, label in (("gd_edge", edge), ("sam_edge", "SAM-edge")):
        if name in record:
            typer.echo(f"{label} = {record[name]:.6g}")
    if "sharpness_gradient" in record:
        found = record["sharpness_gradient"]
        if found is None:
            typer.echo("∇λ_max: none, since λ1 = λ2 to within the bounds")
        else:
            typer.echo(f"‖∇λ_max‖ = {found['norm']:.6g}, checked to {found['error']:.2g}")
