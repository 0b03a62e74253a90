"""Steps of training that are taken back, and what a pass of the model changes beside its parameters."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from typing import Any

import torch
from torch import nn

from ravine.torch.optimizers.sam import SAM
from ravine.torch.passes import kept_buffers, random_state, set_random_state
from ravine.torch.sharding import fsdp_modules, local

_ON_TRIAL: set[int] = set()


def on_trial(optimizer: Any) -> bool:
    """Whether the steps that `optimizer` takes now will be taken back."""
    return id(optimizer) in _ON_TRIAL


@contextmanager
def trial(model: nn.Module, optimizer: Any) -> Iterator[None]:
    """Take steps inside; afterwards they were not taken, also after an error.

    Parameters, ``.grad``, buffers, modes, the optimizer's `state_dict`, and the generators of random numbers are as
    found to the bit; so are the diagnostics of a SAM, which logs nothing inside. Not taken back: what the steps do
    elsewhere, to a scheduler or a data loader.

    Raises
    ------
    ValueError
        While a SAM's weights are perturbed.

    Examples
    --------
    >>> import torch
    >>> from ravine.torch import SAM
    >>> from ravine.torch.optimizers.trials import trial
    >>> model = torch.nn.Linear(1, 1)
    >>> opt = SAM(torch.optim.SGD(model.parameters(), lr=0.1))
    >>> before = model.weight.item()
    >>> def closure():
    ...     opt.zero_grad()
    ...     loss = model(torch.ones(1)).square().sum()
    ...     loss.backward()
    ...     return loss
    >>> with trial(model, opt):
    ...     _ = opt.step(closure)
    ...     model.weight.item() == before
    False
    >>> model.weight.item() == before, opt.steps
    (True, 0)
    """
    state = deepcopy(optimizer.state_dict())
    for module in fsdp_modules(model):
        module.reshard()
    groups = [p for group in optimizer.param_groups for p in group["params"]]
    parameters = list(dict.fromkeys([*model.parameters(), *groups]))
    with torch.no_grad():
        found = [(p, local(p).clone(), p.grad) for p in parameters]
    modes = [(m, m.training) for m in model.modules()]
    generators = random_state({p.device for p in parameters})
    diagnostics = optimizer.taken_back() if isinstance(optimizer, SAM) else nullcontext()
    with diagnostics, kept_buffers(model):
        _ON_TRIAL.add(id(optimizer))
        try:
            for p, _, gradient in found:
                p.grad = None if gradient is None else gradient.clone()
            yield
        finally:
            _ON_TRIAL.discard(id(optimizer))
            for module in fsdp_modules(model):
                module.reshard()
            optimizer.load_state_dict(state)
            with torch.no_grad():
                for p, value, gradient in found:
                    local(p).copy_(value)
                    p.grad = gradient
            for m, mode in modes:
                m.training = mode
            set_random_state(generators)
