"""Diagnostics are what they say, and logs hold them."""

from __future__ import annotations

import csv
from typing import Any

import pytest
import torch
from networks import batch, closure_of, flat, loss_of, network, sgd

from ravine.torch import ASAM, GSAM, SAM
from ravine.torch.optimizers import monitor


def test_logs(tmp_path):
    class Writer:
        def __init__(self):
            self.rows = []

        def add_scalar(self, name, value, step):
            self.rows.append((name, value, step))

    x, y = batch()
    path, writer = tmp_path / "run.csv", Writer()
    opt: Any = None
    for _ in range(2):
        model = network()
        opt = SAM(sgd(model), rho=0.1)
        opt.log_to(path)
        opt.log_to(writer, every=2, prefix="t")
        for _ in range(4):
            opt.step(closure_of(opt, model, x, y))
    with path.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == list("12341234")
    assert rows[0]["bounce"] == ""
    assert float(rows[3]["bounce"]) == opt.last.bounce
    assert float(rows[7]["loss_gap"]) == opt.last.loss_gap
    assert {step for _, _, step in writer.rows} == {2, 4}
    assert ("t/cosine", opt.last.cosine, 4) in writer.rows
    path.write_text("a,b\n")
    with pytest.raises(ValueError, match="another file"):
        opt.log_to(path)
    with pytest.raises(ValueError, match="SummaryWriter"):
        opt.log_to(3)
    with pytest.raises(ValueError, match="n ≥ 1"):
        opt.log_to(path, every=0)


def test_diagnostics_are_what_they_say():
    """Each against its definition, from passes run by hand."""
    torch.manual_seed(0)
    x, y = batch()
    model = network()
    opt = SAM(sgd(model), rho=0.3)
    previous = None
    for _ in range(4):
        w = [p.detach().clone() for p in model.parameters()]
        loss = loss_of(model, x, y)
        g = torch.autograd.grad(loss, list(model.parameters()))
        norm = torch.cat([t.reshape(-1) for t in g]).norm()
        with torch.no_grad():
            for p, t in zip(model.parameters(), g, strict=True):
                p.add_(0.3 * t / norm)
        above = loss_of(model, x, y)
        g_sam = torch.cat([t.reshape(-1) for t in torch.autograd.grad(above, list(model.parameters()))])
        with torch.no_grad():
            for p, t in zip(model.parameters(), w, strict=True):
                p.copy_(t)
        opt.step(closure_of(opt, model, x, y))
        flat_g = torch.cat([t.reshape(-1) for t in g])
        expected = {
            "loss": loss,
            "loss_ascended": above,
            "loss_gap": above - loss,
            "grad_norm": norm,
            "sam_grad_norm": g_sam.norm(),
            "cosine": torch.cosine_similarity(flat_g, g_sam, 0),
            "radius": torch.tensor(0.3),
        }
        for name, value in expected.items():
            assert getattr(opt.last, name) == pytest.approx(value.item(), rel=1e-7), name
        bounce = opt.last.bounce
        if previous is not None:
            assert bounce == pytest.approx(torch.cosine_similarity(previous, g_sam, 0).item(), rel=1e-9)
        else:
            assert bounce is None
        previous = g_sam
        assert opt.last.passes == 2
    assert opt.passes == 8
    with pytest.raises(AttributeError, match="it has step"):
        _ = opt.last.sharpness


def test_figures_that_nobody_reads_are_no_longer_computed(monkeypatch):
    monkeypatch.setattr(monitor, "PATIENCE", 5)
    x, y = batch()
    model = network()
    opt = SAM(sgd(model), rho=0.3)
    known = []
    for t in range(30):
        opt.step(closure_of(opt, model, x, y))
        known.append(opt.last.findings.cosine is not None)
        if t in (3, 20):
            _ = opt.last.cosine
    # Five unread steps and it stops; a reading that finds nothing brings the next step's back.
    assert known == [True] * 9 + [False] * 12 + [True] * 5 + [False] * 4
    for watch in (True, False):
        opt = SAM(sgd(model), rho=0.3, watch=watch)
        for _ in range(8):
            opt.step(closure_of(opt, model, x, y))
        assert (opt.last.findings.cosine is not None) == watch


