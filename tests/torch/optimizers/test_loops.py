"""The loops people have: two phases, schedulers, clipping, accumulation, BatchNorm, dropout; exact resume; misuse."""

from __future__ import annotations

import copy
import gc
import io
import pickle
from typing import Any

import pytest
import torch
from loops import batch, closure_of, flat, loss_of, network, sgd
from torch import nn

from ravine.torch import SAM, RhoSchedule


def test_two_phases_equal_the_closure_to_the_bit():
    x, y = batch()
    ends = []
    for two_phases in (False, True):
        model = network(dropout=0.3, norm=True)
        opt = SAM(sgd(model, weight_decay=5e-4), rho=0.05, model=model)
        torch.manual_seed(7)
        for _ in range(10):
            if two_phases:
                opt.zero_grad()
                loss = loss_of(model, x, y)
                loss.backward()
                with opt.ascended(loss) as second:
                    opt.zero_grad()
                    second.loss = loss_of(model, x, y)
                    second.loss.backward()
                opt.step()
            else:
                opt.step(closure_of(opt, model, x, y))
        ends.append((flat(model), model[1].running_mean, model[1].num_batches_tracked.item(), opt.last.as_dict()))
    assert torch.equal(ends[0][0], ends[1][0])
    assert torch.equal(ends[0][1], ends[1][1])
    assert ends[0][2] == ends[1][2] == 10
    assert ends[0][3] == ends[1][3]


def test_a_forgotten_zero_grad_in_the_second_pass_does_no_harm():
    x, y = batch()
    ends = []
    for forgotten in (False, True):
        model = network()
        opt = SAM(sgd(model), rho=0.05)
        loss_of(model, x, y).backward()
        with opt.ascended():
            if not forgotten:
                opt.zero_grad()
            loss_of(model, x, y).backward()
        opt.step()
        ends.append(flat(model))
    assert torch.equal(*ends)


@pytest.mark.parametrize("rho", [0.0, 0.1])
def test_accumulation_equals_the_large_batch(rho):
    x, y = batch(32)
    ends = []
    for pieces in (1, 4):
        model = network()
        opt = SAM(sgd(model), rho=rho)
        for _ in range(20):
            opt.zero_grad()
            for a, b in zip(x.chunk(pieces), y.chunk(pieces), strict=True):
                (loss_of(model, a, b) / pieces).backward()
            with opt.ascended():
                for a, b in zip(x.chunk(pieces), y.chunk(pieces), strict=True):
                    (loss_of(model, a, b) / pieces).backward()
            opt.step()
        ends.append(flat(model))
    torch.testing.assert_close(*ends, rtol=0, atol=1e-13)


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
    model = network(norm=True)
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
    model = network(norm=True)
    opt = SAM(sgd(model), rho=0.1, model=model, batchnorm="both")
    opt.step(closure_of(opt, model, x, y))
    assert model[1].num_batches_tracked == 2


@pytest.mark.parametrize("where", ["before", "after", "both"])
def test_clipping_where_it_was_asked_for(where):
    """USAM with clip_grad_norm_ written by hand into both phases."""
    x, y = batch()
    ours, theirs = network(), network()
    opt = SAM(sgd(ours), rho=0.5, normalize=False, clip=0.05, clip_at=where)
    base = sgd(theirs)
    for _ in range(5):
        opt.step(closure_of(opt, ours, x, y))
        base.zero_grad()
        loss_of(theirs, x, y).backward()
        if where != "after":
            nn.utils.clip_grad_norm_(theirs.parameters(), 0.05)
        before = [p.detach().clone() for p in theirs.parameters()]
        with torch.no_grad():
            for p in theirs.parameters():
                p.add_(p.grad, alpha=0.5)
        base.zero_grad()
        loss_of(theirs, x, y).backward()
        with torch.no_grad():
            for p, b in zip(theirs.parameters(), before, strict=True):
                p.copy_(b)
        if where != "before":
            nn.utils.clip_grad_norm_(theirs.parameters(), 0.05)
        base.step()
    torch.testing.assert_close(flat(ours), flat(theirs), rtol=0, atol=1e-14)


