"""Coordinate check: how activations, their changes and each layer's update ΔW·x scale with width.

Yang et al. 2022, appendix D.1, check activations; a layer that does not learn leaves those as flat
as one that does, so the change since the start and the layer's own ΔW·x are measured beside them.
"""

import contextlib
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from scipy import stats
from torch import Tensor, nn

from hpt.errors import ConfigError
from hpt.model.transformer import Attention, Transformer
from hpt.parameterization import named_rules
from hpt.parameterization.groups import AnyRule, assigning, init_weights, param_groups
from hpt.parameterization.roles import RoleMap, find_roles

MEASURED = {
    "activation": "size of the layer's output",
    "change": "change of the output since the start",
    "update": "update ΔW·x",
}
BLIND = (
    "A coordinate check sees the first steps only. It cannot see weight decay, the schedule, the batch "
    "size, Adam's ε where gradients are still large, a wrong constant (a factor that is the same at every "
    "width), or instability that comes late: a flat check is necessary for transfer, not sufficient."
)


@dataclass(frozen=True)
class CoordCheck:
    """Sizes over widths and steps, their slopes, and what they mean.

    Attributes
    ----------
    rule: the rule's name.
    table: one row a (width, seed, step, layer, quantity): root mean square ``rms``, with the
        layer's ``role``.
    layers: one row a (layer, quantity): ``slope`` of log rms against log width at the last step,
        its 95 % interval ``low``, ``high`` (Student's t over widths and seeds), and ``trend``:
        grows, shrinks, flat or unclear.
    slopes: the same for each role, its layers taken together.
    verdict: sentences, the worst first.
    """

    rule: str
    table: pd.DataFrame = field(repr=False)
    layers: pd.DataFrame = field(repr=False)
    slopes: pd.DataFrame = field(repr=False)
    verdict: tuple[str, ...]

    def to_frame(self) -> pd.DataFrame:
        """One row a role and quantity."""
        return self.slopes

    def __str__(self) -> str:
        slopes = self.slopes.to_string(index=False, float_format="%.2f")
        title = f"coordinate check of {self.rule}"
        return "\n".join([title, slopes, "", *self.verdict, "", BLIND])

    def _repr_html_(self) -> str:
        slopes = self.slopes.to_html(index=False, float_format="{:.2f}".format)
        verdict = "".join(f"<li>{sentence}</li>" for sentence in self.verdict)
        return f"<p><b>coordinate check of {self.rule}</b></p>{slopes}<ul>{verdict}</ul><p>{BLIND}</p>"


def coord_check(
    make_model: Callable[[int], nn.Module],
    widths: Sequence[int],
    rule: AnyRule,
    *,
    loss: Callable[[nn.Module], Tensor],
    lr: float | Callable[[int], float],
    steps: int = 4,
    seeds: int = 3,
    init: bool = True,
    tolerance: float = 0.35,
    role_map: RoleMap | None = None,
    make_optimizer: Callable[[list[dict]], torch.optim.Optimizer] | None = None,
    **options,
) -> CoordCheck:
    """Train a model of each width for a few steps on one batch and measure every layer.

    Parameters
    ----------
    make_model: width → model. The smallest width is the base, m = 1.
    widths: three or more.
    rule: as in :func:`hpt.param_groups`.
    loss: model → scalar loss on a fixed batch.
    lr: as in :func:`hpt.param_groups`; a function of the width where it is to change with it. For a
        rule whose ``lr`` is the hidden one, ``lambda n: c / n`` keeps hidden updates of one size.
    steps, seeds: optimizer steps, and how many initial weights.
    init: draw the weights by the rule; False keeps those of ``make_model``.
    tolerance: slopes up to this size count as flat. Rules differ by half powers of the width at
        least, and sums over a small width are not fully aligned, which costs up to 0.3.
    role_map: ``roles`` of :func:`hpt.param_groups`.
    make_optimizer: groups → optimizer; AdamW with β = (0.9, 0.95) by default.
    options: ``forward``, ``tied``, ``weight_decay`` … of :func:`hpt.param_groups`.

    Raises
    ------
    ConfigError: for fewer than three widths.  RoleError: see :func:`hpt.param_groups`.
    """
    widths = sorted(set(widths))
    if len(widths) < 3 or steps < 1 or seeds < 1:
        raise ConfigError(
            f"a slope needs three widths and a step: {widths=}, {steps=}, {seeds=}.",
            remedy="coord_check(make_model, [32, 64, 128], …)",
        )
    rule = named_rules.rule(rule)
    role_map = dict(role_map or {})
    with torch.device("meta"):
        base = make_model(widths[0])
        found = find_roles(make_model(widths[1]), base, role_map)
    roles = {name: parameter.role for name, parameter in found.items()}
    # Roles go by name, where the map says nothing: at the base width shapes would say nothing.
    shared = {"base_model": base, "roles": role_map | roles | role_map}
    make_optimizer = make_optimizer or partial(torch.optim.AdamW, betas=(0.9, 0.95))
    rows = []
    for width, seed in itertools.product(widths, range(seeds)):
        torch.manual_seed(seed)
        model = make_model(width).eval()
        if init:
            generator = torch.Generator(next(model.parameters()).device).manual_seed(seed)
            init_weights(model, rule, generator=generator, **shared, **assigning(options))
        rate = lr(width) if callable(lr) else lr
        optimizer = make_optimizer(param_groups(model, rule, lr=rate, **shared, **options))
        sizes = _measure(model, roles, optimizer, loss, steps)
        rows += [{"width": width, "seed": seed, **size} for size in sizes]
    return _summary(rule, pd.DataFrame(rows), tolerance)


