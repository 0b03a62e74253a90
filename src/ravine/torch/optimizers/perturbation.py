"""Tensors in, tensors out: gather gradients, measure them, move weights along them and back.

Lists of tensors go through torch's foreach kernels on every device. On the CPU a scalar is read where it is needed
(nothing waits there); on an accelerator every decision stays on the device as a 0-dim tensor.
"""

# torch has no public name for its foreach kernels.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import is_
from typing import Any

import torch
from torch import Tensor
from torch._utils import _flatten_dense_tensors

from ravine.torch.sharding import Layout, layout, local, summed

Scalar = float | Tensor
Flag = bool | Tensor


@dataclass
class Slot:
    """Parameters of one group, device, dtype and sharding: `owners` are stepped, `twins` are the model's."""

    group: dict[str, Any]
    where: Layout | None
    dtype: torch.dtype
    device: torch.device
    owners: list[Tensor] = field(default_factory=list)
    twins: list[Tensor] = field(default_factory=list)
    saved: list[Tensor | None] = field(default_factory=list)
    plain: bool = True

    def gather(self, dense: bool, disposable: bool) -> Bucket | None:
        """Those that have a gradient; None if none has."""
        grads = [t.grad for t in self.twins]
        places = None
        if any(g is None for g in grads):
            places = [i for i, g in enumerate(grads) if g is not None]
            if not places:
                return None
            grads = [grads[i] for i in places]
        if any(g.layout is not torch.strided for g in grads):  # pyright: ignore[reportOptionalMemberAccess]
            twins = self.twins if places is None else [self.twins[i] for i in places]
            grads = [_strided(t, dense) for t in twins]
        owners = self.owners if places is None else [self.owners[i] for i in places]
        bucket = Bucket(self, places, owners, owners, grads, owners, disposable)  # pyright: ignore[reportArgumentType]
        if not self.plain:
            bucket.weights = [local(p) for p in owners]
            bucket.grads = [local(g) for g in bucket.grads]
            twins = self.twins if places is None else [self.twins[i] for i in places]
            bucket.seen = bucket.weights if twins[0] is owners[0] else [local(t) for t in twins]
        return bucket


@dataclass
class Bucket:
    """The parameters of a slot that have a gradient.

    Attributes
    ----------
    slot, places
        Where they come from, and which of its parameters they are; None for all.
    owners, weights, grads
        The parameters, what this process holds of them, and of their gradients; same order.
    seen
        What the model computes with: `weights` themselves, or their rounded twins under float32 master weights.
    disposable
        Whether `grads` may be overwritten.
    saved
        The weights' copies while they are perturbed.
    measured, direction
        ε = ρ direction/‖measured‖: what the rule makes of `grads`.
    """

    slot: Slot
    places: list[int] | None
    owners: list[Tensor]
    weights: list[Tensor]
    grads: list[Tensor]
    seen: list[Tensor]
    disposable: bool
    saved: list[Tensor] = field(default_factory=list)
    measured: list[Tensor] = field(default_factory=list)
    direction: list[Tensor] = field(default_factory=list)

    @property
    def group(self) -> dict[str, Any]:
        return self.slot.group

    @property
    def where(self) -> Layout | None:
        return self.slot.where

    @property
    def device(self) -> torch.device:
        return self.slot.device


class Plan:
    """Which parameters go through foreach kernels together, and the buffers that hold their copies.

    Made once, and again when groups, devices or precisions change.
    """

    def __init__(self, groups: list[dict[str, Any]], twins: dict[Tensor, Tensor]):
        self.groups = list(groups)
        self.params = [p for group in groups for p in group["params"]]
        slots: dict[tuple[Any, ...], Slot] = {}
        for index, group in enumerate(groups):
            for p in group["params"]:
                where = layout(p)
                slot = slots.setdefault((index, p.device, p.dtype, where), Slot(group, where, p.dtype, p.device))
                slot.owners.append(p)
                slot.twins.append(twins[p] if p in twins else p)  # noqa: SIM401 (typed)
        self.slots = list(slots.values())
        for slot in self.slots:
            slot.plain = slot.where is None and not slot.dtype.is_complex and slot.owners[0] is slot.twins[0]

    def fits(self, groups: list[dict[str, Any]]) -> bool:
        """Whether nothing has changed."""
        params = [p for group in groups for p in group["params"]]
        return (
            len(params) == len(self.params)
            and len(groups) == len(self.groups)
            and all(map(is_, groups, self.groups))
            and all(map(is_, params, self.params))
            and all(s.owners[0].dtype is s.dtype and s.owners[0].device == s.device for s in self.slots)
        )

    def gather(self, *, dense: bool, disposable: bool = False) -> list[Bucket]:
        """The parameters that have a gradient, in buckets that foreach kernels take whole.

        A sparse gradient becomes a dense copy where `dense`, else its coalesced values, which share its storage.
        """
        return [b for slot in self.slots if (b := slot.gather(dense, disposable)) is not None]


