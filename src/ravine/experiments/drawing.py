"""What the experiments' pictures share: time along a path, haloed crosses, legends beside the data and not over it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Colormap

SMALL = 9
"""Size of a legend's text, and of words inside axes."""

FIXED_WHITE, FIXED_BLACK, FIXED_BLUE = "#fefefe", "#010101", "#2a86cc"
"""For heat maps, what lies on them, and dots by the thousand: a page in the dark changes the colours of lines, not of pixels."""

# Its hue says the step to any colour vision, and each of its colours stands out (3:1) from white paper and from a dark page.
_FROM, _OVER, _TO = "#c47a00", "#c2527f", "#1f74c0"


def step_colours() -> Colormap:
    """The colours of the steps, from the first to the last."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("steps", [_FROM, _OVER, _TO])


def path_in_time(ax: Axes, w: np.ndarray, *, label: str) -> None:
    """Iterates of shape (step, 2), joined in order and coloured by the step, with a colour bar beside the axes."""
    from matplotlib.collections import LineCollection

    colours, last = step_colours(), len(w) - 1
    joined = np.stack([w[:-1], w[1:]], axis=1)
    lines = LineCollection(list(joined), cmap=colours, linewidths=0.9, alpha=0.75, zorder=3)
    lines.set_array(np.arange(last))
    lines.set_clim(0, last)
    ax.add_collection(lines, autolim=False)
    dots = ax.scatter(*w.T, c=np.arange(last + 1), cmap=colours, vmin=0, vmax=last, s=18, zorder=4, linewidths=0)
    # The legend's dot has a colour of the middle: its own would be that of no step.
    ax.plot([], [], color=_OVER, marker="o", markersize=4.5, linewidth=0.9, label=label)
    colour_bar(ax, dots, "step")


def colour_bar(ax: Axes, mappable: ScalarMappable, label: str) -> None:
    """What the colours mean, beside the axes."""
    bar = ax.figure.colorbar(mappable, ax=ax, label=label, pad=0.03, aspect=28, fraction=0.06)
    bar.outline.set_visible(False)


def start_mark(ax: Axes, point: Any, offset: tuple[float, float] = (9, 7), colour: str = "black") -> None:
    """A ring about the start, with the word beside it, `offset` points away."""
    ax.plot(*point, "o", color="none", markeredgecolor=colour, markersize=10, markeredgewidth=1.3, zorder=6)
    side = "left" if offset[0] >= 0 else "right"
    ax.annotate("start", point, offset, textcoords="offset points", fontsize=SMALL, ha=side, color=colour, zorder=7)


def crosses(ax: Axes, points: np.ndarray, *, label: str, on_heat: bool = False) -> None:
    """Pluses at points of shape (n, 2), each with a halo that parts it from what it lies on."""
    from matplotlib.patheffects import Normal, withStroke

    ink, halo = (FIXED_BLACK, FIXED_WHITE) if on_heat else ("black", "white")
    size, width = (11, 1.4) if on_heat else (15, 1.8)
    line = ax.plot(*points.T, "+", color=ink, markersize=size, markeredgewidth=width, label=label, zorder=2.8)[0]
    line.set_path_effects([withStroke(linewidth=width + 2.2, foreground=halo), Normal()])


def legend_below(ax: Axes, columns: int = 2) -> None:
    """The legend under the label of the abscissa, where no data are; row by row."""
    from matplotlib.transforms import ScaledTranslation

    under = ax.transAxes + ScaledTranslation(0, -38 / 72, ax.figure.dpi_scale_trans)
    options: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (0, 0), "bbox_transform": under}
    handles, labels = ax.get_legend_handles_labels()
    # Matplotlib fills a legend column by column.
    order = [k for column in range(columns) for k in range(column, len(labels), columns)]
    ax.legend(
        [handles[k] for k in order],
        [labels[k] for k in order],
        ncols=columns,
        fontsize=SMALL,
        borderpad=0,
        borderaxespad=0,
        columnspacing=1.4,
        **options,
    )


def level(ax: Axes, height: float, label: str, dashes: tuple[int, int] = (5, 3)) -> None:
    """A broken line across the axes at `height`; its name goes into the legend, for beside it there may be data."""
    ax.axhline(height, color="black", linewidth=0.9, linestyle=(0, dashes), zorder=1, label=label)


def agreement(ax: Axes, predicted: np.ndarray, measured: np.ndarray) -> None:
    """Measured against predicted, a dot a parameter, over the diagonal on which they are equal."""
    limit = 1.08 * max(np.abs(predicted).max(), np.abs(measured).max())
    ax.plot([-limit, limit], [-limit, limit], color="black", linewidth=0.8, linestyle="--", label="equal")
    # Thousands of dots: as a drawing they would be most of the page's bytes.
    ax.plot(predicted, measured, ".", color=FIXED_BLUE, markersize=3, label="parameters", rasterized=True)
    ax.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal")