def _measure(model, roles, optimizer, loss, steps):
    """Size of each quantity of each layer after 0, 1, … steps, a dictionary each."""
    start = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    # Of a layer with several parameters, the first.
    weights = {name.rpartition(".")[0]: name for name in reversed(roles)}
    first_outputs = {}
    for step in range(steps + 1):
        if step:
            optimizer.zero_grad()
            loss(model).backward()
            optimizer.step()
        calls = _calls(model, loss)
        for layer, weight in weights.items():
            module = model.get_submodule(layer)
            inputs, output = calls.get(module, ((), None))
            found = {}
            if torch.is_tensor(output):
                first = first_outputs.setdefault(layer, output)
                found = {"activation": output, "change": output - first}
            delta = model.get_parameter(weight).detach() - start[weight]
            found["update"] = _update(module, delta, inputs)
            known = {"step": step, "layer": layer, "role": roles[weight]}
            for quantity, value in found.items():
                if value is not None:
                    rms = value.double().square().mean().sqrt().item()
                    yield {**known, "quantity": quantity, "rms": rms}


def _calls(model, loss):
    """Inputs and output of each module in one forward pass."""
    calls = {}

    def record(module, inputs, output):
        calls[module] = inputs, output
        # Our Transformer multiplies by some weights without calling their layers.
        if isinstance(module, Attention):
            for layer in (module.query, module.key, module.value):
                layer(*inputs)
        if isinstance(module, Transformer):
            _, normed = calls[module.norm_final]
            module.readout(normed)

    with contextlib.ExitStack() as hooks, torch.no_grad():
        for module in model.modules():
            hooks.enter_context(module.register_forward_hook(record))
        loss(model)
    return calls


def _update(module, delta, inputs):
    """ΔW·x of the layer's input; of a vector, and of a table that is read without a call, Δ
    itself."""
    is_table = isinstance(module, nn.Embedding)
    if delta.ndim == 1 or (is_table and not inputs):
        return delta
    if not inputs:
        return None
    if is_table:
        return F.embedding(inputs[0], delta)
    if isinstance(module, nn.Linear):
        return F.linear(inputs[0], delta)
    return inputs[0] @ delta if type(module).__name__ == "Conv1D" else None


def _summary(rule, table, tolerance):
    last = table.query("step == step.max() and rms > 0")
    layers = _fits(last, ["layer", "role", "quantity"], tolerance)
    slopes = _fits(last, ["role", "quantity"], tolerance)
    return CoordCheck(rule.name, table, layers, slopes, _verdict(rule, slopes, layers))


def _fits(last, keys, tolerance):
    """Slope of log rms against log width in each group, with its interval and trend; layers of one
    group are averaged first."""
    logs = last.assign(log=np.log(last["rms"])).groupby([*keys, "width", "seed"], sort=False)
    means = logs["log"].mean().reset_index()
    rows = []
    for values, group in means.groupby(keys, sort=False):
        if group["width"].nunique() < 3:
            continue
        fit = stats.linregress(np.log(group["width"]), group["log"])
        half = stats.t.ppf(0.975, len(group) - 2) * fit.stderr
        interval = (fit.slope - half, fit.slope + half)
        rows.append((*values, fit.slope, *interval, _trend(fit.slope, *interval, tolerance)))
    return pd.DataFrame(rows, columns=[*keys, "slope", "low", "high", "trend"])


def _trend(slope, low, high, tolerance):
    if abs(slope) <= tolerance:
        return "flat"
    if low > 0:
        return "grows"
    return "shrinks" if high < 0 else "unclear"


def _verdict(rule, slopes, layers):
    """What grows or vanishes, where most, and which line of the rule is suspect."""
    # The output of a readout may shrink at the start: that is what μP's small readout does.
    moving = slopes.query("trend == 'grows' or trend == 'shrinks' and quantity != 'activation'")
    worst_first = sorted(moving.itertuples(), key=lambda row: (row.quantity != "update", -abs(row.slope)))
    if worst_first:
        return tuple(_finding(row, rule, slopes, layers) for row in worst_first)
    unclear = (slopes["trend"] == "unclear").sum()
    if unclear:
        text = f"Nothing certain: {unclear} slopes whose intervals hold 0; take more widths or seeds."
        return (text,)
    return ("Flat: activations, changes and updates of every role keep their size.",)


def _finding(row, rule, slopes, layers):
    """One slope in a sentence, with its worst layer and the suspect."""
    own = layers.query("role == @row.role and quantity == @row.quantity")
    worst = own.loc[(own["slope"] * np.sign(row.slope)).idxmax()]
    return (
        f"{row.role}: the {MEASURED[row.quantity]} {row.trend} as n^{row.slope:.2f} "
        f"[{row.low:.2f}, {row.high:.2f}], most in {worst['layer']} (n^{worst['slope']:.2f}). "
        + _suspect(row, rule, slopes)
    )


def _suspect(row, rule, slopes):
    """What the slope comes from."""
    laws = rule.table().set_index("role").loc[row.role]
    if row.quantity == "update":
        much = "large" if row.slope > 0 else "small"
        return (
            f"Suspect: {rule.name}'s learning rate of {row.role} ({laws['learning rate']}), too {much} by "
            f"about n^{abs(row.slope):.1f}."
        )
    update = slopes.query("role == @row.role and quantity == 'update'")
    if row.trend in set(update["trend"]):
        return "It follows from the update of these layers."
    if row.quantity == "activation":
        return f"Suspect: the init std of {row.role} ({laws['init std']}), or the layers below."
    return "Its own update does not do that: look at the layers below."
