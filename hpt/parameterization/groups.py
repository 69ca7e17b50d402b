"""Optimizer groups and initial weights of any model under a rule."""

import warnings
from dataclasses import replace
from numbers import Real
from statistics import mode
from typing import Any, Literal, NamedTuple, TypedDict, Unpack, get_args

import torch
from torch import nn

from hpt.errors import ConfigError, ForwardWarning, RoleError
from hpt.model.transformer import Transformer, wider_copy
from hpt.parameterization import named_rules
from hpt.parameterization.copies import RoleMap, same_width
from hpt.parameterization.depth import with_depth
from hpt.parameterization.forward import attention_note, refuse_multiplier
from hpt.parameterization.growth import ParameterRole
from hpt.parameterization.layers import is_lookup, unwrap
from hpt.parameterization.optimizers import Optimizer, absorb, check_optimizer, for_optimizer, is_muon
from hpt.parameterization.roles import find_roles
from hpt.parameterization.rules import KEPT_ROLES, Decay, DecayOn, Rule, Scales, unknown_name
from hpt.parameterization.sixteen import Parameterization
from hpt.parameterization.wider import huggingface_width, wider_huggingface_copy

Forward = Literal["absorb", "in_model", None]
Tied = Literal["embedding", "readout"]
AnyRule = str | Parameterization | Rule


class Asking(TypedDict, total=False):
    """The arguments of :func:`param_groups` that decide roles and scales."""

    base_model: nn.Module | None
    base_width: int | None
    roles: RoleMap | None
    tied: Tied
    forward: Forward
    optimizer: Optimizer
    warn: bool


def assigning(options: dict[str, Any]) -> Asking:
    """Those of the options that decide roles and scales."""
    return {name: options[name] for name in Asking.__annotations__.keys() & options.keys()}


class Assignment(NamedTuple):
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
    decay_on: DecayOn = "matrices",
    roles: RoleMap | None = None,
    tied: Tied = "embedding",
    forward: Forward = None,
    optimizer: Optimizer = "adamw",
    rest_lr: float | None = None,
    eps: float | None = None,
    warn: bool = True,
) -> list[dict[str, Any]]:
    """Parameters of ``model`` in groups with their learning rates, for any torch optimizer.

    Parameters
    ----------
    model: the model, also inside DistributedDataParallel or torch.compile, or after fully_shard;
        nothing in it changes.
    rule: a name such as "sp+embd" or "mup-table8", a :class:`Parameterization`, or from
        :func:`hpt.rule`, as it is or made into another.
    lr: under the sixteen and "hayou-liu" the hidden learning rate η at this width; under the other
        named rules the one at m = 1.
    base_model: a narrower copy of a foreign model, on any device ("meta" costs nothing); m is the
        ratio of sizes. Our own :class:`Transformer` needs none: its m is width / base_width.
    base_width: width at which m is 1, for a :class:`Transformer` (1 by default) or a Hugging Face
        model (there is no default); roles then come from a wider copy made of the model's own
        configuration.
    weight_decay: λ.
    decay: by how much a step shrinks a weight, of which three conventions are in use. "coupled": by
        lr·λ of its group, as torch's AdamW and Lingle 2024 do, with λ scaled where the rule says so;
        "constant": by ``lr``·λ times the schedule, the same in every group, as the package mup and
        CompleteP do (Kosson et al. 2510.19093 call that "independent"); "independent": by λ times the
        schedule, whatever the learning rates (Wortsman et al. 2309.14322).
    decay_on: which parameters decay: "matrices" (all but vectors), the "hidden" matrices alone, or
        "all" (Lingle 2024).
    roles: see :func:`hpt.parameterization.roles.find_roles`.
    tied: the rule that a matrix follows that is embedding and readout in one.
    forward: what to do about a forward multiplier that the rule asks for: "absorb" it into init and
        learning rate, or leave it to the model ("in_model").
    optimizer: the one that the groups are for. With "muon", groups named "hidden", which hold
        matrices alone, go to Muon at ``lr`` with torch's adjust_lr_fn="original", the others, stacks
        and kernels ("hidden_adamw") among them, to AdamW at ``rest_lr``; "muon-match-rms" is for
        adjust_lr_fn="match_rms_adamw".
    eps: Adam's ε, where the groups are to carry it; a rule that scales ε takes 1e-8 by default.
    warn: whether to warn of an attention scale that the rule asks for and the model lacks.

    Returns
    -------
    One dictionary a role and rate, ``{"name", "params", "lr", "weight_decay"}`` and, as said,
    "eps"; every parameter is in one. A schedule has to keep their ratios, as LambdaLR does: give
    OneCycleLR ``max_lr=[g["lr"] for g in groups]``, for a single number levels them, and
    CosineAnnealingLR ``eta_min=0``, for any other floor is the same for all.

    Raises
    ------
    RoleError: where shapes determine no role.  ConfigError: for an unknown rule, a bad number, a
        rule without learning rates for the optimizer, and a multiplier that ``forward`` does not
        settle.
    """
    _check_rates(lr, weight_decay, rest_lr, decay, decay_on, optimizer)
    assigned = assign(
        model=model,
        rule=rule,
        base_model=base_model,
        base_width=base_width,
        roles=roles,
        tied=tied,
        forward=forward,
        optimizer=optimizer,
        warn=warn,
    )
    parameters = dict(unwrap(model).named_parameters())
    if eps is None and any(a.scales.eps != 1 for a in assigned.values()):
        eps = 1e-8
    groups: dict[tuple, dict] = {}
    for name, (parameter_role, _, scales) in assigned.items():
        role = parameter_role.role
        if is_muon(optimizer) and role == "hidden" and parameters[name].ndim != 2:
            role = "hidden_adamw"
        base_lr = lr if rest_lr is None or role == "hidden" else rest_lr
        base_decay = weight_decay if _decays(role, decay_on) else 0.0
        rates = _rates(scales, base_lr, base_decay, decay)
        if eps is not None:
            rates["eps"] = eps * scales.eps
        key = (role, *rates.values())
        if key not in groups:
            # A role that has several rates is numbered: hidden, hidden.1, …
            count = sum(other == role for other, *_ in groups)
            label = f"{role}.{count}" if count else role
            groups[key] = {"name": label, "params": [], **rates}
        groups[key]["params"].append(parameters[name])
    return list(groups.values())


