"""Norms from elementary operations: the layers' own values, and right third derivatives."""

from __future__ import annotations

import pytest
import torch
from specimens import data, off, squares
from torch import nn

from ravine.torch import Probe, network
from ravine.torch.curvature.norm_layers import elementary_norms
from ravine.torch.curvature.substitution import Substituted


@pytest.mark.parametrize("norm", [nn.LayerNorm(20), nn.BatchNorm1d(20)])
def test_norms_that_torch_differentiates_wrongly_are_mended(norm: nn.Module) -> None:
    model = nn.Sequential(nn.Linear(4, 20), norm, nn.Tanh(), nn.Linear(20, 2)).double()
    probe = Probe(model, squares, data())
    w, u = probe.objective.start, torch.randn(probe.objective.dimension, dtype=torch.float64)
    right = probe.objective.third_exact(w, u)
    h = 1e-4
    difference = (probe.objective.hvp(w + h * u, u) - probe.objective.hvp(w - h * u, u)) / (2 * h)
    assert off(right.value, difference) < 1e-5
    with pytest.raises(ValueError, match=type(norm).__name__):
        network(model, squares, data()).third(w, u)


def test_mended_norms_are_the_layers() -> None:
    x = torch.randn(6, 3, 5, 5, dtype=torch.float64)
    for layer in (nn.LayerNorm([5, 5]), nn.BatchNorm2d(3), nn.InstanceNorm2d(3, affine=True), nn.BatchNorm2d(3).eval()):
        module = layer.double()
        for parameter in module.parameters():
            nn.init.normal_(parameter)
        before = [buffer.clone() for buffer in module.buffers()]
        with Substituted(elementary_norms(None)):
            ours = module(x)
        buffers = [b for b in module.buffers() if b.is_floating_point()]
        floats = [b for b in before if b.is_floating_point()]
        assert all(torch.equal(a, b) for a, b in zip(buffers, floats, strict=True))
        assert torch.allclose(ours, module(x), rtol=1e-12, atol=1e-12)


def test_batch_norm_by_choice_and_its_buffers_untouched() -> None:
    model = nn.Sequential(nn.Linear(4, 20), nn.BatchNorm1d(20), nn.Tanh(), nn.Linear(20, 2)).double()
    model(data()[0][0])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    losses = {mode: Probe(model, squares, data(), batchnorm=mode) for mode in ("eval", "batch", None)}
    values = {mode: probe.objective.value(probe.objective.start) for mode, probe in losses.items()}
    assert values["batch"] == values[None]
    assert values["eval"] != values["batch"]
    with torch.no_grad():
        by_hand = sum(len(b[0]) * float(squares(model.eval(), b)) for b in data()) / 23
    assert values["eval"] == pytest.approx(by_hand, rel=1e-12)
    losses["batch"].eigenpairs(1)
    losses["batch"].sharpness_gradient()
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
