"""Perturb and restore: to the bit, in place, whatever is thrown; gradients missing, sparse, zero, or not finite."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from networks import batch, closure_of, network
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from ravine.torch import ASAM, ESAM, GSAM, SAM, FriendlySAM, LookSAM, MicroBatchSAM


class Fault(Exception):  # noqa: N818
    pass


class ThrowAt(TorchDispatchMode):
    """Raise before the n-th operation, wherever in the step that is."""

    def __init__(self, n: int):
        super().__init__()
        self.left = n

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        # The profiler marks the end of a step, which is then done.
        self.left -= func.namespace != "profiler"
        if self.left == 0:
            raise Fault
        return func(*args, **(kwargs or {}))


def trainee(dtype=torch.float32) -> tuple[Any, tuple[torch.Tensor, torch.Tensor]]:
    """With everything that a pass may change."""
    return network(dropout=0.2, norm=nn.BatchNorm1d, dtype=dtype), batch(8, dtype)


def weights(model) -> list[torch.Tensor]:
    return [p.detach().clone() for p in model.parameters()]


def same(model, before) -> bool:
    return all(torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True))


BASES = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01),
    "one by one": lambda p: torch.optim.AdamW(p, lr=0.01, foreach=False),
}


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize(
    "switches",
    [{}, {"watch": False}, {"bounce": True, "clip": 0.1, "clip_at": "both"}, {"master_weights": True}],
    ids=str,
)
def test_a_fault_before_any_operation_of_a_step_leaves_the_weights(base, switches):
    dtype = torch.bfloat16 if "master_weights" in switches else torch.float32
    model, data = trainee(dtype)
    opt = SAM(BASES[base](model.parameters()), rho=0.5, model=model, **switches)
    closure = closure_of(opt, model, *data)
    opt.step(closure)
    thrown = 0
    while True:
        before, masters = weights(model), [p.detach().clone() for p in opt.param_groups[0]["params"]]
        try:
            with ThrowAt(thrown + 1):
                opt.step(closure)
            break
        except Fault:
            thrown += 1
        assert same(model, before), f"operation {thrown}"
        assert all(torch.equal(a, b) for a, b in zip(opt.param_groups[0]["params"], masters, strict=True))
        opt.state_dict()  # not perturbed
    assert thrown > 60
    assert not same(model, before)


@pytest.mark.parametrize(
    ("rule", "switches"),
    [
        (ASAM, {}),
        (GSAM, {}),
        (LookSAM, {"k": 1}),
        (LookSAM, {"k": 5}),
        (FriendlySAM, {}),
        (MicroBatchSAM, {}),
        (ESAM, {}),
    ],
)
def test_so_it_is_for_the_relatives(rule, switches):
    model, data = trainee()
    opt = rule(BASES["sgd"](model.parameters()), rho=0.5, model=model, **switches)
    closure = closure_of(opt, model, *data)

    def losses(index):
        x, y = data if index is None else (part[index] for part in data)
        return nn.functional.cross_entropy(model(x), y, reduction="none")

    step: Any = {MicroBatchSAM: [closure, closure], ESAM: losses}.get(rule, closure)
    opt.step(step)
    thrown = 0
    while True:
        before = weights(model)
        try:
            with ThrowAt(thrown + 1):
                opt.step(step)
            break
        except Fault:
            thrown += 1
        assert same(model, before), f"operation {thrown}"
        opt.state_dict()
    assert thrown > 40


def test_a_closure_that_raises_in_either_pass():
    model, data = trainee()
    opt = SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=0.5, model=model)
    before = weights(model)
    for bad in (1, 2):
        calls = 0
        inner = closure_of(opt, model, *data)

        def closure(inner=inner, bad=bad):
            nonlocal calls
            calls += 1
            loss = inner()
            if calls == bad:
                raise KeyboardInterrupt
            return loss

        with pytest.raises(KeyboardInterrupt):
            opt.step(closure)
        assert same(model, before)
        assert model[1].track_running_stats
    closure_of(opt, model, *data)()
    with pytest.raises(Fault), opt.ascended():  # noqa: PT012 (both lines are within the ascent)
        assert not same(model, before)
        raise Fault
    assert same(model, before)
    with pytest.raises(ValueError, match="second pass before it"):
        opt.step()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_restored_to_the_bit_at_the_same_addresses(dtype):
    model, data = trainee(dtype)
    opt = SAM(torch.optim.SGD(model.parameters(), lr=0.0), rho=0.7, model=model)
    before, addresses = weights(model), [p.data_ptr() for p in model.parameters()]
    inside = []

    def closure():
        inside.append(weights(model))
        return closure_of(opt, model, *data)()

    for _ in range(5):
        opt.step(closure)
        assert same(model, before)
        assert [p.data_ptr() for p in model.parameters()] == addresses
    names = [name for name, _ in model.named_parameters()]
    moved = {n: not torch.equal(a, b) for n, a, b in zip(names, inside[0], inside[1], strict=True)}
    del moved["0.bias"]  # before a norm it has no gradient
    assert all(moved.values())


@pytest.mark.parametrize("hold", [False, True])
def test_gradients_in_one_pass_only(hold):
    a, b, c, d = (torch.full((2,), v, dtype=torch.float64).requires_grad_() for v in (1.0, 2.0, 3.0, 4.0))
    opt = SAM(torch.optim.SGD([a, b, c, d], lr=0.1), rho=0.5, ascent_weight_decay=hold)
    passes = 0

    def closure():  # a in both, b in the first only, c in the second only, d in none
        nonlocal passes
        passes += 1
        opt.zero_grad()
        loss = (a**2).sum() + ((b**2).sum() if passes % 2 else (c**2).sum())
        loss.backward()
        return loss

    g = torch.tensor([2.0, 2, 4, 4], dtype=torch.float64)
    e = 0.5 * g / g.norm()
    opt.step(closure)
    torch.testing.assert_close(a.detach(), 1 - 0.1 * 2 * (1 + e[:2]), rtol=0, atol=1e-15)
    assert b.tolist() == [2, 2]
    torch.testing.assert_close(c.detach(), torch.full((2,), 3 - 0.6, dtype=torch.float64), rtol=0, atol=1e-15)
    assert d.tolist() == [4, 4]
    assert opt.last.cosine is not None


def test_no_gradient_at_all():
    w = torch.ones(2, requires_grad=True)
    opt = SAM(torch.optim.SGD([w], lr=0.1), rho=0.5)
    opt.step(lambda: torch.zeros(()))
    assert w.tolist() == [1, 1]
    assert opt.last.status == "no gradient"
    assert opt.last.radius == 0


def test_sparse_gradients_equal_dense_ones():
    results = []
    for sparse in (False, True):
        torch.manual_seed(0)
        table = nn.Embedding(10, 3, sparse=sparse, dtype=torch.float64)
        opt = SAM(torch.optim.SGD(table.parameters(), lr=0.1), rho=0.3, clip=0.5)
        rows = torch.tensor([1, 4, 4, 7])

        def closure(opt=opt, table=table, rows=rows):
            opt.zero_grad()
            loss = (table(rows) ** 3).sum()
            loss.backward()
            return loss

        for _ in range(10):
            opt.step(closure)
        results.append((table.weight.detach().clone(), opt.last.cosine, opt.last.sam_grad_norm))
    torch.testing.assert_close(results[0][0], results[1][0], rtol=0, atol=1e-14)
    assert results[0][1:] == pytest.approx(results[1][1:], rel=1e-12)


def test_a_zero_gradient_is_not_perturbed_and_said_so():
    w = torch.zeros(3, requires_grad=True)
    opt = SAM(torch.optim.SGD([w], lr=0.1), rho=0.5)
    seen = []

    def closure():
        opt.zero_grad()
        seen.append(w.tolist())
        loss = (w**2).sum()
        loss.backward()
        return loss

    opt.step(closure)
    assert seen == [[0, 0, 0], [0, 0, 0]]
    assert w.tolist() == [0, 0, 0]
    assert opt.last.status == "zero gradient"
    assert opt.last.radius == 0
    assert opt.skipped == 0


@pytest.mark.parametrize("size", [1e-44, 1e-30, 1e-12, 1.0, 1e30, 3e38])
def test_the_radius_is_rho_at_every_gradient_size(size):
    """Squares under- and overflow in float32; the direction does not."""
    w = torch.zeros(4, requires_grad=True)
    direction = torch.tensor([1.0, -1, 1, 1])
    opt = SAM(torch.optim.SGD([w], lr=0.0), rho=0.5)
    seen = []

    def closure():
        w.grad = direction * size
        seen.append(w.detach().clone())

    opt.step(closure)
    torch.testing.assert_close(seen[1], 0.25 * direction, rtol=1e-6, atol=0)
    assert opt.last.status == "ok"
    assert opt.skipped == 0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("where", [1, 2])
@pytest.mark.parametrize("watch", [False, True])
@pytest.mark.parametrize("normalize", [False, True])
def test_a_gradient_that_is_not_finite_skips_the_step(bad, where, watch, normalize):
    w, v = torch.ones(3, requires_grad=True), torch.ones(2, requires_grad=True)
    opt = SAM(torch.optim.Adam([w, v], lr=0.1), rho=0.5, watch=watch, normalize=normalize)
    calls, seen = 0, []

    def closure():
        nonlocal calls
        calls += 1
        opt.zero_grad()
        seen.append(w.detach().clone())
        loss = (w**2).sum() + (v**2).sum()
        loss.backward()
        assert w.grad is not None
        if calls == 2 + where:
            w.grad[1] = bad
        return loss

    opt.step(closure)
    before = (w.detach().clone(), v.detach().clone(), opt.state[w]["step"].clone(), opt.state[w]["exp_avg"].clone())
    opt.step(closure)
    after = (w, v, opt.state[w]["step"], opt.state[w]["exp_avg"])
    assert all(torch.equal(a, b) for a, b in zip(after, before, strict=True))
    assert opt.skipped == 1
    assert opt.last.status == "non-finite"
    assert all(s.isfinite().all() for s in seen)
    opt.step(closure)
    assert opt.last.status == "ok"
    assert opt.skipped == 1
    assert not torch.equal(w, before[0])


def test_bfloat16_says_what_rounding_made_of_the_perturbation():
    torch.manual_seed(0)
    w = torch.randn(1000).bfloat16().requires_grad_()
    slopes = torch.randn(1000).bfloat16()
    opt = SAM(torch.optim.SGD([w], lr=0.0), rho=0.05)
    seen = []

    def closure():
        opt.zero_grad()
        seen.append(w.detach().double())
        loss = (w * slopes).sum()
        loss.backward()
        return loss

    opt.step(closure)
    moved = seen[1] - seen[0]
    assert opt.last.radius == pytest.approx(moved.norm().item(), rel=1e-3)
    assert opt.last.unmoved == pytest.approx((moved == 0).double().mean().item(), rel=1e-6)
    unmoved, radius = opt.last.unmoved, opt.last.radius
    assert unmoved is not None
    assert radius is not None
    assert 0.1 < unmoved < 0.9
    assert abs(radius - 0.05) > 1e-4
    assert opt.last.cosine == pytest.approx(1, abs=1e-3)  # of the gradients, not of what rounding left


def test_master_weights_carry_what_bfloat16_cannot():
    """A step below bfloat16's resolution accumulates, and the weights are always the rounded masters."""
    torch.manual_seed(0)
    plain, kept = (torch.ones(50).bfloat16().requires_grad_() for _ in range(2))
    for w, masters in ((plain, False), (kept, True)):
        opt = SAM(torch.optim.SGD([w], lr=1e-4), rho=0.01, master_weights=masters)
        address = w.data_ptr()

        def closure(opt=opt, w=w):
            opt.zero_grad()
            loss = (w**2).sum()
            loss.backward()
            return loss

        for _ in range(40):
            opt.step(closure)
            if masters:
                assert torch.equal(w, opt.param_groups[0]["params"][0].bfloat16())
        assert w.data_ptr() == address
    assert (plain == 1).all()
    assert (kept < 1).all()


def test_one_buffer_and_none_of_it_in_checkpoints():
    """What lives through the second pass beyond the first: one copy of the parameters."""
    model, data = trainee()
    opt = SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=0.5, model=model)
    size = sum(p.numel() for p in model.parameters())
    closure_of(opt, model, *data)()
    with opt.ascended() as second:
        kept = sum(t.numel() for b in second.buckets for t in b.saved)
        assert not second.first
        assert all(not b.grads and not b.direction and not b.measured for b in second.buckets)
        closure_of(opt, model, *data)()
    opt.step()
    assert kept == size

    def numbers(tree):
        if isinstance(tree, torch.Tensor):
            return tree.numel()
        values = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list | tuple) else ()
        return sum(map(numbers, values))

    assert numbers(opt.state_dict()) == 0
