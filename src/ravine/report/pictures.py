"""Pictures as files, and as SVG inside a page that may be light or dark, wide or narrow."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING

from ravine import plots
from ravine.experiments import Panel, Picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Colours that the page's style sheet takes over; any other is drawn as it is.
THEMED = {
    "#000000": "ink",
    "#ffffff": "paper",
    "#b5b5b5": "contour",
    plots.GREY.lower(): "grey",
    plots.BLUE.lower(): "blue",
    plots.GREEN.lower(): "green",
}


def whole(picture: Picture) -> Figure:
    """All panels of a picture on one sheet, for a file."""
    columns = min(picture.columns, len(picture.panels))
    rows = -(-len(picture.panels) // columns)
    width, height = picture.size
    figure = plots.new_figure(columns * width, rows * height)
    # A subfigure a panel: what one draws beside its axes cannot lie on another's.
    cells = figure.subfigures(rows, columns, squeeze=False, hspace=0.06).flat
    for cell, panel in zip(cells, picture.panels, strict=False):
        panel.draw(cell.subplots())
    return figure


def alone(panel: Panel, size: tuple[float, float]) -> Figure:
    """One panel as a figure of its own."""
    figure = plots.new_figure(*size)
    panel.draw(figure.subplots())
    return figure


def inline(figure: Figure, name: str) -> str:
    """A figure as SVG for use inside HTML.

    Without prologue, metadata, style sheet or fixed size; with identifiers that are unique among several on one page,
    and with black, white and the palette's colours as variables of the page's style sheet.
    """
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].rstrip()
    svg = re.sub(r"<metadata>.*?</metadata>\s*|<style.*?</style>\s*|<!--.*?-->\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r'^<svg [^>]*viewBox="([^"]+)"[^>]*>', r'<svg viewBox="\1" aria-hidden="true" focusable="false">', svg)
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", svg)
    svg = re.sub(r'xlink:href="#([^"]+)"', rf'href="#{name}-\1"', svg)
    svg = svg.replace("xlink:href=", "href=")
    return re.sub(r"#[0-9a-f]{6}\b", _variable, svg)


def _variable(found: re.Match[str]) -> str:
    name = THEMED.get(found[0])
    return f"var(--{name})" if name else found[0]
