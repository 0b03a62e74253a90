"""Lengths and inner products over lists of tensors, against NumPy on one vector."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from ravine.torch.optimizers.buckets import Bucket, Plan
from ravine.torch.optimizers.norms import MANY, SMALL, clipped, cosine, finite, gradient_norm, gram, inner, norm, scale

# Few and small; many and small, which are copied into one vector; many and large, which are not.
SIZES = {"few": [3, 5], "many": [2] * (MANY + 1), "large": [SMALL // MANY + 1] * (MANY + 1)}


def lists(name: str, seed: int = 0) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """float32 tensors of these sizes, and as many float64 ones."""
    generator = torch.Generator().manual_seed(seed)
    low = [torch.randn(n, generator=generator) for n in SIZES[name]]
    return low, [torch.randn(n, generator=generator, dtype=torch.float64) for n in SIZES[name]]


def vector(*parts: list[torch.Tensor]) -> np.ndarray:
    return np.concatenate([t.double().numpy() for tensors in parts for t in tensors])


@pytest.mark.parametrize("name", SIZES)
def test_they_are_those_of_one_vector(name):
    (a, b), (c, d) = lists(name, 0), lists(name, 1)
    left, right = vector(a, b), vector(c, d)
    pairs = [(a, c, None), (b, d, None)]
    expected = [left @ left, right @ right, left @ right]
    assert norm([(a, None), (b, None)]).item() == pytest.approx(np.linalg.norm(left), rel=1e-6)
    sizes = float(np.linalg.norm(left) * np.linalg.norm(right))
    assert inner(pairs).item() == pytest.approx(left @ right, abs=1e-6 * sizes)
    assert gram(pairs).tolist() == pytest.approx(expected, rel=1e-5, abs=1e-6 * sizes)
    for one in (norm([(a, None), (b, None)]), inner(pairs), gram(pairs)):
        assert one.dtype == torch.float64  # the widest


@pytest.mark.parametrize("name", ["few", "many"])
def test_half_precisions_are_summed_in_float32(name):
    a = [torch.full((n,), 3.0).bfloat16() for n in SIZES[name]]
    count = sum(SIZES[name])
    length, dot = norm([(a, None)]), inner([(a, a, None)])
    assert length.dtype == dot.dtype == torch.float32
    assert length.item() == pytest.approx(3 * math.sqrt(count), rel=1e-6)
    assert dot.item() == pytest.approx(9 * count, rel=1e-6)


def buckets_of(*grads: torch.Tensor) -> tuple[list[torch.Tensor], list[Bucket]]:
    weights = [torch.zeros_like(g, requires_grad=True) for g in grads]
    for w, g in zip(weights, grads, strict=True):
        w.grad = g.clone()
    buckets = Plan([{"params": weights}], {}).gather(dense=True)
    for b in buckets:
        b.measured = b.direction = b.grads
    return weights, buckets


@pytest.mark.parametrize("host", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("exponent", [-40, -20, 0, 20, 36])
def test_a_direction_has_length_one_at_every_size(host, dtype, exponent):
    """Also with two precisions at once, and a direction that is not what is measured."""
    g = torch.tensor([3.0, -4.0, 12.0], dtype=torch.float64) * 10.0**exponent
    _, buckets = buckets_of(g.to(dtype))
    for b in buckets:
        b.direction = [2 * d for d in b.direction]
    inverse, length = scale(buckets, host=host)
    (b,) = buckets
    if exponent > -40 or dtype == torch.float64:  # float32's smallest numbers have few digits
        assert float(length) == pytest.approx(13 * 10.0**exponent, rel=1e-6)
    assert torch.linalg.vector_norm(b.measured[0].double() * float(inverse)).item() == pytest.approx(1, rel=1e-6)
    torch.testing.assert_close(b.direction[0], 2 * b.measured[0], rtol=1e-6, atol=0)


@pytest.mark.parametrize("host", [True, False])
@pytest.mark.parametrize(("bad", "expected"), [(0.0, 0.0), (math.nan, math.nan), (math.inf, math.nan)])
def test_without_a_direction_the_scale_is_0(host, bad, expected):
    _, buckets = buckets_of(torch.full((3,), bad))
    inverse, length = scale(buckets, host=host)
    assert float(inverse) == 0
    assert float(length) == expected or not math.isfinite(float(length))
    assert math.isfinite(float(length)) is (bad == 0)


@pytest.mark.parametrize("host", [True, False])
@pytest.mark.parametrize("large", [1.0, 3e38])
@pytest.mark.parametrize("bad", [None, math.nan, math.inf, -math.inf])
def test_an_overflow_of_the_norm_is_no_infinite_entry(host, large, bad):
    g = torch.full((4,), large)
    if bad is not None:
        g[2] = bad
    _, buckets = buckets_of(torch.empty(0), g)
    assert bool(finite(buckets, gradient_norm(buckets), host=host)) is (bad is None)


@pytest.mark.parametrize("host", [True, False])
def test_a_list_of_empty_tensors_is_finite(host):
    _, buckets = buckets_of(torch.empty(0, dtype=torch.float64), torch.full((4,), 3e38))
    assert len(buckets) == 2
    assert bool(finite(buckets, gradient_norm(buckets[1:]), host=host))


@pytest.mark.parametrize("greatest", [0.5, 50.0])
@pytest.mark.parametrize("inplace", [True, False])
def test_clipping_is_torchs(greatest, inplace):
    g = torch.tensor([3.0, -4.0], dtype=torch.float64), torch.tensor([12.0], dtype=torch.float64)
    weights, buckets = buckets_of(*g)
    clipped(buckets, greatest, gradient_norm(buckets), inplace=inplace)
    found = [t for b in buckets for t in b.grads]
    if not inplace:
        assert all(torch.equal(t, w.grad) for t, w in zip(g, weights, strict=True) if w.grad is not None)
    for w, t in zip(weights, g, strict=True):
        w.grad = t.clone()
    torch.nn.utils.clip_grad_norm_(weights, greatest)
    for a, w in zip(found, weights, strict=True):
        assert w.grad is not None
        torch.testing.assert_close(a, w.grad, rtol=1e-12, atol=0)


def test_a_cosine_takes_the_whole_lengths_and_the_shared_entries():
    """A parameter that one of the two lacks counts in the other's length, as an entry 0 would."""
    a, b, c = (torch.tensor(v, dtype=torch.float64) for v in ([1.0, 2.0], [2.0], [4.0]))
    weights, buckets = buckets_of(a, b)
    alone = torch.zeros(1, dtype=torch.float64)
    length = gradient_norm(buckets)
    other = {weights[0]: torch.tensor([3.0, 1.0], dtype=torch.float64), alone: c}
    found = cosine(buckets, length, other)
    assert found is not None
    assert found.item() == pytest.approx(5 / 3 / math.sqrt(26), rel=1e-12)
    assert cosine(buckets, length, {alone: c}) is None
