"""Optimizer groups and initial weights of any model under a rule."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from hpt.errors import ConfigError, RoleError
from hpt.model.transformer import Transformer, wider_copy
from hpt.parameterization.forward import refuse_multiplier, warn_attention
from hpt.parameterization.optimizers import Optimizer, absorb, check_optimizer, for_optimizer
from hpt.parameterization.roles import (
    ParameterRole,
    RoleMap,
    huggingface_width,
    unwrap,
    wider_huggingface_copy,
)
from hpt.parameterization.roles import roles as find_roles
from hpt.parameterization.rules import Rule
from hpt.parameterization.rules import rule as find_rule
from hpt.parameterization.sixteen import Parameterization, Scales

Decay = Literal["coupled", "independent", "constant"]
Forward = Literal["absorb", "in_model"]
AnyRule = str | Parameterization | Rule


@dataclass(frozen=True)
class Assignment:
    """What a rule gives one parameter: its role, width multiplier m and scales."""

    role: ParameterRole
    m: float
    scales: Scales


def param_groups(
    model: nn.Module,
    rule: AnyRule,
    *,
    lr: float,
    base_model: nn.Module | None = None,
    base_width: int | None = None,
    weight_decay: float = 0.0,
    decay: Decay = "coupled",
    roles: RoleMap | None = None,
    tied: Literal["embedding", "readout"] = "embedding",
    forward: Forward | None = None,
    optimizer: Optimizer = "adamw",
    rest_lr: float | None = None,
    eps: float | None = None,
) -> list[dict[str, Any]]:
    """Parameters of ``model`` in groups with their learning rates, for any torch optimizer.

    Parameters
    ----------
    model: the model, also inside DistributedDataParallel or torch.compile, or after fully_shard;
        nothing in it changes.
    rule: a name such as "sp+embd" or "mup-table8", a :class:`Parameterization`, or from
        :func:`hpt.rule`.
    lr: under the sixteen and "hayou-liu" the hidden learning rate η at this width; under the other
        named rules the one at m = 1.
    base_model: a narrower copy of a foreign model, on any device ("meta" costs nothing); m is the
        ratio of sizes. Our own :class:`Transformer` needs none: its m is width / base_width.
    base_width: width at which m is 1, for a :class:`Transformer` (1 by default) or a Hugging Face
        model (there is no default); roles then come from a wider copy made of the model's own
        configuration.
    weight_decay: λ, for matrices; vectors do not decay.
    decay: "coupled": each step shrinks a weight by lr·λ of its group, as in torch's AdamW, with λ
        scaled where the rule says so; "independent": by λ times the schedule, whatever the learning
        rates; "constant": by ``lr``·λ, the same in every group.
    roles: see :func:`hpt.parameterization.roles.roles`.
    tied: the rule that a matrix follows that is embedding and readout in one.
    forward: what to do about a forward multiplier that the rule asks for: "absorb" it into init and
        learning rate, or leave it to the model ("in_model").
    optimizer: the one that the groups are for. With "muon", groups named "hidden" go to Muon at
        ``lr``, the others to AdamW at ``rest_lr``.
    eps: Adam's ε, where the groups are to carry it; a rule that scales ε takes 1e-8 by default.

    Returns
    -------
    One dictionary a role and rate, ``{"name", "params", "lr", "weight_decay"}`` and, as said,
    "eps"; every parameter is in one.

    Raises
    ------
    RoleError: where shapes determine no role.  ConfigError: for an unknown rule, a bad number, a
        rule without learning rates for the optimizer, and a multiplier that ``forward`` does not
        settle.
    """
    if not (lr > 0 and weight_decay >= 0 and (rest_lr is None or rest_lr > 0)):
        raise ConfigError(
            f"lr={lr}, weight_decay={weight_decay}, rest_lr={rest_lr}: learning rates must be positive, "
            "weight decay not negative."
        )
    if (rest_lr is None) == (optimizer == "muon"):
        raise ConfigError(
            f"optimizer={optimizer!r} with rest_lr={rest_lr}.",
            "Muon and AdamW need a learning rate each; any other optimizer has one",
            'param_groups(…, optimizer="muon", lr=0.02, rest_lr=3e-4)',
        )
    if decay not in ("coupled", "independent", "constant"):
        raise ConfigError(
            f"decay={decay!r} is unknown.", remedy='decay="coupled", "independent" or "constant"'
        )
    assigned = assign(
        model,
        rule,
        base_model=base_model,
        base_width=base_width,
        roles=roles,
        tied=tied,
        forward=forward,
        optimizer=optimizer,
    )
    parameters = dict(unwrap(model).named_parameters())
    carry_eps = eps is not None or any(a.scales.eps != 1 for a in assigned.values())
    groups: dict[tuple, dict[str, Any]] = {}
    for name, a in assigned.items():
        role, s = a.role.role, a.scales
        base_lr = lr if rest_lr is None or role == "hidden" else rest_lr
        group_lr = base_lr * s.lr
        group_decay = 0.0 if role == "vector" else weight_decay
        group_decay = {
            "coupled": group_decay * s.decay,
            "independent": group_decay / group_lr,
            "constant": group_decay / s.lr,
        }[decay]
        group = {"name": role, "params": [], "lr": group_lr, "weight_decay": group_decay}
        if carry_eps:
            group["eps"] = (1e-8 if eps is None else eps) * s.eps
        key = tuple(v for k, v in group.items() if k != "params")
        groups.setdefault(key, group)["params"].append(parameters[name])
    return _with_names(list(groups.values()))


def _with_names(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Number the groups of a role that has several rates: hidden, hidden.1, …"""
    seen: Counter[str] = Counter()
    for group in groups:
        role = group["name"]
        group["name"] = f"{role}.{seen[role]}" if seen[role] else role
        seen[role] += 1
    return groups


