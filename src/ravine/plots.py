"""Pictures of Runs. They read a Run and an Objective; the core knows none of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from ravine import schema
from ravine.extras import require
from ravine.files import write_beside
from ravine.objectives import Objective

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette: told apart with any colour vision, and in grey by lightness.
BLUE, GREEN, ORANGE, VERMILION, PURPLE, GREY = "#0072B2", "#009E73", "#E69F00", "#D55E00", "#CC79A7", "#6b6b6b"
COLOURS = {"sam": BLUE, "gd": GREEN, "sgd": GREEN, "usam": ORANGE}
MARKERS = {"sam": "o", "gd": "s", "sgd": "s", "usam": "^"}
NAMES = {"sam": "SAM", "gd": "gradient descent", "sgd": "SGD", "usam": "USAM"}
# What has diverged past this is not drawn: matplotlib's own margins would overflow.
_LARGEST = 1e100

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "ravine",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "legend.frameon": False,
}


@contextmanager
def style() -> Iterator[None]:
    """The house's drawing style, for the block.

    Raises
    ------
    MissingExtra
        If matplotlib is not installed.
    """
    require("matplotlib", "report")
    import matplotlib as mpl

    with mpl.rc_context(_STYLE):
        yield


def new_figure(width: float, height: float, layout: Any = "constrained") -> Figure:
    """An empty figure of the given size in inches, outside any window system."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout=layout)


def contours(ax: Axes, objective: Objective, x: tuple[float, float], y: tuple[float, float], levels: Any = 14) -> None:
    """Contours of a two-dimensional loss over a rectangle."""
    across, up = np.linspace(*x, 81), np.linspace(*y, 81)
    values = np.array([[objective.value(np.array([a, b])) for a in across] for b in up])
    ax.contour(across, up, np.ma.masked_invalid(values), levels=levels, colors="#b5b5b5", linewidths=0.7)
    ax.set_xlim(*x)
    ax.set_ylim(*y)


def path(
    ax: Axes,
    run: xr.Dataset,
    index: int = 0,
    *,
    label: str | None = None,
    alpha: float = 1.0,
    zorder: float = 2.0,
) -> None:
    """The iterates of run `index` in the plane of its first two coordinates, joined in order.

    `label` is the method's name unless given; `alpha` and `zorder` are matplotlib's: opacity, and what lies over what.
    """
    method = str(run["method"].values[index])
    w = run["w"].values[index]
    ax.plot(
        w[:, 0], w[:, 1], color=COLOURS.get(method, PURPLE), marker=MARKERS.get(method, "D"), markersize=3.5,
        linewidth=0.7, label=label or NAMES.get(method, method), alpha=alpha, zorder=zorder,
    )  # fmt: skip


def frame(points: np.ndarray, margin: float = 0.12) -> tuple[tuple[float, float], tuple[float, float]]:
    """Limits of x and y around points of shape (…, 2), those that can be drawn."""
    flat = points.reshape(-1, 2)
    flat = flat[(np.abs(flat) < _LARGEST).all(axis=1)]
    if not flat.size:
        return (-_LARGEST, _LARGEST), (-_LARGEST, _LARGEST)
    low, high = flat.min(axis=0), flat.max(axis=0)
    pad = margin * np.maximum(high - low, 1e-3 * np.maximum(1.0, np.abs(high)))
    return (low[0] - pad[0], high[0] + pad[0]), (low[1] - pad[1], high[1] + pad[1])


def figure_of(run: xr.Dataset, objective: Objective) -> Figure:
    """One picture of a Run: the path over the loss's contours in two dimensions, and loss and ‖∇ℓ‖ against the step."""
    flat = run.sizes["coord"] == 2
    # Fixed margins: finding them by drawing twice would double the time of `ravine simulate --plot`.
    figure = new_figure(10 if flat else 7, 4, layout="none")
    axes = list(figure.subplots(1, 2 if flat else 1, squeeze=False)[0])
    figure.subplots_adjust(left=0.08, right=0.98, bottom=0.13, top=0.86, wspace=0.2)
    if flat:
        ax = axes[0]
        contours(ax, objective, *frame(run["w"].values))
        for k in range(run.sizes["run"]):
            path(ax, run, k)
        ax.set(xlabel="w₁", ylabel="w₂", title="iterates over contours of the loss")
        ax.legend()
    ax = axes[-1]
    for k in range(run.sizes["run"]):
        method = str(run["method"].values[k])
        colour, name = COLOURS.get(method, PURPLE), NAMES.get(method, method)
        norm, loss = (run[quantity].isel(run=k) for quantity in ("grad_norm", "loss"))
        ax.plot(run["step"], norm.where(norm < _LARGEST), color=colour, label=f"{name}: gradient norm")
        ax.plot(run["step"], loss.where(abs(loss) < _LARGEST), color=colour, linestyle="--", label=f"{name}: loss")
    if float(run["loss"].min()) >= 0 and float(run["grad_norm"].max()) > 0:
        from matplotlib.ticker import LogFormatter, NullFormatter

        ax.set_yscale("log")
        # Plain "1e-05": typeset powers of ten cost a quarter of a second.
        ax.yaxis.set_major_formatter(LogFormatter())
        ax.yaxis.set_minor_formatter(NullFormatter())
    ax.set(xlabel="step", title="loss (dashed) and gradient norm (solid)")
    ax.legend(fontsize=8)
    words = schema.statuses(run)
    figure.suptitle("; ".join(sorted(set(words)))[:160], fontsize=9, color=GREY)
    return figure