def _strided(t: Tensor, dense: bool) -> Tensor:
    g = t.grad
    assert g is not None
    if g.layout is torch.strided:
        return g
    if dense:
        return g.to_dense()
    t.grad = g.coalesce()
    return t.grad.values()


def on_host(buckets: Sequence[Bucket]) -> bool:
    """Whether reading a scalar waits for no device."""
    return all(bucket.device.type == "cpu" for bucket in buckets)


SMALL, MANY = 2**19, 8  # below so many entries, in so many tensors, one flat copy costs less than a kernel a tensor


def _flat(tensors: list[Tensor]) -> Tensor | None:
    """All of them as one vector, where they are many and small."""
    if len(tensors) < MANY or sum(t.numel() for t in tensors) > SMALL:
        return None
    return _flatten_dense_tensors(tensors)


def norm(lists: Sequence[tuple[list[Tensor], Layout | None]]) -> Tensor:
    """‖·‖₂ over all lists of tensors, each with its sharding, as a 0-dim tensor on the first one's device.

    Sums run in float32 for half precisions and in the tensors' own dtype otherwise.
    """
    lengths = []
    for tensors, where in lists:
        wide = torch.float32 if tensors[0].dtype in (torch.bfloat16, torch.float16) else None
        flat = _flat(tensors)
        if flat is not None:
            length = torch.linalg.vector_norm(flat, dtype=wide)
        else:
            length = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(tensors, 2, dtype=wide)))
        lengths.append(length if where is None else summed(length.square(), where).sqrt())
    if len(lengths) == 1:
        return lengths[0]
    widest = max((n.dtype for n in lengths), key=lambda dtype: torch.finfo(dtype).bits)
    device = lengths[0].device
    return torch.linalg.vector_norm(torch.stack([n.to(device, widest, non_blocking=True) for n in lengths]))


def inner(pairs: Sequence[tuple[list[Tensor], list[Tensor], Layout | None]]) -> Tensor:
    """⟨a, b⟩ over all pairs of lists, as a 0-dim tensor on the first one's device."""
    parts = []
    for left, right, where in pairs:
        wide = torch.float64 if left[0].dtype == torch.float64 else torch.float32
        flats = _flat(left), _flat(right)
        if flats[0] is not None and flats[1] is not None:
            dot = torch.dot(flats[0].to(wide), flats[1].to(wide))
        else:
            both = zip(left, right, strict=True)
            dot = torch.stack([torch.dot(a.reshape(-1).to(wide), b.reshape(-1).to(wide)) for a, b in both]).sum()
        parts.append(summed(dot, where))
    if len(parts) == 1:
        return parts[0]
    device, widest = parts[0].device, max((n.dtype for n in parts), key=lambda dtype: torch.finfo(dtype).bits)
    return torch.stack([n.to(device, widest, non_blocking=True) for n in parts]).sum()


def gram(pairs: Sequence[tuple[list[Tensor], list[Tensor], Layout | None]]) -> Tensor:
    """(⟨a, a⟩, ⟨b, b⟩, ⟨a, b⟩) over all pairs of lists, in one sweep, on the first one's device."""
    parts = []
    for left, right, where in pairs:
        one, other = _flat(left), _flat(right)
        if one is not None and other is not None:
            both = [(one, other)]
        else:
            both = [(a.reshape(-1), b.reshape(-1)) for a, b in zip(left, right, strict=True)]
        sums = torch.stack([torch.dot(x, y) for a, b in both for x, y in ((a, a), (b, b), (a, b))])
        parts.append(summed(sums.view(-1, 3).sum(0), where))
    if len(parts) == 1:
        return parts[0]
    device, widest = parts[0].device, max((n.dtype for n in parts), key=lambda dtype: torch.finfo(dtype).bits)
    return torch.stack([n.to(device, widest, non_blocking=True) for n in parts]).sum(0)


def finite(buckets: Sequence[Bucket], length: Tensor, *, host: bool) -> Flag:
    """Whether all gradients are finite, where `length` is their norm, which may have overflowed."""
    if not host:
        return _all_finite([(b.grads, b.where) for b in buckets])
    # Only an overflow is looked at twice.
    return math.isfinite(length.item()) or bool(_all_finite([(b.grads, b.where) for b in buckets]))


