"""The probe against dense float64 derivatives, and what it refuses."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import sharded_processes as worker
import torch
from torch import nn

from ravine.torch import Network, Probe, network
from ravine.torch.curvature.layers import Mended
from ravine.torch.curvature.products import KinkWarning, Products


def squares(model: nn.Module, batch: Any) -> torch.Tensor:
    return ((model(batch[0]) - batch[1]) ** 2).sum(dim=-1).mean()


def entropy(model: nn.Module, batch: Any) -> torch.Tensor:
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def data(n: int = 23, dtype: torch.dtype = torch.float64) -> list[Any]:
    generator = torch.Generator().manual_seed(1)
    x, y = (torch.randn(n, width, generator=generator, dtype=torch.float64).to(dtype) for width in (4, 2))
    return [(x[:10], y[:10]), (x[10:20], y[10:20]), (x[20:], y[20:])]


def images(dtype: torch.dtype = torch.float64) -> list[Any]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(12, 1, 8, 8, generator=generator, dtype=torch.float64).to(dtype)
    y = torch.randint(0, 4, (12,), generator=generator)
    return [(x[:8], y[:8]), (x[8:], y[8:])]


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 20), nn.Tanh(), nn.Linear(20, 20), nn.GELU(), nn.Linear(20, 2))


def convolutional() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1), nn.GroupNorm(2, 6), nn.SiLU(), nn.Conv2d(6, 8, 3, stride=2), nn.BatchNorm2d(8),
        nn.Tanh(), nn.Flatten(), nn.Linear(72, 4),
    )  # fmt: skip


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(8, 12)
        self.block = nn.TransformerEncoderLayer(12, 2, 24, dropout=0.0, activation="gelu", batch_first=True)
        self.out = nn.Linear(12, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.block(self.embed(x[:, 0])).mean(dim=1))


CASES: dict[str, tuple[Callable[[], nn.Module], Any, Callable[..., list[Any]]]] = {
    "mlp": (mlp, squares, data),
    "convolutional": (convolutional, entropy, images),
    "transformer": (Transformer, entropy, images),
}


def dense(probe: Probe) -> np.ndarray:
    """The float64 Hessian of the model as written (second derivatives of norms are right in torch)."""
    exact = probe.objective
    plain = network(exact.model.double(), exact._composite.loss, _double(exact.batches))
    identity = torch.eye(plain.dimension, dtype=torch.float64)
    hessian = torch.zeros_like(identity)
    for weight, batch in zip(plain._weights, plain.batches, strict=True):
        w = plain.start.requires_grad_(True)
        (g,) = torch.autograd.grad(plain._loss(w, batch).reshape(()), w, create_graph=True)
        try:
            rows = torch.autograd.grad(g, w, identity, is_grads_batched=True, retain_graph=True)[0]
        except RuntimeError:  # convolutions have no batched second derivative
            rows = torch.stack([torch.autograd.grad(g, w, axis, retain_graph=True)[0] for axis in identity])
        hessian += weight * rows
    return ((hessian + hessian.T) / 2).numpy()


def _double(batches: list[Any]) -> list[Any]:
    return [tuple(t.double() if t.is_floating_point() else t for t in batch) for batch in batches]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", CASES)
def test_eigenvalues_lie_within_their_bounds(name: str, dtype: torch.dtype) -> None:
    make, loss, batches = CASES[name]
    probe = Probe(make().to(dtype), loss, batches(dtype=dtype))
    assert 500 <= probe.objective.dimension <= 3000
    found = [probe.eigenpairs(3, tol) for tol in (1e-1, 1e-3, 1e-12)]
    found += [pairs for tol in (1e-2, 1e-6) for pairs in probe.extremal_eigenpairs(2, tol)]
    values = probe.eigenpairs(1, 1e-3, target="values")
    hessian = dense(probe)
    lam = np.linalg.eigvalsh(hessian)
    for pairs in [*found, values]:
        true = np.linalg.norm(pairs.vectors @ hessian - pairs.values[:, None] * pairs.vectors, axis=1)
        assert (true <= pairs.residuals).all()
        assert (np.abs(pairs.values[:, None] - lam).min(axis=1) <= pairs.residuals).all()
        assert pairs.converged.all()
    top = found[2]
    assert (np.abs(top.values - lam[::-1][:3]) <= top.residuals).all()
    assert values.products <= found[1].products
    assert abs(values.values[0] - lam[-1]) <= 1e-3 * lam[-1]


@pytest.mark.parametrize("name", CASES)
def test_every_path_gives_the_same_product(name: str) -> None:
    make, loss, batches = CASES[name]
    model = make().double()
    made = {}
    for path in ("retained", "double", "forward", "difference"):
        objective = Products(model, loss, batches(), path=path)
        w, u = objective.start, torch.linspace(-1, 1, objective.dimension, dtype=torch.float64)
        made[path] = objective.hvp(w, u)
        assert torch.equal(objective.hvp(w, u), made[path])
        moved = objective.hvp(w + 0.1, u)
        assert not torch.allclose(moved, made[path])
    for path in ("double", "forward"):
        assert torch.allclose(made[path], made["retained"], rtol=1e-10, atol=1e-12)
    assert torch.allclose(made["difference"], made["retained"], rtol=1e-5, atol=1e-7)


def test_the_path_is_chosen_by_memory_and_reported() -> None:
    model = mlp().double()
    roomy, tight = Probe(model, squares, data()), Probe(model, squares, data(), memory=1000)
    assert roomy.choice.path == "retained"
    assert roomy.choice.bytes > 1000
    assert tight.choice.path in ("double", "forward")
    assert set(tight.choice.seconds) == {"double", "forward"}
    assert "1000" in tight.choice.reason
    a, b = (probe.eigenpairs(1, 1e-6).values[0] for probe in (roomy, tight))
    assert a == pytest.approx(b, rel=1e-9)


class OnlyOnce(torch.autograd.Function):
    """A square whose backward pass is not differentiable."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: torch.Tensor) -> torch.Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return 2 * ctx.saved_tensors[0] * grads[0]


