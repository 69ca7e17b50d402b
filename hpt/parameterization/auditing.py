"""One call that looks at groups, start and first steps of a model at several widths."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pandas as pd
import torch
from torch import Tensor, nn

from hpt.errors import ConfigError
from hpt.parameterization import named_rules
from hpt.parameterization.coordinates import CoordCheck, coord_check
from hpt.parameterization.copies import RoleMap
from hpt.parameterization.description import Description, describe
from hpt.parameterization.groups import AnyRule
from hpt.parameterization.layers import unwrap


@dataclass(frozen=True)
class Audit:
    """What a model does under a rule.

    Attributes
    ----------
    verdict: sentences, the findings first.
    description: groups and start at the largest width.
    start: size of each layer's output before the first step, a column a width.
    check: the coordinate check.
    """

    verdict: tuple[str, ...]
    description: Description = field(repr=False)
    start: pd.DataFrame = field(repr=False)
    check: CoordCheck = field(repr=False)

    def to_frame(self) -> pd.DataFrame:
        """Groups, one row a parameter."""
        return self.description.frame

    def __str__(self) -> str:
        parts = ["audit:", *self.verdict]
        parts += ["", str(self.description)]
        parts += ["", str(self.check)]
        return "\n".join(parts)

    def _repr_html_(self) -> str:
        verdict = "".join(f"<li>{sentence}</li>" for sentence in self.verdict)
        return f"<ul>{verdict}</ul>{self.description._repr_html_()}{self.check._repr_html_()}"


def audit(
    make_model: Callable[[int], nn.Module],
    widths: Sequence[int],
    rule: AnyRule,
    *,
    loss: Callable[[nn.Module], Tensor] | None = None,
    lr: float = 2.0**-9,
    steps: int = 4,
    seeds: int = 2,
    init: bool = True,
    role_map: RoleMap | None = None,
    **options,
) -> Audit:
    """Groups, start and coordinate check of a model, with a verdict.

    Parameters
    ----------
    make_model: width → model; the smallest width is the base, m = 1.
    widths: three or more, small: it trains ``seeds`` models of each for ``steps`` steps.
    rule: as in :func:`hpt.param_groups`.
    loss: model → scalar loss on a fixed batch; by default that of a Hugging Face language model on
        four random sequences.
    lr: at the smallest width. Under a rule whose ``lr`` is the hidden one it falls as 1/width, which
        keeps hidden updates of one size.
    init: draw the weights by the rule; False keeps those of ``make_model``.
    role_map: ``roles`` of :func:`hpt.param_groups`.
    options: ``forward``, ``tied``, ``make_optimizer`` … of :func:`hpt.coord_check`.

    Raises
    ------
    ConfigError, RoleError: as :func:`hpt.coord_check` and :func:`hpt.describe` do; and ConfigError
        where ``loss`` is missing and the model has none of its own.
    """
    rule = named_rules.rule(rule)
    widths = sorted(set(widths))
    torch.manual_seed(0)
    base = make_model(widths[0])
    largest = make_model(widths[-1])
    loss = loss or _own_loss(largest)

    def rates(width):
        return lr * widths[0] / width if rule.lr_is == "hidden" else lr

    check = coord_check(
        make_model=make_model,
        widths=widths,
        rule=rule,
        loss=loss,
        lr=rates,
        steps=steps,
        seeds=seeds,
        init=init,
        role_map=role_map,
        **options,
    )
    for name in ("make_optimizer", "tolerance"):
        options.pop(name, None)
    described = describe(largest, rule, lr=rates(widths[-1]), base_model=base, roles=role_map, **options)
    at_start = check.table.query("step == 0 and quantity == 'activation'")
    start = at_start.pivot_table("rms", "layer", "width", sort=False)
    first = f"Groups: {len(described.notes) or 'no'} findings."
    return Audit(
        verdict=(first, *described.notes, *check.verdict), description=described, start=start, check=check
    )


def _own_loss(model):
    """The loss that a Hugging Face language model computes, on a fixed random batch."""
    config = getattr(unwrap(model), "config", None)
    if not hasattr(config, "get_text_config"):
        raise ConfigError(
            f"{type(unwrap(model)).__name__} has no loss that is known.",
            "only Hugging Face language models bring one",
            "audit(make_model, widths, rule, loss=lambda model: …)",
        )
    vocabulary = config.get_text_config().vocab_size
    ids = torch.randint(2, vocabulary, (4, 16), generator=torch.Generator().manual_seed(0))

    def loss(model):
        device = next(model.parameters()).device
        return model(input_ids=ids.to(device), labels=ids.to(device)).loss

    return loss
