"""D³ℓ(u, u, ·) of a network by autograd, never without a check by differences; or by differences alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, Protocol, final

import torch
from torch import Tensor, nn

from ravine.torch.curvature.coordinates import joined, step_length
from ravine.torch.curvature.mean_loss import Graph, pull

# A gradient's rounding in units of ε‖∇ℓ‖, for choosing steps. In float32 it was 1 to 315 on nine trained and untrained
# networks, and is more where the gradient is nearly zero; errors are stated by what is measured.
_LIKELY = 30
# Three gradients with weights 1, −2, 1.
_THREE = 6**0.5
# The most by which the difference formula may be uncertain where it settles anything, relative.
_MOST = 0.02

Gradient = Callable[[Tensor], Tensor]
"""w ↦ ∇ℓ(w), over all the data."""
Product = Callable[[Tensor, Tensor], Tensor]
"""(w, u) ↦ ∇²ℓ(w)u, over all the data."""


@final
@dataclass(frozen=True, repr=False)
class Third:
    """D³ℓ(w)(u, u, ·), with what its check found.

    Attributes
    ----------
    value
        Shape (d,).
    error
        ‖value − the other formula's value‖: an estimate of its error from above, since the difference formula is the
        coarser.
    how
        ``"exact"`` (autograd, checked by differences) or ``"difference"``.
    gradients
        What it cost, counting a backward through a graph of n derivatives as n gradients.
    """

    value: Tensor
    error: float
    how: Literal["exact", "difference"]
    gradients: int

    def __repr__(self) -> str:
        return f"Third(‖·‖ = {float(self.value.norm()):.4g} ± {self.error:.2g}, {self.how}, {self.gradients} gradients)"


class AutogradObjective(Protocol):
    """What a checked third derivative asks of an objective."""

    @property
    def model(self) -> nn.Module:
        """The module, whose layers are named where one is wrong."""
        ...

    def grad(self, w: Tensor) -> Tensor:
        """∇ℓ(w)."""
        ...

    def graphs(self, w: Tensor) -> Iterable[Graph]:
        """The gradient at w with its graph, one a batch of this process."""
        ...

    def parts(self, u: Tensor) -> list[Tensor]:
        """The parts of u in the parameters' shapes."""
        ...

    def over_processes(self, own: Tensor) -> Tensor:
        """The mean over all data, from that over this process's."""
        ...

    def single_product(self, w: Tensor, u: Tensor) -> Tensor:
        """∇²ℓ(w)u at a point that is not returned to: no graph is kept for it."""
        ...

    def release(self) -> None:
        """Let go of graphs."""
        ...


def checked_third(objective: AutogradObjective, w: Tensor, u: Tensor) -> Third:
    """D³ℓ(w)(u, u, ·) by autograd, checked by differences of gradients.

    The check is the second difference (∇ℓ(w+hu) − 2∇ℓ(w) + ∇ℓ(w−hu))/h², two gradients, with a step that balances its
    rounding and its truncation. Where it does not agree to 8√ε it is made with another step as well: Richardson's
    extrapolation, whose error is known, since the first differences beside autograd's ∇²ℓu tell the gradients'
    rounding. What that cannot settle, differences of products do.

    Raises
    ------
    ValueError
        If the two disagree by more than the difference formula's own error, with the layer that is suspected.
    """
    if float(torch.linalg.vector_norm(u)) == 0:
        return Third(torch.zeros_like(u), 0.0, "exact", 0)
    exact, curved, g = _third_by_autograd(objective, w, u)
    differences = _Differences(objective.grad, w, u, g)
    size = float(torch.linalg.vector_norm(exact))
    first = differences.at(differences.step(float(torch.linalg.vector_norm(curved)), size))
    gap = float(torch.linalg.vector_norm(exact - first.second))
    if gap <= 8 * differences.precision**0.5 * size:
        return Third(exact, gap, "exact", 8)
    pair = _fine_and_coarse(differences.at(differences.other(first.step, gap)), first)
    value, truncation = _extrapolated(*pair)
    error = truncation + _rounding(*pair, curved)
    gap = float(torch.linalg.vector_norm(exact - value))
    if gap <= 3 * error and error <= _MOST * size:
        return Third(exact, gap + error, "exact", 10)
    # Differences of products lose fewer digits than those of gradients.
    objective.release()
    value, error = difference_of_products(objective.single_product, w, u)
    gap = float(torch.linalg.vector_norm(exact - value))
    if gap <= 3 * error:
        return Third(exact, gap + error, "exact", 22)
    raise ValueError(
        f"third derivative: autograd and differences disagree by {gap:.3g} (the difference's error: {error:.3g}) "
        f"at {_suspects(objective.model)}, which autograd differentiates wrongly at third order; write it from "
        "elementary operations, or ask for how='difference'"
    )