def test_without_a_second_derivative_products_are_differences_and_say_so() -> None:
    def loss(model: nn.Module, batch: Any) -> torch.Tensor:
        return OnlyOnce.apply(model(batch[0]) - batch[1]).sum(dim=-1).mean()

    probe = Probe(mlp().double(), loss, data())
    reference = Probe(probe.model, squares, data())
    assert probe.choice.path == "difference"
    assert "differences" in probe.precision
    pairs, exact = probe.eigenpairs(2, 1e-6), reference.eigenpairs(2, 1e-12)
    assert (np.abs(pairs.values - exact.values) <= pairs.residuals).all()
    with pytest.raises(ValueError, match="difference"):
        probe.sharpness_gradient()
    found = probe.sharpness_gradient(how="difference").value
    assert found is not None
    assert _off(found, reference.sharpness_gradient().value) < 1e-3


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_bounds_of_differences_hold_where_the_loss_bends_strongly(dtype: torch.dtype) -> None:
    """A batch norm over few samples: one central difference is off by more than its rounding."""
    batches = [tuple(t.to(dtype) for t in batch) for own in worker.data() for batch in own]
    probe = Probe(worker.model().to(dtype), worker.squares, batches, path="difference")
    plain = Probe(worker.model(), worker.squares, [batch for own in worker.data() for batch in own])
    hessian = np.stack([plain.objective.hvp(plain.objective.start, axis).numpy() for axis in torch.eye(57).double()])
    lam = np.linalg.eigvalsh(hessian)
    largest, smallest = probe.extremal_eigenpairs(1, 1e-5)
    assert abs(largest.values[0] - lam[-1]) <= largest.residuals[0]
    assert abs(smallest.values[0] - lam[0]) <= smallest.residuals[0]


def _off(a: torch.Tensor | None, b: torch.Tensor | None) -> float:
    assert a is not None
    assert b is not None
    return float(torch.linalg.vector_norm(a - b) / torch.linalg.vector_norm(b))


@pytest.mark.parametrize("name", CASES)
def test_the_gradient_of_sharpness(name: str) -> None:
    make, loss, batches = CASES[name]
    probe = Probe(make().double(), loss, batches())
    found = probe.sharpness_gradient()
    assert found.value is not None
    assert found.how == "exact"
    assert found.angle < 1e-6
    # The derivative of λ_max itself, along its own direction and a random one, by differences of dense eigenvalues.
    objective, w = probe.objective, probe.objective.start
    for direction in (found.value / found.value.norm(), torch.randn_like(w) / w.numel() ** 0.5):
        slopes = []
        for h in (2e-4, 1e-4):
            ends = []
            for sign in (1, -1):
                objective.assign(w + sign * h * direction)
                ends.append(probe.eigenpairs(1, 1e-11).values[0])
            slopes.append((ends[0] - ends[1]) / (2 * h))
        objective.assign(w)
        slope = slopes[1] + (slopes[1] - slopes[0]) / 3
        assert float(found.value @ direction) == pytest.approx(slope, rel=1e-5, abs=1e-6 * float(found.value.norm()))
    assert _off(probe.sharpness_gradient(how="difference").value, found.value) < 1e-4
    tight = Probe(probe.model, loss, batches(), memory=1)
    assert _off(tight.sharpness_gradient().value, found.value) < 1e-8


