"""What a rule does to a model, parameter by parameter, as a table."""

from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from torch import nn

from hpt.parameterization import named_rules
from hpt.parameterization.forward import attention_note, embedding_note
from hpt.parameterization.groups import AnyRule, assign, assigning, kept_at_start, param_groups
from hpt.parameterization.layers import input_table, is_lookup, place_of, unwrap
from hpt.parameterization.rules import LR_IS

_NUMBER = "{:.4g}".format


@dataclass(frozen=True)
class Description:
    """A model under a rule, what is unusual first.

    Attributes
    ----------
    title: model, rule and what ``lr`` means.
    advice: which base width and which ``lr`` to give, at this width and at others.
    frame: one row a parameter: name, shape, elements, role, fan_in, fan_out, m, lr, weight_decay,
        init_std, multiplier (what the model's forward has to apply), tied_to, and start: "drawn" by
        the rule, or why init_weights keeps it.
    totals: tensors and elements of each role, and of all.
    notes: what groups cannot express, what tying costs, and what else is unusual.
    input_embedding: the tables that tokens are looked up in, by name, with role and learning rate.
    """

    title: str
    frame: pd.DataFrame = field(repr=False)
    totals: pd.DataFrame = field(repr=False)
    notes: tuple[str, ...] = ()
    input_embedding: str = ""
    advice: str = ""

    def to_frame(self) -> pd.DataFrame:
        """The table, one row a parameter."""
        return self.frame

    def _short(self):
        """Parameters of repeated layers in one row: the same name but for its numbers, and the same
        values."""
        names = self.frame["name"].str.replace(r"(?<=\.)\d+(?=\.)", "*", regex=True)
        keys = ["name", "shape", "role", "m", "lr", "weight_decay", "init_std", "start", "multiplier"]
        named = {"weight_decay": "decay", "init_std": "std", "multiplier": "forward ×", "tensors": "count"}
        short = _counted(self.frame.assign(name=names), keys).rename(columns=named)
        elements = short.pop("elements")
        short["share"] = (100 * elements / elements.sum()).map("{:.2g} %".format)
        # What does not grow is unusual.
        return short.sort_values("role", key=lambda role: role != "fixed", kind="stable")

    def _lines(self):
        return [self.advice, f"input embedding: {self.input_embedding}", *self.notes]

    def __str__(self) -> str:
        table = self._short().to_string(index=False, float_format=_NUMBER)
        lines = [f"{line}\n" for line in self._lines()]
        return "\n".join([self.title, *lines, table, "", self.totals.to_string(index=False)])

    def _repr_html_(self) -> str:
        table = self._short().to_html(index=False, float_format=_NUMBER)
        notes = "".join(f"<p><pre>{note}</pre></p>" for note in self._lines())
        return f"<p><b>{self.title}</b></p>{notes}{table}{self.totals.to_html(index=False)}"


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
    notes.append(embedding_note(model))
    notes += _unusual(frame, [role for role, _, _ in assigned.values()])
    totals = _counted(frame, ["role"])
    totals.loc[len(totals)] = ["all", *totals[["tensors", "elements"]].sum()]
    title = f"{type(model).__name__} under {rule.name}; {_meaning(rule, lr, frame)}"
    return Description(
        title=title,
        frame=frame,
        totals=totals,
        notes=tuple(note for note in notes if note),
        input_embedding=_input_embedding(model, frame),
        advice=_advice(rule, _hidden_m(frame)),
    )


def _meaning(rule, lr, frame):
    """What ``lr`` is, and what it would be under a rule that counts it otherwise."""
    m = _hidden_m(frame)
    text = f"lr {lr:g} {LR_IS[rule.lr_is]}"
    if not m > 1:
        return text
    there, of = lr * m, "at m = 1, which mup-table3 takes"
    if rule.lr_is == "base":
        there, of = lr / m, "of a hidden matrix here, which mup takes"
    return f"{text} (as much as {there:.4g} {of}; m = {m:.4g})"


def _hidden_m(frame):
    return frame.loc[frame["role"] == "hidden", "m"].max()


def _advice(rule, m):
    """Which base width and which ``lr`` to give."""
    tuned = "base width (m = 1): the one at which you tuned; lr: what was best there"
    if rule.lr_is == "base":
        return f"{tuned}, at every width."
    here = f", {m:.4g} here" if m > 1 else ""
    return f"{tuned}, divided by m{here}."


def _input_embedding(model, frame):
    """The tables that tokens are looked up in: the one that the model names, or all."""
    said = input_table(model)
    lines = []
    for row in frame.itertuples():
        is_wanted = is_lookup(place_of(model, row.name).layer)
        if said is not None:
            is_wanted = model.get_parameter(row.name) is said
        if is_wanted:
            lines.append(f"{row.name} ({row.role}, lr {row.lr:.4g})")
    return ", ".join(lines) or "none is known"


def _unusual(frame, roles):
    """What a reader would not expect of a model, a line each."""
    if not any(role.role == "readout" or role.tied_to for role in roles):
        yield "No readout: if the logits come from the embedding, it has both roles and the rule of one."
    total = frame["elements"].sum()
    for what, rows in (
        ("without a size that grows", frame[frame["role"] == "fixed"]),
        ("frozen: init_weights leaves them", frame[frame["start"] == "frozen"]),
        ("at zero from the start: init_weights leaves them", frame[frame["start"] == "zero"]),
    ):
        if len(rows):
            share = rows["elements"].sum() / total
            yield f"{len(rows)} parameter(s) {what} ({share:.1%} of all), {rows['name'].iloc[0]} the first."
    shared = [role for role in roles if role.shared_with]
    if shared:
        first = shared[0]
        yield f"{len(shared)} parameter(s) at several places: {first.name} is {first.shared_with[0]} too."
    notes = [role.note for role in roles if role.note]
    if notes:
        yield f"{notes[0]} ({len(notes)} such)"


def _counted(frame, keys):
    """Tensors and elements of the rows that agree on the keys."""
    elements = frame.groupby(keys, sort=False)["elements"]
    return elements.agg(tensors="size", elements="sum").reset_index()


def _frame(model, rule, lr, options):
    """One row a parameter, and what the rule assigns."""
    # A note says what a warning would.
    options["warn"] = False
    assigned = assign(model, rule, **assigning(options))
    groups = param_groups(model, rule, lr=lr, **options)
    group_of = {parameter: group for group in groups for parameter in group["params"]}
    kept = kept_at_start(model, assigned)
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
                "start": kept.get(name, "drawn"),
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
