"""A torch optimizer around another: its groups and its state, what is added to them, and checkpoints of both."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor

from ravine.torch.optimizers.buckets import Plan
from ravine.torch.optimizers.masters import MasterWeights
from ravine.torch.optimizers.rules.interface import Rule
from ravine.torch.optimizers.schedule import check_rho


class Wrapper(torch.optim.Optimizer):
    """torch's optimizer protocol over `base`, with a rule's memory in its checkpoints. It knows nothing of the step.

    Parameters
    ----------
    base
        The optimizer that is wrapped.
    rho
        For groups that bring none.
    rule
        Whose memory is part of `state_dict`.
    master_weights
        Whether bfloat16 weights get float32 masters.
    """

    _step_supports_amp_scaling = True  # GradScaler then tells step() what it found, and leaves skipping to it
    # Neither copied nor pickled; the last two are what a scheduler hangs on the instance.
    _transient: ClassVar[frozenset[str]] = frozenset(["_plan_made", "_perturbed", "_stale", "step", "_opt_called"])

    def __init__(self, base: torch.optim.Optimizer, rho: float, rule: Rule, *, master_weights: bool):
        _check_base(base)
        if not isinstance(rule, Rule):
            raise ValueError(f"rule = {rule!r}: an instance of a subclass of Rule, such as GSAMRule(alpha=0.4)")
        self.base = base
        self.rule = rule
        self.steps = 0
        self.passes: float = 0
        self.masters = MasterWeights()
        self._skipped: int | Tensor = 0
        check_rho(rho)
        for group in base.param_groups:
            _check_weights(group["params"])
            check_rho(group.setdefault("rho", rho))
        if master_weights:
            self.masters.adopt(base)
        # As unpickling does: hooks and profiling, without touching groups and state, which stay the base's.
        super().__setstate__({"defaults": {**base.defaults, "rho": rho}})
        self._start()

    def _start(self) -> None:
        self._plan_made: Plan | None = None
        self._perturbed = False
        self._stale: Tensor | None = None  # a gradient that stood before a closure, until it is zeroed

    @abstractmethod
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
        if self.masters:
            raise ValueError("master_weights: give all parameters to the base optimizer before SAM wraps it")
        self.base.add_param_group(param_group)

    def zero_grad(self, set_to_none: bool = True) -> None:
        super().zero_grad(set_to_none)
        self._stale = None
        self.masters.zero_grad(set_to_none=set_to_none)

    def __getstate__(self) -> dict[str, Any]:
        self._refuse_perturbed("a copy")
        return {name: value for name, value in vars(self).items() if name not in self._transient}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._start()

    # Checkpoints.

    def state_dict(self) -> dict[str, Any]:
        """The base optimizer's state, and under "sam" what this one adds: step, passes, and the rule's memory.

        Raises
        ------
        ValueError
            While weights are perturbed.
        """
        self._refuse_perturbed("state_dict()")
        params = self._plan().params
        memory = {name: [kept.get(p) for p in params] for name, kept in self.rule.memory().items()}
        return {
            **self.base.state_dict(),
            "sam": {
                "rule": type(self.rule).__name__,
                "steps": self.steps,
                "passes": self.passes,
                "skipped": self.skipped,
                "memory": memory,
                "masters": [p.detach().clone() for p in params] if self.masters else None,
                **self.rule.state(),
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
        own, rule = state_dict["sam"], type(self.rule).__name__
        if own["rule"] != rule:
            raise ValueError(f"this state is of {own['rule']}: load it into an optimizer with that rule, not {rule}")
        if (own["masters"] is not None) != bool(self.masters):
            raise ValueError("a state with master weights belongs to master_weights=True, one without to False")
        self.base.load_state_dict({name: value for name, value in state_dict.items() if name != "sam"})
        params = self._plan().params
        if own["masters"] is not None:
            self.masters.load(params, own["masters"])
        self.steps, self.passes, self._skipped = own["steps"], own["passes"], own["skipped"]
        for name, kept in self.rule.memory().items():
            kept.clear()
            pairs = zip(params, own["memory"][name], strict=True)
            kept.update({p: value.detach().clone().to(p.device) for p, value in pairs if value is not None})
        self.rule.load_state(own)
        self._forget()

    def model_parameters(self) -> list[Tensor]:
        """What the model computes with, in the groups' order: the parameters, or their twins under master weights."""
        return [self.masters.twin(p) for p in self._plan().params]

    @contextmanager
    def _refusing_to_add(self, plan: Plan) -> Iterator[None]:
        """A closure at w; refused where it adds to gradients that stood before, since the second pass cannot."""
        holder = next((t for t in plan.twins if t.grad is not None), None)
        stale = self._stale = None if holder is None else holder.grad
        yield
        if holder is not None and self._stale is not None and holder.grad is stale:
            raise ValueError(
                "the closure adds to gradients that stood before it, which the second pass would lose: call "
                "opt.zero_grad() in it and accumulate inside it, or run two phases with `with opt.ascended():`"
            )
        self._stale = None

    def _plan(self) -> Plan:
        groups = self.param_groups
        if self._plan_made is None or not self._plan_made.fits(groups):
            self._plan_made = Plan(groups, self.masters.twins)
        return self._plan_made

    def _refuse_perturbed(self, what: str) -> None:
        if self._perturbed:
            raise ValueError(f"{what} while the weights are perturbed: leave `with opt.ascended():` first")


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
