"""What a rule means for another optimizer than Adam, where its source says so.

sgd
    Yang et al. 2022, Tables 3 and 8, column SGD (momentum included); MuSGD of the package mup.
lion
    Their appendix B: updates that are normalized entry by entry follow Adam's column. Lingle 2024
    (arXiv 2404.05728) found that the learning rate does not transfer with Lion.
adafactor
    Everett et al. 2024: Adafactor multiplies its update by the weights' RMS, so Adam's LR is
    divided by the growth of the init.
muon
    The spectral condition of Yang, Simon & Bernstein 2023 (arXiv 2310.17813) for hidden matrices:
    an update of spectral norm √(fan_out/fan_in). Muon's has √max(1, fan_out/fan_in) with torch's
    adjust_lr_fn="original", which keeps that ratio; AdamW for the rest.
muon-match-rms
    The same with adjust_lr_fn="match_rms_adamw", whose update has norm 0.2·√max(fan_out, fan_in):
    too much by √fan_in, so that the learning rate falls as 1/√m.

The switches of the sixteen say what they multiply whatever the optimizer, and so do the laws of a rule of
your own that are factors on the hidden learning rate: they are taken literally. Lion takes any rule of
your own.
"""

from typing import Literal, get_args

from hpt.errors import ConfigError
from hpt.parameterization.named_rules import NAMED_RULES
from hpt.parameterization.rules import Role, Rule, Scales, unknown_name

Optimizer = Literal["adamw", "adam", "sgd", "lion", "adafactor", "muon", "muon-match-rms"]

_MUP = ("mup-table3", "mup-table8")
#: The rules that an optimizer has learning rates for; Adam has all.
RULES_FOR = {
    "sgd": _MUP,
    "lion": (*_MUP, "lingle"),
    "adafactor": (*_MUP, "everett-full-align", "everett-no-align"),
    "muon": _MUP,
    "muon-match-rms": _MUP,
}


def is_muon(optimizer: str) -> bool:
    """Whether hidden matrices go to Muon, and all else to AdamW."""
    return optimizer.startswith("muon")


def is_literal(rule: Rule) -> bool:
    """Whether a rule's laws are factors on the hidden learning rate that no author ties to Adam."""
    return rule.lr_is == "hidden" and rule.name != "hayou-liu"


def check_optimizer(rule: Rule, optimizer: str) -> None:
    """Refuse a pair of rule and optimizer that no source gives learning rates for.

    Raises
    ------
    ConfigError: for such a pair, and for an unknown optimizer.
    """
    if optimizer not in get_args(Optimizer):
        raise unknown_name("optimizer", optimizer, get_args(Optimizer))
    rules = RULES_FOR.get(optimizer, (rule.name,))
    own_for_lion = optimizer == "lion" and rule.name not in NAMED_RULES
    if not (rule.name in rules or is_literal(rule) or own_for_lion):
        raise ConfigError(
            f"rule {rule.name!r} has no learning rates for {optimizer!r}.",
            "its source gives AdamW's only",
            f'optimizer="adamw", or one of the rules {", ".join(rules)}',
        )


def for_optimizer(
    rule: Rule,
    optimizer: Optimizer,
    role: Role,
    fan_in: int,
    m: float,
    fan_out: int,
    dense: bool = False,
    growth_ratio: float = 1.0,
) -> Scales:
    """The rule's scales of one parameter, under ``optimizer``.

    ``growth_ratio`` is the growth of a hidden matrix's output over that of its input.
    """
    scales = rule.scales(role, fan_in, m, fan_out, dense)
    if is_literal(rule):
        return scales
    if optimizer == "sgd":
        # An input's or output's SGD gradient shrinks as 1/m where Adam's step does not.
        readout_lr = m if rule.name == "mup-table8" else 1 / m
        lr = {"embedding": m, "vector": m, "readout": readout_lr, "hidden": growth_ratio}.get(role, 1.0)
        return scales._replace(lr=lr, decay=1 / lr)
    if optimizer == "adafactor" and role in ("hidden", "readout"):
        at_base = rule.scales(role, fan_in / m, 1.0, fan_out)
        growth = scales.init_std / at_base.init_std
        return scales._replace(lr=scales.lr / growth, decay=scales.decay * growth)
    if is_muon(optimizer) and role == "hidden":
        lr = 1.0 if optimizer == "muon" else m**-0.5
        return scales._replace(lr=lr, decay=1 / lr)
    return scales


def absorb(scales: Scales, optimizer: Optimizer = "adamw", role: Role = "readout") -> Scales:
    """The same training without a forward multiplier a: W' = a·W (the abc-symmetry, Yang et al.
    2022, Lemma J.1).

    (multiplier, std, LR) → (1, std·a, LR·a) for Adam, whose ε goes to ε/a; LR·a² for SGD; LR for
    Adafactor, whose LR is relative. The product of LR and decay stays.
    """
    a = scales.multiplier
    lr_factor = a
    if optimizer == "sgd":
        lr_factor = a * a
    elif optimizer == "adafactor" and role in ("hidden", "readout"):
        lr_factor = 1.0
    return Scales(
        init_std=scales.init_std * a,
        lr=scales.lr * lr_factor,
        decay=scales.decay / lr_factor,
        eps=scales.eps / a,
    )
