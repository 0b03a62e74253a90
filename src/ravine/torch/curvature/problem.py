"""A user's training problem, named on the command line as ``package.module:function``."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from ravine.torch.curvature.probe import Probe

# Where checkpoints of common training loops keep the model.
_KEYS = ("model", "state_dict", "model_state_dict")


def load_problem(name: str, checkpoint: str | Path | None = None) -> Probe:
    """The probe of ``problem() -> (model, loss_fn, batches)``, with a checkpoint's parameters if one is given.

    Parameters
    ----------
    name
        ``package.module:function``, looked for in the current folder, too. This runs the user's own code.
    checkpoint
        A file of ``torch.save``: the model's ``state_dict()``, or a dictionary that holds it as ``model``,
        ``state_dict`` or ``model_state_dict``. Only tensors are read from it, no code.

    Raises
    ------
    ValueError
        If there is no such function, it returns something else, or the checkpoint does not fit.
    """
    module_name, _, function = name.partition(":")
    if not module_name or not function:
        raise ValueError(f"{name}: name a function as package.module:function")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        raise ValueError(f"{name}: no module named {error.name}; run from the folder that holds it") from None
    problem = getattr(module, function, None)
    if not callable(problem):
        raise ValueError(f"{name}: {module_name} has no function {function}")
    made: Any = problem()
    if not isinstance(made, tuple) or len(made) != 3:
        raise ValueError(f"{name}: must return (model, loss_fn, batches), not {type(made).__name__}")
    model, loss_fn, batches = made
    if checkpoint is not None:
        _restore(model, Path(checkpoint))
    return Probe(model, loss_fn, batches)


def _restore(model: torch.nn.Module, path: Path) -> None:
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(f"{path}: not a checkpoint of tensors ({' '.join(str(error).split())[:120]})") from None
    for key in _KEYS:
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
            break
    try:
        model.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: does not fit the model ({' '.join(str(error).split())[:200]})") from None
