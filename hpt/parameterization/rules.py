"""What a rule says of each role: init std, learning rate, multiplier, decay and ε, as power laws.

The sizes of a law are those of one parameter: fan_in (inputs summed by one output), fan_out, and m,
its width over that of the base model.
"""

import math
from collections.abc import Sequence
from dataclasses import field, replace
from typing import Annotated, Literal, NamedTuple, get_args

import pandas as pd
from pydantic import Field

from hpt.config import config
from hpt.errors import ConfigError, did_you_mean

Role = Literal["embedding", "hidden", "readout", "vector", "fixed"]
Decay = Literal["coupled", "independent", "constant"]
DecayOn = Literal["matrices", "hidden", "all"]
ROLES = get_args(Role)
#: Roles of the parameters that no rule draws: they start at what the model was built with.
KEPT_ROLES = ("vector", "fixed")
#: What a rule's ``lr`` is.
LR_IS = {"hidden": "of the hidden matrices at this width", "base": "at m = 1, kept for every width"}


def unknown_name(kind: str, name: object, known: Sequence[object]) -> ConfigError:
    """The error of a name that is none of those known."""
    return ConfigError(
        f"no {kind} is named {name!r}.",
        f"a misspelt name; {did_you_mean(name, known)}",
        f"one of {', '.join(map(str, known))}",
    )