@pytest.mark.parametrize("name", CASES)
def test_the_gradient_of_sharpness_in_float32(name: str) -> None:
    make, loss, batches = CASES[name]
    model = make()
    single = Probe(model, loss, batches(dtype=torch.float32)).sharpness_gradient().value
    assert single is not None
    exact = Probe(model.double(), loss, batches()).sharpness_gradient().value
    assert _off(single.double(), exact) < 5e-3


@pytest.mark.parametrize("norm", [nn.LayerNorm(20), nn.BatchNorm1d(20)])
def test_norms_that_torch_differentiates_wrongly_are_mended(norm: nn.Module) -> None:
    model = nn.Sequential(nn.Linear(4, 20), norm, nn.Tanh(), nn.Linear(20, 2)).double()
    probe = Probe(model, squares, data())
    w, u = probe.objective.start, torch.randn(probe.objective.dimension, dtype=torch.float64)
    right = probe.objective.third_checked(w, u)
    h = 1e-4
    difference = (probe.objective.hvp(w + h * u, u) - probe.objective.hvp(w - h * u, u)) / (2 * h)
    assert _off(right.value, difference) < 1e-5
    with pytest.raises(ValueError, match=type(norm).__name__):
        Network.third(_unmended(model), w, u)


def _unmended(model: nn.Module) -> Any:
    class Plain(Products):
        def _loss_at(self, parameters: dict[str, torch.Tensor], batch: Any) -> torch.Tensor:
            return super(Products, self)._loss_at(parameters, batch)

    return Plain(model, squares, data(), path="double")


def test_mended_norms_are_the_layers() -> None:
    x = torch.randn(6, 3, 5, 5, dtype=torch.float64)
    for layer in (nn.LayerNorm([5, 5]), nn.BatchNorm2d(3), nn.InstanceNorm2d(3, affine=True), nn.BatchNorm2d(3).eval()):
        module = layer.double()
        for parameter in module.parameters():
            nn.init.normal_(parameter)
        before = [buffer.clone() for buffer in module.buffers()]
        with Mended(None):
            ours = module(x)
        buffers = [b for b in module.buffers() if b.is_floating_point()]
        floats = [b for b in before if b.is_floating_point()]
        assert all(torch.equal(a, b) for a, b in zip(buffers, floats, strict=True))
        assert torch.allclose(ours, module(x), rtol=1e-12, atol=1e-12)


