"""What the second pass repeats of the first, its random numbers, and what it leaves alone, BatchNorm's statistics."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn

from ravine.torch.optimizers.switches import Switches
from ravine.torch.passes import (
    GeneratorStates,
    frozen_statistics,
    is_beside_training,
    random_state,
    set_random_state,
    statistics_of,
)


class Repetition:
    """Runs the second pass as `switches` say.

    Parameters
    ----------
    switches
        Whether dropout masks are repeated and statistics frozen, and of which model.
    devices
        Whose generators draw.
    """

    def __init__(self, switches: Switches, devices: set[torch.device]):
        self._model = switches.model
        self._same_dropout = switches.same_dropout
        self._statistics = statistics_of(self._model) if switches.freezes_statistics else []
        self._noise: Noise | None = None
        if self._model is not None and self._same_dropout and _has_dropout(self._model):
            self._noise = Noise(self._model, devices)

    def __repr__(self) -> str:
        return f"Repetition(same_dropout={self._same_dropout}, {len(self._statistics)} frozen norms)"

    def from_here(self, devices: set[torch.device]) -> AbstractContextManager[None]:
        """A second pass that draws what is drawn from now on. Enter it after the first."""
        return self._repeated(random_state(devices) if self._same_dropout else None, devices)

    @contextmanager
    def _repeated(self, state: GeneratorStates | None, devices: set[torch.device]) -> Iterator[None]:
        after = None if state is None else random_state(devices)
        if state is not None:
            set_random_state(state)
        try:
            with frozen_statistics(self._statistics):
                yield
        finally:
            if after is not None:
                set_random_state(after)
            self.forget()

    def of_forwards(self) -> AbstractContextManager[None]:
        """A second pass whose forwards draw what those of the first one drew, one by one.

        Raises
        ------
        ValueError
            If no forward was seen whose masks could be repeated.
        """
        if self._noise is not None and not self._noise.states and self._model is not None and self._model.training:
            raise ValueError(
                "same_dropout: no forward of model= was seen in the first pass; give the module whose forward the "
                "loop calls, or pass same_dropout=False"
            )
        return self._replayed()

    @contextmanager
    def _replayed(self) -> Iterator[None]:
        noise = self._noise
        with frozen_statistics(self._statistics), noise.replayed() if noise and noise.states else nullcontext():
            yield

    def forget(self) -> None:
        """The step is over: what its first pass drew is not the next one's."""
        if self._noise is not None:
            self._noise.states.clear()

    def set_aside(self) -> AbstractContextManager[None]:
        """What waits to be repeated is afterwards as it was."""
        return nullcontext() if self._noise is None else self._noise.set_aside()


def _has_dropout(model: nn.Module) -> bool:
    """Whether a module of `model` draws random numbers in training."""
    return any(
        (isinstance(m, nn.modules.dropout._DropoutNd) and m.p > 0)
        or (isinstance(m, nn.MultiheadAttention | nn.RNNBase) and m.dropout > 0)
        for m in model.modules()
    )


_UNEQUAL = (
    "same_dropout: the second pass ran the model (model=) {} times and the first pass {}; run the same training "
    "forwards in both, each through that module, or pass same_dropout=False"
)


class Noise:
    """The k-th forward of the second pass draws what the k-th forward of the first one drew.

    A forward pre-hook on the model: with it the loop needs no closure, may accumulate, and may draw other random
    numbers (augmentation) between the forwards.
    """

    def __init__(self, model: nn.Module, devices: set[torch.device]):
        self.devices = devices
        self.states: list[GeneratorStates] = []
        self.played: int | None = None
        self.handle = model.register_forward_pre_hook(_Hook(self))

    def before_forward(self) -> None:
        """Record in the first pass, replay in the second."""
        if self.played is None:
            self.states.append(random_state(self.devices))
            return
        if self.played >= len(self.states):
            raise ValueError(_UNEQUAL.format(self.played + 1, len(self.states)))
        set_random_state(self.states[self.played])
        self.played += 1

    @contextmanager
    def set_aside(self) -> Iterator[None]:
        """What waits to be replayed is afterwards as it was."""
        waiting, self.states = self.states, []
        try:
            yield
        finally:
            self.states = waiting

    @contextmanager
    def replayed(self) -> Iterator[None]:
        """The second pass; the generators end where the first pass left them, or later."""
        after = random_state(self.devices)
        self.played = 0
        try:
            yield
            if self.played != len(self.states):
                raise ValueError(_UNEQUAL.format(self.played, len(self.states)))
        finally:
            self.played = None
            self.states.clear()
            set_random_state(after)


class _Hook:
    """A forward pre-hook that neither keeps the optimizer alive nor goes into a copy or a pickle of the model."""

    def __init__(self, noise: Noise | None = None):
        self.noise = None if noise is None else weakref.ref(noise)

    def __call__(self, module: nn.Module, inputs: Any) -> None:
        noise = None if self.noise is None else self.noise()
        if noise is not None and module.training and torch.is_grad_enabled() and not is_beside_training():
            noise.before_forward()

    def __reduce__(self) -> tuple[Any, ...]:
        return _Hook, ()
