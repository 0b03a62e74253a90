"""The mean over processes that hold a part of the data each, and what all of them must agree on."""

from __future__ import annotations

from typing import Any, Protocol, final

import torch
import torch.distributed as dist
from torch import Tensor

from ravine.torch.sharding import agreed


class Processes(Protocol):
    """Whose data a mean is over; its implementations are final."""

    def mean(self, own: Tensor) -> Tensor:
        """The mean over all samples, from that over this process's."""
        ...

    def mean_value(self, own: float, like: Tensor) -> float:
        """`mean` of one number; where it is sent, as a tensor of this dtype and device."""
        ...

    def largest(self, own: Tensor) -> Tensor:
        """The largest of the processes' values."""
        ...

    def all_agree(self, own: bool, device: torch.device) -> bool:
        """Whether every process says True."""
        ...


@final
class OneProcess:
    """All the data is here, or is summed elsewhere."""

    def mean(self, own: Tensor) -> Tensor:
        return own

    def mean_value(self, own: float, like: Tensor) -> float:
        return own

    def largest(self, own: Tensor) -> Tensor:
        return own

    def all_agree(self, own: bool, device: torch.device) -> bool:
        return own


@final
class EveryProcess:
    """Each process of the default group holds a part of the data; every process makes the same calls.

    Parameters
    ----------
    samples
        How many this process holds.
    like
        A tensor of the dtype and device that the sum goes in.

    Raises
    ------
    ValueError
        Without a process group.
    """

    def __init__(self, samples: int, like: Tensor) -> None:
        if not (dist.is_available() and dist.is_initialized()):
            raise ValueError("distributed: no process group; call torch.distributed.init_process_group first")
        total = like.new_tensor([float(samples)])
        dist.all_reduce(total)
        self._share = samples / float(total[0])

    def mean(self, own: Tensor) -> Tensor:
        total = own * self._share
        dist.all_reduce(total)
        return total

    def mean_value(self, own: float, like: Tensor) -> float:
        return float(self.mean(like.new_tensor(own)))

    def largest(self, own: Tensor) -> Tensor:
        largest = own.clone()
        dist.all_reduce(largest, op=dist.ReduceOp.MAX)
        return largest

    def all_agree(self, own: bool, device: torch.device) -> bool:
        return bool(agreed(own, device))


def gathered(own: Any) -> list[Any]:
    """Every process's object, by rank."""
    seen: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(seen, own)
    return seen


def refuse_together(wrong: str | None) -> None:
    """Raise on every process what is wrong on one: the others would wait for it.

    Raises
    ------
    ValueError
        This process's own message, or the first other's with its rank.
    """
    refuse_any(gathered(wrong))


def refuse_any(seen: list[str | None]) -> None:
    """`refuse_together` of messages that were gathered already.

    Raises
    ------
    ValueError
        If one is not None.
    """
    own = seen[dist.get_rank()]
    if own is not None:
        raise ValueError(own)
    for rank, wrong in enumerate(seen):
        if wrong is not None:
            raise ValueError(f"process {rank}: {wrong}")


def message_of(error: Exception) -> str:
    """What to tell the other processes of an error."""
    return str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