def third_by_differences(
    gradient: Gradient, w: Tensor, u: Tensor, product: tuple[Tensor, float] | None = None
) -> tuple[Tensor, float]:
    """D³ℓ(w)(u, u, ·) by Richardson's extrapolation from two steps, the second chosen by what the first shows.

    The finer difference's rounding is no larger than what tells it from the coarser one, to which it adds in
    quadrature; twice that is stated, or less where `product`, ∇²ℓ(w)u and its error, tells it more closely.

    Returns
    -------
    tuple
        The value, shape (d,), and its error.
    """
    if float(torch.linalg.vector_norm(u)) == 0:
        return torch.zeros_like(u), 0.0
    differences = _Differences(gradient, w, u, gradient(w))
    first = differences.at(0.25 * differences.precision**0.25 * differences.scale)
    step = differences.step(*(float(torch.linalg.vector_norm(found)) for found in (first.first, first.second)))
    if first.step / 2 < step < 2 * first.step:
        step = first.step / 2
    pair = _fine_and_coarse(differences.at(step), first)
    value, truncation = _extrapolated(*pair)
    rounding = 2 * (1 + 1 / _richardson_weight(*pair)) * truncation
    if product is not None:
        rounding = min(rounding, _rounding(*pair, *product))
    # Twice: nothing says that the longer step is in the range where truncation goes with its square.
    return value, 2 * truncation + rounding


def difference_of_products(product: Product, w: Tensor, u: Tensor) -> tuple[Tensor, float]:
    """D³ℓ(w)(u, u, ·) as the central difference of two Hessian products along u, and a bound on its error.

    Two steps h and 2h: their gap is three times the smaller step's truncation error. To it comes the rounding of the
    products, ε‖Hu‖/h.
    """
    precision = torch.finfo(w.dtype).eps
    length = float(torch.linalg.vector_norm(u))
    if length == 0:
        return torch.zeros_like(u), 0.0
    h = precision ** (1 / 3) * step_length(w) / length
    ends = [product(w + step * u, u) for step in (h, -h, 2 * h, -2 * h)]
    near, far = (ends[0] - ends[1]) / (2 * h), (ends[2] - ends[3]) / (4 * h)
    truncation = float(torch.linalg.vector_norm(far - near)) / 3
    rounding = 32 * precision * float(torch.linalg.vector_norm(ends[0])) / h
    return near, truncation + rounding


