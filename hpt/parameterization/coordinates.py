"""Coordinate check: how activations, their changes and each layer's update ΔW·x scale with width.

Yang et al. 2022, appendix D.1, check activations; a layer that does not learn leaves those as flat
as one that does, so the change since the start and the layer's own ΔW·x are measured beside them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from scipy import stats
from torch import Tensor, nn

from hpt.errors import ConfigError
from hpt.parameterization.groups import AnyRule, init_weights, param_groups
from hpt.parameterization.roles import RoleMap, roles
from hpt.parameterization.rules import Rule
from hpt.parameterization.rules import rule as find_rule
from hpt.parameterization.sixteen import Role

QUANTITIES = {
    "activation": "size of the layer's output",
    "change": "change of the output since the start",
    "update": "update ΔW·x",
}
BLIND = (
    "A coordinate check sees the first steps only. It cannot see weight decay, the schedule, the batch size, "
    "Adam's ε where gradients are still large, a wrong constant (a factor that is the same at every width), or "
    "instability that comes late: a flat check is necessary for transfer, not sufficient."
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
        return "\n".join(
            [
                f"coordinate check of {self.rule}",
                self.slopes.to_string(index=False, float_format="%.2f"),
                "",
                *self.verdict,
                "",
                BLIND,
            ]
        )

    def _repr_html_(self) -> str:
        lines = "".join(f"<li>{v}</li>" for v in self.verdict)
        return (
            f"<p><b>coordinate check of {self.rule}</b></p>"
            f"{self.slopes.to_html(index=False, float_format=lambda x: f'{x:.2f}')}<ul>{lines}</ul><p>{BLIND}</p>"
        )


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
            f"a slope needs three widths and a step: widths={widths}, steps={steps}, seeds={seeds}.",
            remedy="coord_check(make_model, [32, 64, 128], …)",
        )
    r = find_rule(rule)
    with torch.device("meta"):
        base, next_up = make_model(widths[0]), make_model(widths[1])
    known = {n: role.role for n, role in roles(next_up, base, role_map).items()}
    # At the base width itself shapes say nothing, so the roles are carried over by name.
    said = {
        **(role_map or {}),
        **{n: role for n, role in known.items() if n not in (role_map or {})},
    }
    make_optimizer = make_optimizer or (lambda groups: torch.optim.AdamW(groups, betas=(0.9, 0.95)))
    init_options = {k: v for k, v in options.items() if k in ("forward", "tied", "optimizer")}
    rows = []
    for width in widths:
        for seed in range(seeds):
            torch.manual_seed(seed)
            model = make_model(width).eval()
            shared = {"base_model": base, "roles": said if width == widths[0] else role_map}
            if init:
                init_weights(
                    model,
                    r,
                    generator=torch.Generator().manual_seed(seed),
                    **shared,
                    **init_options,
                )
            rate = lr(width) if callable(lr) else lr
            optimizer = make_optimizer(param_groups(model, r, lr=rate, **shared, **options))
            rows += [
                {"width": width, "seed": seed, **row}
                for row in _measure(model, known, optimizer, loss, steps)
            ]
    table = pd.DataFrame(rows)
    last = table[(table["step"] == steps) & (table["rms"] > 0)]
    layers = _fits(last, ["layer", "role", "quantity"], tolerance)
    logs = np.log(last["rms"]).groupby(
        [last[k] for k in ("role", "quantity", "width", "seed")], sort=False
    )
    slopes = _fits(logs.mean().map(np.exp).reset_index(), ["role", "quantity"], tolerance)
    return CoordCheck(r.name, table, layers, slopes, _verdict(r, slopes, layers))


def _measure(
    model: nn.Module,
    known: dict[str, Role],
    optimizer: torch.optim.Optimizer,
    loss: Callable[[nn.Module], Tensor],
    steps: int,
) -> Iterator[dict]:
    """One row a step, layer and quantity."""
    start = {n: p.detach().clone() for n, p in model.named_parameters()}
    main = {
        n.rpartition(".")[0]: (n, role) for n, role in reversed(known.items())
    }  # a layer's first parameter
    seen: dict[str, tuple] = {}
    for name in main:
        model.get_submodule(name).register_forward_hook(
            lambda _module, inputs, output, name=name: seen.__setitem__(name, (inputs, output))
        )
    first: dict[str, Tensor] = {}
    for step in range(steps + 1):
        seen.clear()
        with torch.no_grad():
            loss(model)
        for layer, (parameter, role) in main.items():
            module, delta = (
                model.get_submodule(layer),
                model.get_parameter(parameter).detach() - start[parameter],
            )
            inputs, output = seen.get(layer, ((), None))
            if torch.is_tensor(output):
                first.setdefault(layer, output)
                yield {
                    "step": step,
                    "layer": layer,
                    "role": role,
                    "quantity": "activation",
                    "rms": _rms(output),
                }
                yield {
                    "step": step,
                    "layer": layer,
                    "role": role,
                    "quantity": "change",
                    "rms": _rms(output - first[layer]),
                }
            update = _update(module, delta, inputs)
            if update is not None:
                yield {
                    "step": step,
                    "layer": layer,
                    "role": role,
                    "quantity": "update",
                    "rms": _rms(update),
                }
        if step < steps:
            optimizer.zero_grad()
            loss(model).backward()
            optimizer.step()


def _update(module: nn.Module, delta: Tensor, inputs: tuple) -> Tensor | None:
    """ΔW·x of the layer's input; of a vector, and of a table that is read without a call, Δ
    itself."""
    if delta.ndim == 1 or (isinstance(module, nn.Embedding) and not inputs):
        return delta
    if inputs and isinstance(module, nn.Embedding):
        return F.embedding(inputs[0], delta)
    if inputs and isinstance(module, nn.Linear):
        return F.linear(inputs[0], delta)
    if inputs and type(module).__name__ == "Conv1D":
        return inputs[0] @ delta
    return None


def _rms(x: Tensor) -> float:
    return float(x.double().square().mean().sqrt())


def _fits(table: pd.DataFrame, keys: list[str], tolerance: float) -> pd.DataFrame:
    """Slope of log rms against log width in each group, with its interval and trend."""
    rows = []
    for values, group in table.groupby(keys, sort=False):
        if group["width"].nunique() < 3:
            continue
        fit = stats.linregress(np.log(group["width"]), np.log(group["rms"]))
        half = stats.t.ppf(0.975, len(group) - 2) * fit.stderr
        low, high = fit.slope - half, fit.slope + half
        trend = (
            "flat"
            if abs(fit.slope) <= tolerance
            else "grows"
            if low > 0
            else "shrinks"
            if high < 0
            else "unclear"
        )
        rows.append(
            {
                **dict(zip(keys, values, strict=True)),
                "slope": fit.slope,
                "low": low,
                "high": high,
                "trend": trend,
            }
        )
    return pd.DataFrame(rows)


def _verdict(rule: Rule, slopes: pd.DataFrame, layers: pd.DataFrame) -> tuple[str, ...]:
    """What grows or vanishes, where most, and which line of the rule is suspect."""
    lines = rule.table().set_index("role")
    updates = slopes[slopes["quantity"] == "update"].set_index("role")["trend"]
    found = []
    for s in slopes.itertuples():
        # The output of a readout may shrink at the start: that is what μP's small readout does.
        if s.trend not in ("grows", "shrinks") or (
            s.quantity == "activation" and s.trend == "shrinks"
        ):
            continue
        own = layers[(layers["role"] == s.role) & (layers["quantity"] == s.quantity)]
        worst = own.loc[(own["slope"] * np.sign(s.slope)).idxmax()]
        text = (
            f"{s.role}: the {QUANTITIES[s.quantity]} {s.trend} as n^{s.slope:.2f} [{s.low:.2f}, {s.high:.2f}], "
            f"most in {worst['layer']} (n^{worst['slope']:.2f})."
        )
        if s.quantity == "update":
            much = "too large" if s.slope > 0 else "too small"
            text += (
                f" Suspect: {rule.name}'s learning rate of {s.role} ({lines.loc[s.role, 'learning rate']}), "
                f"{much} by about n^{abs(s.slope):.1f}."
            )
        elif updates.get(s.role) == s.trend:
            text += " It follows from the update of these layers."
        elif s.quantity == "activation":
            text += f" Suspect: the init std of {s.role} ({lines.loc[s.role, 'init std']}), or the layers below."
        else:
            text += " Its own update does not do that: look at the layers below."
        found.append((s.quantity != "update", -abs(s.slope), text))
    if found:
        return tuple(text for *_, text in sorted(found))
    unclear = slopes[slopes["trend"] == "unclear"]
    if len(unclear):
        return (
            f"Nothing certain: {len(unclear)} slopes are not flat, but their intervals hold 0; take more widths or "
            "seeds.",
        )
    return ("Flat: activations, changes and updates of every role keep their size.",)
