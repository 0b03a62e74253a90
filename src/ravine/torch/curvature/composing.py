"""A probe's objective from its parts: network × way of making Hessian products × mean over processes."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import nn

from ravine.torch.curvature.batches import Batches
from ravine.torch.curvature.choosing import MEMORY, ChosenProduct, asked_for, choose
from ravine.torch.curvature.kinks import KinkWarning, doubtful_operations, kinks_of
from ravine.torch.curvature.mean_loss import LossFunction, MeanLoss, Surroundings, evaluated, mismatch
from ravine.torch.curvature.norm_layers import BatchNormMode, elementary_norms
from ravine.torch.curvature.precision import LOG_LIKELIHOODS
from ravine.torch.curvature.probed_network import ProbedNetwork
from ravine.torch.curvature.processes import EveryProcess, OneProcess
from ravine.torch.curvature.products import PATHS, Differences, KeptGraphs, ProductChoice, ProductPath
from ravine.torch.curvature.sharded import NOT_EXACT, ShardedLoss, check_sharded
from ravine.torch.curvature.substitution import Substituted
from ravine.torch.passes import seeded

_SMOOTH_PIECE = (
    "its Hessian is that of the smooth piece at this point, and curvature from pieces that switch is not in it"
)
_JUMPS = "a difference of gradients sees the smooth piece at this point, and the jump of any kink within its step"


def probed(
    model: nn.Module,
    loss_fn: LossFunction,
    batches: Iterable[Any],
    size: Callable[[Any], int] | None = None,
    *,
    path: ProductPath | Literal["auto"] = "auto",
    memory: int = MEMORY,
    batchnorm: BatchNormMode | None = None,
    seed: int | None = None,
    distributed: bool = False,
) -> ProbedNetwork:
    """The objective of a model that is whole on this process; parameters and errors as for `ravine.torch.Probe`."""
    # The replica inside: its wrapper would reduce gradients on its own.
    model = model.module if isinstance(model, nn.parallel.DistributedDataParallel) else model
    trained = [p.dtype for p in model.parameters() if p.requires_grad] if isinstance(model, nn.Module) else []
    if torch.bfloat16 in trained:
        raise ValueError("model: its parameters are bfloat16, too coarse for a Hessian; probe model.float()")
    data = Batches.of(batches, size)
    losses = MeanLoss(model, loss_fn, data, _surroundings(batchnorm, seed))
    kinky, lossy = _check_loss(losses)
    if kinky:
        _warn_of_kinks(kinky, _SMOOTH_PIECE)
    kept = KeptGraphs()
    processes = EveryProcess(data.samples, losses.coordinates.start) if distributed else OneProcess()

    def choice() -> ChosenProduct:
        if path != "auto":
            return asked_for(path, losses, kept)
        return choose(losses, kept, memory=memory, smooth=not kinky)

    return ProbedNetwork(losses, choice, kept, processes, lossy=lossy)


def probed_sharded(
    model: nn.Module,
    loss_fn: LossFunction,
    batches: Iterable[Any],
    size: Callable[[Any], int] | None = None,
    *,
    path: ProductPath | Literal["auto"] = "auto",
    batchnorm: BatchNormMode | None = None,
    seed: int | None = None,
) -> ProbedNetwork:
    """The objective of a model under FSDP2, with products by differences; see `ShardedLoss` and `ravine.torch.Probe`.

    For a Krylov basis `ravine.spectrum` reserves d + 1 vectors, or its ``memory`` of 2 GiB if that is less, on each
    process. A product holds six vectors more, and costs four gradients.
    """
    if path not in ("auto", "difference"):
        raise ValueError(f"path = {path!r}: {NOT_EXACT}, or use path='difference'")
    losses = ShardedLoss(model, loss_fn, batches, size, batchnorm=batchnorm, seed=seed)
    kinky = check_sharded(losses)
    if kinky:
        _warn_of_kinks(kinky, _JUMPS)
    why = "FSDP: its gradients have no derivative by autograd"
    chosen = ChosenProduct(Differences(losses), ProductChoice("difference", 0, why, {}), [])
    return ProbedNetwork(losses, lambda: chosen, KeptGraphs(), OneProcess(), lossy=False)


def check_options(path: str, batchnorm: str | None) -> None:
    """Refuse options that a probe does not know.

    Raises
    ------
    ValueError
        With those that it does.
    """
    if path not in ("auto", *PATHS):
        raise ValueError(f"path = {path!r}: use auto, {', '.join(PATHS[:-1])} or {PATHS[-1]}")
    if batchnorm not in (None, "eval", "batch"):
        raise ValueError(f"batchnorm = {batchnorm!r}: use eval, batch, or None for each layer's own mode")


def _surroundings(batchnorm: BatchNormMode | None, seed: int | None) -> Surroundings:
    """Norms that are differentiated rightly, log-likelihoods in float64, and the batch's own randomness."""
    substitutes = {**LOG_LIKELIHOODS, **elementary_norms(batchnorm)}

    @contextmanager
    def surroundings(k: int, device: torch.device) -> Iterator[None]:
        with Substituted(substitutes), seeded(None if seed is None else seed + k, device):
            yield

    return surroundings


def _check_loss(losses: MeanLoss) -> tuple[list[str], bool]:
    """The loss's kinks, and whether it may lose digits in float32; it is evaluated, so that misuse is found early."""
    w = losses.coordinates.start
    cure = (
        "switch dropout off with model.eval() or fix its randomness in the loss; or pass seed=… to the probe, which "
        "fixes it"
    )
    try:
        loss = evaluated(losses, cure)
        values, lossy = [float(loss.detach())], bool(doubtful_operations(loss))
        for k in range(1, len(losses.batches)):
            with torch.enable_grad():
                another = losses.loss_at(losses.coordinates.leaves(w), k).reshape(())
            values.append(float(another.detach()))
            lossy |= bool(doubtful_operations(another))
    except RuntimeError as error:
        raise ValueError(mismatch(losses.batches[0], losses.coordinates.first, error)) from error
    for value in values:
        if not math.isfinite(value):
            raise ValueError(f"loss_fn: {value} at the model's parameters; give a finite loss")
    if not loss.requires_grad:
        raise ValueError("loss_fn: it does not depend on the model's parameters, or was detached from them")
    return kinks_of(loss), lossy


def _warn_of_kinks(kinky: list[str], what: str) -> None:
    # Four frames up is the line that makes the probe.
    warnings.warn(f"the loss contains {', '.join(kinky)}, which has kinks: {what}", KinkWarning, stacklevel=4)