def test_tensorboard_reads_what_was_logged(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils.tensorboard import SummaryWriter

    x, y = batch()
    model = network()
    opt = SAM(sgd(model), rho=0.1)
    with SummaryWriter(tmp_path) as writer:
        opt.log_to(writer)
        for _ in range(3):
            opt.step(closure_of(opt, model, x, y))
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert [event.step for event in events.Scalars("sam/grad_norm")] == [1, 2, 3]
    assert events.Scalars("sam/bounce")[-1].value == pytest.approx(opt.last.bounce, rel=1e-6)


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


def test_the_cosine_is_of_the_gradients_also_where_the_ascent_is_not_along_one():
    x, y = batch()
    model = network()
    opt = ASAM(sgd(model), rho=0.5)
    seen: list[torch.Tensor] = []
    inner = closure_of(opt, model, x, y)

    def closure() -> torch.Tensor:
        loss = inner()
        seen.append(torch.cat([p.grad.reshape(-1).clone() for p in model.parameters()]))
        return loss

    opt.step(closure)
    assert opt.last.cosine == pytest.approx(torch.cosine_similarity(seen[0], seen[1], 0).item(), rel=1e-12)


def test_before_the_first_step_nothing_is_known():
    opt = SAM(sgd(network()))
    assert opt.last.step == 0
    assert {value for name, value in opt.last.as_dict().items() if name != "step"} == {None}
    assert repr(opt.last).startswith("StepDiagnostics(step=0, loss=None")


def test_a_loaded_state_has_no_previous_gradient_to_compare_with():
    x, y = batch()
    model = network()
    opt = SAM(sgd(model), bounce=True)
    bounces = []
    for t in range(4):
        if t == 2:
            opt.load_state_dict(opt.state_dict())
        opt.step(closure_of(opt, model, x, y))
        bounces.append(opt.last.bounce is not None)
    assert bounces == [False, True, False, True]


@pytest.mark.parametrize("watch", [None, False])
@pytest.mark.parametrize("bounce", [None, False])
def test_a_log_is_a_reader(monkeypatch, tmp_path, watch, bounce):
    """It keeps the costly figures up for as long as it is written, unless they were declined."""
    monkeypatch.setattr(monitor, "PATIENCE", 2)
    x, y = batch()
    model = network()
    opt = SAM(sgd(model), rho=0.1, watch=watch, bounce=bounce)
    opt.log_to(str(tmp_path / "log.csv"), every=3)
    for _ in range(9):
        opt.step(closure_of(opt, model, x, y))
    with (tmp_path / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["3", "6", "9"]
    for row in rows:
        assert (row["cosine"] == "") is (watch is False)
        assert (row["bounce"] == "") is (bounce is False)
        assert float(row["grad_norm"]) > 0
        assert row["status"] == "ok"


def test_numbers_that_are_not_finite_are_not_drawn():
    class Writer:
        def __init__(self) -> None:
            self.names: list[str] = []

        def add_scalar(self, name: str, value: float, step: int) -> None:
            assert step == 1
            self.names.append(name)

    x, y = batch()
    model, writer = network(), Writer()
    opt = SAM(sgd(model), rho=0.1)
    opt.log_to(writer)
    opt.step(closure_of(opt, model, x * float("nan"), y))
    assert opt.last.status == "non-finite"
    assert "sam/passes" in writer.names
    assert not {"sam/loss", "sam/grad_norm", "sam/status", "sam/step"} & set(writer.names)


@pytest.mark.parametrize("norm", ["global", "group"])
@pytest.mark.parametrize("normalize", [True, False])
def test_the_gradients_norm_is_of_all_groups_whatever_the_ascents(norm, normalize):
    x, y = batch()
    model = network()
    groups = [{"params": list(part.parameters())} for part in (model[0], model[4])]
    opt = SAM(torch.optim.SGD(groups, lr=0.1), rho=0.1, norm=norm, normalize=normalize)
    expected = torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss_of(model, x, y), list(model.parameters()))])
    opt.step(closure_of(opt, model, x, y))
    assert opt.last.grad_norm == pytest.approx(expected.norm().item(), rel=1e-12)


def test_norms_are_told_as_they_were_before_clipping():
    x, y = batch()
    model = network()
    opt = SAM(sgd(model), rho=0.1, clip=1e-3, clip_at="both")
    expected = torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss_of(model, x, y), list(model.parameters()))])
    opt.step(closure_of(opt, model, x, y))
    assert opt.last.grad_norm == pytest.approx(expected.norm().item(), rel=1e-12)
    assert opt.last.sam_grad_norm is not None
    assert opt.last.sam_grad_norm > 0.01


@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize("decayed", [False, True])
@pytest.mark.parametrize("keeps", [False, True])
def test_the_cosine_is_of_the_losses_gradients_without_signs_and_decay(maximize, decayed, keeps):
    start = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    lam = torch.tensor([3.0, 2.0, -1.0], dtype=torch.float64)
    w = start.clone().requires_grad_()
    base = torch.optim.SGD([w], lr=0.1, weight_decay=0.7, maximize=maximize)
    opt = (GSAM if keeps else SAM)(base, rho=0.9, ascent_weight_decay=decayed)
    (lam * w**2).sum().div(2).backward()
    with opt.ascended():
        up = lam * w.detach()
        (lam * w**2).sum().div(2).backward()
    opt.step()
    assert opt.last.cosine == pytest.approx(torch.cosine_similarity(lam * start, up, 0).item(), rel=1e-12)


@pytest.mark.parametrize("bounce", [None, False, True])
def test_the_bounce_is_kept_where_it_was_asked_for(bounce):
    x, y = batch()
    model = network()
    opt = SAM(sgd(model), rho=0.1, bounce=bounce)
    known = []
    for t in range(5):
        opt.step(closure_of(opt, model, x, y))
        known.append(opt.last.findings.bounce is not None)
        if t == 2:
            _ = opt.last.bounce
    assert known == {None: [False] * 3 + [True] * 2, False: [False] * 5, True: [False] + [True] * 4}[bounce]
