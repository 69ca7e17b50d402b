"""The depth part of CompleteP: how a rule's numbers change with the number of blocks.

With L = depth / base_depth and the power α of the rule (Dey et al. 2025, arXiv 2505.01618, Table 1):
each residual branch puts out L^−α times what it did, parameters of the blocks train at L^(α−1) times
their learning rate and with L^−α times their ε. α = 1 is CompleteP, 0.5 the depth-μP of Yang et al. 2024
(arXiv 2310.02244).
"""

from torch import nn

from hpt.errors import ConfigError
from hpt.model.transformer import Transformer, is_residual_output
from hpt.parameterization.rules import Rule, Scales


def with_depth(scales: Scales, rule: Rule, model: nn.Module, name: str) -> Scales:
    """The scales of the parameter of that name, with the rule's depth part where it has one.

    Raises
    ------
    ConfigError: for a model whose depth is not known.
    """
    if rule.depth_power is None:
        return scales
    if not isinstance(model, Transformer):
        raise ConfigError(
            f"rule {rule.name!r} scales with depth, which {type(model).__name__} does not tell.",
            "blocks and residual branches are known of hpt.Transformer alone",
            'multiply the residual branches in your model, and take "completep" for its width',
        )
    if not name.startswith("blocks."):
        return scales
    alpha = rule.depth_power
    L = model.config.depth / rule.base_depth
    branch = L**-alpha
    multiplier = branch if is_residual_output(name) else 1.0
    return scales._replace(
        lr=scales.lr * L ** (alpha - 1), multiplier=scales.multiplier * multiplier, eps=scales.eps * branch
    )