def _check_rates(lr, weight_decay, rest_lr, decay, decay_on, optimizer):
    given = {"lr": lr, "weight_decay": weight_decay, "rest_lr": lr if rest_lr is None else rest_lr}
    for name, value in given.items():
        if isinstance(value, bool) or not isinstance(value, Real) or not abs(value) < 1e300:
            raise ConfigError(f"{name}={value!r} is no number.", "text, or a tensor", f"{name}=0.01")
    if not (lr > 0 and weight_decay >= 0 and (rest_lr is None or rest_lr > 0)):
        raise ConfigError(
            f"{lr=}, {weight_decay=}, {rest_lr=}: none may be negative, and only the decay may be 0."
        )
    if (rest_lr is None) == is_muon(optimizer):
        raise ConfigError(
            f"optimizer={optimizer!r} with rest_lr={rest_lr}.",
            "Muon and AdamW need a learning rate each; any other optimizer has one",
            'param_groups(…, optimizer="muon", lr=0.02, rest_lr=3e-4)',
        )
    if decay not in get_args(Decay):
        raise unknown_name("decay", decay, get_args(Decay))
    if decay_on not in get_args(DecayOn):
        raise unknown_name("choice of decaying parameters", decay_on, get_args(DecayOn))


def _decays(role, decay_on):
    """Whether weight decay acts on a role."""
    if decay_on == "matrices":
        return role != "vector"
    return decay_on == "all" or role == "hidden"


def _rates(scales, lr, weight_decay, decay):
    """Learning rate and weight decay of one parameter, as torch's AdamW takes them."""
    own_lr = lr * scales.lr
    if decay == "coupled":
        weight_decay *= scales.decay
    elif decay == "independent":
        weight_decay /= own_lr
    else:
        weight_decay /= scales.lr
    return {"lr": own_lr, "weight_decay": weight_decay}