def _all_finite(lists: Sequence[tuple[list[Tensor], Layout | None]]) -> Tensor:
    """The same answer on every process that holds a shard."""
    zeros = []
    for tensors, where in lists:
        # The largest entry cannot overflow as a sum of squares does; 0 · largest is finite exactly where it is, and so
        # is the sum of that over shards.
        filled = [t for t in tensors if t.numel()]
        largest = torch.stack(torch._foreach_norm(filled, math.inf)).max() if filled else tensors[0].new_zeros(())
        zeros.append(summed(largest * 0, where))
    device = zeros[0].device
    return torch.stack([z.to(device, torch.float32, non_blocking=True) for z in zeros]).isfinite().all()


def _powers(dtype: torch.dtype) -> tuple[float, float]:
    """Below which norm squares underflow, and a power of two that lifts the smallest entries out of there."""
    return (1e-150, 2.0**600) if dtype == torch.float64 else (1e-17, 2.0**100)


def scale(buckets: Sequence[Bucket], *, host: bool) -> tuple[Scalar, Tensor]:
    """1/‖measured‖ for the buckets' `direction`, and ‖measured‖; 0 where the norm is 0.

    Where squares under- or overflow, the lists are first multiplied by a power of two, which is exact; so the only
    vectors without a direction are 0 and those with an entry that is not finite (norm NaN or ∞, scale 0).
    """
    lists = [(b.measured, b.where) for b in buckets]
    length = norm(lists)
    low, power = _powers(length.dtype)
    if host:
        n = length.item()
        if low < n < math.inf:
            return 1.0 / n, length
        factor = power if n <= low else 1.0 / power
        if not n <= low and not _all_finite(lists):
            return 0.0, torch.full_like(length, math.nan)
        _multiply(buckets, factor)
        n = norm([(b.measured, b.where) for b in buckets]).item()
        return (1.0 / n if n > 0 else 0.0), torch.as_tensor(n / factor, dtype=torch.float64)
    factor = torch.where(length <= low, power, torch.where(length == math.inf, 1.0 / power, 1.0)).to(length)
    _multiply(buckets, factor)
    length = norm([(b.measured, b.where) for b in buckets])
    usable = (length > 0) & length.isfinite()
    return torch.where(usable, 1.0 / torch.where(usable, length, 1.0), 0.0), length / factor


def _multiply(buckets: Sequence[Bucket], factor: Scalar) -> None:
    for b in buckets:
        same = b.direction is b.measured
        b.measured = times(b.measured, on(factor, b.device), inplace=b.disposable)
        b.direction = b.measured if same else times(b.direction, on(factor, b.device), inplace=b.disposable)


def times(tensors: list[Tensor], factor: Any, *, inplace: bool) -> list[Tensor]:
    """factor · tensors, over them where they may be overwritten: that saves a parameter-sized buffer."""
    if not inplace:
        return list(torch._foreach_mul(tensors, factor))
    torch._foreach_mul_(tensors, factor)
    return tensors


def on(factor: Scalar, device: torch.device) -> Any:
    """A scalar where the tensors are: a number is everywhere."""
    return factor.to(device, non_blocking=True) if isinstance(factor, Tensor) else factor


def save(buckets: Sequence[Bucket]) -> None:
    """Copy the weights into their slots' buffers, which are kept from step to step."""
    for b in buckets:
        kept = b.slot.saved or [None] * len(b.slot.owners)
        places = range(len(kept)) if b.places is None else b.places
        for i, w in zip(places, b.weights, strict=True):
            if kept[i] is None:
                kept[i] = torch.empty_like(w)
        b.slot.saved = kept
        b.saved = kept if b.places is None else [kept[i] for i in places]  # pyright: ignore[reportAttributeAccessIssue]
        torch._foreach_copy_(b.saved, b.weights)


def restore(buckets: Sequence[Bucket], *, base: bool = False) -> None:
    """Put the saved weights back, bit for bit, in place; those the base optimizer moves too where `base`."""
    for b in buckets:
        torch._foreach_copy_(b.seen, b.saved)
        if base and b.seen is not b.weights:
            torch._foreach_copy_(b.weights, b.saved)


def move(b: Bucket, factor: Scalar) -> None:
    """w ← w + factor · direction, rounded to what the model computes with."""
    if isinstance(factor, Tensor):
        b.direction = times(b.direction, on(factor, b.device), inplace=b.disposable)
        factor = 1.0
    if factor == 0:  # 0 · NaN is NaN
        return
    if b.seen is b.weights:
        torch._foreach_add_(b.weights, b.direction, alpha=factor)
    else:
        torch._foreach_copy_(b.seen, torch._foreach_add(b.weights, b.direction, alpha=factor))


def displaced(b: Bucket) -> list[Tensor]:
    """w + ε − w as the model saw it, written over the perturbed weights."""
    rounded = b.saved if b.seen is b.weights else [s.to(w.dtype) for s, w in zip(b.saved, b.seen, strict=True)]
    torch._foreach_sub_(b.seen, rounded)
    return b.seen
