"""The compiled loop alone, where `trajectory` cannot bring it: states that a start and a rule never reach together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ravine.kernels import loops

TINY = 1e-310  # subnormal


@dataclass
class State:
    """Runs of heavy ball on ½ Σ λᵢwᵢ², in the middle of what they do."""

    w: list[list[float]]
    velocity: list[list[float]]
    eigenvalues: list[float]
    event: list[int]

    def advance(self, steps: int, *, eta: float, momentum: float) -> list[int]:
        """Take steps from step 0; returns the steps at which runs ended, −1 for those that did not."""
        w, velocity, event = np.array(self.w), np.array(self.velocity), np.array(self.event)
        runs, d = w.shape
        event_step = np.full(runs, -1)
        rates = (np.full(runs, eta), np.zeros(runs), np.full(runs, False), np.full(runs, momentum))
        seen = (np.empty((runs, steps + 1, d)), event, event_step, np.full(runs, -1), np.full((runs, d), -1))
        loops.advance(w, velocity, np.zeros((runs, 0, d)), np.array([self.eigenvalues]), *rates, 0, steps, 1, *seen)
        self.w, self.velocity, self.event = w.tolist(), velocity.tolist(), event.tolist()
        return event_step.tolist()


def test_a_run_that_is_over_is_passed_by_and_the_next_goes_on() -> None:
    state = State([[1.0], [1.0]], [[0.0], [0.0]], [1.0], [loops.DIVERGED, loops.RUNNING])
    state.advance(3, eta=0.5, momentum=0.0)
    assert state.w == [[1.0], [0.125]]


def test_a_velocity_below_the_normal_numbers_is_zero() -> None:
    state = State([[0.0, 0.0]], [[TINY, -TINY]], [1.0, 1.0], [loops.RUNNING])
    state.advance(1, eta=0.5, momentum=0.5)
    assert state.velocity == [[0.0, 0.0]]


def test_an_iterate_that_overflows_has_diverged_at_that_step() -> None:
    state = State([[-1e308]], [[1e308]], [0.0], [loops.RUNNING])
    assert state.advance(1, eta=4.0, momentum=0.9) == [1]
    assert state.event == [loops.DIVERGED]


def test_what_is_undefined_stays_so_beside_a_coordinate_that_overflows() -> None:
    state = State([[0.0, -1e308]], [[np.nan, 1e308]], [0.0, 0.0], [loops.RUNNING])
    assert state.advance(1, eta=4.0, momentum=0.9) == [1]
    assert state.event == [loops.UNDEFINED]
