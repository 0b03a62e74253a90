"""Other functions in place of torch's own, while a block of code runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, final

from torch.overrides import TorchFunctionMode

Substitutes = Mapping[Any, Callable[..., Any]]
"""What to call in place of a function of torch, with its arguments."""


@final
class Substituted(TorchFunctionMode):
    """Calls of some functions of torch go to others, while the block runs.

    Parameters
    ----------
    substitutes
        By function; all others are called as they are.
    """

    def __init__(self, substitutes: Substitutes) -> None:
        super().__init__()
        self.substitutes = substitutes

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self.substitutes.get(func, func)(*args, **(kwargs or {}))
