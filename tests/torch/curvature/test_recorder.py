"""What a recorder sees of real training, and that training does not see it."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from specimens import squares
from torch import nn
from training_loops import PlainSAM, closure_of, equal, in_two_phases, small, task

from ravine import plots
from ravine.theory.edge import sam_edge
from ravine.torch import SAM, Probe
from ravine.torch.settings import Settings, settings_of


def test_following_a_run(tmp_path: Path) -> None:
    model, loss, batches = task()
    probe = Probe(model, loss, batches)
    eta = 0.4 / float(probe.eigenpairs(1, 1e-8).values[0])
    optimizer = PlainSAM(model.parameters(), eta, 0.01)
    step = closure_of(model, optimizer, batches[0])
    written: list[tuple[str, float, int]] = []

    class Writer:
        def add_scalar(self, name: str, value: float, at: int) -> None:
            written.append((name, value, at))

    with probe.follow(optimizer, every=20, k=2, tol=1e-4, writer=Writer()) as log:
        for _ in range(100):
            optimizer.step(step)
    optimizer.step(step)
    run = log.run
    assert run["step"].values.tolist() == [0, 20, 40, 60, 80, 100]
    objective = probe.objective
    assert (run["eigenvalues"].sel(pair=1) > run["eigenvalues"].sel(pair=2)).all()
    assert (run["gd_edge"] == 2 / eta).all()
    expected = sam_edge(run["grad_norm"].values, eta, 0.01)
    assert run["sam_edge"].values == pytest.approx(expected)
    # Once it bounces, the gradient and the step are along e₁, and the SAM-edge is at λ₁.
    assert (run["gradient_alignment"].values[2:] > 0.99).all()
    assert (run["alignment"].values[2:] > 0.99).all()
    assert run["sam_edge"].values[2:] == pytest.approx(run["eigenvalues"].sel(pair=1).values[2:], rel=0.02)
    assert (run["continuity"].values[1:] > 0.99).all()
    assert np.isnan(run["continuity"].values[0])
    assert run.attrs["precision"] == "float64"
    assert "parameters" in run.attrs["objective"]
    assert ("ravine/sharpness", float(run["eigenvalues"].values[-1, 0]), 100) in written
    log.save(tmp_path / "run.nc")
    assert xr.load_dataset(tmp_path / "run.nc", engine="h5netcdf").equals(run)
    assert objective.value(objective.start) >= 0
    with pytest.raises(ValueError, match="every"), probe.follow(optimizer, every=0):
        pass
    with pytest.raises(ValueError, match="optimizer"), probe.follow(object()):
        pass


def test_following_any_optimizer_to_its_divergence() -> None:
    x, y = torch.randn(12, 4, dtype=torch.float64), torch.randn(12, 2, dtype=torch.float64)
    model, loss, batches = nn.Linear(4, 2).double(), squares, [(x, y)]
    probe = Probe(model, loss, batches)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e6)
    with probe.follow(optimizer, every=1) as log:
        for _ in range(300):
            closure_of(model, optimizer, batches[0])()
            optimizer.step()
            if not np.isfinite(log.run["loss"].values[-1]):
                break
    run = log.run
    assert np.isnan(run["sam_edge"]).all()
    assert not np.isfinite(run["loss"].values[-1])
    assert np.isnan(run["eigenvalues"].values[-1]).all()
    assert run["gd_edge"].values[0] == pytest.approx(2e-6)


def test_the_probe_leaves_training_as_it_was() -> None:
    """A followed run and one that is not end at the same parameters, to the bit."""
    ends = []
    for followed in (False, True):
        torch.manual_seed(1)
        model = nn.Sequential(nn.Linear(4, 12), nn.BatchNorm1d(12), nn.Tanh(), nn.Linear(12, 2)).double()
        x, y = torch.randn(16, 4).double(), torch.randn(16, 2).double()
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        step = closure_of(model, optimizer, (x, y))
        if followed:
            with Probe(model, squares, [(x, y)]).follow(optimizer, every=5):
                for _ in range(20):
                    optimizer.step(step)
        else:
            for _ in range(20):
                optimizer.step(step)
        ends.append({name: value.clone() for name, value in model.state_dict().items()})
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_dropout_in_two_phases_beside_a_probe() -> None:
    """The probe's passes are none of training's: the second pass repeats the first one's masks, whoever looked."""
    ends = []
    for followed in (False, True):
        model = small(nn.Dropout(0.3))
        batch = (torch.randn(12, 4, dtype=torch.float64), torch.randn(12, 2, dtype=torch.float64))
        opt = SAM(torch.optim.SGD(model.parameters(), lr=0.05), rho=0.01, model=model)
        step = in_two_phases(opt, model, batch)
        torch.manual_seed(2)
        if followed:
            probe = Probe(model, squares, [batch], seed=0)
            with probe.follow(opt, every=2) as log:
                for _ in range(6):
                    step()
            assert log.run.sizes["step"] == 4
        else:
            for _ in range(6):
                step()
        ends.append(deepcopy(model.state_dict()))
        torch.manual_seed(0)
    assert equal(ends[0], ends[1])


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_the_edges_are_those_of_the_optimizers_momentum(momentum: float) -> None:
    """Beside the closed form itself: at the SAM-edge λ, ηλ(1 + ρλ/g) = 2(1 + m)."""
    torch.manual_seed(0)
    model, batch = small(), (torch.randn(12, 4).double(), torch.randn(12, 2).double())
    opt = SAM(torch.optim.SGD(model.parameters(), lr=0.05, momentum=momentum), rho=0.1, model=model)
    step = closure_of(model, opt, batch)
    with Probe(model, squares, [batch]).follow(opt, every=2) as log:
        for _ in range(2):
            opt.step(step)
        opt.param_groups[0]["lr"] = 0.01  # as a schedule would
        for _ in range(2):
            opt.step(step)
    run = log.run
    eta = np.array([0.05, 0.05, 0.01])
    assert repr(log) == "TrainingRecorder(3 looks, up to step 4)"
    assert run["momentum"].values.tolist() == [momentum] * 3
    assert run["gd_edge"].values == pytest.approx(2 * (1 + momentum) / eta, rel=1e-12)
    lam, g = run["sam_edge"].values, run["grad_norm"].values
    assert eta * lam * (1 + 0.1 * lam / g) == pytest.approx(np.full(3, 2 * (1 + momentum)), rel=1e-9)


