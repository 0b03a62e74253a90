"""float32 masters of bfloat16 weights: what the model sees of them, whose gradients are whose, and what is refused."""

from __future__ import annotations

import copy

import pytest
import torch
from networks import batch, closure_of, network, sgd
from torch import nn

from ravine.torch import SAM

LOW = torch.bfloat16


def test_the_perturbed_weights_are_the_perturbed_masters_rounding():
    torch.manual_seed(0)
    w = torch.randn(40).to(LOW).requires_grad_()
    start, slopes = w.detach().clone(), torch.randn(40).to(LOW)
    opt = SAM(torch.optim.SGD([w], lr=0.01), rho=0.5, master_weights=True)
    for _ in range(2):
        (master,) = opt.param_groups[0]["params"]
        before = master.detach().clone()
        (w * slopes).sum().backward()
        direction = slopes.float() / slopes.float().norm()
        with opt.ascended():
            torch.testing.assert_close(w.detach(), (before + 0.5 * direction).to(LOW), rtol=0, atol=0)
            assert not torch.equal(w, start)
            (w * slopes).sum().backward()
        assert torch.equal(w, before.to(LOW))
        opt.step()
        torch.testing.assert_close(master.detach(), before - 0.01 * slopes.float(), rtol=1e-6, atol=0)
        assert opt.last.cosine == pytest.approx(1, abs=1e-5)
        opt.zero_grad()


def test_zeroing_is_of_the_weights_that_the_model_sees():
    model = network(dtype=LOW)
    opt = SAM(sgd(model), master_weights=True)
    closure_of(opt, model, *batch(dtype=LOW))()
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())
    opt.zero_grad(set_to_none=False)
    assert all(p.grad is not None and not p.grad.any() for p in model.parameters())
    opt.zero_grad()
    assert all(p.grad is None for p in model.parameters())
    opt.zero_grad(set_to_none=False)  # nothing to fill with zeros
    assert all(p.grad is None for p in model.parameters())


def test_only_bfloat16_weights_get_masters():
    wide, low = nn.Linear(2, 2), nn.Linear(2, 2).to(LOW)
    opt = SAM(torch.optim.SGD([*wide.parameters(), *low.parameters()], lr=0.1), master_weights=True)
    params = opt.param_groups[0]["params"]
    assert params[:2] == list(wide.parameters())
    assert all(p.dtype == torch.float32 and p.is_leaf and p.requires_grad for p in params)
    assert all(a is b for a, b in zip(opt.model_parameters(), [*wide.parameters(), *low.parameters()], strict=True))
    plain = SAM(torch.optim.SGD(low.parameters(), lr=0.1))
    assert all(a is b for a, b in zip(plain.param_groups[0]["params"], low.parameters(), strict=True))


def test_what_masters_refuse():
    model = network(dtype=LOW)
    started = sgd(model)
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    started.step()
    with pytest.raises(ValueError, match="before its first step"):
        SAM(started, master_weights=True)
    opt = SAM(sgd(network(dtype=LOW)), master_weights=True)
    with pytest.raises(ValueError, match="before SAM wraps it"):
        opt.add_param_group({"params": torch.ones(2, requires_grad=True)})
    assert len(opt.param_groups) == 1
    plain = SAM(sgd(network(dtype=LOW)))
    for one, other in ((opt, plain), (plain, opt)):
        with pytest.raises(ValueError, match="belongs to master_weights=True"):
            one.load_state_dict(copy.deepcopy(other.state_dict()))


def test_a_loaded_state_brings_masters_and_weights():
    x, y = batch(dtype=LOW)
    model, again = network(dtype=LOW), network(dtype=LOW)
    opt, other = (SAM(sgd(m), rho=0.1, master_weights=True) for m in (model, again))
    for _ in range(3):
        opt.step(closure_of(opt, model, x, y))
    other.load_state_dict(copy.deepcopy(opt.state_dict()))
    for a, b in zip(other.param_groups[0]["params"], opt.param_groups[0]["params"], strict=True):
        assert torch.equal(a, b)
    for a, b in zip(again.parameters(), model.parameters(), strict=True):
        assert torch.equal(a, b)
