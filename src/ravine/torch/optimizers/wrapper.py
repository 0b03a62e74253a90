"""A torch optimizer around another: its groups and its state, what is added to them, and checkpoints of both."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from ravine.torch.optimizers import perturbation as pt
from ravine.torch.optimizers.schedule import check_rho


class Wrapper(torch.optim.Optimizer):
    """What every rule shares that is not its step."""

    _step_supports_amp_scaling = True  # GradScaler then tells step() what it found, and leaves skipping to it
    _unsaved: ClassVar[frozenset[str]] = frozenset(
        ["last", "_plan_made", "_previous", "_logs", "_perturbed", "_second", "_noise", "_statistics"]
    ) | {"step", "_opt_called"}  # what a scheduler hangs on the instance

    def __init__(self, base: torch.optim.Optimizer, rho: float, *, master_weights: bool):
        _check_base(base)
        self.base = base
        self.steps = 0
        self.passes: float = 0
        self._skipped: int | Tensor = 0
        self._twins: dict[Tensor, Tensor] = {}
        check_rho(rho)
        for group in base.param_groups:
            _check_weights(group["params"])
            check_rho(group.setdefault("rho", rho))
        if master_weights:
            self._make_masters()
        # As unpickling does: hooks and profiling, without touching groups and state, which stay the base's.
        super().__setstate__({"defaults": {**base.defaults, "rho": rho}})
        self._begin()

    def _begin(self) -> None:
        """What is neither copied, pickled nor written to checkpoints."""
        self._plan_made: pt.Plan | None = None
        self._perturbed = False

    def _forget(self) -> None:
        """Another state has been loaded."""

    @property
    def skipped(self) -> int:
        """Steps left out for a gradient that was not finite. Reading it waits for the device."""
        return int(self._skipped)

    # A torch optimizer's face: groups and state are the base's own, also after it has loaded others.

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The base optimizer's groups."""
        return self.base.param_groups

    @param_groups.setter
    def param_groups(  # pyright: ignore[reportIncompatibleVariableOverride]
        self, groups: list[dict[str, Any]]
    ) -> None:
        self.base.param_groups = groups

    @property
    def state(self) -> Any:
        """The base optimizer's state. What a rule remembers is not in it: bases test it for emptiness."""
        return self.base.state

    @state.setter
    def state(self, state: Any) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        self.base.state = state

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group to the base optimizer, with `rho` of its own or the default."""
        self._refuse_perturbed("add_param_group()")
        params = param_group["params"]
        param_group = {**param_group, "params": [params] if isinstance(params, Tensor) else list(params)}
        check_rho(param_group.setdefault("rho", self.defaults["rho"]))
        _check_weights(param_group["params"])
        if self._twins:
            raise ValueError("master_weights: give all parameters to the base optimizer before SAM wraps it")
        self.base.add_param_group(param_group)

    def zero_grad(self, set_to_none: bool = True) -> None:
        super().zero_grad(set_to_none)
        self._zeroed = True
        for twin in self._twins.values():
            grad = twin.grad
            twin.grad = None if set_to_none or grad is None else grad.zero_()

    def __getstate__(self) -> dict[str, Any]:
        self._refuse_perturbed("a copy")
        return {name: value for name, value in self.__dict__.items() if name not in self._unsaved}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._begin()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(rho={[g['rho'] for g in self.param_groups]}, base={self.base!r})"

    # Checkpoints.

    def state_dict(self) -> dict[str, Any]:
        """The base optimizer's state, and under "sam" what this one adds: step, passes, and the rule's memory.

        Raises
        ------
        ValueError
            While weights are perturbed.
        """
        self._refuse_perturbed("state_dict()")
        params = self._params()
        memory = {name: [kept.get(p) for p in params] for name, kept in self._memory().items()}
        return {
            **self.base.state_dict(),
            "sam": {
                "rule": type(self).__name__,
                "steps": self.steps,
                "passes": self.passes,
                "skipped": self.skipped,
                "memory": memory,
                "masters": [p.detach().clone() for p in params] if self._twins else None,
                **self._more_state(),
            },
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from `state_dict`, to the bit. Load the model's weights as well.

        Raises
        ------
        ValueError
            While weights are perturbed; for the state of another rule, or of a base optimizer alone.
        """
        self._refuse_perturbed("load_state_dict()")
        if "sam" not in state_dict:
            raise ValueError(
                "this is not a SAM state: load a base optimizer's state with opt.base.load_state_dict(...)"
            )
        own = state_dict["sam"]
        if own["rule"] != type(self).__name__:
            raise ValueError(f"this state is of {own['rule']}: load it into that class, not into {type(self).__name__}")
        if (own["masters"] is not None) != bool(self._twins):
            raise ValueError("a state with master weights belongs to master_weights=True, one without to False")
        self.base.load_state_dict({name: value for name, value in state_dict.items() if name != "sam"})
        params = self._params()
        with torch.no_grad():
            for p, value in zip(params, own["masters"] or (), strict=False):
                p.copy_(value)
                self._twins[p].copy_(p)
        self.steps, self.passes, self._skipped = own["steps"], own["passes"], own["skipped"]
        for name, kept in self._memory().items():
            kept.clear()
            pairs = zip(params, own["memory"][name], strict=True)
            kept.update({p: value.detach().clone().to(p.device) for p, value in pairs if value is not None})
        self._load_more(own)
        self._forget()

    def _memory(self) -> dict[str, dict[Tensor, Tensor]]:
        """What a rule remembers from step to step for each parameter, by name."""
        return {}

    def _more_state(self) -> dict[str, Any]:
        return {}

    def _load_more(self, own: dict[str, Any]) -> None:
        pass

    # Small things.

    def _plan(self) -> pt.Plan:
        groups = self.param_groups
        if self._plan_made is None or not self._plan_made.fits(groups):
            self._plan_made = pt.Plan(groups, self._twins)
        return self._plan_made

    def _params(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"]]

    def _devices(self) -> set[torch.device]:
        return {slot.device for slot in self._plan().slots}

    def _refuse_perturbed(self, what: str) -> None:
        if self._perturbed:
            raise ValueError(f"{what} while the weights are perturbed: leave `with opt.ascended():` first")

    def _make_masters(self) -> None:
        if self.base.state:
            raise ValueError("master_weights: wrap the base optimizer before its first step")
        for group in self.base.param_groups:
            for i, p in enumerate(group["params"]):
                if p.dtype == torch.bfloat16:
                    master = p.detach().float().requires_grad_()
                    self._twins[master] = p
                    group["params"][i] = master


def _check_base(base: Any) -> None:
    if isinstance(base, type) or not isinstance(base, torch.optim.Optimizer):
        raise ValueError(
            "base must be an optimizer instance: SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=0.05)"
        )
    if isinstance(base, torch.optim.LBFGS):
        raise ValueError("LBFGS evaluates its own closure and would step over SAM's: use SGD, Adam, AdamW, …")
    if isinstance(base, Wrapper):
        raise ValueError("the base is SAM already: wrap the plain optimizer, base.base")


def _check_weights(params: list[Tensor]) -> None:
    if any(p.dtype == torch.float16 for p in params):
        raise ValueError(
            "float16 weights cannot hold the perturbation: keep them in float32 and compute under "
            "torch.autocast(dtype=torch.float16) with a GradScaler, or use bfloat16 weights with master_weights=True"
        )
