"""``ravine probe``: the curvature of a network's loss."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer


def command(  # noqa: D103 (its docstring is the command's help, without sections)
    problem: Annotated[
        str, typer.Argument(metavar="MODULE:FUNCTION", help="A function that returns (model, loss_fn, batches).")
    ],
    checkpoint: Annotated[Path | None, typer.Option(help="Parameters from this file of torch.save.")] = None,
    k: Annotated[int, typer.Option("-k", "--eigenpairs", help="How many of the largest eigenvalues.")] = 3,
    tol: Annotated[float, typer.Option(help="Residual of each, relative to the largest.")] = 1e-3,
    eta: Annotated[float | None, typer.Option(help="Step size: compare λ_max with 2/η and the SAM-edge.")] = None,
    rho: Annotated[float | None, typer.Option(help="Radius of SAM, for the SAM-edge.")] = None,
    gradient: Annotated[bool, typer.Option(help="Also ∇λ_max, its length and its check.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    if rho is not None and eta is None:
        raise ValueError("--rho: the SAM-edge needs --eta as well")
    from ravine.extras import require

    require("torch", "torch")
    from ravine.torch import load_problem

    looked = load_problem(problem, checkpoint)
    pairs = looked.eigenpairs(k, tol)
    record: dict[str, Any] = {
        "problem": problem,
        "objective": looked.objective.description,
        "precision": looked.precision,
        "path": looked.choice.path,
        "loss": looked.objective.value(looked.objective.start),
        "grad_norm": float((looked.objective.grad(looked.objective.start) ** 2).sum() ** 0.5),
        "eigenvalues": pairs.values.tolist(),
        "residuals": pairs.residuals.tolist(),
        "gap_bounds": [bound if bound < float("inf") else None for bound in pairs.gap_bounds.tolist()],
        "missed": pairs.missed.tolist(),
        "products": pairs.products,
    }
    if eta is not None:
        from ravine.theory.edge import sam_edge

        record["gd_edge"] = 2 / eta
        if rho is not None:
            record["sam_edge"] = float(sam_edge(record["grad_norm"], eta, rho))
    if gradient:
        found = looked.sharpness_gradient()
        record["sharpness_gradient"] = (
            None
            if found.value is None
            else {"norm": float((found.value**2).sum() ** 0.5), "error": found.error, "angle": found.angle}
        )
    if as_json:
        typer.echo(json.dumps(record, allow_nan=False))
    else:
        _print(record)


command.__doc__ = (
    "Measure how sharp a network's loss is, with error bounds.\n\n"
    "Example: ravine probe my_package.my_task:problem --checkpoint ck.pt --json"
)


def _print(record: dict[str, Any]) -> None:
    typer.echo(
        f"{record['objective']}; {record['precision']}; loss {record['loss']:.6g}, ‖g‖ {record['grad_norm']:.6g}"
    )
    rows = zip(record["eigenvalues"], record["residuals"], record["missed"], strict=True)
    for i, (value, residual, missed) in enumerate(rows, 1):
        typer.echo(f"λ{i} = {value:.8g} ± {residual:.2g}   a larger one missed: p ≤ {missed:.1g}")
    typer.echo(f"{record['products']} Hessian products, {record['path']}")
    for name, label in (("gd_edge", "2/η"), ("sam_edge", "SAM-edge")):
        if name in record:
            typer.echo(f"{label} = {record[name]:.6g}")
    if "sharpness_gradient" in record:
        found = record["sharpness_gradient"]
        if found is None:
            typer.echo("∇λ_max: none, since λ1 = λ2 to within the bounds")
        else:
            typer.echo(f"‖∇λ_max‖ = {found['norm']:.6g}, checked to {found['error']:.2g}")
