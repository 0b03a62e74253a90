"""A torch optimizer to torch: schedulers, groups, copies, checkpoints."""

from __future__ import annotations

import copy
import gc
import io
import pickle
from typing import Any

import pytest
import torch
from networks import batch, closure_of, flat, loss_of, network, sgd
from torch import nn

from ravine.torch import SAM, RhoSchedule


def test_schedulers_attach_and_rho_follows_its_own():
    model = network()
    opt = SAM(sgd(model), rho=0.2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(opt, 10)
    radius = RhoSchedule(opt, lambda t: 1 / (1 + t))
    x, y = batch()
    seen = []
    for _ in range(3):
        opt.step(closure_of(opt, model, x, y))
        schedule.step()
        radius.step()
        seen.append((opt.base.param_groups[0]["lr"], opt.last.radius))
    assert seen[0][0] == pytest.approx(0.1 * (1 + torch.cos(torch.tensor(torch.pi / 10)).item()) / 2)
    assert [r for _, r in seen] == pytest.approx([0.2, 0.1, 0.2 / 3], rel=1e-6)


def test_a_group_added_later_trains_with_its_own_rho():
    model = network()
    late = torch.ones(3, dtype=torch.float64, requires_grad=True)
    opt = SAM(sgd(model), rho=0.2)
    x, y = batch()
    opt.step(closure_of(opt, model, x, y))
    opt.add_param_group({"params": late, "rho": 0.0, "lr": 0.5})
    opt.step(lambda: [opt.zero_grad(), (loss := loss_of(model, x, y) + late.sum()).backward(), loss][-1])
    assert opt.param_groups is opt.base.param_groups
    assert late.tolist() == [0.5] * 3
    with pytest.raises(ValueError, match="more than one parameter group"):
        opt.add_param_group({"params": late})


def test_a_group_added_later_gets_the_default_and_is_checked_like_the_others():
    a, b = (torch.ones(3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    opt = SAM(sgd(network()), rho=0.25)
    opt.add_param_group({"params": (p for p in (a, b))})
    assert opt.param_groups[1]["rho"] == 0.25
    assert opt.param_groups[1]["params"] == [a, b]
    half = torch.ones(3, dtype=torch.float16, requires_grad=True)
    with pytest.raises(ValueError, match="autocast"):
        opt.add_param_group({"params": half})
    with pytest.raises(ValueError, match="finite number"):
        opt.add_param_group({"params": torch.ones(3, requires_grad=True), "rho": -1.0})
    assert len(opt.param_groups) == 2


def test_what_changes_under_the_optimizer_is_seen_at_the_next_step():
    """Groups, parameters and precision may change between steps; what does not keeps its buffers."""
    model = network(dtype=torch.float32)
    opt = SAM(sgd(model, momentum=0.0), rho=0.2)

    def step(dtype: torch.dtype) -> list[int]:
        x, y = batch(dtype=dtype)
        loss_of(model, x, y).backward()
        with opt.ascended() as second:
            assert all(w.dtype == dtype for b in second.buckets for w in b.saved)
            addresses = [w.data_ptr() for b in second.buckets for w in b.saved]
            loss_of(model, x, y).backward()
        opt.step()
        return addresses

    assert step(torch.float32) == step(torch.float32)
    model.double()
    before = flat(model)
    step(torch.float64)
    assert not torch.equal(flat(model), before)
    fewer = list(model.parameters())[:2]
    opt.param_groups[0]["params"] = fewer
    rest = flat(model[4])
    step(torch.float64)
    assert torch.equal(flat(model[4]), rest)
    other = network()
    opt.param_groups = [{**opt.param_groups[0], "params": list(other.parameters())}]
    model, before = other, flat(other)
    step(torch.float64)
    assert not torch.equal(flat(other), before)


def test_what_is_no_optimizer_is_no_base():
    bases: list[Any] = [network(), 0.1, None, SAM, list(network().parameters())]
    for base in bases:
        with pytest.raises(ValueError, match="an optimizer instance"):
            SAM(base)


BASES = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, amsgrad=True),
}


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("scheduled", [False, True])
@pytest.mark.parametrize("k", [0, 1, 4])
@pytest.mark.parametrize("switches", [{}, {"master_weights": True}], ids=str)
def test_resume_equals_the_uninterrupted_run_to_the_bit(base, scheduled, k, switches):
    dtype = torch.bfloat16 if switches else torch.float32
    x, y = batch(dtype=dtype)

    def fresh():
        model = network(norm=nn.BatchNorm1d, dtype=dtype)
        opt = SAM(BASES[base](model.parameters()), rho=0.1, model=model, **switches)
        extras = [torch.optim.lr_scheduler.StepLR(opt, 2), RhoSchedule(opt, lambda t: 0.9**t)] if scheduled else []
        return model, opt, extras

    def steps(model, opt, extras, n):
        for _ in range(n):
            opt.step(closure_of(opt, model, x, y))
            for extra in extras:
                extra.step()

    whole = fresh()
    steps(*whole, 8)
    half = fresh()
    steps(*half, k)
    file = io.BytesIO()
    torch.save([part.state_dict() for part in (half[0], half[1], *half[2])], file)
    file.seek(0)
    again = fresh()
    for part, state in zip((again[0], again[1], *again[2]), torch.load(file, weights_only=True), strict=True):
        part.load_state_dict(state)
    steps(*again, 8 - k)
    assert torch.equal(flat(again[0]), flat(whole[0]))
    assert torch.equal(again[0][1].running_var, whole[0][1].running_var)
    assert (again[1].steps, again[1].passes) == (8, 16)
    groups = [[{**g, "params": None} for g in opt.param_groups] for opt in (again[1], whole[1])]
    assert groups[0] == groups[1]


def test_a_copy_and_a_pickle_go_on_alone():
    x, y = batch()
    model = network(dropout=0.3)
    opt = SAM(sgd(model), rho=0.1, model=model)
    schedule = torch.optim.lr_scheduler.StepLR(opt, 2)
    opt.step(closure_of(opt, model, x, y))
    schedule.step()
    twins = [copy.deepcopy((model, opt)), pickle.loads(pickle.dumps((model, opt)))]
    other_opt: Any = None
    for other, other_opt in [*twins, (model, opt)]:
        torch.manual_seed(3)
        other_opt.step(closure_of(other_opt, other, x, y))
        torch.manual_seed(3)
        loss_of(other, x, y).backward()
        with other_opt.ascended():
            loss_of(other, x, y).backward()
        other_opt.step()
    assert torch.equal(flat(twins[0][0]), flat(model))
    assert torch.equal(flat(twins[1][0]), flat(model))
    lone = copy.deepcopy(model)
    del opt, other_opt, schedule, twins
    gc.collect()
    lone(x)
    model(x)
