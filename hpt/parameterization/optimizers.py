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
    The spectral condition of Yang, Simon & Bernstein 2023 (arXiv 2310.17813) for hidden matrices,
    with Muon's update × √max(1, fan_out/fan_in) (torch's adjust_lr_fn="original"); AdamW for the
    rest.
"""

from typing import Literal, get_args

from hpt.errors import ConfigError
from hpt.parameterization.rules import Role, Rule, Scales, unknown_name

Optimizer = Literal["adamw", "adam", "sgd", "lion", "adafactor", "muon"]

_MUP = ("mup-table3", "mup-table8")
#: The rules that an optimizer has learning rates for; Adam has all.
RULES_FOR = {
    "sgd": _MUP,
    "lion": (*_MUP, "lingle"),
    "adafactor": (*_MUP, "everett-full-align", "everett-no-align"),
    "muon": _MUP,
}


def check_optimizer(rule: Rule, optimizer: str) -> None:
    """Refuse a pair of rule and optimizer that no source gives learning rates for.

    Raises
    ------
    ConfigError: for such a pair, and for an unknown optimizer.
    """
    if optimizer not in get_args(Optimizer):
        raise unknown_name("optimizer", optimizer, get_args(Optimizer))
    rules = RULES_FOR.get(optimizer, (rule.name,))
    if rule.name not in rules:
        raise ConfigError(
            f"rule {rule.name!r} has no learning rates for {optimizer!r}.",
            "its source gives AdamW's only",
            f'optimizer="adamw", or one of the rules {", ".join(rules)}',
        )


def for_optimizer(
    rule: Rule, optimizer: Optimizer, role: Role, fan_in: int, m: float, fan_out: int
) -> Scales:
    """The rule's scales of one parameter, under ``optimizer``."""
    scales = rule.scales(role, fan_in, m, fan_out)
    if optimizer == "sgd":
        # An input's or output's SGD gradient shrinks as 1/m where Adam's step does not.
        readout_lr = m if rule.name == "mup-table8" else 1 / m
        lr = {"embedding": m, "vector": m, "readout": readout_lr}.get(role, 1.0)
        return scales._replace(lr=lr, decay=1 / lr)
    if optimizer == "adafactor" and role in ("hidden", "readout"):
        at_base = rule.scales(role, fan_in / m, 1.0, fan_out)
        growth = scales.init_std / at_base.init_std
        return scales._replace(lr=scales.lr / growth, decay=scales.decay * growth)
    if optimizer == "muon" and role == "hidden":
        return scales._replace(lr=1.0, decay=1.0)
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
