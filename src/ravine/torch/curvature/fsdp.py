"""What FSDP2 keeps about a model's shards and can be read in no public way; what of it a probe cannot do with."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ravine.torch.sharding import fsdp_modules, layout


def settle(modules: list[Any]) -> None:
    """Parameters as shards: after a forward pass FSDP may leave whole copies, which a write would not reach."""
    for module in modules:
        module.reshard()


def divisor(modules: list[Any]) -> float:
    """By what FSDP divides the sum of the processes' gradients.

    Raises
    ------
    ValueError
        If gradients are not reduced now.
    """
    divisors: set[float] = set()
    for group in _parameter_groups(modules):
        if not (group.reduce_grads and group.all_reduce_grads):
            raise ValueError("model: FSDP holds gradients back; call model.set_requires_gradient_sync(True) first")
        divisors.add(float(getattr(group, "gradient_divide_factor", None) or dist.get_world_size()))
    if len(divisors) > 1:
        raise ValueError(f"model: set_gradient_divide_factor differs between layers ({sorted(divisors)}); set one")
    return divisors.pop() if divisors else float(dist.get_world_size())


def refuse_waiting_gradients(modules: list[Any]) -> None:
    """Every gradient that was made must have been reduced.

    Raises
    ------
    ValueError
        If gradients are waiting.
    """
    for p in _fsdp_parameters(modules):
        unsharded = getattr(getattr(p, "_unsharded_param", None), "grad", None)
        if p.unsharded_accumulated_grad is not None or unsharded is not None:
            raise ValueError(
                "model: gradients accumulate that FSDP has not reduced; probe after the backward pass that does"
            )


def abandon_pass(model: nn.Module) -> None:
    """Bring FSDP out of the middle of a pass that failed in a layer."""
    modules = fsdp_modules(model)
    outermost: list[Any] = []
    for module in modules:  # parents come first
        if not any(module in known.modules() for known in outermost):
            outermost.append(module)
    for module in outermost:
        if module._get_fsdp_state()._is_root and hasattr(module, "reset_iter_state"):
            module.reset_iter_state()
    for p in _fsdp_parameters(modules):
        p.unsharded_accumulated_grad = None
        if hasattr(p, "_unsharded_param"):
            p._unsharded_param.grad = None


def check_model(model: nn.Module, modules: list[Any]) -> None:
    """Refuse what differences of a sharded model's gradients cannot be made of.

    Raises
    ------
    ValueError
        If it is not sharded by FSDP2 over all processes and by that alone, or computes in less than float32 or in less
        than its parameters.
    """
    if not modules:
        raise ValueError("model: its parameters are sharded, but not by fully_shard; the probe knows no other sharding")
    dtypes = {p.dtype for p in model.parameters() if p.requires_grad}
    for dtype in dtypes:
        if torch.finfo(dtype).eps > torch.finfo(torch.float32).eps:
            raise ValueError(f"model: differences of gradients need float32 at least, not {dtype}; use model.float()")
    for name, p in model.named_parameters():
        _check_placement(name, p)
    for module in modules:
        policy = module._get_fsdp_state()._mp_policy
        for low in (policy.param_dtype, policy.reduce_dtype, policy.output_dtype):
            if low is not None and any(torch.finfo(low).eps > torch.finfo(dtype).eps for dtype in dtypes):
                raise ValueError(
                    f"model: FSDP computes in {low} (mp_policy), in whose rounding a difference of gradients drowns; "
                    "shard it without mp_policy to probe it"
                )


def _check_placement(name: str, p: Tensor) -> None:
    where, world = layout(p), dist.get_world_size()
    if where is None:
        return
    mesh, placements = where
    if mesh.size() != world:
        raise ValueError(f"model: {name} is sharded over {mesh.size()} of {world} processes; shard it over all")
    if not (all(q.is_replicate() for q in placements[:-1]) and placements[-1].is_shard()):
        raise ValueError(f"model: {name} is placed {placements}; probe it sharded by fully_shard alone")


def _parameter_groups(modules: list[Any]) -> list[Any]:
    """FSDP's groups of parameters."""
    groups: list[Any] = []
    for module in modules:
        state = module._get_fsdp_state()
        one = getattr(state, "_fsdp_param_group", None) if not hasattr(state, "_fsdp_param_groups") else None
        groups += getattr(state, "_fsdp_param_groups", [one] if one is not None else [])
    return groups


def _fsdp_parameters(modules: list[Any]) -> list[Any]:
    return [p for group in _parameter_groups(modules) for p in group.fsdp_params]
