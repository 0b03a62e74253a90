"""What an experiment is: something run, drawn, predicted and measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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
    tolerance
        The check holds if |measured − predicted| ≤ tolerance.
    """

    experiment: str
    quantity: str
    predicted: float
    measured: float
    tolerance: float

    @property
    def holds(self) -> bool:
        """Whether prediction and measurement agree; a measurement that is not a number never does."""
        return bool(abs(self.measured - self.predicted) <= self.tolerance)


@dataclass(frozen=True)
class Picture:
    """A figure with the name of its files, its caption (what to see), and a description for those who cannot see it."""

    name: str
    caption: str
    description: str
    figure: Figure


@dataclass(frozen=True)
class Outcome:
    """What came of an experiment.

    Attributes
    ----------
    name, title
        The name on the command line, and a heading.
    story
        Paragraphs for a newcomer.
    pictures, checks
        What was drawn, and what was compared.
    seeds
        Every seed that went in.
    """

    name: str
    title: str
    story: tuple[str, ...]
    pictures: tuple[Picture, ...]
    checks: tuple[Check, ...]
    seeds: tuple[int, ...] = ()
    parameters: dict[str, float] = field(default_factory=dict)
