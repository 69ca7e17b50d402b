"""What a rule means for another optimizer, where its source says so.

The rules are written for Adam.  Sources beside those of :mod:`hpt.parameterization.rules`: [mup]
the package's own optimizers; [YSB] Yang, Simon & Bernstein 2023, arXiv 2310.17813; [L] Lingle 2024,
arXiv 2404.05728.
"""

from __future__ import annotations

from typing import Literal, get_args

from hpt.errors import ConfigError, did_you_mean
from hpt.parameterization.rules import Rule
from hpt.parameterization.sixteen import Role, Scales

Optimizer = Literal["adamw", "adam", "sgd", "lion", "adafactor", "muon"]

_MUP = ("mup-table3", "mup-table8")
#: Which rules each optimizer has, and where that stands.
SOURCES: dict[str, tuple[tuple[str, ...], str]] = {
    "sgd": (_MUP, "TPV Tables 3 and 8, column SGD (momentum included); mup's MuSGD"),
    "lion": (
        _MUP,
        "TPV appendix B: updates normalized entry by entry follow Adam's column. "
        "Lingle 2024 found that the learning rate does not transfer with Lion",
    ),
    "adafactor": (
        (*_MUP, "everett-full-align", "everett-no-align"),
        "E: Adafactor multiplies its update by the weights' RMS, so Adam's LR is divided by the growth of "
        "the init",
    ),
    "muon": (
        _MUP,
        "YSB's spectral condition for hidden matrices, with Muon's update × √max(1, fan_out/fan_in) "
        '(torch\'s adjust_lr_fn="original"); AdamW for the rest',
    ),
}


def check_optimizer(rule: Rule, optimizer: str) -> None:
    """Refuse a pair of rule and optimizer for which no source gives learning rates
    (ConfigError)."""
    if optimizer not in get_args(Optimizer):
        raise ConfigError(
            f"no optimizer is named {optimizer!r}.", did_you_mean(optimizer, get_args(Optimizer))
        )
    if optimizer in SOURCES and rule.name not in SOURCES[optimizer][0]:
        raise ConfigError(
            f"rule {rule.name!r} has no learning rates for {optimizer!r}.",
            "its source gives AdamW's only",
            f'optimizer="adamw", or one of the rules {", ".join(SOURCES[optimizer][0])}',
        )


def for_optimizer(
    rule: Rule, optimizer: Optimizer, role: Role, fan_in: int, m: float, fan_out: int
) -> Scales:
    """The rule's scales of one parameter, under ``optimizer``."""
    s = rule.scales(role, fan_in, m, fan_out)
    if optimizer == "sgd":
        # Relative to Adam's: an input's or output's SGD gradient shrinks as 1/m where Adam's does
        # not.
        table3 = {"embedding": m, "vector": m, "readout": m if rule.name == "mup-table8" else 1 / m}
        lr = table3.get(role, 1.0)
        return s._replace(lr=lr, decay=1 / lr)
    if optimizer == "adafactor" and role in ("hidden", "readout"):
        growth = s.init_std / rule.scales(role, fan_in / m, 1.0, fan_out).init_std
        return s._replace(lr=s.lr / growth, decay=s.decay * growth)
    if optimizer == "muon" and role == "hidden":
        return s._replace(lr=1.0, decay=1.0)
    return s


def absorb(s: Scales, optimizer: Optimizer = "adamw", role: Role = "readout") -> Scales:
    """The same training without a forward multiplier a: W' = a·W (the abc-symmetry, Yang et al.
    2022, Lemma J.1).

    (multiplier, std, LR) → (1, std·a, LR·a) for Adam, whose ε goes to ε/a; LR·a² for SGD; LR for
    Adafactor, whose LR is relative. The product of LR and decay stays.
    """
    a = s.multiplier
    on_lr = {"sgd": a * a, "adafactor": 1.0 if role in ("hidden", "readout") else a}.get(
        optimizer, a
    )
    return Scales(s.init_std * a, s.lr * on_lr, 1.0, s.decay / on_lr, s.eps / a)