class Scales(NamedTuple):
    """What a rule says of one parameter, in numbers.

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


def _power(size, exponent):
    if exponent == 0.5:
        return f"√{size}"
    return size if exponent == 1 else f"{size}^{exponent:g}"


@config
class PowerLaw:
    """constant · fan_in^a · fan_out^b · m^c; the other fields are the exponents a, b and c."""

    fan_in: float = 0.0
    fan_out: float = 0.0
    m: float = 0.0
    constant: float = Field(1.0, gt=0)

    def __call__(self, fan_in: float, fan_out: float, m: float) -> float:
        return self.constant * fan_in**self.fan_in * fan_out**self.fan_out * m**self.m

    def __str__(self) -> str:
        exponents = {"fan_in": self.fan_in, "fan_out": self.fan_out, "m": self.m}.items()
        above = [_power(size, exponent) for size, exponent in exponents if exponent > 0]
        below = [_power(size, -exponent) for size, exponent in exponents if exponent < 0]
        if self.constant != 1:
            above.insert(0, f"{self.constant:.4g}")
        return "/".join(["·".join(above) or "1", *below])

    def times(self, symbol: str) -> str:
        """The law as a factor on a symbol: "η", "η·m", "η/√m"."""
        return f"{symbol}·{self}".replace("·1/", "/").removesuffix("·1")


ONE = PowerLaw()
GROWING = PowerLaw(m=1.0)
SHRINKING = PowerLaw(m=-1.0)
#: Init std at which a sum over the inputs has size 1.
UNIT_SUM = PowerLaw(fan_in=-0.5)


#: What a rule says of a role.
LAWS = ("std", "lr", "multiplier", "decay", "eps")
#: Words, which change no run: neither compared nor kept in a run's configuration.
Words = Annotated[str, Field(exclude=True)]


@config
class RoleLaws:
    """The laws of one role, and where they stand if not where the rest of the rule does."""

    std: PowerLaw = ONE
    lr: PowerLaw = ONE
    multiplier: PowerLaw = ONE
    decay: PowerLaw = ONE
    eps: PowerLaw = ONE
    source: Words = field(default="", compare=False)

    def scales(self, fan_in: float, fan_out: float, m: float) -> Scales:
        """The laws in numbers, for one parameter."""
        return Scales(*(getattr(self, law)(fan_in, fan_out, m) for law in LAWS))


@config
class Rule:
    """How a network's numbers change with width.

    One of your own is made from another by :meth:`with_power`, :meth:`with_last_base`,
    :meth:`with_attention`, :meth:`with_depth` and :meth:`with_laws`; it trains in runs and studies as
    those with names do.

    Attributes
    ----------
    name: as :func:`hpt.rule` takes it; tables and figures call it so.
    about: one line, with the source.
    lr_is: what ``lr`` means: "hidden", the LR of the hidden matrices at this width, or "base", the
        LR at m = 1.
    source: where the laws stand.
    hidden, readout, embedding, vector, fixed: the laws of each role.
    attention: factor on the logits q·k, "1/√d_head" or "1/d_head".
    attention_at_base: whether "1/d_head" is to equal 1/√d_head at the base model (√d_base/d_head).
    notes: what the source leaves open.
    base_width: width at which m is 1.
    depth_power: α of CompleteP's depth part, see :mod:`hpt.parameterization.depth`; None leaves the
        depth out.
    base_depth: depth at which it changes nothing.
    """

    name: str
    about: Words = field(default="", compare=False)
    lr_is: Literal["hidden", "base"] = "hidden"
    source: Words = field(default="your own", compare=False, repr=False)
    hidden: RoleLaws = field(default=RoleLaws(std=UNIT_SUM), repr=False)
    readout: RoleLaws = field(default=RoleLaws(std=UNIT_SUM), repr=False)
    embedding: RoleLaws = field(default=RoleLaws(), repr=False)
    vector: RoleLaws = field(default=RoleLaws(), repr=False)
    fixed: RoleLaws = field(default=RoleLaws(source="no size grows"), repr=False)
    attention: Literal["1/√d_head", "1/d_head"] = "1/√d_head"
    attention_at_base: bool = True
    notes: Annotated[tuple[str, ...], Field(exclude=True)] = field(default=(), compare=False)
    base_width: int = Field(1, ge=1)
    depth_power: float | None = None
    base_depth: int = Field(1, ge=1)

    def with_power(self, power: float) -> "Rule":
        """The same with embeddings that train at η·m^power (1 is the switch Embd, 0.5 the rule of Hayou
        & Liu 2025): ``hpt.rule("sp").with_power(0.5)`` is "SP+Embd^0.5"."""
        stem = self.name.replace("+Embd", "").replace("-Embd", "")
        return self.with_laws("embedding", lr=power, name=f"{stem}+Embd^{power:g}")

    def with_last_base(self, base_width: int) -> "Rule":
        """The same with a readout that starts at std 1/√n · 1/√(n/base_width), so at 1/n for a base
        width of 1, whatever width the other laws count from."""
        std = PowerLaw(fan_in=-1.0, constant=math.sqrt(base_width))
        return self.with_laws("readout", std=std, name=f"{self.name}, Last from {base_width}")

    def with_attention(self, attention: str) -> "Rule":
        """The same with logits scaled by "1/√d_head" or by "1/d_head", without a constant."""
        name = f"{self.name}, attention {attention}"
        return replace(self, name=name, attention=attention, attention_at_base=False)

    def with_depth(self, base_depth: int, power: float = 1.0) -> "Rule":
        """The same with CompleteP's depth part, see :mod:`hpt.parameterization.depth`."""
        name = f"{self.name}, depth^{power:g} from {base_depth}"
        return replace(self, name=name, notes=(), depth_power=power, base_depth=base_depth)

    def with_laws(self, role: Role, *, name: str = "", **laws: float | PowerLaw) -> "Rule":
        """The same with other laws for one role.

        Parameters
        ----------
        role: embedding, hidden, readout, vector or fixed.
        name: what to call it; by default the old name and the new laws.
        laws: any of std, lr, multiplier, decay and eps; a number is the power of m.

        Raises
        ------
        ConfigError: for a role or a law that no rule knows.
        """
        for law in laws.keys() - set(LAWS):
            raise unknown_name("law", law, LAWS)
        given = {k: PowerLaw(m=v) if isinstance(v, int | float) else v for k, v in laws.items()}
        changed = replace(self._laws(role), **given, source="your own")
        words = ", ".join(f"{role} {law} {power}" for law, power in given.items())
        name = name or f"{self.name}, {words}"
        return replace(self, name=name, about=f"made of {self.name}.", **{role: changed})

    def _laws(self, role) -> RoleLaws:
        if role not in ROLES:
            raise unknown_name("role", role, ROLES)
        own = getattr(self, role)
        if role == "fixed" and self.lr_is == "hidden" and own == RoleLaws():
            # μP's constant η₀ is η·m there, for an embedding as for all whose input stays.
            return RoleLaws(lr=self.embedding.lr, source="no size grows: as an embedding")
        return own

    def scales(self, role: Role, fan_in: int, m: float, fan_out: int = 1, dense: bool = False) -> Scales:
        """Init std, and factors on LR, output, weight decay and ε, of one parameter; ``dense`` tells
        an embedding of numbers from a table.

        Raises
        ------
        ConfigError: for a role that no rule knows.
        """
        laws = self._dense if dense and role == "embedding" else self._laws(role)
        scales = laws.scales(fan_in, fan_out, m)
        return scales._replace(init_std=0.0) if role in KEPT_ROLES else scales

    @property
    def _dense(self):
        """The laws of an embedding that multiplies vectors of numbers (a patch, a low rank): it starts
        at 1/√fan_in. Unit scaling, where all start at 1, has no other law for it than for any matrix."""
        starts_at_one = self.hidden.std == ONE
        return self.hidden if starts_at_one else replace(self.embedding, std=UNIT_SUM)

    def attention_scale(self, d_head: int, base_d_head: int | None = None) -> float:
        """Factor on the attention logits; ``base_d_head`` is the head size at m = 1."""
        if self.attention == "1/√d_head":
            return 1 / math.sqrt(d_head)
        if base_d_head and self.attention_at_base:
            return math.sqrt(base_d_head) / d_head
        return 1 / d_head

    def multiplier(self, width: float) -> float:
        """m = width / base_width."""
        return width / self.base_width

    @property
    def _eta(self):
        return "η" if self.lr_is == "hidden" else "η₀"

    def table(self) -> pd.DataFrame:
        """One row a role: its laws in words, and their source."""
        rows = []
        for role in ROLES:
            laws = self._laws(role)
            rows.append(
                {
                    "role": role,
                    "init std": "kept" if role in KEPT_ROLES else str(laws.std),
                    "learning rate": laws.lr.times(self._eta),
                    "forward ×": str(laws.multiplier),
                    "decay": laws.decay.times("λ"),
                    "Adam ε": laws.eps.times("ε"),
                    "source": laws.source or self.source,
                }
            )
        return pd.DataFrame(rows)

    def _legend(self):
        """What the table does not say."""
        attention = self.attention
        if attention == "1/d_head" and self.attention_at_base:
            attention += ", times a constant that makes it 1/√d_head at the base"
        words = [
            f"attention logits × {attention}",
            f"{self._eta}: learning rate {LR_IS[self.lr_is]}.",
            "m: width over base width.",
            *self.notes,
        ]
        if self.depth_power is not None:
            a = f"{self.depth_power:g}"
            words.append(f"L: depth over {self.base_depth}. In blocks: {self._eta}·L^({a} − 1), ε·L^−{a},")
            words.append(f"and residual branches × L^−{a}.")
        return words

    def __str__(self) -> str:
        table = self.table().to_string(index=False)
        return "\n".join([f"{self.name}: {self.about}", table, *self._legend()])

    def _repr_html_(self) -> str:
        table = self.table().to_html(index=False)
        legend = "<br>".join(self._legend())
        return f"<p><b>{self.name}: {self.about}</b></p>{table}<p>{legend}</p>"