@torch.no_grad()
def init_weights(
    model: nn.Module,
    rule: AnyRule,
    *,
    base_model: nn.Module | None = None,
    base_width: int | None = None,
    generator: torch.Generator | None = None,
    roles: RoleMap | None = None,
    tied: Literal["embedding", "readout"] = "embedding",
    forward: Forward | None = None,
    optimizer: Optimizer = "adamw",
) -> None:
    """Draw the weights of ``model`` anew, in place; vectors and fixed parameters keep what they
    are.

    All rules draw the same normal numbers from the same generator and differ in scale alone; after
    fully_shard every process draws the whole tensor, so that the weights are those of one process.
    Residual branches of a foreign model get no factor of depth. Arguments are those of
    :func:`param_groups`.
    """
    inner = unwrap(model)
    factors = inner.init_factors() if isinstance(inner, Transformer) else {}
    parameters = dict(inner.named_parameters())
    assigned = assign(
        model,
        rule,
        base_model=base_model,
        base_width=base_width,
        roles=roles,
        tied=tied,
        forward=forward,
        optimizer=optimizer,
    )
    for name, a in assigned.items():
        if a.role.role in ("vector", "fixed"):
            continue
        p, std = parameters[name], a.scales.init_std * factors.get(name, 1.0)
        if hasattr(p, "placements"):  # sharded; the import takes a second, which few need
            from torch.distributed.tensor import distribute_tensor

            whole = torch.empty(p.shape, dtype=p.dtype, device=p.to_local().device).normal_(
                generator=generator
            )
            p.copy_(distribute_tensor(whole.mul_(std), p.device_mesh, p.placements))
        else:
            p.normal_(generator=generator).mul_(std)


