"""What a rule does to a model, parameter by parameter, as a table."""

import warnings
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from torch import nn

from hpt.errors import ForwardWarning
from hpt.parameterization import named_rules
from hpt.parameterization.forward import attention_note
from hpt.parameterization.groups import AnyRule, assign, assigning, param_groups
from hpt.parameterization.roles import unwrap
from hpt.parameterization.rules import LR_IS

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

    def _short(self):
        """Parameters of repeated layers in one row: the same name but for its numbers, and the same
        values."""
        names = self.frame["name"].str.replace(r"(?<=\.)\d+(?=\.)", "*", regex=True)
        keys = ["name", "shape", "role", "m", "lr", "weight_decay", "init_std", "multiplier"]
        new_names = {"weight_decay": "decay", "init_std": "std", "multiplier": "forward ×"}
        return _counted(self.frame.assign(name=names), keys).rename(columns=new_names)

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
    notes = _tying(rule, assigned)
    multiplied = frame[frame["multiplier"] != 1]
    if options.get("forward") is None and len(multiplied):
        notes.append(_multiplier_note(rule, multiplied))
    notes.append(attention_note(rule, model, options.get("base_model")))
    totals = _counted(frame, ["role"])
    totals.loc[len(totals)] = ["all", *totals[["tensors", "elements"]].sum()]
    title = f"{type(model).__name__} under {rule.name}; lr {lr:g} {LR_IS[rule.lr_is]}"
    return Description(title, frame, totals, tuple(filter(None, notes)))


def _counted(frame, keys):
    """Tensors and elements of the rows that agree on the keys."""
    elements = frame.groupby(keys, sort=False)["elements"]
    return elements.agg(tensors="size", elements="sum").reset_index()


def _frame(model, rule, lr, options):
    """One row a parameter, and what the rule assigns."""
    with warnings.catch_warnings():
        # A note says it.
        warnings.simplefilter("ignore", ForwardWarning)
        assigned = assign(model, rule, **assigning(options))
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


def _tying(rule, assigned):
    """What it costs that one matrix is embedding and readout under one rule."""
    notes = []
    for name, (role, m, _) in assigned.items():
        lost = {"embedding": "readout", "readout": "embedding"}.get(role.role)
        if not role.tied_to or lost is None:
            continue
        has = rule.scales(role.role, role.fan_in, m, role.fan_out)
        asked = rule.scales(lost, role.fan_out, m, role.fan_in)
        notes.append(
            f"{name} is tied to {', '.join(role.tied_to)} and follows the {role.role}'s rule: the {lost}'s "
            f"steps are {has.lr / asked.lr:.4g} and its start {has.init_std / asked.init_std:.4g} times "
            f"what {rule.name} asks for. Untie them to have both."
        )
    return notes


def _multiplier_note(rule, multiplied):
    """Which layers the model has to multiply, where nobody has settled that."""
    first = multiplied.iloc[0]
    return (
        f"{rule.name} multiplies the output of {len(multiplied)} layers (of {first['name']} by "
        f"{first['multiplier']:.4g}); groups cannot. "
        'forward="absorb" gives the same training through init and LR; forward="in_model" leaves it to you.'
    )
