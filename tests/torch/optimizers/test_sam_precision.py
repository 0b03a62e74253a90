"""Mixed precision, gradient scalers, and what an accelerator must not wait for."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from networks import batch, closure_of, flat, loss_of, network, sgd
from torch.utils._python_dispatch import TorchDispatchMode

from ravine.torch import SAM
from ravine.torch.optimizers.buckets import Plan


def scaled_run(scaler, model, opt, data, *, steps, unscale: bool, bad: int | None = None):
    for k in range(steps):
        opt.zero_grad()
        loss = loss_of(model, *data)
        scaler.scale(loss).backward()
        if bad == k:
            next(model.parameters()).grad[0, 0] = torch.inf
        with opt.ascended(loss, scaler=scaler):
            opt.zero_grad()
            scaler.scale(loss_of(model, *data)).backward()
            if bad == -k - 1:
                next(model.parameters()).grad[0, 0] = torch.nan
        if unscale:
            scaler.unscale_(opt)
        scaler.step(opt)
        scaler.update()


@pytest.mark.parametrize("unscale", [False, True])
@pytest.mark.parametrize("rule", ["sam", "usam"])
@pytest.mark.parametrize("enabled", [True, False])
def test_gradscaler_changes_nothing_but_the_scale(unscale, rule, enabled):
    """Powers of two are exact, so the scaled run is the plain one to the bit."""
    x, y = batch(dtype=torch.float32)
    plain, scaled = network(dtype=torch.float32), network(dtype=torch.float32)
    switches: dict[str, Any] = {"rho": 0.1, "normalize": rule == "sam", "ascent_weight_decay": True}
    opt = SAM(sgd(plain, weight_decay=0.1), **switches)
    for _ in range(6):
        opt.step(closure_of(opt, plain, x, y))
    other = SAM(sgd(scaled, weight_decay=0.1), **switches)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16, enabled=enabled)
    scaled_run(scaler, scaled, other, (x, y), steps=6, unscale=unscale)
    assert torch.equal(flat(plain), flat(scaled))
    assert other.last.grad_norm == opt.last.grad_norm
    assert other.last.sam_grad_norm == opt.last.sam_grad_norm


@pytest.mark.parametrize("bad", [1, -2])
def test_gradscaler_backs_off_whichever_pass_overflows(bad):
    x, y = batch(dtype=torch.float32)
    model = network(dtype=torch.float32)
    opt = SAM(sgd(model), rho=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16)
    scaled_run(scaler, model, opt, (x, y), steps=1, unscale=False)
    before = flat(model)
    scaled_run(scaler, model, opt, (x, y), steps=2, unscale=False, bad=bad)
    assert opt.skipped == 1
    assert scaler.get_scale() == 2.0**15
    assert not torch.equal(flat(model), before)


def test_a_scaler_the_ascent_was_not_told_of_and_a_closure_through_one_are_refused():
    x, y = batch(dtype=torch.float32)
    model = network(dtype=torch.float32)
    opt = SAM(sgd(model), rho=0.1)
    scaler = torch.amp.GradScaler("cpu")
    before = flat(model)
    scaler.scale(loss_of(model, x, y)).backward()
    with pytest.raises(ValueError, match="inside a closure"):
        scaler.step(opt, closure_of(opt, model, x, y))
    with opt.ascended():
        scaler.scale(loss_of(model, x, y)).backward()
    with pytest.raises(ValueError, match="ascended\\(scaler=scaler\\)"):
        scaler.step(opt)
    assert torch.equal(flat(model), before)
    scaler.update()
    scaled_run(scaler, model, opt, (x, y), steps=1, unscale=False)
    assert not torch.equal(flat(model), before)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_follows_the_float32_run(dtype):
    """Within what rounding the forward to `dtype` explains: some tens of its epsilon after 30 steps."""
    x, y = batch(dtype=torch.float32)
    runs = []
    for precise in (True, False):
        model = network(dtype=torch.float32)
        opt = SAM(sgd(model), rho=0.05)
        scaler = torch.amp.GradScaler("cpu", enabled=dtype == torch.float16 and not precise)
        losses = []
        for _ in range(30):
            opt.zero_grad()
            with torch.autocast("cpu", dtype=dtype, enabled=not precise):
                loss = loss_of(model, x, y)
            scaler.scale(loss).backward()
            with opt.ascended(loss, scaler=scaler) as second:
                with torch.autocast("cpu", dtype=dtype, enabled=not precise):
                    second.loss = loss_of(model, x, y)
                scaler.scale(second.loss).backward()
            scaler.step(opt)
            scaler.update()
            losses.append(opt.last.loss)
        assert opt.skipped == 0
        runs.append(losses)
    assert runs[1] == pytest.approx(runs[0], rel=10 * torch.finfo(dtype).eps)
    assert runs[0] != runs[1]


# Nothing waits for the device.


class Reads(TorchDispatchMode):
    """Counts what would make the host wait for an accelerator."""

    def __init__(self):
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.__name__.split(".")[0] in ("_local_scalar_dense", "is_nonzero", "equal", "nonzero"):
            self.names.append(func.__name__)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("two_phases", [False, True])
@pytest.mark.parametrize(
    "switches", [{}, {"watch": False}, {"clip": 0.1, "clip_at": "both"}, {"norm": "group"}, {"bounce": True}], ids=str
)
@pytest.mark.parametrize("fused", [True, False])
def test_no_step_waits_for_the_device_unless_someone_reads(monkeypatch, two_phases, switches, fused):
    """The accelerator's path, run on the CPU: an unfused base reads one flag a step if it may skip, else none."""
    monkeypatch.setattr(Plan, "on_host", False)
    x, y = batch(dtype=torch.float32)
    model = network(dtype=torch.float32)
    base = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, fused=fused, foreach=not fused)
    opt = SAM(base, rho=0.1, skip_nonfinite=fused, **switches)
    closure = closure_of(opt, model, x, y)
    opt.step(closure)
    with Reads() as reads:
        if two_phases:
            closure()
            with opt.ascended():
                closure()
            opt.step()
        else:
            opt.step(closure)
    assert reads.names == []
    with Reads() as reads:
        assert opt.last.status == "ok"
    assert reads.names
    opt = SAM(base, rho=0.1, skip_nonfinite=True, **switches)
    closure = closure_of(opt, model, x, y)
    opt.step(closure)
    with Reads() as reads:
        opt.step(closure)
    assert len(reads.names) == (0 if fused else 1)


