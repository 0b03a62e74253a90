"""ρ as a function of the step, group by group."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from networks import network, sgd

from ravine.torch import SAM, RhoSchedule


def test_each_group_keeps_its_own_first_radius():
    a, b, c = (torch.ones(2, requires_grad=True) for _ in range(3))
    opt = SAM(torch.optim.SGD([{"params": [a], "rho": 0.4}, {"params": [b]}], lr=0.1), rho=0.1)
    schedule = RhoSchedule(opt, lambda t: 2.0 ** -(t + 1))
    assert [g["rho"] for g in opt.param_groups] == [0.2, 0.05]  # factor(0) holds from the start
    schedule.step()
    opt.add_param_group({"params": [c], "rho": 0.8})
    assert [g["rho"] for g in opt.param_groups] == [0.1, 0.025, 0.8]
    schedule.step()
    assert [g["rho"] for g in opt.param_groups] == pytest.approx([0.05, 0.0125, 0.1])
    assert [g["initial_rho"] for g in opt.param_groups] == [0.4, 0.1, 0.8]
    assert repr(schedule) == "RhoSchedule(t=2, rho=[0.05, 0.0125, 0.1])"


def test_a_loaded_schedule_goes_on_where_the_saved_one_stood():
    opts = [SAM(sgd(network()), rho=0.2) for _ in range(2)]
    saved, loaded = (RhoSchedule(opt, lambda t: 0.5**t) for opt in opts)
    for _ in range(3):
        saved.step()
    loaded.load_state_dict(saved.state_dict())
    assert loaded.t == 3
    assert opts[1].param_groups[0]["rho"] == pytest.approx(0.2 / 8)
    loaded.step()
    assert opts[1].param_groups[0]["rho"] == pytest.approx(0.2 / 16)


@pytest.mark.parametrize("factor", [-1.0, float("nan"), float("inf")])
def test_a_factor_that_makes_no_radius_is_refused(factor):
    opt = SAM(sgd(network()), rho=0.2)
    schedule = RhoSchedule(opt, lambda t: 1.0 if t == 0 else factor)
    with pytest.raises(ValueError, match="finite number ≥ 0"):
        schedule.step()


@pytest.mark.parametrize("rho", [0, 0.0, 2])
def test_zero_and_whole_numbers_are_radii(rho):
    opt: Any = SAM(sgd(network()), rho=rho)
    assert opt.param_groups[0]["rho"] == rho
    assert opt.defaults["rho"] == rho
