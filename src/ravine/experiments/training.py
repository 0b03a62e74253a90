"""Networks on scans of handwritten digits, trained to a minimum: what the experiments on networks start from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ravine.extras import require

if TYPE_CHECKING:
    from ravine.torch import Network

_ADAM_STEPS = 3000


@dataclass(frozen=True)
class Task:
    """What is trained.

    Attributes
    ----------
    model, loss_fn, batches
        A network in float64, half the squared error, and one batch of scans with their digits.
    residuals
        r(w) of a flat vector w, with loss = ½‖r‖²: for least squares.
    """

    model: Any
    loss_fn: Callable[[Any, Any], Any]
    batches: list[Any]
    residuals: Callable[[Any], Any]


def digits_task(make_model: Callable[[], Any], images: int, seed: int) -> Task:
    """The network that `make_model` makes from the seed, on as many of scikit-learn's digits, drawn by the seed too."""
    require("sklearn", "report")
    import torch
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    chosen = np.random.default_rng(seed).permutation(len(pixels))[:images]
    x = torch.tensor(pixels[chosen] / 16.0)
    y = torch.nn.functional.one_hot(torch.tensor(labels[chosen]), 10).double()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = make_model().double()
    return Task(model, half_square, [(x, y)], residuals_of(model, x, y))


def half_square(model: Any, batch: Any) -> Any:
    """Half the squared error, summed over the outputs and averaged over the batch."""
    return 0.5 * ((model(batch[0]) - batch[1]) ** 2).sum(dim=1).mean()


def residuals_of(model: Any, x: Any, y: Any) -> Callable[[Any], Any]:
    """r(w) of a flat vector w, with `half_square` = ½‖r‖²."""
    import torch

    shapes = {name: p.shape for name, p in model.named_parameters()}
    sizes = [shape.numel() for shape in shapes.values()]

    def residuals(w: Any) -> Any:
        parts = {name: part.view(shape) for (name, shape), part in zip(shapes.items(), w.split(sizes), strict=True)}
        # The fused attention kernels have no batched derivative.
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            output = torch.func.functional_call(model, parts, (x,))
        return ((output - y) / len(x) ** 0.5).reshape(-1)

    return residuals


def minimize(task: Task) -> tuple[Network, np.ndarray]:
    """Train to a minimum: Adam at first, then Levenberg and Marquardt's method to the last digits."""
    import torch
    from scipy.optimize import least_squares

    from ravine.torch import network

    objective = network(task.model, task.loss_fn, task.batches)
    optimizer = torch.optim.Adam(task.model.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, _ADAM_STEPS)
    for _ in range(_ADAM_STEPS):
        optimizer.zero_grad()
        task.loss_fn(task.model, task.batches[0]).backward()
        optimizer.step()
        schedule.step()
    jacobian = torch.func.jacrev(task.residuals)
    found = least_squares(
        lambda w: task.residuals(torch.from_numpy(w)).detach().numpy(),
        objective.start.numpy(),
        jac=lambda w: jacobian(torch.from_numpy(w)).detach().numpy(),  # pyright: ignore[reportArgumentType]
        ftol=1e-15,
        xtol=1e-15,
        gtol=1e-10,
        max_nfev=80,
    )
    return objective, found.x


@contextmanager
def one_thread() -> Iterator[None]:
    """Sums in one order: the numbers then do not depend on how many processors there are, and small products are faster."""
    import torch
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(before)