class WrongCube(torch.autograd.Function):
    """x³ with a backward pass whose second derivative is wrong, as a hand-written layer's may be."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> torch.Tensor:
        (x,) = ctx.saved_tensors
        return grads[0] * (3 * x.detach() ** 2 + 6 * x.detach() * (x - x.detach()))


class Cube(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return WrongCube.apply(x)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_wrong_third_derivative_is_refused_with_its_layer(dtype: torch.dtype) -> None:
    model = nn.Sequential(nn.Linear(4, 20), Cube(), nn.Linear(20, 2)).to(dtype)
    probe = Probe(model, squares, data(dtype=dtype))
    with pytest.raises(ValueError, match=r"Cube \(1\)"):
        probe.sharpness_gradient()
    assert probe.sharpness_gradient(how="difference").value is not None


def test_equal_top_eigenvalues_have_a_subspace_and_no_gradient() -> None:
    class Twins(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 2), nn.Linear(4, 2)
            self.b.load_state_dict(self.a.state_dict())

    def loss(model: Any, batch: Any) -> torch.Tensor:
        return sum(((torch.tanh(part(batch[0])) - batch[1]) ** 2).mean() for part in (model.a, model.b))  # pyright: ignore[reportReturnType]

    probe = Probe(Twins().double(), loss, data())
    found = probe.sharpness_gradient()
    assert found.tie
    assert found.value is None
    for v in found.subspace:
        image = probe.objective.hvp(probe.objective.start, v).numpy()
        assert np.linalg.norm(image - found.top.values[0] * v) < 1e-4 * found.top.values[0]
    assert found.subspace @ found.subspace.T == pytest.approx(np.eye(2), abs=1e-12)


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


def test_dropout_needs_a_seed() -> None:
    model = nn.Sequential(mlp(), nn.Dropout(0.5)).double()
    with pytest.raises(ValueError, match="seed"):
        Probe(model, squares, data())
    state = torch.get_rng_state()
    pairs = [Probe(model, squares, data(), seed=seed).eigenpairs(1, 1e-8) for seed in (1, 1, 2)]
    assert torch.equal(state, torch.get_rng_state())
    assert pairs[0].values == pairs[1].values
    assert pairs[0].values != pairs[2].values


def test_kinks_get_their_answer_and_a_warning() -> None:
    model = nn.Sequential(nn.Linear(4, 20), nn.ReLU(), nn.Linear(20, 2)).double()
    with pytest.warns(KinkWarning, match="relu"):
        probe = Probe(model, squares, data())
    pairs = probe.eigenpairs(1, 1e-8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", KinkWarning)
        hessian = dense(probe)
    assert abs(pairs.values[0] - np.linalg.eigvalsh(hessian)[-1]) <= pairs.residuals[0]


def test_a_warm_start_saves_products_and_keeps_signs() -> None:
    probe = Probe(mlp().double(), squares, data())
    cold = probe.eigenpairs(1, 1e-3)
    optimizer = torch.optim.SGD(probe.model.parameters(), lr=1e-3)
    for _ in range(5):
        for batch in data():
            optimizer.zero_grad()
            squares(probe.model, batch).backward()
            optimizer.step()
        warm = probe.eigenpairs(1, 1e-3, warm=True)
        assert warm.products <= 6
        assert float(warm.vectors[0] @ cold.vectors[0]) > 0.5
        assert warm.products < cold.products


def test_a_negative_top_eigenvalue() -> None:
    def loss(model: nn.Module, batch: Any) -> torch.Tensor:
        return -sum((p**2).sum() for p in model.parameters()) + 0 * model(batch[0]).sum()

    pairs = Probe(mlp().double(), loss, data()).eigenpairs(1)
    assert pairs.values[0] == pytest.approx(-2.0)
    assert pairs.residuals[0] < 1e-10


def test_the_gauss_newton_part() -> None:
    probe = Probe(mlp().double(), squares, data())
    x, y = (torch.cat([batch[k] for batch in data()]) for k in (0, 1))
    objective, w = probe.objective, probe.objective.start

    def outputs(w: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(objective.model, objective._split(w), (x,)).reshape(-1)

    jacobian: Any = torch.func.jacrev(outputs)(w)
    lam = torch.linalg.eigvalsh(2 * jacobian.T @ jacobian / len(x))
    pairs = probe.gauss_newton(2, 1e-8)
    assert pairs.values == pytest.approx(lam.flip(0)[:2].numpy(), rel=1e-8)
    assert len(y) == 23
    for bad, cure in [
        (lambda m, b: squares(m, b) + sum((p**2).sum() for p in m.parameters()), "past"),
        (lambda m, b: squares(m, b) + squares(m, b), "2 times"),
    ]:
        with pytest.raises(ValueError, match=cure):
            Probe(mlp().double(), bad, data()).gauss_newton()


def test_density_and_trace() -> None:
    probe = Probe(mlp().double(), squares, data())
    density, trace = probe.density(20, 4), probe.trace(60)
    hessian = dense(probe)
    assert abs(trace.value - np.trace(hessian)) <= 5 * trace.error
    mean, error = density.mean(lambda x: x)
    assert abs(mean - np.trace(hessian) / len(hessian)) <= 5 * error


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
    for samples, length, share in ((5, 6, 0.5), (3, 4, 0.1), (1, 9, 0.9)):
        tokens, labels = torch.randint(7, (2, samples, length), generator=generator)
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
    assert _off(probe.objective.grad(w), one.objective.grad(w)) < 1e-13
    assert _off(probe.objective.hvp(w, u), one.objective.hvp(w, u)) < 1e-13
    top, whole = (each.eigenpairs(1, 1e-9) for each in (probe, one))
    assert abs(top.values[0] - whole.values[0]) <= top.residuals[0] + whole.residuals[0]
    assert abs(top.values[0] - np.linalg.eigvalsh(dense(one))[-1]) <= top.residuals[0]
    assert abs(blind.objective.value(w) - one.objective.value(w)) > 1e-3
    with pytest.raises(ValueError, match="empty"):
        Probe(model, unmasked_mean, [(joined[0], torch.full_like(joined[1], -100))], size=unmasked)


@pytest.mark.parametrize(
    ("make", "loss", "batches", "cure"),
    [
        (lambda: mlp().double(), lambda m, b: m(b[0]), data, "scalar"),
        (lambda: mlp().double(), lambda m, b: squares(m, b) * float("nan"), data, "finite"),
        (lambda: mlp().double(), lambda m, b: squares(m, b).detach(), data, "depend"),
        (mlp, squares, data, "float64, parameters of torch.float32"),
    ],
)
def test_misuse(make: Any, loss: Any, batches: Any, cure: str) -> None:
    with pytest.raises(ValueError, match=cure) as caught:
        Probe(make(), loss, batches())
    assert "\n" not in str(caught.value)
