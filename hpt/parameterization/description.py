"""What a rule does to a model, parameter by parameter, as a table."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from torch import nn

from hpt.errors import ForwardWarning
from hpt.parameterization import named_rules
from hpt.parameterization.forward import attention_note
from hpt.parameterization.groups import AnyRule, assign, param_groups
from hpt.parameterization.roles import unwrap

_NUMBER = "{:.4g}".format


@dataclass(frozen=True)
class Description:
    """A model under a rule.

    Attributes
    ----------
    title: model, rule and what ``lr`` means.
    frame: one row a parameter: name, shape, elements, role, fan_in, fan_out, m, lr, weight_decay,
        init_std, multiplier (what the model's forward has to apply) and tied_to.
    totals: tensors and elements of each role, and of all.
    notes: what groups cannot express, what tying costs, and what else to know.
    """

    title: str
    frame: pd.DataFrame = field(repr=False)
    totals: pd.DataFrame = field(repr=False)
    notes: tuple[str, ...] = ()

    def to_frame(self) -> pd.DataFrame:
        """The table, one row a parameter."""
        return self.frame

    def _short(self) -> pd.DataFrame:
        """Parameters of repeated layers in one row: the same name but for its numbers, and the same
        values."""
        names = [re.sub(r"(?<=\.)\d+(?=\.)", "*", name) for name in self.frame["name"]]
        keys = ["name", "shape", "role", "m", "lr", "weight_decay", "init_std", "multiplier"]
        rows = self.frame.assign(name=names).groupby(keys, sort=False)["elements"]
        short = rows.agg(tensors="size", elements="sum").reset_index()
        return short.rename(
            columns={"weight_decay": "decay", "init_std": "std", "multiplier": "forward ×"}
        )

    def __str__(self) -> str:
        table = self._short().to_string(index=False, float_format=_NUMBER)
        notes = [f"\n{note}" for note in self.notes]
        return "\n".join([self.title, table, "", self.totals.to_string(index=False), *notes])

    def _repr_html_(self) -> str:
        table = self._short().to_html(index=False, float_format=_NUMBER)
        notes = "".join(f"<p><pre>{note}</pre></p>" for note in self.notes)
        return f"<p><b>{self.title}</b></p>{table}{self.totals.to_html(index=False)}{notes}"


def describe(model: nn.Module, rule: AnyRule, *, lr: float, **options: Any) -> Description:
    """What :func:`hpt.param_groups` and :func:`hpt.init_weights` give each parameter.

    Parameters are those of :func:`hpt.param_groups`. Where the rule asks for a forward multiplier
    and ``forward`` is not given, the table shows the rule as written and a note says what to do.

    Raises
    ------
    RoleError, ConfigError: as :func:`hpt.param_groups` does.
    """
    rule = named_rules.rule(rule, options.get("base_width"))
    model = unwrap(model)
    frame, assigned = _frame(model, rule, lr, {"forward": "in_model", **options})
    meaning = "of the hidden matrices at this width" if rule.lr_is == "hidden" else "at m = 1"
    notes = _tying(rule, assigned, options.get("tied", "embedding"))
    if options.get("forward") is None:
        notes += _multipliers(rule, frame[frame["multiplier"] != 1])
    attention = attention_note(rule, model, options.get("base_model"))
    if attention:
        notes.append(attention)
    elements = frame.groupby("role", sort=False)["elements"]
    totals = elements.agg(tensors="size", elements="sum").reset_index()
    totals.loc[len(totals)] = ["all", *totals[["tensors", "elements"]].sum()]
    title = f"{type(model).__name__} under {rule.name}; lr {lr:g} {meaning}"
    return Description(title, frame, totals, tuple(notes))


def _frame(model, rule, lr, options) -> tuple[pd.DataFrame, dict]:
    """One row a parameter, and what the rule assigns."""
    assigning = ("base_model", "base_width", "roles", "tied", "forward", "optimizer")
    with warnings.catch_warnings():
        # A note says it.
        warnings.simplefilter("ignore", ForwardWarning)
        assigned = assign(model, rule, **{k: options[k] for k in assigning if k in options})
        groups = param_groups(model, rule, lr=lr, **options)
    group_of = {parameter: group for group in groups for parameter in group["params"]}
    rows = []
    for name, parameter in model.named_parameters():
        role, m, scales = assigned[name]
        group = group_of[parameter]
        rows.append(
            {
                "name": name,
                "shape": "×".join(map(str, parameter.shape)) or "1",
                "elements": parameter.numel(),
                "role": role.role,
                "fan_in": role.fan_in,
                "fan_out": role.fan_out,
                "m": m,
                "lr": group["lr"],
                "weight_decay": group["weight_decay"],
                "init_std": scales.init_std,
                "multiplier": scales.multiplier,
                "tied_to": ", ".join(role.tied_to),
            }
        )
    return pd.DataFrame(rows), assigned


def _tying(rule, assigned, tied) -> list[str]:
    """What it costs that one matrix is embedding and readout under one rule."""
    lost = "readout" if tied == "embedding" else "embedding"
    notes = []
    for name, (role, m, _) in assigned.items():
        if not role.tied_to or role.role not in ("embedding", "readout"):
            continue
        fans = (role.fan_in, role.fan_out)
        vocabulary, width = fans if role.role == "embedding" else reversed(fans)
        scales = {
            "embedding": rule.scales("embedding", vocabulary, m, width),
            "readout": rule.scales("readout", width, m, vocabulary),
        }
        has = scales[tied]
        asked = scales[lost]
        notes.append(
            f"{name} is tied to {', '.join(role.tied_to)} and follows the {tied}'s rule: the {lost}'s steps "
            f"are {has.lr / asked.lr:.4g} and its start {has.init_std / asked.init_std:.4g} times what "
            f"{rule.name} asks for. Untie them to have both."
        )
    return notes


def _multipliers(rule, asked) -> list[str]:
    """Which layers the model has to multiply, where nobody has settled that."""
    if asked.empty:
        return []
    first = asked.iloc[0]
    return [
        f"{rule.name} multiplies the output of {len(asked)} layers (of {first['name']} by "
        f"{first['multiplier']:.4g}); groups cannot. "
        'forward="absorb" gives the same training through init and LR; forward="in_model" leaves it to you.'
    ]
