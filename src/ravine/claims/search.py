"""The search for a negative margin: random draws for breadth, Hypothesis's odd shapes, a simplex for depth."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np

from ravine.claims.numbers import Floats
from ravine.claims.refutation import Refutation, hypotheses_of, refute
from ravine.claims.samplers import GIVEN, Draw, Instance
from ravine.claims.statement import Claim, Statement, Untested
from ravine.extras import require
from ravine.generated import cache_directory

_NOISE = 1e-7  # what Hypothesis is asked to beat; any negative float of the other searches is looked at
_UNITS = 24  # the length of a random stream: more than any sampler draws
_KEPT = 6
_GRID = tuple(k / 100 for k in range(101))


class Search:
    """The margins met so far, and the instances worth a second look.

    Attributes
    ----------
    given
        Parameters fixed by the user.
    instances, untested
        How many instances were evaluated, and on how many the claim said nothing within the limits.
    outside
        The hypotheses, with their margins, that the last instance outside them failed.
    worst
        The few instances of smallest margin: margin, instance, and the units that drew it (none for a seed).
    used
        How many units the sampler took last: the dimension of the search cube.

    Raises
    ------
    ValueError
        If `given` names what is no parameter.
    """

    def __init__(self, statement: Statement, claim: Claim, given: Mapping[str, Any]) -> None:
        if unknown := sorted(given.keys() - set(GIVEN)):
            raise ValueError(f"given: no parameter is called {unknown[0]!r}; give some of {', '.join(GIVEN)}")
        self._statement, self._claim, self.given = statement, claim, given
        self.instances = self.untested = 0
        self.outside: dict[str, float] = {}
        self.worst: list[tuple[float, Instance, list[float]]] = []
        self.used = 1

    def __repr__(self) -> str:
        return f"Search({self._statement.key}: {self.instances} instances)"

    def look(self, units: list[float]) -> float:
        """The float margin of the instance that a stream of units draws; +∞ where there is none."""
        draw = Draw(iter(units), self.given)
        instance = self._statement.draw(draw)
        self.used = max(1, min(draw.used, len(units)))
        return self.weigh(instance, units[: self.used])

    def weigh(self, instance: Instance, units: list[float]) -> float:
        """The float margin of an instance; +∞ where there is none."""
        n = Floats()
        try:
            hypotheses = hypotheses_of(self._statement, self._claim, instance, n)
            failing = {name: float(value) for name, value in hypotheses.items() if not value > 0}
            if failing:
                self.outside = failing
                return np.inf
            margin = float(self._claim.margin(instance, n))
        except (Untested, ArithmeticError, ValueError):
            self.untested += 1
            return np.inf
        if np.isnan(margin):
            self.untested += 1
            return np.inf
        self.instances += 1
        if len(self.worst) < _KEPT or margin < self.worst[-1][0]:
            self.worst = sorted([*self.worst, (margin, instance, units)], key=lambda item: item[0])[:_KEPT]
        return margin

    def refutation(self) -> Refutation | None:
        """The first of the worst instances that is certainly a counterexample."""
        for margin, instance, _ in self.worst:
            if margin >= 0:
                break
            found = refute(self._statement, self._claim, instance)
            if found is not None:
                return found
        return None


def try_at_random(search: Search, samples: int, rng: np.random.Generator) -> None:
    """Look at random streams."""
    for _ in range(samples):
        search.look(rng.random(_UNITS).tolist())


def try_odd_shapes(search: Search, examples: int, seed: int) -> None:
    """Hypothesis: streams of units with repeated, extreme and round entries."""
    hypothesis = require("hypothesis", "certify")
    st = hypothesis.strategies
    streams = st.lists(st.sampled_from(_GRID), min_size=search.used, max_size=search.used)
    settings = hypothesis.settings(
        max_examples=examples, database=None, deadline=None, suppress_health_check=list(hypothesis.HealthCheck)
    )
    with _undisturbed_hypothesis(), suppress(hypothesis.errors.NoSuchExample):
        hypothesis.find(
            streams, lambda units: search.look(units) < -_NOISE, settings=settings, random=random.Random(seed)
        )


def try_deeper(search: Search, evaluations: int) -> None:
    """Nelder and Mead's simplex, from the worst instances so far, over the sampler's unit cube."""
    from scipy.optimize import minimize

    for _, _, units in [item for item in search.worst if item[2]][:3]:
        minimize(
            lambda x: min(search.look(x.tolist()), 1e300),
            units,
            method="Nelder-Mead",
            bounds=[(0.0, 1.0)] * len(units),
            options={"maxfev": evaluations, "xatol": 1e-4, "fatol": 0.0},
        )


@contextmanager
def _undisturbed_hypothesis() -> Iterator[None]:
    """Two habits of Hypothesis set aside for the time of a search.

    It keeps a folder where the command was given: here with the other generated files. And it draws constants from
    whatever modules of the user are imported: a verdict must not depend on them.
    """
    name = "HYPOTHESIS_STORAGE_DIRECTORY"
    providers = require("hypothesis.internal.conjecture.providers", "certify")
    local = getattr(providers, "is_local_module_file", None)
    providers.is_local_module_file = lambda path: False  # pyright: ignore[reportAttributeAccessIssue]
    configuration = require("hypothesis.configuration", "certify")
    kept = getattr(configuration, "__hypothesis_home_directory", None)
    configuration.set_hypothesis_home_dir(os.environ.get(name) or cache_directory() / "hypothesis")
    try:
        yield
    finally:
        configuration.set_hypothesis_home_dir(kept)
        providers.is_local_module_file = local  # pyright: ignore[reportAttributeAccessIssue]
