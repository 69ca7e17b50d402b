"""What a rule says of each role: init std, learning rate, multiplier, decay and ε, as power laws.

The sizes of a law are those of one parameter: fan_in (inputs summed by one output), fan_out, and m,
its width over that of the base model.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, get_args

import pandas as pd

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


@dataclass(frozen=True)
class PowerLaw:
    """fan_in^a · fan_out^b · m^c; the fields are the exponents a, b and c."""

    fan_in: float = 0.0
    fan_out: float = 0.0
    m: float = 0.0

    def __call__(self, fan_in: float, fan_out: float, m: float) -> float:
        return fan_in**self.fan_in * fan_out**self.fan_out * m**self.m

    def __str__(self) -> str:
        exponents = vars(self).items()
        above = [_power(size, exponent) for size, exponent in exponents if exponent > 0]
        below = [_power(size, -exponent) for size, exponent in exponents if exponent < 0]
        return "/".join(["·".join(above) or "1", *below])

    def times(self, symbol: str) -> str:
        """The law as a factor on a symbol: "η", "η·m", "η/√m"."""
        return f"{symbol}·{self}".replace("·1/", "/").removesuffix("·1")


ONE = PowerLaw()
GROWING = PowerLaw(m=1.0)
SHRINKING = PowerLaw(m=-1.0)
#: Init std at which a sum over the inputs has size 1.
UNIT_SUM = PowerLaw(fan_in=-0.5)


class RoleLaws(NamedTuple):
    """The laws of one role, and where they stand if not where the rest of the rule does."""

    std: PowerLaw = ONE
    lr: PowerLaw = ONE
    multiplier: PowerLaw = ONE
    decay: PowerLaw = ONE
    eps: PowerLaw = ONE
    source: str = ""


@dataclass(frozen=True)
class Rule:
    """How a network's numbers change with width.

    Attributes
    ----------
    name: as :func:`hpt.rule` takes it.
    about: one line, with the source.
    lr_is: what ``lr`` means: "hidden", the LR of the hidden matrices at this width, or "base", the
        LR at m = 1.
    source: where the laws stand.
    hidden, readout, embedding, vector, fixed: the laws of each role.
    attention: factor on the logits q·k, "1/√d_head" or "1/d_head".
    attention_at_base: whether "1/d_head" is to equal 1/√d_head at the base model (√d_base/d_head).
    notes: what the source leaves open.
    base_width: width at which m is 1.
    """

    name: str
    about: str
    lr_is: Literal["hidden", "base"]
    source: str = field(repr=False)
    hidden: RoleLaws = field(repr=False)
    readout: RoleLaws = field(repr=False)
    embedding: RoleLaws = field(default=RoleLaws(), repr=False)
    vector: RoleLaws = field(default=RoleLaws(), repr=False)
    fixed: RoleLaws = field(default=RoleLaws(source="no size grows"), repr=False)
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
        if role not in ROLES:
            raise unknown_name("role", role, ROLES)
        *laws, _source = getattr(self, role)
        scales = Scales(*(law(fan_in, fan_out, m) for law in laws))
        return scales._replace(init_std=0.0) if role in KEPT_ROLES else scales

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
            laws = getattr(self, role)
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
        return [
            f"attention logits × {attention}",
            f"{self._eta}: learning rate {LR_IS[self.lr_is]}.",
            "m: width over base width.",
            *self.notes,
        ]

    def __str__(self) -> str:
        table = self.table().to_string(index=False)
        return "\n".join([f"{self.name}: {self.about}", table, *self._legend()])

    def _repr_html_(self) -> str:
        table = self.table().to_html(index=False)
        legend = "<br>".join(self._legend())
        return f"<p><b>{self.name}: {self.about}</b></p>{table}<p>{legend}</p>"