@torch.no_grad()
def init_weights(
    model: nn.Module, rule: AnyRule, *, generator: torch.Generator | None = None, **options: Unpack[Asking]
) -> None:
    """Draw the weights of ``model`` anew, in place.

    What no rule draws keeps what it is: vectors and fixed parameters; what is frozen; matrices that
    the model starts at zero (a LoRA's second, a zero residual branch), unless all are zero; and the
    padding row of a table is zero.

    All rules draw the same normal numbers from the same generator, which is on the weights' device,
    and differ in scale alone; after fully_shard every process draws the whole tensor, so that the
    weights are those of one process. Residual branches of a foreign model get no factor of depth.
    Options are the arguments of :func:`param_groups` that decide roles and scales: base_model,
    base_width, roles, tied, forward, optimizer, warn.
    """
    inner = unwrap(model)
    factors = inner.init_factors() if isinstance(inner, Transformer) else {}
    parameters = dict(inner.named_parameters())
    assigned = assign(model, rule, **options)
    padding = {
        layer.weight: layer.padding_idx
        for layer in inner.modules()
        if is_lookup(layer) and getattr(layer, "padding_idx", None) is not None
    }
    kept = kept_at_start(inner, assigned)
    for name, (_, _, scales) in assigned.items():
        if name not in kept:
            std = scales.init_std * factors.get(name, 1.0)
            _draw(parameters[name], std, generator, padding.get(parameters[name]))


def kept_at_start(model: nn.Module, assigned: dict[str, Assignment]) -> dict[str, str]:
    """The parameters that init_weights leaves as they are, and why."""
    kept = {}
    parameters = dict(model.named_parameters())
    for name, (role, _, _) in assigned.items():
        if role.role in KEPT_ROLES:
            kept[name] = role.role
        elif not parameters[name].requires_grad:
            kept[name] = "frozen"
    if isinstance(model, Transformer):
        # Ours keeps nothing: zero queries are made by `init_factors`.
        return kept
    drawn = parameters.keys() - kept.keys()
    zeros = {name for name in drawn if _is_zero(parameters[name])}
    # A model in memory that nothing has filled yet may be zero everywhere.
    if zeros == drawn:
        return kept
    return kept | dict.fromkeys(zeros, "zero")


@torch.no_grad()
def _is_zero(parameter):
    if parameter.is_meta:
        return False
    size = parameter.abs().sum()
    if hasattr(size, "full_tensor"):
        # A tensor in shards has a sum in shards.
        size = size.full_tensor()
    return size.item() == 0


def _draw(parameter, std, generator, padding_row):
    """Fill a parameter with normal numbers, one that is sharded with its part of the whole."""
    is_sharded = hasattr(parameter, "placements")
    whole = parameter
    if is_sharded:
        device = parameter.to_local().device
        whole = torch.empty(parameter.shape, dtype=parameter.dtype, device=device)
    whole.normal_(generator=generator).mul_(std)
    if padding_row is not None:
        whole[padding_row] = 0.0
    if is_sharded:
        # The import takes a second, which few need.
        from torch.distributed.tensor import distribute_tensor

        parameter.copy_(distribute_tensor(whole, parameter.device_mesh, parameter.placements))


def assign(
    model,
    rule,
    base_model=None,
    base_width=None,
    roles=None,
    tied="embedding",
    forward=None,
    optimizer="adamw",
    warn=True,
) -> dict[str, Assignment]:
    """Role, m and scales of every parameter; see :func:`param_groups`."""
    rule = named_rules.rule(rule, base_width)
    check_optimizer(rule, optimizer)
    if tied not in get_args(Tied) or forward not in get_args(Forward):
        raise ConfigError(
            f"tied={tied!r}, forward={forward!r}.",
            remedy='tied="embedding" or "readout"; forward="absorb", "in_model" or None',
        )
    inner = unwrap(model)
    _check_models(inner, base_model)
    other, model_m = _other_width(inner, base_model, rule, base_width)
    found = find_roles(inner, other, roles)
    # What has no size that grows follows the model as a whole.
    growths = [role.growth for role in found.values() if role.growth]
    commonest = mode(growths) if growths else 1.0
    note = attention_note(rule, inner, base_model) if warn else ""
    if note:
        warnings.warn(note, ForwardWarning, stacklevel=3)
    assigned = {}
    for name, role in found.items():
        if role.tied_to and role.role == "embedding" and tied == "readout":
            role = replace(role, role="readout", fan_in=role.fan_out, fan_out=role.fan_in)
        m = model_m or role.growth or commonest
        # By base_width all that grows grows as the width does.
        ratio = 1.0 if model_m else role.growth_ratio
        stacked = inner.get_parameter(name).ndim != 2
        own = optimizer
        if is_muon(optimizer) and stacked:
            own = "adamw"
        scales = _scales(rule, replace(role, growth_ratio=ratio), m, tied, forward, own, inner)
        assigned[name] = Assignment(role, m, scales)
    return assigned