def forecast_figure(run: xr.Dataset, horizon: int, edge: float) -> Figure:
    """‖∇ℓ‖, loss and λ_max as predicted, against the step; shaded past the horizon, where it is not valid.

    `edge` is the curvature at which gradient descent loses its stability, 2(1+m)/η.
    """
    figure = new_figure(10, 3.2)
    axes = figure.subplots(1, 3)
    last = int(run["step"][-1])
    for ax, name, title in zip(
        axes, ("grad_norm", "loss", "sharpness"), ("gradient norm", "loss", "λ_max (curvature)"), strict=True
    ):
        ax.plot(run["step"], run[name], color=BLUE, linewidth=1)
        if horizon < last:
            ax.axvspan(horizon, last, color="#eeeeee", zorder=0, label="past the horizon")
        ax.set(xlabel="step", title=title)
    low, high = axes[2].get_ylim()
    if edge <= high + 3 * max(high - low, high / 3):
        axes[2].axhline(edge, color="black", linewidth=0.9, linestyle="--", label="edge of stability")
    else:
        # On the axis it would press the curve flat.
        label = f"edge of stability {edge:.3g}, far above"
        axes[2].plot([], [], color="black", linewidth=0.9, linestyle="--", label=label)
    axes[2].legend(fontsize=8)
    return figure


def follow_figure(run: xr.Dataset) -> Figure:
    """A followed run in the field's form: λ_max with 2/η and SAM-edge; alignments; loss and ‖∇ℓ‖; the spectrum."""
    figure = new_figure(10, 6.4)
    sharp, aligned, loss, fall = figure.subplots(2, 2).flat
    step = run["step"].values
    sharp.plot(step, run["eigenvalues"].isel(pair=0), "o-", color=BLUE, markersize=3, linewidth=0.8, label="λ_max")
    edge = "2(1+m)/η" if (run["momentum"] > 0).any() else "2/η"
    sharp.plot(step, run["gd_edge"], color="black", linewidth=0.9, linestyle="--", label=edge)
    if np.isfinite(run["sam_edge"]).any():
        sharp.plot(step, run["sam_edge"], color=VERMILION, linewidth=0.9, linestyle=":", label="SAM-edge")
    sharp.set(xlabel="step", ylabel="curvature", title="sharpness and edges")
    aligned.plot(step, run["gradient_alignment"], "o-", color=BLUE, markersize=3, linewidth=0.8, label="gradient")
    aligned.plot(step, run["alignment"], "s-", color=GREEN, markersize=3, linewidth=0.8, label="last step")
    aligned.set(xlabel="step", ylabel="|cos| with e₁", title="alignment", ylim=(-0.03, 1.03))
    loss.plot(step, run["loss"], color=BLUE, linewidth=1, label="loss")
    loss.plot(step, run["grad_norm"], color=ORANGE, linewidth=1, linestyle="--", label="gradient norm")
    if float(run["loss"].min()) > 0 and float(run["grad_norm"].min()) > 0:
        loss.set_yscale("log")
    loss.set(xlabel="step", title="loss and gradient norm")
    for one in range(run.sizes["step"]):
        shade = one / max(1, run.sizes["step"] - 1)
        fall.vlines(run["eigenvalues"].isel(step=one), one, one + 0.8, color=BLUE, alpha=0.35 + 0.65 * shade)
    fall.set(xlabel="curvature", ylabel="look", title="spectrum, later looks higher up")
    for ax in (sharp, aligned, loss):
        ax.legend(fontsize=8)
    return figure


def save(figure: Figure, path: str | Path, *, force: bool = False) -> None:
    """Write a figure; the file's ending says the format (svg, png, pdf).

    Raises
    ------
    ValueError
        If the file exists and `force` is not set, or the ending is none of these.
    """
    ending = Path(path).suffix.lower().lstrip(".")
    if ending not in ("svg", "png", "pdf"):
        raise ValueError(f"{path}: a picture's name ends in .svg, .png or .pdf")
    with write_beside(path, force=force) as temporary:
        # A date inside the file would make equal pictures differ.
        metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(ending)
        figure.savefig(temporary, format=ending, dpi=150, metadata=metadata)
