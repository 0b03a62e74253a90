"""``ravine forecast``: what SAM and its relatives will do next on a network."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ravine.cli.options import check_picture

if TYPE_CHECKING:
    from ravine.forecasts import Forecast
    from ravine.methods import Method


def command(  # noqa: D103 (its docstring is the command's help, without sections)
    problem: Annotated[
        str, typer.Argument(metavar="MODULE:FUNCTION", help="A function that returns (model, loss_fn, batches).")
    ],
    *,
    eta: Annotated[float, typer.Option(help="Step size η > 0.")],
    rho: Annotated[float | None, typer.Option(help="Radius ρ ≥ 0 of sam and usam.")] = None,
    momentum: Annotated[float, typer.Option(help="Heavy-ball coefficient in [0, 1).")] = 0.0,
    method: Annotated[str, typer.Option(help="sam, usam or gd.")] = "sam",
    steps: Annotated[int, typer.Option(help="How many steps.")] = 400,
    products: Annotated[int, typer.Option(help="Hessian products to spend.")] = 60,
    drift: Annotated[bool, typer.Option(help="Let the sharpness change, from its gradient.")] = True,
    checkpoint: Annotated[Path | None, typer.Option(help="Parameters from this file of torch.save.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw it to this .svg, .png or .pdf file.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing picture.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    from ravine.extras import require

    rule = _method(method, eta, rho, momentum)
    check_picture("--plot", plot, force=force)
    require("torch", "torch")
    from ravine.torch import load_problem

    seen = load_problem(problem, checkpoint).forecast(rule, steps, products, drift=drift)
    if plot is not None:
        from ravine import plots

        with plots.style():
            plots.save(plots.forecast_figure(seen.run, seen.horizon, 2 * (1 + momentum) / eta), plot, force=force)
    if as_json:
        typer.echo(json.dumps(_record(seen, problem), allow_nan=False))
        return
    _print(seen)
    if plot is not None:
        typer.echo(f"wrote {plot}")


command.__doc__ = (
    "Predict what SAM, USAM or gradient descent will do next on a network, and up to which step that is valid.\n\n"
    "Example: ravine forecast my_package.my_task:problem --checkpoint ck.pt --eta 0.1 --rho 0.05 --steps 400 "
    "--plot forecast.svg"
)


def _method(name: str, eta: float, rho: float | None, momentum: float) -> Method:
    from ravine.methods import GD, SAM, USAM

    if name not in ("sam", "usam", "gd"):
        raise ValueError(f"--method {name}: use sam, usam or gd")
    if name == "gd":
        if rho is not None:
            raise ValueError("--rho: gd has none; leave it out")
        return GD(eta=eta, momentum=momentum)
    if rho is None:
        raise ValueError(f"--method {name} needs --rho")
    return (SAM if name == "sam" else USAM)(eta=eta, rho=rho, momentum=momentum)


def _record(seen: Forecast, problem: str) -> dict[str, Any]:
    def finite(values: list[float]) -> list[float | None]:
        return [value if math.isfinite(value) else None for value in values]

    return {
        "problem": problem,
        "horizon": seen.horizon,
        "tol": seen.tol,
        "verdict": seen.verdict,
        "arrival": seen.arrival,
        "floor": seen.floor,
        "sharpness": seen.sharpness,
        "sharpness_residual": seen.sharpness_residual,
        "products": seen.products,
        "gradients": seen.gradients,
        "checks": {str(name): finite(seen.checks[name].values.tolist()) for name in seen.checks.data_vars},
        "run": {str(name): finite(seen.run[name].values.tolist()) for name in seen.run.data_vars},
    }


def _print(seen: Forecast) -> None:
    first, last = seen.run.isel(step=0), seen.run.isel(step=-1)
    at_end = f"at step {int(last['step'])}"
    typer.echo(seen.verdict)
    ahead = f"{float(last['sharpness']):.6g} {at_end}"
    typer.echo(f"λ_max {seen.sharpness:.6g} ± {seen.sharpness_residual:.2g} now, {ahead}")
    typer.echo(f"‖g‖ {float(first['grad_norm']):.6g} now, {float(last['grad_norm']):.6g} {at_end}")
    arrival = "not within these steps" if seen.arrival is None else f"step {seen.arrival}"
    typer.echo(f"arrives at the bounce: {arrival}")
    typer.echo(f"{seen.products} Hessian products, {seen.gradients} gradients")