def _third_by_autograd(objective: AutogradObjective, w: Tensor, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """D³ℓ(u, u, ·), ∇²ℓu and ∇ℓ from the gradient's graph."""
    along = objective.parts(u)
    third, product, g = torch.zeros_like(w), torch.zeros_like(w), torch.zeros_like(w)
    for graph in objective.graphs(w):
        curved = pull(graph.gradients, graph.leaves, along, create_graph=True)
        g.add_(joined(graph.gradients), alpha=graph.weight)
        product.add_(joined(curved), alpha=graph.weight)
        # Without keeping the graph, which must be made anew if it is needed: what the last pull needs is freed as it
        # goes, and that is the quicker by more.
        third.add_(joined(pull(curved, graph.leaves, along)), alpha=graph.weight)
        # The next graph is made while these names still hold the last.
        del graph, curved
    objective.release()
    return tuple(objective.over_processes(own) for own in (third, product, g))  # pyright: ignore[reportReturnType]


@dataclass(frozen=True)
class _Difference:
    """First and second central differences of the gradient, with their step."""

    step: float
    first: Tensor
    second: Tensor


class _Differences:
    """Differences of the gradient g at w along u; steps are multiples of u."""

    def __init__(self, gradient: Gradient, w: Tensor, u: Tensor, g: Tensor) -> None:
        self._gradient, self._w, self._u, self._g = gradient, w, u, g
        self._slope = float(torch.linalg.vector_norm(g))
        self.precision = torch.finfo(w.dtype).eps
        self.scale = step_length(w) / float(torch.linalg.vector_norm(u))

    def at(self, step: float) -> _Difference:
        ahead, behind = (self._gradient(self._w + h * self._u) for h in (step, -step))
        return _Difference(step, (ahead - behind) / (2 * step), (ahead - 2 * self._g + behind) / step**2)

    def step(self, curvature: float, size: float) -> float:
        """The step that balances rounding and truncation, size·h²/(12L²), as if L were curvature/(2·size)."""
        largest = 0.1 * self.scale
        if size == 0:
            return largest
        if self._slope <= self.precision**0.5 * curvature * self.scale:
            # At a minimum: the gradient, nearly zero, does not tell its rounding.
            return min(self.precision**0.25 * self.scale, largest)
        reach = 12 * (curvature / (2 * size)) ** 2 * _LIKELY * self.precision / size
        # The slope's rounding, and that of the gradient which the step itself makes, h·curvature.
        step = max((reach * self._slope) ** 0.25, (reach * curvature) ** (1 / 3))
        return min(max(step, self.precision**0.5 * self.scale), largest)

    def other(self, step: float, gap: float) -> float:
        """The step to try after one whose difference is `gap` off."""
        rounding = _LIKELY * self.precision * self._slope
        if gap > 30 * rounding * _THREE / step**2:
            # More than rounding can be: it is truncation, and says where the two balance.
            return min(max((step**2 * rounding / gap) ** 0.25, step / 8), step / 2)
        return 2 * step


def _rounding(fine: _Difference, coarse: _Difference, curved: Tensor, error: float = 0.0) -> float:
    """The rounding in Richardson's value, measured; `curved` is ∇²ℓu up to `error`.

    The first differences are off ∇²ℓu by what goes with h² and by rounding; what does not go with h² is rounding.
    """
    ratio = (coarse.step / fine.step) ** 2
    left = float(torch.linalg.vector_norm((coarse.first - curved) - ratio * (fine.first - curved)))
    gradient = (left + (ratio - 1) * error) / ratio * fine.step * 2**0.5
    return (1 + _richardson_weight(fine, coarse)) * _THREE * gradient / fine.step**2


def _richardson_weight(fine: _Difference, coarse: _Difference) -> float:
    return fine.step**2 / (coarse.step**2 - fine.step**2)


def _extrapolated(fine: _Difference, coarse: _Difference) -> tuple[Tensor, float]:
    """Richardson's value from two steps, and what it changed: its truncation from above."""
    change = _richardson_weight(fine, coarse) * (fine.second - coarse.second)
    return fine.second + change, float(torch.linalg.vector_norm(change))


def _fine_and_coarse(one: _Difference, other: _Difference) -> tuple[_Difference, _Difference]:
    return (one, other) if one.step < other.step else (other, one)


def _suspects(model: nn.Module) -> str:
    """The layers that are not torch's own, since torch's that are wrong are mended; else all kinds there are."""
    leaves = [(name, m) for name, m in model.named_modules() if not list(m.children())]
    own = [f"{type(m).__name__} ({name})" for name, m in leaves if not type(m).__module__.startswith("torch.")]
    kinds = sorted({type(m).__name__ for _, m in leaves})
    return ", ".join(own[:4] or kinds[:6]) or type(model).__name__