def _scales(rule, role, m, tied, forward, optimizer, model):
    """The scales of one parameter, a forward multiplier in them or settled."""
    # SGD's rate of a vector follows its own size: the bias of a readout grows with nothing.
    own_m = 1.0 if optimizer == "sgd" and role.growth is None else m
    scales = for_optimizer(
        rule=rule,
        optimizer=optimizer,
        role=role.role,
        fan_in=role.fan_in,
        m=own_m,
        fan_out=role.fan_out,
        dense=role.dense,
        growth_ratio=role.growth_ratio,
    )
    scales = with_depth(scales, rule, model, role.name)
    multiplier = scales.multiplier
    # Our own model multiplies the logits of a tied readout itself.
    in_model = forward == "in_model" or getattr(model, "readout_multiplier", 1.0) != 1.0
    if multiplier == 1 and role.tied_to and tied == "embedding" and not in_model:
        multiplier = rule.scales("readout", role.fan_out, m, role.fan_in).multiplier
    settled = forward == "in_model" or (forward == "absorb" and not role.tied_to)
    if multiplier != 1 and not settled:
        refuse_multiplier(rule, role, multiplier, model)
    return absorb(scales, optimizer, role.role) if forward == "absorb" else scales


def _check_models(model, base_model):
    for name, given in (("model", model), ("base_model", base_model)):
        if not isinstance(given, nn.Module | None):
            raise ConfigError(
                f"{name}={given!r:.80} is no model.",
                "a width, a class or a configuration in its place",
                "param_groups(model, …, base_model=base), where base is the same and narrower",
            )


def _other_width(model, base_model, rule, base_width):
    """The copy to compare shapes with, and m where it is the same for all parameters."""
    is_base = base_model is not None and same_width(model, base_model)
    if base_model is not None and not is_base:
        return base_model, None
    if isinstance(model, Transformer):
        return wider_copy(model.config), 1.0 if is_base else rule.multiplier(model.config.width)
    width = huggingface_width(model)
    if is_base:
        return _at_the_base(model, base_model, width), 1.0
    if width and (base_width or rule.base_width > 1):
        return wider_huggingface_copy(model), rule.multiplier(width)
    given = "base_width=256)"
    if not width:
        given = "base_model=base), where base is the same and narrower"
    raise ConfigError(
        f"the roles of {type(model).__name__} need a narrower copy to compare with.",
        "shapes tell the roles, and its width the multiplier m",
        f"param_groups(model, …, {given}",
    )


def _at_the_base(model, base_model, width):
    """At the base width m is 1; a wider copy tells the roles where there is one, else types do."""
    if width is None:
        return base_model
    try:
        return wider_huggingface_copy(model)
    except ConfigError:
        return base_model


def embedding_lr_groups(
    model: nn.Module, *, lr: float, width: int, base_width: int = 1, weight_decay: float = 0.0
) -> list[dict[str, Any]]:
    """The embedding fix alone: every ``nn.Embedding`` at lr·width/base_width, the rest at lr.

    Needs no second model. As published (Kalra & Barkeshli 2026, SP+Embd) base_width is 1, for
    embeddings that start at std 1. With another start, give the width at which one learning rate
    for all suited your model.

    Raises
    ------
    RoleError: where the model has no ``nn.Embedding``.  ConfigError: for a bad number.
    """
    if not (lr > 0 and width >= 1 and base_width >= 1 and weight_decay >= 0):
        raise ConfigError(
            f"{lr=}, {width=}, {base_width=}, {weight_decay=}: none may be negative, only the decay 0."
        )
    inner = unwrap(model)
    embeddings = {layer.weight for layer in inner.modules() if isinstance(layer, nn.Embedding)}
    if not embeddings:
        raise RoleError(
            f"{type(inner).__name__} has no nn.Embedding.",
            "its embedding is a plain parameter",
            'param_groups(model, "sp+embd", lr=…, base_model=base), where base is the same and narrower',
        )
    groups = {
        name: {"name": name, "params": [], "lr": lr, "weight_decay": weight_decay}
        for name in ("embedding", "matrix", "vector")
    }
    groups["embedding"]["lr"] = lr * width / base_width
    groups["vector"]["weight_decay"] = 0.0
    for parameter in inner.parameters():
        kind = "matrix" if parameter.ndim > 1 else "vector"
        groups["embedding" if parameter in embeddings else kind]["params"].append(parameter)
    return [group for group in groups.values() if group["params"]]
