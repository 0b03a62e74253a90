"""The data of a mean loss: batches, and the exact weight of each."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, final

from torch import Tensor


@final
@dataclass(frozen=True, repr=False)
class Batches:
    """Batches and how many samples each holds; made by `Batches.of`.

    Attributes
    ----------
    held
        The batches, as the loader gave them.
    counts
        What each batch's loss is the mean over.
    """

    held: list[Any]
    counts: list[int]

    @classmethod
    def of(cls, batches: Iterable[Any], size: Callable[[Any], Any] | None = None) -> Batches:
        """A list of batches or a loader, read once; `size` counts a batch, by default its first tensor's length.

        Raises
        ------
        ValueError
            If there is none, one is empty, or its samples cannot be counted.
        """
        held = list(batches)
        if not held:
            raise ValueError("batches: pass at least one batch, as a list")
        if size is not None and not callable(size):
            raise ValueError(f"size: give a function that counts a batch's samples, not {size!r}")
        # As plain numbers: a tensor's weights would be rounded to float32.
        counts = [_as_number((size or _length)(batch)) for batch in held]
        if min(counts) < 1:
            raise ValueError("batches: a batch is empty; leave it out")
        return cls(held, counts)

    def __repr__(self) -> str:
        return f"Batches({len(self.held)} of {self.samples} samples)"

    @property
    def samples(self) -> int:
        """How many samples there are in all."""
        return sum(self.counts)

    def weights(self, samples: int) -> list[float]:
        """Each batch's share of `samples`: a ragged batch weighs what it holds."""
        return [count / samples for count in self.counts]


def tensors(batch: Any) -> list[Tensor]:
    """Every tensor in a batch, through tuples, lists and dictionaries."""
    if isinstance(batch, Tensor):
        return [batch]
    members = batch.values() if isinstance(batch, dict) else batch if isinstance(batch, tuple | list) else ()
    return [tensor for member in members for tensor in tensors(member)]


def _as_number(count: Any) -> int:
    return count.item() if isinstance(count, Tensor) else count  # pyright: ignore[reportReturnType]


def _length(batch: Any) -> int:
    """The length of the first tensor in a batch, looked for in tuples, lists and dictionaries."""
    if isinstance(batch, Tensor):
        if batch.ndim == 0:
            raise ValueError("batches: a batch is a bare number; pass a list of batches, each with its samples first")
        return batch.shape[0]
    members = batch.values() if isinstance(batch, dict) else batch
    if isinstance(batch, tuple | list | dict):
        for member in members:
            if isinstance(member, Tensor | tuple | list | dict):
                return _length(member)
    raise ValueError("batches: no tensor in a batch; pass size=… that counts its samples")
