"""The experiments: one file each, with what it runs, draws, predicts and measures."""

from __future__ import annotations

from collections.abc import Callable

from ravine.experiments import figure_1, figure_2, network, probe, section_6
from ravine.experiments.experiment import Check, ExperimentOutcome, Formula, Panel, Picture, Progress, repeated

EXPERIMENTS: dict[str, Callable[[Progress], ExperimentOutcome]] = {
    "figure-1": figure_1.run,
    "figure-2": figure_2.run,
    "figure-3": section_6.figure_3,
    "figure-4": section_6.figure_4,
    "figure-5": section_6.figure_5,
    "network": network.run,
    "probe": probe.run,
}

__all__ = ["EXPERIMENTS", "Check", "ExperimentOutcome", "Formula", "Panel", "Picture", "Progress", "repeated"]
