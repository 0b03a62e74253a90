"""The update rules in compiled form, over the compiled oracles of an objective."""

from __future__ import annotations

import inspect
from functools import lru_cache
from types import ModuleType

from ravine import generated
from ravine.kernels import loops

_PLACEHOLDER = "from ravine.objectives.diagonal import DIMENSION, gradient, value\n"


@lru_cache(maxsize=64)
def compiled(oracles: str) -> ModuleType:
    """The loops over the oracles given as source text (functions ``value`` and ``gradient``, constant ``DIMENSION``).

    The module's functions `advance` and `evaluate` compile on first call and are cached on disk.
    """
    before, placeholder, after = inspect.getsource(loops).partition(_PLACEHOLDER)
    assert placeholder, "the template no longer imports its oracles in the one known line"
    future = "from __future__ import annotations\n"
    return generated.load(before + oracles.replace(future, "") + after)
