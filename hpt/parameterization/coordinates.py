"""Coordinate check: how activations, their changes and each layer's update ΔW·x scale with width.

Yang et al. 2022, appendix D.1, check activations; a layer that does not learn leaves those as flat
as one that does, so the change since the start and the layer's own ΔW·x are measured beside them.
"""

import contextlib
import itertools
import math
import warnings
from collections import defaultdict
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
from hpt.parameterization.copies import RoleMap
from hpt.parameterization.groups import AnyRule, assigning, init_weights, param_groups
from hpt.parameterization.layers import is_lookup, plain_name, unwrap
from hpt.parameterization.roles import find_roles
from hpt.parameterization.rules import KEPT_ROLES

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
        slopes = self.slopes.to_string(index=False, float_format="{:z.2f}".format)
        title = f"coordinate check of {self.rule}"
        return "\n".join([title, slopes, "", *self.verdict, "", BLIND])

    def _repr_html_(self) -> str:
        slopes = self.slopes.rename(columns={"low": "slope_low", "high": "slope_high"})
        slopes = slopes.to_html(index=False, float_format="{:z.2f}".format)
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
    ConfigError: for fewer than three widths, for models that do not grow with their width, and for
        too few steps to move a matrix below one that starts at zero.  RoleError: see
        :func:`hpt.param_groups`.
    """
    widths = sorted(set(widths))
    if len(widths) < 3 or steps < 1 or seeds < 1:
        raise ConfigError(
            f"a slope needs three widths and a step: {widths=}, {steps=}, {seeds=}.",
            remedy="coord_check(make_model, [32, 64, 128], …)",
        )
    rule = named_rules.rule(rule)
    role_map = dict(role_map or {})
    # Steps of a few tiny models are not worth compiling, and hooks would not be called.
    with torch.compiler.set_stance("force_eager"):
        base, wider = (_shapes_of(make_model, width) for width in widths[:2])
        found = find_roles(wider, base, role_map)
        roles = {plain_name(name): parameter.role for name, parameter in found.items()}
        # Roles go by name, where the map says nothing: at the base width shapes would say nothing.
        shared = {"base_model": base, "roles": role_map | roles | role_map}
        make_optimizer = make_optimizer or partial(torch.optim.AdamW, betas=(0.9, 0.95))
        rows, counts = [], {}
        for width, seed in itertools.product(widths, range(seeds)):
            torch.manual_seed(seed)
            model = make_model(width).eval()
            _check_count(counts, width, model)
            if init:
                generator = torch.Generator(next(model.parameters()).device).manual_seed(seed)
                init_weights(model, rule, generator=generator, **shared, **assigning(options))
            rate = lr(width) if callable(lr) else lr
            optimizer = make_optimizer(param_groups(model, rule, lr=rate, **shared, **options))
            sizes = _measure(model, found, optimizer, loss, steps)
            rows += [{"width": width, "seed": seed, **size} for size in sizes]
    trained = {}
    for name, role in found.items():
        if wider.get_parameter(name).requires_grad:
            trained[name] = role
    return _summary(rule, pd.DataFrame(rows), tolerance, trained)


def _shapes_of(make_model, width):
    """The model's shapes, on "meta" where it can be made there; on its own device where it moves
    itself or reads numbers while it is made."""
    try:
        with torch.device("meta"):
            return make_model(width)
    except Exception:
        return make_model(width)


def _check_count(counts, width, model):
    """Refuse a model that does not grow with its width."""
    count = sum(parameter.numel() for parameter in model.parameters())
    twin = counts.setdefault(count, width)
    if twin != width:
        raise ConfigError(
            f"make_model({twin}) and make_model({width}) both have {count} parameters.",
            "make_model does not use its argument",
            "coord_check(lambda width: Net(width), …)",
        )


def _measure(model, found, optimizer, loss, steps):
    """Size of each quantity of each layer after 0, 1, … steps, a dictionary each."""
    inner = unwrap(model)
    parameters = dict(inner.named_parameters())
    start = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    measured = _measured(inner, found)
    first_outputs = {}
    still = {name for name, parameter in parameters.items() if parameter.ndim > 1 and parameter.requires_grad}
    for step in range(steps + 1):
        if step:
            optimizer.zero_grad()
            loss(model).backward()
            _note_moving(still, parameters)
            optimizer.step()
        calls = _calls(model, inner, loss)
        for label, (layer, name) in measured.items():
            module = unwrap(inner.get_submodule(layer))
            inputs, output = calls.get(module, ((), None))
            sizes = {}
            if torch.is_tensor(output) and label == plain_name(layer):
                first = first_outputs.setdefault(label, output)
                sizes = {"activation": output, "change": output - first}
            delta = parameters[name].detach() - start[name]
            sizes["update"] = _update(module, delta, inputs, found[name])
            known = {"step": step, "layer": label, "role": found[name].role}
            for quantity, value in sizes.items():
                if value is not None:
                    rms = value.abs().double().square().mean().sqrt().item()
                    yield {**known, "quantity": quantity, "rms": rms}
    _refuse_still(still, steps)


def _note_moving(still, parameters):
    """Take those out of ``still`` that have a gradient, or never get one."""
    for name, parameter in parameters.items():
        gradient = parameter.grad
        if gradient is None or gradient.count_nonzero():
            still.discard(name)


def _measured(model, found):
    """What is measured, as label → layer and parameter: every matrix, and of a layer that has none
    its first vector."""
    by_layer = defaultdict(list)
    for name in found:
        by_layer[name.rpartition(".")[0]].append(name)
    measured = {}
    for layer, names in by_layer.items():
        matrices = [name for name in names if model.get_parameter(name).ndim > 1] or names[:1]
        measured[plain_name(layer)] = layer, matrices[0]
        measured |= {plain_name(name): (layer, name) for name in matrices[1:]}
    return measured


def _refuse_still(names, steps):
    """Refuse to judge what could not move yet."""
    if names:
        raise ConfigError(
            f"{len(names)} matrices, {sorted(names)[0]!r} the first, had no gradient but 0 in {steps} steps.",
            "a matrix above them starts at 0, and moves first",
            f"coord_check(…, steps={steps + 3})",
        )


def _calls(model, inner, loss):
    """Inputs and output of each module in one forward pass, of its first call."""
    calls = {}

    def record(module, inputs, keywords, output):
        inputs = inputs or tuple(keywords.values())
        outputs = output if isinstance(output, tuple | list) else [output]
        calls.setdefault(module, (inputs, next(filter(torch.is_tensor, outputs), None)))
        # Our Transformer multiplies by some weights without calling their layers.
        if isinstance(module, Attention):
            for layer in (module.query, module.key, module.value):
                layer(*inputs)
        if isinstance(module, Transformer):
            _, normed = calls[module.norm_final]
            module.readout(normed)

    with contextlib.ExitStack() as hooks, torch.no_grad():
        # Checkpointing says that it has nothing to do.
        hooks.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("ignore", "None of the inputs have requires_grad=True")
        for module in inner.modules():
            hooks.enter_context(module.register_forward_hook(record, with_kwargs=True))
        loss(model)
    return calls


def _update(module, delta, inputs, role):
    """ΔW·x of the layer's input; of what acts entry by entry, and of a table that is read without a
    call, Δ itself; of a matrix whose input is not seen, the most that it can do to an input of size
    1, ‖ΔW‖₂·√(fan_in/fan_out)."""
    # Under autocast inputs are bf16, and weights are not.
    delta = delta.to(torch.promote_types(delta.dtype, torch.float32))
    x = next(filter(torch.is_tensor, inputs), None)
    is_table = is_lookup(module)
    if role.role == "vector" or (is_table and x is None):
        return delta
    if is_table and not x.is_floating_point():
        return F.embedding(x, delta)
    if x is not None and x.is_floating_point():
        x = x.to(delta.dtype)
        if isinstance(module, nn.Linear):
            return F.linear(x, delta)
        if type(module).__name__ == "Conv1D":
            return x @ delta
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
            return module._conv_forward(x, delta, None)
    stacked = delta.flatten(0, -3) if delta.ndim > 3 else delta
    norms = torch.linalg.matrix_norm(stacked, ord=2)
    return norms * math.sqrt(role.fan_in / role.fan_out)


def _summary(rule, table, tolerance, found):
    last = table.query("step == step.max()")
    is_finite = np.isfinite(last["rms"])
    lost = last[~is_finite]
    last = last[is_finite & (last["rms"] > 0)]
    layers = _fits(last, ["layer", "role", "quantity"], tolerance)
    slopes = _fits(last, ["role", "quantity"], tolerance)
    verdict = _verdict(rule, slopes, layers)
    if len(lost):
        first = lost.iloc[0]
        verdict = (f"Not finite, first in {first['layer']} at width {first['width']}: lower lr.",)
    return CoordCheck(
        rule=rule.name, table=table, layers=layers, slopes=slopes, verdict=(*verdict, *_unseen(layers, found))
    )


def _unseen(layers, found):
    """The matrices that no update was seen of."""
    moved = set(layers.query("quantity == 'update'")["layer"])
    missing = []
    for name, role in found.items():
        plain = plain_name(name)
        layer = plain.rpartition(".")[0]
        if role.role not in KEPT_ROLES and not moved & {plain, layer}:
            missing.append(plain)
    if missing:
        yield f"Not measured, for nothing moved them: {len(missing)} matrices, {missing[0]} the first."


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
        low = fit.slope - half
        high = fit.slope + half
        trend = _trend(fit.slope, low, high, tolerance)
        rows.append((*values, fit.slope, low, high, trend))
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
    seen = set(slopes.query("quantity == 'update'")["role"])
    if not seen:
        return ("Nothing seen: no layer was called and changed at three widths.",)
    roles = "every role" if seen >= {"embedding", "hidden", "readout"} else ", ".join(sorted(seen))
    within = slopes.query("trend == 'flat'")["slope"].abs().max()
    return (f"Flat: activations, changes and updates of {roles} keep their size, within n^±{within:.2f}.",)


def _finding(row, rule, slopes, layers):
    """One slope in a sentence, with its worst layer and the suspect."""
    own = layers.query("role == @row.role and quantity == @row.quantity")
    worst = own.loc[(own["slope"] * np.sign(row.slope)).idxmax()]
    steepest = f"n^{worst['slope']:z.2f}".replace("-", "−")
    power = f"n^{row.slope:z.2f} [{row.low:z.2f}, {row.high:z.2f}]".replace("-", "−")
    suspect = _suspect(row, rule, slopes)
    what = MEASURED[row.quantity]
    return f"{row.role}: the {what} {row.trend} as {power}, most in {worst['layer']} ({steepest}). {suspect}"


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
