"""Rules of width by name, as power laws: (role, fan_in, m, fan_out) → init std, LR, multiplier,
decay, ε.

The sixteen of :mod:`hpt.parameterization.sixteen` read as such rules too, so that
``print(hpt.rule(name))`` shows any of
them with its sources.  Sources: [TPV] Yang et al. 2022, arXiv 2203.03466.  [KB] Kalra & Barkeshli
    2026,
arXiv 2605.21486.  [E] Everett et al. 2024, arXiv 2407.05872.  [HL] Hayou & Liu 2025, arXiv
2506.15025. [CP] Dey et al. 2025 (CompleteP), arXiv 2505.01618.  [UM] Blake et al. 2024 (u-μP),
arXiv 2407.17465.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import pandas as pd

from hpt.errors import ConfigError, did_you_mean
from hpt.parameterization.sixteen import PARAMETERIZATIONS, Parameterization, Role, Scales


@dataclass(frozen=True)
class Law:
    """constant · fan_in^a · fan_out^b · m^c; the fields are the constant and the exponents."""

    fan_in: float = 0.0
    fan_out: float = 0.0
    m: float = 0.0
    constant: float = 1.0

    def __call__(self, fan_in: float, fan_out: float, m: float) -> float:
        value = self.constant
        for size, power in ((fan_in, self.fan_in), (fan_out, self.fan_out), (m, self.m)):
            if power:
                value *= size**power
        return value

    def __str__(self) -> str:
        above, below = [], []
        for size in ("fan_in", "fan_out", "m"):
            power = getattr(self, size)
            text = {0.5: f"√{size}", 1.0: size}.get(abs(power), f"{size}^{abs(power):g}")
            if power:
                (above if power > 0 else below).append(text)
        top = "·".join(above) or "1"
        return f"{top}/{'/'.join(below)}" if below else top


ONE = Law()


@dataclass(frozen=True)
class Row:
    """The laws of one role, and where they stand."""

    std: Law = ONE
    lr: Law = ONE
    multiplier: Law = ONE
    decay: Law = ONE
    eps: Law = ONE
    source: str = ""


@dataclass(frozen=True)
class Rule:
    """How a network's numbers change with width.

    Attributes
    ----------
    name: as :func:`rule` takes it.
    about: one line, with the source.
    lr_is: what ``lr`` means: "hidden", the LR of the hidden matrices at this width, or "base", the
        LR at m = 1.
    rows: the laws of each role.
    attention: factor on the logits q·k, "1/√d_head" or "1/d_head".
    attention_at_base: whether "1/d_head" is to equal 1/√d_head at the base model (√d_base/d_head).
    notes: what the source leaves open.
    base_width: width at which m is 1.
    """

    name: str
    about: str
    lr_is: Literal["hidden", "base"]
    rows: Mapping[Role, Row] = field(repr=False)
    attention: Literal["1/√d_head", "1/d_head"] = "1/√d_head"
    attention_at_base: bool = True
    notes: tuple[str, ...] = ()
    base_width: int = 1

    def scales(self, role: Role, fan_in: int, m: float, fan_out: int = 1) -> Scales:
        """Init std, and factors on LR, output, weight decay and ε, of one parameter.

        Raises
        ------
        ConfigError: for a role that no rule knows.
        """
        if role not in self.rows:
            raise ConfigError(f"no rule for role {role!r}.", did_you_mean(role, self.rows))
        row, at = self.rows[role], (fan_in, fan_out, m)
        std = 0.0 if role in ("vector", "fixed") else row.std(*at)
        return Scales(std, row.lr(*at), row.multiplier(*at), row.decay(*at), row.eps(*at))

    def attention_scale(self, d_head: int, base_d_head: int | None = None) -> float:
        """Factor on the attention logits; ``base_d_head`` is the head size at m = 1."""
        if self.attention == "1/√d_head":
            return d_head**-0.5
        return base_d_head**0.5 / d_head if base_d_head and self.attention_at_base else 1 / d_head

    def multiplier(self, width: float) -> float:
        """m = width / base_width."""
        return width / self.base_width

    def table(self) -> pd.DataFrame:
        """One row a role: its laws in words, and their source."""
        eta = "η" if self.lr_is == "hidden" else "η₀"
        return pd.DataFrame(
            [
                {
                    "role": role,
                    "init std": "kept" if role in ("vector", "fixed") else str(row.std),
                    "learning rate": _product(eta, row.lr),
                    "forward ×": str(row.multiplier),
                    "decay": _product("λ", row.decay),
                    "Adam ε": _product("ε", row.eps),
                    "source": row.source,
                }
                for role, row in self.rows.items()
            ]
        )

    def __str__(self) -> str:
        frame = self.table()
        widths = [max(map(len, [c, *frame[c]])) for c in frame]
        lines = [
            "  ".join(v.ljust(w) for v, w in zip(row, widths, strict=True)).rstrip()
            for row in [frame.columns, *frame.to_numpy()]
        ]
        lr = {
            "hidden": "η: learning rate of the hidden matrices at this width.",
            "base": "η₀: learning rate at m = 1, kept for every width.",
        }[self.lr_is]
        scale = self.attention
        if scale == "1/d_head" and self.attention_at_base:
            scale += ", times a constant that makes it 1/√d_head at the base"
        return "\n".join(
            [
                f"{self.name}: {self.about}",
                *lines,
                f"attention logits × {scale}",
                lr,
                "m: width over base width.",
                *self.notes,
            ]
        )

    def _repr_html_(self) -> str:
        (
            first,
            *_,
        ) = str(self).splitlines()
        rest = str(self).splitlines()[len(self.rows) + 2 :]
        return f"<p><b>{first}</b></p>{self.table().to_html(index=False)}<p>{'<br>'.join(rest)}</p>"


def _product(symbol: str, law: Law) -> str:
    text = str(law)
    return (
        symbol
        if text == "1"
        else symbol + text[1:]
        if text.startswith("1/")
        else f"{symbol}·{text}"
    )


def _rows(
    source: str, embedding: Row, hidden: Row, readout: Row, vector: Row, vector_source: str = ""
) -> dict:
    """Rows of all roles; a fixed parameter (no size of it grows) follows no law."""
    given = {"embedding": embedding, "hidden": hidden, "readout": readout, "vector": vector}
    rows = {role: replace(row, source=row.source or source) for role, row in given.items()}
    if vector_source:
        rows["vector"] = replace(rows["vector"], source=vector_source)
    return {**rows, "fixed": Row(source="no size grows")}


_STD = Law(fan_in=-0.5)
_INV, _ROOT = Law(m=-1.0), Law(m=-0.5)
_NO_VECTOR = "not in the source: as the embedding"


def _named() -> dict[str, Rule]:
    keep_lr_decay = Law(m=1.0)
    eps = {"eps": _INV}
    rules = [
        Rule(
            "mup-table3",
            "μP with Adam, no multipliers. Yang et al. 2022, Table 3.",
            "base",
            _rows(
                "TPV Table 3; decay: mup, CP",
                Row(),
                Row(_STD, lr=_INV, decay=keep_lr_decay),
                Row(Law(fan_in=-0.5, m=-0.5), lr=_INV, decay=keep_lr_decay),
                Row(),
            ),
            attention="1/d_head",
        ),
        Rule(
            "mup-table8",
            "μP with Adam, readout multiplied by 1/m (the form of the package mup). "
            "Yang et al. 2022, Table 8.",
            "base",
            _rows(
                "TPV Table 8; decay: mup, CP",
                Row(),
                Row(_STD, lr=_INV, decay=keep_lr_decay),
                Row(Law(fan_in=-0.5, m=0.5), multiplier=_INV),
                Row(),
            ),
            attention="1/d_head",
        ),
        Rule(
            "everett-full-align",
            "SP with Adam, LR exponents for full alignment. Everett et al. 2024.",
            "base",
            _rows(
                "E, Adam, SP, full alignment",
                Row(),
                Row(_STD, lr=_INV),
                Row(_STD, lr=_INV),
                Row(),
                _NO_VECTOR,
            ),
        ),
        Rule(
            "everett-no-align",
            "SP with Adam, LR exponents for no alignment. Everett et al. 2024.",
            "base",
            _rows(
                "E, Adam, SP, no alignment",
                Row(),
                Row(_STD, lr=_ROOT),
                Row(_STD, lr=_ROOT),
                Row(),
                _NO_VECTOR,
            ),
        ),
        Rule(
            "hayou-liu",
            "SP with Adam for a large vocabulary: embedding LR over hidden LR is √m. "
            "Hayou & Liu 2025.",
            "hidden",
            _rows(
                "HL",
                Row(lr=Law(m=0.5)),
                Row(_STD),
                Row(_STD, source="not in the source: as hidden"),
                Row(),
                "not in the source: as hidden",
            ),
        ),
        Rule(
            "completep",
            "μP's width part with AdamW's ε and λ scaled. Dey et al. 2025 (CompleteP).",
            "base",
            _rows(
                "CP",
                Row(**eps),
                Row(_STD, lr=_INV, decay=keep_lr_decay, **eps),
                Row(Law(fan_in=-0.5, m=0.5), multiplier=_INV, **eps),
                Row(**eps),
            ),
            attention="1/d_head",
            notes=(
                "The depth part is left out: its residual multiplier and its powers of m_depth are 1 here.",
            ),
        ),
        Rule(
            "u-mup",
            "Unit-scaled μP, its learning rates; η₀ is an LR for weights of std 1. "
            "Blake et al. 2024 (u-μP).",
            "base",
            _rows(
                "UM Table 2",
                Row(lr=Law(fan_out=-0.5)),
                Row(ONE, lr=Law(fan_in=-0.5), multiplier=Law(fan_in=-0.5)),
                Row(ONE, multiplier=Law(fan_in=-1.0)),
                Row(),
            ),
            attention="1/d_head",
            notes=(
                "Unit scaling's other multipliers (activations, residuals, depth) belong to the model.",
            ),
        ),
    ]
    return {r.name: r for r in rules}


#: The named rules of other authors.
NAMED_RULES: dict[str, Rule] = _named()


def of_parameterization(p: Parameterization) -> Rule:
    """One of the sixteen as a :class:`Rule`; the numbers are those of ``p.scales``."""
    grows, tpv = Law(m=1.0), "KB; TPV Table 3"
    rows = _rows(
        "KB",
        Row(lr=grows if p.embd else ONE, source=tpv if p.embd else ""),
        Row(_STD),
        Row(Law(fan_in=-0.5, m=-0.5) if p.last else _STD, source=tpv if p.last else ""),
        Row(lr=grows if p.ln else ONE, source=tpv if p.ln else ""),
    )
    return Rule(
        str(p),
        "one of the sixteen of Kalra & Barkeshli 2026.",
        "hidden",
        rows,
        attention="1/d_head" if p.attn else "1/√d_head",
        attention_at_base=False,
        base_width=p.base_width,
    )


def rule(name: str | Parameterization | Rule, base_width: int | None = None) -> Rule:
    """The rule of a name: one of the sixteen, or of :data:`NAMED_RULES`.

    Parameters
    ----------
    name: "sp+embd", "μP", …; "mup-table3", "mup-table8", "everett-full-align", "everett-no-align",
        "hayou-liu", "completep", "u-mup"; or what this function returned.
    base_width: width at which m is 1; by default that of ``name``, which is 1 unless set.

    Raises
    ------
    ConfigError: for any other name, with all of them.
    """
    if isinstance(name, str) and (key := name.strip().lower().replace("_", "-")) in NAMED_RULES:
        name = NAMED_RULES[key]
    if isinstance(name, Rule):
        return replace(name, base_width=base_width) if base_width else name
    try:
        return of_parameterization(Parameterization.parse(name, base_width))
    except ConfigError as error:
        names = [*map(str, PARAMETERIZATIONS), *NAMED_RULES]
        raise ConfigError(
            f"no rule is named {name!r}.",
            "a misspelt name; " + did_you_mean(str(name), names),
            "one of " + ", ".join(names),
        ) from error
