"""What an experiment is: something run, drawn, predicted and measured."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ravine import plots

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Check:
    """A prediction beside its measurement.

    Attributes
    ----------
    experiment, quantity
        Which experiment, and what is compared, in words.
    predicted, measured
        The prediction comes from `ravine.theory`, the measurement from a Run.
    tol
        The check holds if |measured − predicted| ≤ tol.
    run
        Which run was measured, as `ravine.experiments.measure.identity` writes it: experiments that measure the same
        run say the same here.

    Examples
    --------
    >>> from ravine.experiments import Check
    >>> Check("figure-1", "half-width of the bounce", 0.5, 0.5001, 0.001, run="SAM from (2, 2)").holds
    True
    """

    experiment: str
    quantity: str
    predicted: float
    measured: float
    tol: float
    run: str = field(kw_only=True)

    @property
    def holds(self) -> bool:
        """Whether prediction and measurement agree; a measurement that is not a number never does."""
        return bool(abs(self.measured - self.predicted) <= self.tol)

    def repeats(self, other: Check) -> bool:
        """Whether both compare the same quantity of the same run, and found the same to the last bit."""
        return (self.run, self.quantity, self.predicted, self.measured, self.tol) == (
            other.run, other.quantity, other.predicted, other.measured, other.tol,
        )  # fmt: skip


@dataclass(frozen=True)
class Formula:
    """A formula in LaTeX, and what it says, in words."""

    latex: str
    meaning: str


@dataclass(frozen=True)
class Panel:
    """One pair of axes of a picture.

    Attributes
    ----------
    draw
        Draws it on empty axes. It is called more than once: for the picture as a whole, and for the panel alone.
    description
        For those who cannot see it.
    """

    draw: Callable[[Axes], None]
    description: str


@dataclass(frozen=True)
class Picture:
    """A figure: the name of its files, its caption (what to see), and its panels in so many columns.

    `size` is that of a panel, width and height in inches.
    """

    name: str
    caption: str
    panels: tuple[Panel, ...]
    columns: int = 2
    size: tuple[float, float] = (4.4, 4.0)

    def whole(self) -> Figure:
        """All panels on one sheet, for a file."""
        columns = min(self.columns, len(self.panels))
        rows = -(-len(self.panels) // columns)
        figure = plots.new_figure(columns * self.size[0], rows * self.size[1])
        # A subfigure a panel: what one draws beside its axes cannot lie on another's.
        cells = figure.subfigures(rows, columns, squeeze=False, hspace=0.06).flat
        for cell, panel in zip(cells, self.panels, strict=False):
            panel.draw(cell.subplots())
        return figure

    def alone(self, index: int) -> Figure:
        """One panel as a figure of its own, for a page on which panels find their places."""
        figure = plots.new_figure(*self.size)
        self.panels[index].draw(figure.subplots())
        return figure


@dataclass(frozen=True)
class Outcome:
    """What came of an experiment.

    Attributes
    ----------
    name, title
        The name on the command line, and a heading.
    story
        Paragraphs for a newcomer.
    formula
        The law that it is about.
    pictures, checks
        What is to be drawn, and what was compared.
    seeds
        Every seed that went in.
    """

    name: str
    title: str
    story: tuple[str, ...]
    formula: Formula
    pictures: tuple[Picture, ...]
    checks: tuple[Check, ...]
    seeds: tuple[int, ...] = ()
    parameters: dict[str, float] = field(default_factory=dict)


def repeated(outcomes: Iterable[Outcome]) -> dict[Check, str]:
    """The checks that say again what an earlier one said, each with the experiment of that one.

    Two experiments may run the same thing, as Figures 4 and 5 do: one measurement, however often it is taken, is counted
    once. A check that repeats another in words alone, of another run or with another result, is counted.
    """
    earlier: list[Check] = []
    found: dict[Check, str] = {}
    for check in (check for outcome in outcomes for check in outcome.checks):
        first = next((known for known in earlier if check.repeats(known)), None)
        if first is None:
            earlier.append(check)
        else:
            found[check] = first.experiment
    return found
