"""What a rule does to a model, parameter by parameter, as a table."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from torch import nn

from hpt.errors import ForwardWarning
from hpt.parameterization.forward import attention_note
from hpt.parameterization.groups import AnyRule, Assignment, assign, param_groups
from hpt.parameterization.roles import unwrap
from hpt.parameterization.rules import Rule
from hpt.parameterization.rules import rule as find_rule


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
        f = self.frame.assign(
            name=[re.sub(r"(?<=\.)\d+(?=\.)", "*", n) for n in self.frame["name"]]
        )
        keys = ["name", "shape", "role", "m", "lr", "weight_decay", "init_std", "multiplier"]
        short = f.groupby(keys, sort=False).agg(
            tensors=("elements", "size"), elements=("elements", "sum")
        )
        shorter = {"weight_decay": "decay", "init_std": "std", "multiplier": "forward ×"}
        return short.reset_index().rename(columns=shorter)

    def __str__(self) -> str:
        def number(x: float) -> str:
            return f"{x:.4g}"

        return "\n".join(
            [
                self.title,
                self._short().to_string(index=False, float_format=number),
                "",
                self.totals.to_string(index=False),
                *(f"\n{n}" for n in self.notes),
            ]
        )

    def _repr_html_(self) -> str:
        notes = "".join(f"<p><pre>{n}</pre></p>" for n in self.notes)
        return (
            f"<p><b>{self.title}</b></p>{self._short().to_html(index=False, float_format=lambda x: f'{x:.4g}')}"
            f"{self.totals.to_html(index=False)}{notes}"
        )


def describe(model: nn.Module, rule: AnyRule, *, lr: float, **options: Any) -> Description:
    """What :func:`hpt.param_groups` and :func:`hpt.init_weights` give each parameter.

    Parameters are those of :func:`hpt.param_groups`. Where the rule asks for a forward multiplier
    and ``forward`` is not given, the table shows the rule as written and a note says what to do.
    """
    inner, r = unwrap(model), find_rule(rule, options.get("base_width"))
    shown = {"forward": "in_model", **options}
    shared = ("base_model", "base_width", "roles", "tied", "forward", "optimizer")
    assigned = assign(model, rule, **{k: v for k, v in shown.items() if k in shared}, warn=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ForwardWarning)  # a note says it
        groups = param_groups(model, rule, lr=lr, **shown)
    group_of = {id(p): g for g in groups for p in g["params"]}
    rows = []
    for name, p in inner.named_parameters():
        a, group = assigned[name], group_of[id(p)]
        rows.append(
            {
                "name": name,
                "shape": "×".join(map(str, p.shape)) or "1",
                "elements": p.numel(),
                "role": a.role.role,
                "fan_in": a.role.fan_in,
                "fan_out": a.role.fan_out,
                "m": a.m,
                "lr": group["lr"],
                "weight_decay": group["weight_decay"],
                "init_std": a.scales.init_std,
                "multiplier": a.scales.multiplier,
                "tied_to": ", ".join(a.role.tied_to),
            }
        )
    frame = pd.DataFrame(rows)
    totals = (
        frame.groupby("role", sort=False)["elements"]
        .agg(tensors="size", elements="sum")
        .reset_index()
    )
    totals.loc[len(totals)] = ["all", totals["tensors"].sum(), totals["elements"].sum()]
    meaning = "of the hidden matrices at this width" if r.lr_is == "hidden" else "at m = 1"
    notes = [
        *_tying(r, assigned, options.get("tied", "embedding")),
        *_multipliers(r, frame, options.get("forward")),
    ]
    notes += [n for n in (attention_note(r, inner, options.get("base_model")),) if n]
    return Description(
        f"{type(inner).__name__} under {r.name}; lr {lr:g} {meaning}", frame, totals, tuple(notes)
    )


def _tying(r: Rule, assigned: dict[str, Assignment], tied: str) -> list[str]:
    """What it costs that one matrix is embedding and readout under one rule."""
    notes = []
    for name, a in assigned.items():
        if not a.role.tied_to or a.role.role not in ("embedding", "readout"):
            continue
        n = a.role.fan_out if a.role.role == "embedding" else a.role.fan_in
        vocabulary = a.role.fan_in if a.role.role == "embedding" else a.role.fan_out
        e, o = r.scales("embedding", vocabulary, a.m, n), r.scales("readout", n, a.m, vocabulary)
        kept, other, lost = (e, o, "readout") if tied == "embedding" else (o, e, "embedding")
        notes.append(
            f"{name} is tied to {', '.join(a.role.tied_to)} and follows the {tied}'s rule. As {lost} it would have had "
            f"LR × {other.lr:.4g} (has × {kept.lr:.4g}) and init std {other.init_std:.4g} (has {kept.init_std:.4g}): "
            f"the {lost}'s steps are {kept.lr / other.lr:.4g} and its start {kept.init_std / other.init_std:.4g} times "
            f"what {r.name} asks for. Untie them to have both."
        )
    return notes


def _multipliers(r: Rule, frame: pd.DataFrame, forward: str | None) -> list[str]:
    """Which layers the model has to multiply, where nobody has settled that."""
    asked = frame[frame["multiplier"] != 1]
    if forward is not None or asked.empty:
        return []
    first = asked.iloc[0]
    return [
        f"{r.name} multiplies the output of {len(asked)} layers (of {first['name']} by {first['multiplier']:.4g}); "
        'groups cannot. forward="absorb" gives the same training through init and LR; forward="in_model" leaves it '
        "to you."
    ]
