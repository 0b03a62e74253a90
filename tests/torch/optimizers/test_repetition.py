"""What the second pass repeats, dropout masks, and what it leaves alone, BatchNorm's statistics."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from networks import batch, closure_of, flat, loss_of, network, sgd
from torch import nn

from ravine.torch import SAM


def test_accumulation_with_dropout_repeats_each_micro_batchs_mask():
    """Augmentation draws between the forwards, as a loader does; the masks are those of the first pass all the same."""
    model = network(dropout=0.5)
    masks: list[torch.Tensor] = []
    model[3].register_forward_hook(lambda m, i, o: masks.append((o != 0).clone()))
    x, y = batch(32)
    opt = SAM(sgd(model), rho=0.1, model=model)
    for _ in range(3):
        masks.clear()
        for a, b in zip(x.chunk(4), y.chunk(4), strict=True):
            (loss_of(model, a + 0.01 * torch.randn_like(a), b) / 4).backward()
        after = torch.get_rng_state()
        with opt.ascended():
            for a, b in zip(x.chunk(4), y.chunk(4), strict=True):
                (loss_of(model, a, b) / 4).backward()
        assert torch.equal(after, torch.get_rng_state())
        opt.step()
        assert all(torch.equal(masks[k], masks[4 + k]) for k in range(4))
        assert not torch.equal(masks[0], masks[1])


@pytest.mark.parametrize("same", [True, False])
def test_dropout_masks_of_both_passes(same):
    model = network(dropout=0.5)
    masks: list[torch.Tensor] = []
    model[3].register_forward_hook(lambda m, i, o: masks.append((o != 0).clone()))
    opt = SAM(sgd(model), rho=0.1, same_dropout=same)
    x, y = batch()
    for _ in range(2):
        opt.step(closure_of(opt, model, x, y))
    assert torch.equal(masks[0], masks[1]) is same
    assert not torch.equal(masks[0], masks[2])


def test_unequal_forwards_are_refused_where_masks_cannot_be_repeated():
    model = network(dropout=0.5)
    x, y = batch()
    opt = SAM(sgd(model), rho=0.1, model=model)
    before = flat(model)
    for first, second in ((0, 1), (1, 2), (2, 1)):
        for _ in range(first):
            loss_of(model, x, y).backward()
        with pytest.raises(ValueError, match="same_dropout"), opt.ascended():  # noqa: PT012 (many, or too many)
            for _ in range(second):
                loss_of(model, x, y).backward()
        assert torch.equal(flat(model), before)
    model.eval()
    with torch.no_grad():
        model(x)
    model.train()
    loss_of(model, x, y).backward()
    with opt.ascended():
        loss_of(model, x, y).backward()
    opt.step()


@pytest.mark.parametrize("momentum", [0.1, None])
def test_batchnorm_sees_the_first_pass_only(momentum):
    x, y = batch()
    model = network(norm=nn.BatchNorm1d)
    frozen = nn.BatchNorm1d(4).double().eval()
    model: Any = nn.Sequential(frozen, *model)
    model[2].momentum = momentum
    twin = copy.deepcopy(model)
    opt = SAM(sgd(model, lr=0.0), rho=1.0, model=model)
    for _ in range(3):
        opt.step(closure_of(opt, model, x, y))
        twin(x)
    torch.testing.assert_close(model[2].running_mean, twin[2].running_mean, rtol=0, atol=0)
    torch.testing.assert_close(model[2].running_var, twin[2].running_var, rtol=0, atol=0)
    assert model[2].num_batches_tracked == twin[2].num_batches_tracked == 3
    assert model[2].momentum == momentum
    assert model[0].running_mean.count_nonzero() == 0


def test_batchnorm_both_sees_both():
    x, y = batch()
    model = network(norm=nn.BatchNorm1d)
    opt = SAM(sgd(model), rho=0.1, model=model, batchnorm="both")
    opt.step(closure_of(opt, model, x, y))
    assert model[1].num_batches_tracked == 2
