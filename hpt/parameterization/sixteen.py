"""The sixteen parameterizations of Kalra & Barkeshli 2026: SP plus any of four switches; all four
are μP.

One learning rate η is swept: that of the hidden matrices and the readout, at the width at hand.
With m = width / base_width (Yang et al. 2022, Table 3, taken apart into switches):

=======  ==========================================  ==================  ====================
switch   what it changes                             off                 on
=======  ==========================================  ==================  ====================
Attn     attention logits are scaled by              1/√d_head           1/d_head
Embd     token and position embeddings train at      η                   η·m
LN       every vector (norm gains, biases) trains at η                   η·m
Last     the readout starts with std                 1/√n                1/√n · 1/√m
=======  ==========================================  ==================  ====================
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

from pydantic import Field

from hpt.config import config
from hpt.errors import ConfigError, did_you_mean

Role = Literal["embedding", "hidden", "readout", "vector", "fixed"]
SWITCHES = ("Attn", "Embd", "LN", "Last")


class Scales(NamedTuple):
    """What a rule says of one parameter.

    Attributes
    ----------
    init_std: standard deviation at the start (a vector starts at its constant: std 0).
    lr: factor on the learning rate that is given.
    multiplier: factor on what the parameter puts out, which the model's forward has to apply.
    decay: factor on the weight decay λ.
    eps: factor on Adam's ε.
    """

    init_std: float
    lr: float
    multiplier: float = 1.0
    decay: float = 1.0
    eps: float = 1.0


@config
class Parameterization:
    """SP with any subset of the four switches, and the width that m is counted from.

    Attributes
    ----------
    attn, embd, ln, last: the switches (see the module's table).
    base_width: width at which every switch but Attn changes nothing; 1 takes
        "× width" literally, as Kalra & Barkeshli do.
    """

    attn: bool = False
    embd: bool = False
    ln: bool = False
    last: bool = False
    base_width: int = Field(1, ge=1)

    @classmethod
    def parse(cls, name: str | Parameterization, base_width: int | None = None) -> Parameterization:
        """The parameterization of a published name, in any spelling.

        "SP+Embd", "sp+embd", "sp_embd", "SP+Embd+Attn", "μP", "mup", "muP-Last", and the keys of
        the authors' page ("mup_sp", "mup_sp_embd" for μP-Embd, "sp_lr" for μP-Last).

        Raises
        ------
        ConfigError: for any other name, with the sixteen names.
        """
        if isinstance(name, Parameterization):
            switches, given_base = name.switches, name.base_width
        else:
            switches, given_base = _switches_of(name), 1
        return cls(
            **{s.lower(): s in switches for s in SWITCHES}, base_width=base_width or given_base
        )

    @property
    def switches(self) -> frozenset[str]:
        return frozenset(s for s in SWITCHES if getattr(self, s.lower()))

    def __str__(self) -> str:
        """The published name: "SP", "SP+Embd", "SP+Attn+Embd", "μP-Last", "μP"."""
        off = [s for s in SWITCHES if s not in self.switches]
        if len(off) <= 1:
            return "-".join(["μP", *off])
        return "+".join(["SP", *(s for s in SWITCHES if s in self.switches)])

    def multiplier(self, width: float) -> float:
        """m = width / base_width."""
        return width / self.base_width

    def attention_scale(self, d_head: int) -> float:
        """Factor on the attention logits q·k."""
        return 1 / d_head if self.attn else 1 / math.sqrt(d_head)

    def scales(self, role: Role, fan_in: int, m: float, fan_out: int = 1) -> Scales:
        """Init std and learning-rate factor of a parameter of this role.

        Parameters
        ----------
        role: embedding, hidden, readout, vector, or fixed (no size of it grows: it trains at η).
        fan_in: inputs summed by one output (the width n, for the readout).
        m: width multiplier of the parameter.
        fan_out: outputs; no rule of the sixteen depends on it.
        """
        if role == "embedding":
            return Scales(init_std=1.0, lr=m if self.embd else 1.0)
        if role == "vector":
            return Scales(init_std=0.0, lr=m if self.ln else 1.0)
        if role == "readout":
            return Scales(init_std=fan_in**-0.5 * (m**-0.5 if self.last else 1.0), lr=1.0)
        if role == "hidden":
            return Scales(init_std=fan_in**-0.5, lr=1.0)
        if role == "fixed":
            return Scales(init_std=0.0, lr=1.0)
        raise ConfigError(f"no rule for role {role!r}.", did_you_mean(role, Role.__args__))

    def table(self) -> list[dict[str, str]]:
        """The rules in words, one row a role, in terms of η, m and fan_in."""
        lr = {True: "η·m", False: "η"}
        return [
            {"role": "embedding", "init std": "1", "learning rate": lr[self.embd]},
            {"role": "hidden", "init std": "1/√fan_in", "learning rate": "η"},
            {
                "role": "readout",
                "init std": "1/√fan_in · 1/√m" if self.last else "1/√fan_in",
                "learning rate": "η",
            },
            {"role": "vector", "init std": "constant", "learning rate": lr[self.ln]},
            {
                "role": "attention logits",
                "init std": "× 1/d_head" if self.attn else "× 1/√d_head",
                "learning rate": "",
            },
        ]


def _switches_of(name: str) -> frozenset[str]:
    """The switches that a published name turns on."""
    text = str(name).strip().lower().replace("µ", "μ").replace(" ", "")
    text = {"sp_lr": "mup-last", "mup_sp": "mup"}.get(text, text).replace("mup_sp_", "mup-")
    for spelling in ("μp", "mup", "up"):
        if text == spelling or text.startswith((spelling + "-", spelling + "_")):
            minus = [s for s in text[len(spelling) :].replace("_", "-").split("-") if s]
            base, sign, parts = frozenset(SWITCHES), -1, minus
            break
    else:
        head, *parts = text.replace("_", "+").split("+")
        base, sign = frozenset(), 1
        if head != "sp":
            raise _unknown(name)
    known = {s.lower(): s for s in SWITCHES}
    if any(p not in known for p in parts) or len(set(parts)) != len(parts):
        raise _unknown(name)
    named = frozenset(known[p] for p in parts)
    return base | named if sign > 0 else base - named


def _unknown(name: str) -> ConfigError:
    names = [str(p) for p in PARAMETERIZATIONS]
    return ConfigError(
        f"no parameterization is named {name!r}.",
        "a misspelt name; " + did_you_mean(name, names),
        "one of " + ", ".join(names),
    )


#: The sixteen, in the paper's order: SP, one switch, two, μP minus one, μP.
PARAMETERIZATIONS: tuple[Parameterization, ...] = tuple(
    Parameterization.parse(name)
    for name in (
        "SP SP+Embd SP+Attn SP+LN SP+Last SP+Attn+Embd SP+Attn+LN SP+Attn+Last "
        "SP+Embd+LN SP+Embd+Last SP+LN+Last μP-Embd μP-Attn μP-LN μP-Last μP"
    ).split()
)


def markdown_table() -> str:
    """The sixteen as a Markdown table: each role's learning rate and start, the attention scale."""
    head = [
        "name",
        "embedding LR",
        "vector LR",
        "hidden LR",
        "readout LR",
        "readout std",
        "attention logits",
    ]
    rows = [head, ["---"] * len(head)]
    for p in PARAMETERIZATIONS:
        rule = {row["role"]: row for row in p.table()}
        rows.append(
            [
                str(p),
                rule["embedding"]["learning rate"],
                rule["vector"]["learning rate"],
                rule["hidden"]["learning rate"],
                rule["readout"]["learning rate"],
                rule["readout"]["init std"].replace("fan_in", "n"),
                rule["attention logits"]["init std"],
            ]
        )
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)