@pytest.mark.parametrize("bad", [1, 2])
def test_the_accelerators_path_equals_the_hosts_and_skips_on_the_device(monkeypatch, bad):
    x, y = batch(dtype=torch.float32)
    ends = []
    for host in (True, False):
        monkeypatch.setattr(Plan, "on_host", host)
        model = network(dtype=torch.float32)
        opt = SAM(torch.optim.AdamW(model.parameters(), lr=0.01, fused=True), rho=0.1)
        closure = closure_of(opt, model, x, y)
        for k in range(6):
            before = flat(model)
            loss_of(model, x, y).backward()
            if k == 3 and bad == 1:
                next(model.parameters()).grad[0, 0] = torch.inf
            with opt.ascended():
                closure()
                if k == 3 and bad == 2:
                    next(model.parameters()).grad[0, 0] = torch.nan
            opt.step()
            assert torch.equal(before, flat(model)) is (k == 3)
            assert (opt.last.status == "non-finite") is (k == 3)
            assert not {"found_inf", "grad_scale"} & set(vars(opt.base))  # torch's word for one step
            opt.zero_grad()
        assert opt.skipped == 1
        assert opt.state[next(model.parameters())]["step"] == 5
        ends.append(flat(model))
    torch.testing.assert_close(*ends, rtol=0, atol=1e-6)


@pytest.mark.parametrize("host", [True, False])
def test_a_gradscaler_changes_nothing_on_either_path(monkeypatch, host):
    monkeypatch.setattr(Plan, "on_host", host)
    data = batch(dtype=torch.float32)
    plain, scaled = network(dtype=torch.float32), network(dtype=torch.float32)
    opt, other = SAM(sgd(plain), rho=0.1), SAM(sgd(scaled), rho=0.1)
    for _ in range(4):
        opt.step(closure_of(opt, plain, *data))
    scaled_run(torch.amp.GradScaler("cpu", init_scale=2.0**16), scaled, other, data, steps=4, unscale=False)
    assert torch.equal(flat(plain), flat(scaled))
    assert other.last.grad_norm == opt.last.grad_norm


def test_a_step_that_the_scaler_condemns_is_left_out():
    """torch's protocol: what it found stands on the optimizer for one step, whatever the gradients look like."""
    data = batch(dtype=torch.float32)
    model = network(dtype=torch.float32)
    opt: Any = SAM(sgd(model), rho=0.1)
    for found, moved in ((1.0, False), (0.0, True)):
        before = flat(model)
        scaler = torch.amp.GradScaler("cpu", init_scale=1.0)
        loss_of(model, *data).backward()
        with opt.ascended(scaler=scaler):
            loss_of(model, *data).backward()
        opt.found_inf, opt.grad_scale = torch.tensor(found), torch.tensor(1.0)
        opt.step()
        assert torch.equal(flat(model), before) is not moved
        assert (opt.last.status == "ok") is moved
        del opt.found_inf, opt.grad_scale  # as the scaler does
        opt.zero_grad()
    assert opt.skipped == 1


def test_the_accelerators_path_takes_float64(monkeypatch):
    x, y = batch()
    ends = []
    for host in (True, False):
        monkeypatch.setattr(Plan, "on_host", host)
        model = network()
        opt = SAM(sgd(model), rho=0.1)
        for _ in range(3):
            opt.step(closure_of(opt, model, x, y))
        ends.append(flat(model))
    torch.testing.assert_close(*ends, rtol=0, atol=1e-14)
