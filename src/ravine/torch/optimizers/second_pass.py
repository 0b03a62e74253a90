"""What the second pass must share with the first: BatchNorm's statistics, and the random numbers."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from ravine.torch.passes import State, is_beside_training, random_state, set_random_state


def drops(model: nn.Module | None) -> bool:
    """Whether a module of `model` draws random numbers in training."""
    if model is None:
        return False
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
        self.states: list[State] = []
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
