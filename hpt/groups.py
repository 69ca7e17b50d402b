"""Optimizer groups and initial weights of a model under a parameterization."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import nn

from hpt.errors import ConfigError
from hpt.model import Transformer, wider_copy
from hpt.parameterization import Parameterization, Scales
from hpt.roles import ParameterRole, roles

Decay = Literal["coupled", "independent"]


def param_groups(model: nn.Module, parameterization: str | Parameterization, *, lr: float,
                 base_model: nn.Module | None = None, base_width: int | None = None,
                 weight_decay: float = 0.0, decay: Decay = "coupled") -> list[dict[str, Any]]:
    """Parameters of ``model`` in groups with their learning rates, for any torch optimizer.

    Parameters
    ----------
    model: the model; nothing in it changes.
    parameterization: a name such as "sp+embd", or a :class:`Parameterization`.
    lr: the hidden learning rate η at this width.
    base_model: a narrower copy of a foreign model, on any device; m is the ratio of sizes.
        Our own :class:`Transformer` needs none: its m is width / base_width.
    base_width: as in :class:`Parameterization`, for a :class:`Transformer`.
    weight_decay: λ, for matrices; vectors do not decay.
    decay: "coupled" as in torch's AdamW (each step shrinks a weight by lr·λ of its group), or
        "independent" (by λ times the schedule, whatever the group's learning rate).

    Returns
    -------
    One dictionary a role, ``{"name", "params", "lr", "weight_decay"}``; every parameter is in one.

    Raises
    ------
    RoleError: where shapes determine no role.  ConfigError: for an unknown parameterization or a bad lr.
    """
    if not (lr > 0 and weight_decay >= 0):
        raise ConfigError(f"lr={lr}, weight_decay={weight_decay}: the first must be positive, the second not negative.")
    scaled = _scaled(model, parameterization, base_model, base_width)
    parameters = dict(model.named_parameters())
    groups: dict[tuple, dict[str, Any]] = {}
    for name, (role, scales) in scaled.items():
        group_lr = lr * scales.lr
        group_decay = 0.0 if role.role == "vector" else weight_decay
        if decay == "independent":
            group_decay = group_decay / group_lr
        key = (role.role, group_lr)
        group = groups.setdefault(key, {"name": role.role, "params": [], "lr": group_lr, "weight_decay": group_decay})
        group["params"].append(parameters[name])
    return list(groups.values())


@torch.no_grad()
def init_weights(model: nn.Module, parameterization: str | Parameterization, *,
                 base_model: nn.Module | None = None, base_width: int | None = None,
                 generator: torch.Generator | None = None) -> None:
    """Draw the weights of ``model`` anew, in place; vectors keep their constants.

    All parameterizations draw the same normal numbers from the same generator and differ in scale alone.
    Arguments are those of :func:`param_groups`.
    """
    factors = model.init_factors() if isinstance(model, Transformer) else {}
    parameters = dict(model.named_parameters())
    for name, (role, scales) in _scaled(model, parameterization, base_model, base_width).items():
        if role.role != "vector":
            parameters[name].normal_(generator=generator).mul_(scales.init_std * factors.get(name, 1.0))


def _scaled(model: nn.Module, parameterization: str | Parameterization, base_model: nn.Module | None,
            base_width: int | None) -> dict[str, tuple[ParameterRole, Scales]]:
    """Role and scales of every parameter."""
    p = Parameterization.parse(parameterization, base_width)
    if base_model is None and not isinstance(model, Transformer):
        raise ConfigError(f"the roles of {type(model).__name__} need a narrower copy to compare with.",
                          remedy="param_groups(model, …, base_model=the same architecture at a smaller width)")
    found = roles(model, wider_copy(model.config) if base_model is None else base_model)
    width_m = p.multiplier(model.config.width) if base_model is None else None
    # A scalar has no size that grows: it follows the model as a whole.
    whole = width_m or max((r.growth for r in found.values() if r.growth), default=1.0)
    return {name: (r, p.scales(r.role, r.fan_in, width_m or r.growth or whole)) for name, r in found.items()}
