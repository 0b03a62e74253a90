"""Drawings inside a page that may be light or dark, wide or narrow."""

from __future__ import annotations

import re

from ravine import plots

# Colours that the page's style sheet takes over; any other is drawn as it is.
THEMED = {
    "#000000": "ink",
    "#ffffff": "paper",
    "#b5b5b5": "contour",
    plots.GREY.lower(): "grey",
    plots.BLUE.lower(): "blue",
    plots.GREEN.lower(): "green",
}


def inline(svg: str, name: str) -> str:
    """A drawing of Matplotlib's, for use inside HTML.

    Without prologue, metadata, style sheet or fixed size; with identifiers that are unique among several on one page,
    and with black, white and the palette's colours as variables of the page's style sheet.
    """
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