def test_looking_does_not_change_the_run():
    x, y = batch(dtype=torch.float32)
    ends = []
    for watch, bounce in ((True, True), (False, None)):
        for clip in (None, 0.05):
            model = network(dtype=torch.float32)
            opt = SAM(sgd(model), rho=0.1, watch=watch, bounce=bounce, clip=clip)
            for _ in range(10):
                opt.step(closure_of(opt, model, x, y))
            ends.append(flat(model))
    assert torch.equal(ends[0], ends[2])
    assert torch.equal(ends[1], ends[3])


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


# Exact resume.

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
        model = network(norm=True, dtype=dtype)
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


# Misuse.


def test_refusals_name_the_cure():
    model = network()
    x, y = batch()
    with pytest.raises(ValueError, match="an optimizer instance"):
        SAM(torch.optim.SGD)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="LBFGS"):
        SAM(torch.optim.LBFGS(model.parameters()))
    with pytest.raises(ValueError, match=r"base\.base"):
        SAM(SAM(sgd(model)))
    with pytest.raises(ValueError, match="autocast"):
        SAM(torch.optim.SGD(network(dtype=torch.float16).parameters(), lr=0.1))
    rhos: list[Any] = [-0.1, float("nan"), float("inf"), True, "0.1"]
    for rho in rhos:
        with pytest.raises(ValueError, match="finite number"):
            SAM(sgd(model), rho=rho)
    wrong: list[dict[str, Any]] = [{"norm": "local"}, {"clip_at": "never"}, {"batchnorm": "second"}, {"perturb": "me"}]
    for switches in wrong:
        with pytest.raises(ValueError, match="one of"):
            SAM(sgd(model), **switches)
    with pytest.raises(ValueError, match="positive number"):
        SAM(sgd(model), clip=0)
    opt = SAM(sgd(model))
    before = flat(model)
    with pytest.raises(ValueError, match="needs the second pass"):
        opt.step()
    for misuse in (
        opt.step,
        opt.state_dict,
        lambda: opt.load_state_dict({}),
        lambda: opt.step(closure_of(opt, model, x, y)),
        lambda: opt.add_param_group({"params": [torch.ones(1)]}),
        lambda: copy.deepcopy(opt),
        lambda: opt.ascended().__enter__(),
    ):
        loss_of(model, x, y).backward()
        with pytest.raises(ValueError, match="perturbed"), opt.ascended():
            misuse()
        assert torch.equal(flat(model), before)
    loss_of(model, x, y).backward()
    with opt.ascended():
        loss_of(model, x, y).backward()
    with pytest.raises(ValueError, match="run already"), opt.ascended():
        pass
    with pytest.raises(ValueError, match=r"opt\.base\.load_state_dict"):
        opt.load_state_dict(opt.base.state_dict())
    opt = SAM(sgd(model))
    opt.param_groups[0]["rho"] = -1.0
    with pytest.raises(ValueError, match="finite number"):
        opt.step(closure_of(opt, model, x, y))
    assert torch.equal(flat(model), before)


def test_a_closure_that_accumulates_onto_what_stood_before_is_refused():
    model = network()
    x, y = batch()
    opt = SAM(sgd(model), rho=0.1)
    before = flat(model)

    def closure():
        loss = loss_of(model, x, y)
        loss.backward()
        return loss

    closure()
    with pytest.raises(ValueError, match="adds to gradients"):
        opt.step(closure)
    assert torch.equal(flat(model), before)
    for to_none in (True, False):
        opt.step(lambda to_none=to_none: [opt.zero_grad(set_to_none=to_none), closure()][-1])


@pytest.mark.filterwarnings("ignore")  # Lightning's own
def test_lightnings_accumulation_is_refused_with_the_cure():
    """Its closure adds to the gradients of earlier micro-batches, which a second pass would lose."""
    import lightning
    from torch.utils.data import DataLoader, TensorDataset

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.network = network(dtype=torch.float32)

        def training_step(self, batch, index):
            return loss_of(self.network, *batch)

        def configure_optimizers(self):
            return SAM(sgd(self.network), rho=0.1)

    trainer = lightning.Trainer(
        max_steps=2,
        accumulate_grad_batches=2,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    loader = DataLoader(TensorDataset(*batch(dtype=torch.float32)), batch_size=8)
    with pytest.raises(ValueError, match="adds to gradients"):
        trainer.fit(Module(), loader)
