"""The weight of each batch: ragged ones, masked tokens, and data of any shape."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from specimens import (
    dense,
    off,
    samples,
    tiny,
)
from torch import nn

from ravine.torch import Probe, network


def test_batches_of_any_shape() -> None:
    x, y = samples()

    def loss(model: nn.Module, batch: Any) -> torch.Tensor:
        return ((model(batch["in"]["x"]) - batch["y"]) ** 2).mean()

    nested = [{"in": {"x": x[:5]}, "y": y[:5]}, {"in": {"x": x[5:]}, "y": y[5:]}]
    whole = network(tiny(), loss, [{"in": {"x": x}, "y": y}])
    split = network(whole.model, loss, nested)
    assert split.value(split.start) == pytest.approx(whole.value(whole.start), rel=1e-14)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=7)
    loaded = network(whole.model, lambda m, b: ((m(b[0]) - b[1]) ** 2).mean(), loader)
    assert loaded.value(loaded.start) == pytest.approx(whole.value(whole.start), rel=1e-14)
    weighed = network(whole.model, loss, nested, size=lambda batch: 1)
    halves = [network(whole.model, loss, [half]) for half in nested]
    assert weighed.value(weighed.start) == pytest.approx(np.mean([half.value(half.start) for half in halves]))


class Tokens(nn.Module):
    """Predicts each token from those before it."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.out = nn.Embedding(7, 5), nn.Linear(5, 7)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        seen = self.embed(tokens).cumsum(dim=1) / torch.arange(1, tokens.shape[1] + 1).unsqueeze(1)
        return self.out(torch.tanh(seen))


def unmasked_mean(model: nn.Module, batch: Any) -> torch.Tensor:
    return nn.functional.cross_entropy(model(batch[0]).transpose(1, 2), batch[1])


def unmasked(batch: Any) -> Any:
    return (batch[1] != -100).sum()


@pytest.mark.parametrize("as_number", [int, lambda count: count])
def test_masked_tokens_weigh_nothing_in_ragged_batches(as_number: Callable[[Any], Any]) -> None:
    """Batches of other sizes, lengths and masks are the loss of one batch that joins them."""
    generator = torch.Generator().manual_seed(1)
    batches = []
    for count, length, share in ((5, 6, 0.5), (3, 4, 0.1), (1, 9, 0.9)):
        tokens, labels = torch.randint(7, (2, count, length), generator=generator)
        labels[torch.rand(labels.shape, generator=generator) < share] = -100
        batches.append((tokens, labels))
    longest = max(tokens.shape[1] for tokens, _ in batches)
    padded = [
        [nn.functional.pad(t, (0, longest - t.shape[1]), value=fill) for t, fill in zip(batch, (0, -100), strict=True)]
        for batch in batches
    ]
    joined = tuple(torch.cat(column) for column in zip(*padded, strict=True))
    counts = [int(unmasked(batch)) for batch in batches]
    assert sum(counts) == int(unmasked(joined))
    assert len({count / len(batch[0]) for count, batch in zip(counts, batches, strict=True)}) == 3
    model = Tokens().double()
    probe = Probe(model, unmasked_mean, batches, size=lambda batch: as_number(unmasked(batch)))
    one, blind = (Probe(model, unmasked_mean, data) for data in ([joined], batches))
    w, u = one.objective.start, torch.randn(one.objective.dimension, dtype=torch.float64)
    assert probe.objective.value(w) == pytest.approx(one.objective.value(w), rel=1e-14)
    assert off(probe.objective.grad(w), one.objective.grad(w)) < 1e-13
    assert off(probe.objective.hvp(w, u), one.objective.hvp(w, u)) < 1e-13
    pairs, whole = (each.eigenpairs(1, 1e-9) for each in (probe, one))
    assert abs(pairs.values[0] - whole.values[0]) <= pairs.residuals[0] + whole.residuals[0]
    assert abs(pairs.values[0] - np.linalg.eigvalsh(dense(one))[-1]) <= pairs.residuals[0]
    assert abs(blind.objective.value(w) - one.objective.value(w)) > 1e-3
    with pytest.raises(ValueError, match="empty"):
        Probe(model, unmasked_mean, [(joined[0], torch.full_like(joined[1], -100))], size=unmasked)