def assign(
    model: nn.Module,
    rule: AnyRule,
    *,
    base_model: nn.Module | None = None,
    base_width: int | None = None,
    roles: RoleMap | None = None,
    tied: str = "embedding",
    forward: Forward | None = None,
    optimizer: Optimizer = "adamw",
    warn: bool = True,
) -> dict[str, Assignment]:
    """Role, m and scales of every parameter; see :func:`param_groups`."""
    r, inner = find_rule(rule, base_width), unwrap(model)
    check_optimizer(r, optimizer)
    if tied not in ("embedding", "readout") or forward not in (None, "absorb", "in_model"):
        raise ConfigError(
            f"tied={tied!r}, forward={forward!r}.",
            remedy='tied="embedding" or "readout"; forward="absorb", "in_model" or None',
        )
    other, width_m = _other_width(inner, base_model, r, base_width)
    found = find_roles(inner, other, roles)
    # A scalar has no size that grows: it follows the model as a whole.
    whole = width_m or max((x.growth for x in found.values() if x.growth), default=1.0)
    if warn:
        warn_attention(r, inner, base_model)
    assigned = {}
    for name, role in found.items():
        if role.tied_to and role.role == "embedding" and tied == "readout":
            role = ParameterRole(
                name, "readout", role.fan_out, role.fan_in, role.growth, role.tied_to
            )
        m = width_m or role.growth or whole
        # SGD's rate of a vector follows its own size: the bias of a readout grows with nothing.
        own_m = 1.0 if optimizer == "sgd" and role.growth is None else m
        s = for_optimizer(r, optimizer, role.role, role.fan_in, own_m, role.fan_out)
        readout = (
            r.scales("readout", role.fan_out, m, role.fan_in)
            if role.tied_to and tied == "embedding"
            else s
        )
        if forward is None and (s.multiplier != 1 or readout.multiplier != 1):
            refuse_multiplier(r, role, readout if s.multiplier == 1 else s, bool(role.tied_to))
        if forward == "absorb" and role.tied_to and (s.multiplier != 1 or readout.multiplier != 1):
            refuse_multiplier(r, role, readout if s.multiplier == 1 else s, True)
        assigned[name] = Assignment(
            role, m, absorb(s, optimizer, role.role) if forward == "absorb" else s
        )
    return assigned


def _other_width(
    model: nn.Module, base_model: nn.Module | None, r: Rule, base_width: int | None
) -> tuple[nn.Module, float | None]:
    """The copy to compare shapes with, and m where it is the same for all parameters."""
    if base_model is not None:
        return base_model, None
    if isinstance(model, Transformer):
        return wider_copy(model.config), r.multiplier(model.config.width)
    width = huggingface_width(model)
    if width and (base_width or r.base_width > 1):
        return wider_huggingface_copy(model), r.multiplier(width)
    raise ConfigError(
        f"the roles of {type(model).__name__} need a narrower copy to compare with.",
        "shapes tell the roles, and its width the multiplier m",
        "param_groups(model, …, base_width=…)"
        if width
        else "param_groups(model, …, base_model=the same architecture at a smaller width)",
    )


def embedding_lr_groups(
    model: nn.Module, *, lr: float, width: int, base_width: int = 1, weight_decay: float = 0.0
) -> list[dict[str, Any]]:
    """The embedding fix alone: every ``nn.Embedding`` at lr·width/base_width, the rest at lr.

    Needs no second model. As published (Kalra & Barkeshli 2026, SP+Embd) base_width is 1, for
    embeddings that start at std 1. With another start, give the width at which one learning rate
    for all suited your model.

    Raises
    ------
    RoleError: where the model has no ``nn.Embedding``.
    """
    if not (lr > 0 and width >= 1 and base_width >= 1 and weight_decay >= 0):
        raise ConfigError(
            f"lr={lr}, width={width}, base_width={base_width}, weight_decay={weight_decay}: "
            "sizes and rates must be positive, weight decay not negative."
        )
    inner = unwrap(model)
    embeddings = {id(layer.weight) for layer in inner.modules() if isinstance(layer, nn.Embedding)}
    if not embeddings:
        raise RoleError(
            f"{type(inner).__name__} has no nn.Embedding.",
            "its embedding is a plain parameter",
            'param_groups(model, "sp+embd", base_model=…, roles={its name: ("embedding", "in out")})',
        )
    groups = {
        role: {"name": role, "params": [], "lr": lr, "weight_decay": weight_decay}
        for role in ("embedding", "matrix", "vector")
    }
    groups["embedding"]["lr"] = lr * width / base_width
    groups["vector"]["weight_decay"] = 0.0
    for p in inner.parameters():
        role = "embedding" if id(p) in embeddings else "matrix" if p.ndim > 1 else "vector"
        groups[role]["params"].append(p)
    return [g for g in groups.values() if g["params"]]