def test_the_picture_of_a_run_draws_and_names_the_edges_that_it_recorded() -> None:
    for momentum, label in ((0.0, "2/η"), (0.9, "2(1+m)/η")):
        run = followed(momentum)
        with plots.style():
            sharp = plots.follow_figure(run).axes[0]
        lines = {str(line.get_label()): np.asarray(line.get_ydata()) for line in sharp.get_lines()}
        assert list(lines) == ["λ_max", label, "SAM-edge"]
        assert lines[label] == pytest.approx(np.full(3, 2 * (1 + momentum) / 0.05))
        assert (lines["SAM-edge"] == run["sam_edge"].values).all()
        assert (lines["λ_max"] == run["eigenvalues"].values[:, 0]).all()


def followed(momentum: float) -> xr.Dataset:
    """The Run of four steps of SAM, seen every second."""
    torch.manual_seed(0)
    model, batch = small(), (torch.randn(12, 4).double(), torch.randn(12, 2).double())
    opt = SAM(torch.optim.SGD(model.parameters(), lr=0.05, momentum=momentum), rho=0.1, model=model)
    with Probe(model, squares, [batch]).follow(opt, every=2) as log:
        for _ in range(4):
            opt.step(closure_of(model, opt, batch))
    return log.run


def test_settings_of_what_has_no_step_size_are_refused() -> None:
    with pytest.raises(ValueError, match="step size lr"):
        settings_of(object())
    assert settings_of(torch.optim.Adam([torch.zeros(1)], lr=0.1)) == Settings(0.1, None, 0.0)
    still = Settings(0.0, 0.1, 0.9)
    assert still.gd_edge == still.sam_edge(1.0) == np.inf
