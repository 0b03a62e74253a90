"""The report's page: whole, valid, readable in light and dark, by eye and by ear, on a desk and on a telephone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pages import Page

from ravine import plots
from ravine.experiments import EXPERIMENTS, Check, ExperimentOutcome, drawing
from ravine.report import build, provenance
from ravine.report.drawings import THEMED
from ravine.report.page import PAPER, number, typeset

NAMES = ("figure-1", "figure-2", "figure-3", "figure-4", "figure-5")


@pytest.fixture(scope="module")
def outcomes() -> list[ExperimentOutcome]:
    return [EXPERIMENTS[name](lambda stage, share: None) for name in NAMES]


@pytest.fixture(scope="module")
def folder(outcomes: list[ExperimentOutcome], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of the figures."""
    out = tmp_path_factory.mktemp("page") / "report"
    build(outcomes, {}, provenance("test", []), out, force=False)
    return out


@pytest.fixture(scope="module")
def source(folder: Path) -> str:
    return (folder / "index.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(source: str) -> Page:
    return Page(source)


def test_the_page_needs_nothing_from_elsewhere(folder: Path, page: Page, source: str) -> None:
    for link in page.links:
        here = link.startswith("#") and link[1:] in page.ids
        assert (
            here or link.startswith("data:image/png;base64,") or link in PAPER.values() or (folder / link).is_file()
        ), link
    assert set(PAPER.values()) <= set(page.attributes("href", "a"))
    assert page.tags.count("svg") == 2 * len(NAMES)
    assert len(page.ids) == len(set(page.ids))
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    references = re.findall(r"url\(#([^)]+)\)", source)
    assert references
    assert set(references) <= set(page.ids)


def test_each_section_has_one_formula(page: Page, outcomes: list[ExperimentOutcome]) -> None:
    where = [inside for tag, _, inside in page.elements if tag == "math"]
    assert sum("header" in inside for inside in where) == 1
    assert sum("section" in inside for inside in where) == len(outcomes)
    order = [tag for tag in page.tags if tag in ("header", "section", "math")]
    assert order == ["header", "math", *["section", "math"] * len(outcomes)]
    assert {"mfrac", "msub", "mo"} <= set(page.tags)


def test_formulas_are_mathml_and_nothing_else(source: str) -> None:
    for formula in re.findall(r"<math.*?</math>", source):
        assert "\\" not in formula
        assert "merror" not in formula
        widths = re.findall(r'width="([^"]*)"', formula)
        assert all(re.fullmatch(r"-?[0-9.]+em", width) for width in widths)


def test_the_page_can_be_read_aloud(page: Page) -> None:
    assert page.attributes("lang", "html") == ["en"]
    levels = [level for level, _ in page.headings]
    assert levels == [1] + [2] * (len(NAMES) + 1)
    assert all(text.strip() for _, text in page.headings)
    pictures_of_page = [attributes for _, attributes, _ in page.elements if attributes.get("role") == "img"]
    assert len(pictures_of_page) == 2 * len(NAMES)
    assert all(len(attributes.get("aria-label") or "") > 20 for attributes in pictures_of_page)
    assert page.attributes("aria-hidden", "svg") == ["true"] * 2 * len(NAMES)


def test_the_tables_become_cards(page: Page, outcomes: list[ExperimentOutcome]) -> None:
    """On a narrow page each number stands beside its column's name, which the row brings along."""
    columns = ["predicted", "measured", "tolerance", "verdict"]
    labels = page.attributes("data-label", "td")
    rows = page.attributes("scope", "th").count("row")
    assert labels == columns * rows
    assert rows == sum(len(outcome.checks) for outcome in outcomes) - 4


def test_drawings_take_the_width_that_there_is(page: Page) -> None:
    for tag, attributes, _ in page.elements:
        if tag == "svg":
            assert attributes.get("viewbox")
            assert not {"width", "height"} & set(attributes)
        assert tag != "pre"


def variables(style: str) -> dict[str, str]:
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", style))


def schemes(source: str) -> dict[str, dict[str, str]]:
    """The colours of the page in light and in dark."""
    (style,) = re.findall(r"<style>(.*?)</style>", source, flags=re.DOTALL)
    light, dark = style.split("@media screen and (prefers-color-scheme: dark)")[:2]
    return {"light": variables(light), "dark": variables(dark.split("* {")[0])}


def contrast(one: str, other: str) -> float:
    """WCAG's contrast of two colours, from 1 to 21."""

    def luminance(colour: str) -> float:
        parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    bright, dim = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dim + 0.05)


def test_contrast_as_wcag_has_it() -> None:
    assert contrast("#ffffff", "#000000") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_lines_stand_out(source: str, scheme: str) -> None:
    """AA: 4.5 for text, on the page and on a card; 3 for what carries meaning in a drawing."""
    colours = schemes(source)[scheme]
    for name in ("ink", "soft", "good", "bad", "link"):
        for ground in ("paper", "card"):
            assert contrast(colours[name], colours[ground]) >= 4.5, (name, ground)
    assert contrast(colours["bad"], colours["bad-paper"]) >= 4.5
    with plots.style():
        along = [drawing.step_colours()(share) for share in (0.0, 0.25, 0.5, 0.75, 1.0)]
    steps = ["#" + "".join(f"{round(255 * part):02x}" for part in colour[:3]) for colour in along]
    for colour in (colours["blue"], colours["green"], colours["grey"], drawing.FIXED_BLUE, *steps):
        assert contrast(colour, colours["paper"]) >= 3, colour


def test_drawings_follow_the_scheme(source: str) -> None:
    seen = schemes(source)
    for colour, name in THEMED.items():
        assert name in seen["dark"], name
        assert name in seen["light"], name
        drawn = "".join(re.findall(r"<svg.*?</svg>", source, flags=re.DOTALL))
        assert colour not in drawn, colour
    assert seen["light"]["blue"] == plots.BLUE.lower()
    assert seen["light"]["green"] == plots.GREEN.lower()
    used = set(re.findall(r"var\(--([\w-]+)\)", source)) - {"columns"}
    assert used <= seen["light"].keys()
    assert used <= seen["dark"].keys()


def test_subscripts_are_set() -> None:
    assert typeset("‖w_(t+2) − w_t‖ < λ_max") == "‖w<sub>t+2</sub> − w<sub>t</sub>‖ &lt; λ<sub>max</sub>"
    assert typeset("(−1)ᵗw_t of some_name and section_6") == "(−1)ᵗw<sub>t</sub> of some_name and section_6"


def test_numbers_are_written_as_people_write_them() -> None:
    assert number(1e-9) == "1e−9"
    assert number(-0.425127) == "−0.425127"
    assert number(0.0255076, 3) == "0.0255"
    assert number(0.0) == "0"


def test_a_page_that_is_not_closed_is_noticed() -> None:
    for broken in ("<p><b>x</p></b>", "<p>x", "</p>", '<p id="a" id="b">x</p>'):
        with pytest.raises(ValueError, match=r"closes|closed|twice"):
            Page(broken)


def test_a_failing_check_keeps_its_place(tmp_path: Path, outcomes: list[ExperimentOutcome]) -> None:
    bad = Check("figure-1", "a quantity", 1.0, 2.0, 0.1, run="r")
    first = outcomes[0]
    shown = ExperimentOutcome(first.name, first.title, first.story, first.formula, (), (bad,))
    build([shown], {}, provenance("test", []), tmp_path / "report", force=False)
    page = Page((tmp_path / "report" / "index.html").read_text(encoding="utf-8"))
    assert page.attributes("class", "tr") == ["fails"]
    assert "does not hold" in page.text
