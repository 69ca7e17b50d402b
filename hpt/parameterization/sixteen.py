"""The sixteen parameterizations of Kalra & Barkeshli 2026: SP plus any of four switches; all four
are μP.

One learning rate η is swept: that of the hidden matrices and the readout, at the width at hand.
With m = width / base_width (Yang et al. 2022, Table 3, taken apart into switches):

=======  ==========================================  ==================  ====================
switch   what it changes                             off                 on
=======  ==========================================  ==================  ====================
Attn     attention logits are scaled by              1/√d_head           1/d_head
Embd     token and position embeddings train at      η                   η·m
         (and matrices of which no size grows)
LN       every vector (norm gains, biases) trains at η                   η·m
Last     the readout starts with std                 1/√n                1/√n · 1/√m
=======  ==========================================  ==================  ====================
"""

from __future__ import annotations

import functools
import re
from dataclasses import replace

import pandas as pd
from pydantic import Field

from hpt.config import config
from hpt.parameterization.rules import GROWING, UNIT_SUM, PowerLaw, Role, RoleLaws, Rule, Scales, unknown_name

SWITCHES = ("Attn", "Embd", "LN", "Last")


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
            return replace(name, base_width=base_width or name.base_width)
        return cls(**_switches_of(name), base_width=base_width or 1)

    @property
    def switches(self) -> frozenset[str]:
        """Names of the switches that are on."""
        return frozenset(switch for switch in SWITCHES if getattr(self, switch.lower()))

    def __str__(self) -> str:
        """The published name: "SP", "SP+Embd", "SP+Attn+Embd", "μP-Last", "μP"."""
        on = self.switches
        off = [switch for switch in SWITCHES if switch not in on]
        if len(off) <= 1:
            return "-".join(["μP", *off])
        return "+".join(["SP", *(switch for switch in SWITCHES if switch in on)])

    @property
    def rule(self) -> Rule:
        """The power laws that the switches make."""
        return _rule_of(self)

    @property
    def name(self) -> str:
        """The published name."""
        return str(self)

    def multiplier(self, width: float) -> float:
        """m = width / base_width."""
        return self.rule.multiplier(width)

    def attention_scale(self, d_head: int, base_d_head: int | None = None) -> float:
        """Factor on the attention logits q·k, the same for any head size of a base model."""
        return self.rule.attention_scale(d_head, base_d_head)

    def scales(self, role: Role, fan_in: int, m: float, fan_out: int = 1) -> Scales:
        """Init std and learning-rate factor of a parameter of this role.

        Parameters
        ----------
        role: embedding, hidden, readout, vector, or fixed (no size of it grows: it trains as an
            embedding does, at μP's constant η₀ = η·m).
        fan_in: inputs summed by one output (the width n, for the readout).
        m: width multiplier of the parameter.
        fan_out: outputs; no rule of the sixteen depends on it.

        Raises
        ------
        ConfigError: for a role that no rule knows.
        """
        return self.rule.scales(role, fan_in, m, fan_out)


@functools.cache
def _rule_of(p):
    source = "KB; TPV Table 3"
    growing = RoleLaws(lr=GROWING, source=source)
    small_readout = RoleLaws(std=PowerLaw(fan_in=-0.5, m=-0.5), source=source)
    return Rule(
        name=str(p),
        about="one of the sixteen of Kalra & Barkeshli 2026.",
        source="KB",
        readout=small_readout if p.last else RoleLaws(std=UNIT_SUM),
        embedding=growing if p.embd else RoleLaws(),
        vector=growing if p.ln else RoleLaws(),
        attention="1/d_head" if p.attn else "1/√d_head",
        attention_at_base=False,
        base_width=p.base_width,
    )


def _switches_of(name):
    """The fields that a published name sets."""
    text = "".join(str(name).lower().replace("µ", "μ").split())
    text = {"sp_lr": "mup-last", "mup_sp": "mup"}.get(text, text).replace("mup_sp_", "mup-")
    from_sp = text.startswith("sp")
    base, *parts = re.split("[+_]" if from_sp else "[-_]", text)
    fields = [switch.lower() for switch in SWITCHES]
    known = base in ("sp", "μp", "mup", "up") and set(parts) <= set(fields)
    repeated = len(set(parts)) < len(parts)
    if not known or repeated:
        raise unknown_name("parameterization", name, PARAMETERIZATIONS)
    if from_sp:
        return {field: field in parts for field in fields}
    return {field: field not in parts for field in fields}


_NAMES = (
    "SP SP+Embd SP+Attn SP+LN SP+Last SP+Attn+Embd SP+Attn+LN SP+Attn+Last "
    "SP+Embd+LN SP+Embd+Last SP+LN+Last μP-Embd μP-Attn μP-LN μP-Last μP"
)
#: The sixteen, in the paper's order: SP, one switch, two, μP minus one, μP.
PARAMETERIZATIONS = tuple(map(Parameterization.parse, _NAMES.split()))


def sixteen_table() -> pd.DataFrame:
    """The sixteen, a row each: each role's learning rate and start, the attention scale."""
    rows = []
    for p in PARAMETERIZATIONS:
        laws = p.rule.table().set_index("role")
        row = laws["learning rate"][["embedding", "vector", "hidden", "readout"]].add_suffix(" LR")
        row["readout std"] = laws["init std"]["readout"].replace("fan_in", "n").replace("/√m", " · 1/√m")
        row["attention logits"] = f"× {p.rule.attention}"
        rows.append(row.rename(str(p)))
    return pd.DataFrame(rows).rename_axis("name")
