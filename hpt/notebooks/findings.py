"""What came out of each reference study, as figures with intervals.

Each expectation in hpt/study/references.toml names its ``figure``, a function of this module, with its
arguments.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from hpt.analysis.compare import common_widths, gap_closed, groups_of, losses_at
from hpt.analysis.factorial import effects
from hpt.metrics import figures
from hpt.metrics.bend import mean_slope
from hpt.metrics.intervals import Figure, interval
from hpt.metrics.quantities import signs
from hpt.metrics.report import TransferReport
from hpt.metrics.transfer import transfer_report
from hpt.study.references import Reference, reference_definition


class Found(NamedTuple):
    """What came out, in words, its interval, which the verdict is read from, and why the data do not
    determine it, if they do not."""

    came_out: str
    low: float
    high: float
    reason: str = ""


class NotRunError(LookupError):
    """A reference study lacks the runs that a figure is made of."""


def reference_report(reference: Reference, bootstraps: int) -> TransferReport:
    """The report of a reference study, its arms apart; R is measured from SP, where all arms have it. Where
    all runs have one width it is their tokens that grow."""
    table = reference.table
    options = {"reference": "SP", "bootstraps": bootstraps}
    if table["width"].nunique() == 1:
        return transfer_report(table.drop(columns="arm"), scale="tokens", **options)
    if not table["arm"].any():
        return transfer_report(table, **options)
    if all(_has_one_decay(runs) for _, runs in table.groupby("arm")):
        table = table.drop(columns=["weight_decay", "dose"], errors="ignore")
    variants_of = table.groupby("arm")["parameterization"].unique()
    if not all("SP" in variants for variants in variants_of):
        options["reference"] = None
    return transfer_report(table, by="arm", **options)


def _has_one_decay(runs):
    """Whether all runs of an arm have one λ, or one dose."""
    return any(runs[column].nunique() == 1 for column in ("weight_decay", "dose") if column in runs)


def find(reference: Reference, report: TransferReport, expectation: Mapping) -> Found:
    """What came of one expectation of a reference study.

    Raises
    ------
    NotRunError: where its runs are not made yet.
    """
    [(figure, arguments)] = expectation["figure"].items()
    return globals()[figure](reference, report, **arguments)


def _group(report, **wanted):
    """The group that has these values in the group columns."""
    for group in report.groups:
        if wanted.items() <= dict(zip(report.group_columns, group.key, strict=True)).items():
            return group
    raise NotRunError(f"no runs of {wanted}")


def _shown(drawn_B, level, unit="", form="+.3f", reason=""):
    """The median of replicates with its interval."""
    low, high = interval(drawn_B, level)
    middle = np.nanmedian(drawn_B) if np.isfinite(drawn_B).any() else np.nan
    if np.isnan(middle):
        return Found("", low, high, reason or "no optimum within the grid")
    text = _text((middle, low, high), form)
    return Found(f"{text} {unit}".rstrip(), low, high, reason)


def _text(values, form):
    """An estimate with its interval, each in this format."""
    estimate, low, high = (signs(format(value, form)) for value in values)
    return f"{estimate} [{low}, {high}]"


def _of_row(row, form, unit=""):
    """What a row of effects says."""
    text = _text(row[["estimate", "low", "high"]], form)
    return Found(f"{text} {unit}".strip(), row["low"], row["high"], row["reason"])


def _row(found, kind, switch):
    return found[(found["kind"] == kind) & (found["switch"] == switch)].iloc[0]


def share_of_loss(_, report, switch):
    """A switch's share of the loss from SP to μP, over every order of the switches."""
    return _part_of_loss(report, "share", switch, ".0%")


def part_of_loss(_, report, switch):
    """A switch's Shapley value on the loss, nats."""
    return _part_of_loss(report, "shapley", switch, "+.3f", "nats ")


def _part_of_loss(report, kind, switch, form, unit=""):
    part = _row(effects(report, "loss"), kind, switch)
    return _of_row(part, form, f"{unit}at width {part['width']:g}")


def factor_of_E(_, report, switch):
    """What a switch divides E by, over all settings of the other switches."""
    effect = _row(effects(report, "E"), "main", switch)
    lowered_by = -effect[["estimate", "high", "low"]]
    return _factor(lowered_by, ".1f", effect["reason"])


def _factor(octaves, form, reason):
    """An estimate in octaves, and the ends of its interval, as factors."""
    factor, low, high = 2.0 ** octaves.astype(float)
    return Found("a factor of " + _text((factor, low, high), form), low, high, reason)


def gap_without(_, report, by):
    """The share of the gap from SP to μP that another variant closes, at the largest width."""
    share = gap_closed(report, by=by).sort_values("width").iloc[-1]
    text = _text(share[["share", "share_low", "share_high"]], ".0%")
    said = f"{text} at width {share['width']:g}"
    return Found(said, share["share_low"], share["share_high"], share["reason"])


def effect_on_kappa(_, report, switch):
    """A switch's main effect on κ."""
    return _of_row(_row(effects(report, "kappa"), "main", switch), "+.2f")


def most_cost_of_dose(reference, report, dose):
    """What a coupled dose costs the variant that it costs most."""
    names = report.figures["parameterization"].unique()
    costs = [cost_of_dose(reference, report, name, dose) for name in names]
    told = [cost for cost in costs if not cost.reason]
    low = max((cost.low for cost in told), default=-np.inf)
    # What is not determined may have cost more.
    high = max(cost.high for cost in told) if len(told) == len(costs) else np.inf
    each = ", ".join(f"{name} {cost.came_out or '–'}" for name, cost in zip(names, costs, strict=True))
    return Found(each, low, high)


def cost_of_dose(reference, report, name, dose):
    """What a coupled dose costs a variant at its best learning rate of the largest width."""
    plain = {"arm": "coupled", "parameterization": name, "dose": 0.0}
    return gain(reference, report, plain, plain | {"dose": dose})


def factor_of_dose(reference, report):
    """What a dose of 1 multiplies E of SP by."""
    part = _two_doses(reference, report, 1, " and parameterization == 'SP'")
    effect = _row(effects(part, "E", switches=("dose",)), "main", "dose")
    return _factor(effect[["estimate", "low", "high"]], ".2f", effect["reason"])


def _two_doses(reference, report, dose, condition=""):
    """The report of the coupled runs at this dose and without."""
    table = reference.table.query(COUPLED + f" and dose in (0, {dose})" + condition)
    if table["dose"].nunique() < 2:
        raise NotRunError(f"no runs at a dose of 0, or of {dose}")
    return transfer_report(table, bootstraps=report.bootstraps)


def share_lost(reference, report):
    """The share of the gap that SP+Embd closes at a dose of 10, less its share without decay."""
    found = {}
    part = _two_doses(reference, report, 10)
    for (dose,), groups in groups_of(part, ("SP", "SP+Embd", "μP")).items():
        widest = max(common_widths(groups))
        _, (sp, embd, mup), _, _ = losses_at(groups, widest)
        found[dose] = (sp - embd) / (sp - mup)
    return _shown(100 * (found[10] - found[0]), report.level, "% of the gap", "+.0f")


def shift(reference, report):
    """Octaves by which a dose of 10 moves η* of SP at the largest width."""
    groups = _two_doses(reference, report, 10, " and parameterization == 'SP'").groups
    before_B, after_B = (group.drawn("log2_lr_BxW", -1) for group in groups)
    return _shown(after_B - before_B, report.level, "octaves", "+.2f")


def drift(_, report, **wanted):
    """Octaves between η* of a group at the largest and at the smallest width."""
    group = _group(report, **wanted)
    # An optimum beyond the grid is infinite, and two of them are no drift.
    with np.errstate(invalid="ignore"):
        drift_B = group.drawn("log2_lr_BxW", -1) - group.drawn("log2_lr_BxW", 0)
    reason_W = group.fit.points.reason_W
    return _shown(drift_B, report.level, "octaves", "+.2f", reason_W[0] or reason_W[-1])


def count_of_moves(reference, report, says):
    """How many of the arms of a verdict of Lingle's drift by an octave or more."""
    expected = reference_definition(reference.name)["expected"].values()
    arms = [each["arm"] for each in expected if each.get("says") == says]
    drifts = [drift(reference, report, arm=arm) for arm in arms]
    # An octave or more, whatever the noise.
    count = sum(not found.reason and (found.low > 1 or found.high < -1) for found in drifts)
    return Found(f"{count} of {len(drifts)}", count, count)


def _loss_B(report, **wanted):
    """Replicates of the loss at the best learning rate, largest width, nats."""
    return _group(report, **wanted).drawn("loss_BxW", -1)


def _gain_B(report, of, over):
    return _loss_B(report, **over) - _loss_B(report, **of)


def gain(_, report, of, over):
    """By how many nats one arm ends below another, at the largest width."""
    reasons = [_group(report, **wanted).fit.points.reason_W[-1] for wanted in (over, of)]
    reason = "; ".join(filter(None, reasons))
    return _shown(_gain_B(report, of, over), report.level, "nats", reason=reason)


def part_of_gain(_, report, of, over, whole):
    """What one arm gains over another, as a share of what a third one gains over it."""
    share_B = _gain_B(report, of, over) / _gain_B(report, whole, over)
    return _shown(share_B, report.level, form=".0%")


def _embd_over_sp(arm):
    """SP+Embd, and SP, in an arm."""
    sp = {"arm": arm, "parameterization": "SP"}
    return sp | {"parameterization": "SP+Embd"}, sp


def gain_of_embd(reference, report, arm):
    """By how many nats Embd lowers SP's best loss in an arm, at the largest width."""
    return gain(reference, report, *_embd_over_sp(arm))


def gain_lost(_, report, first, last):
    """What Embd gains in one arm, less what it gains in another, nats."""
    first_B = _gain_B(report, *_embd_over_sp(first))
    last_B = _gain_B(report, *_embd_over_sp(last))
    return _shown(first_B - last_B, report.level, "nats")


def change_of_kappa(_, report, arm):
    """By how much the decay of an arm changes κ of SP+Embd, at a token a parameter."""
    arms = ("no decay", arm)
    groups = [_group(report, arm=each, parameterization="SP+Embd") for each in arms]
    plain_B, decayed_B = (figures.kappa(group.drawn("theta_Bx7")) for group in groups)
    if not len(plain_B) or not len(decayed_B):
        raise NotRunError("too few widths, with decay or without")
    rows = report.to_frame().set_index(["arm", "parameterization"])["kappa_reason"]
    reason = rows["no decay", "SP+Embd"] or rows[arm, "SP+Embd"]
    return _shown(decayed_B - plain_B, report.level, "", "+.2f", reason)


def power_of_tokens(_, report):
    """The power of its tokens with which η* of SP+Embd falls."""
    row = report.to_frame().set_index("parameterization").loc["SP+Embd"]
    return Found(str(Figure.from_row(row, "beta")), row["beta_low"], row["beta_high"], row["beta_reason"])


def gain_kept(_, report):
    """What Embd gains SP in the longest runs, as a share of what it gains in the shortest."""
    sp, embd = (_group(report, parameterization=name) for name in ("SP", "SP+Embd"))
    gain_BxW = sp.drawn("loss_BxW") - embd.drawn("loss_BxW")
    return _shown(gain_BxW[:, -1] / gain_BxW[:, 0], report.level, form=".0%")


def exponent_of_ratio(_, report, arm):
    """The power of the width with which the best ratio of embedding to hidden rate grows: in each
    replicate, the bottom of the parabola through the three best losses, over log2 of the ratio."""
    names = ["SP", *(f"SP, embedding × {4**i}" for i in (1, 2, 3, 4))]
    groups = [_group(report, arm=arm, parameterization=name) for name in names]
    loss_RxBxW = np.stack([group.drawn("loss_BxW") for group in groups])
    best_BxW = bottom_of_parabolas(loss_RxBxW) * 2
    slope_B = mean_slope(np.log2(groups[0].fit.points.scale_W), best_BxW)
    at_edge = np.isin(np.nanmean(loss_RxBxW, 1).argmin(0), (0, len(names) - 1)).any()
    return _shown(slope_B, report.level, "", "+.2f", "the best ratio lies at the edge" if at_edge else "")


def bottom_of_parabolas(loss_Rx: np.ndarray) -> np.ndarray:
    """Where the parabola through the lowest of R losses and its two neighbours has its bottom, in steps
    from the first; at the edge of the R, the edge. A loss that is not known, nan, is none of the lowest."""
    lowest = np.nan_to_num(loss_Rx, nan=np.inf).argmin(0)
    middle = np.clip(lowest, 1, len(loss_Rx) - 2)
    three = np.stack([middle - 1, middle, middle + 1])
    left, mid, right = np.take_along_axis(loss_Rx, three, 0)
    step = (left - right) / 2 / np.maximum(left - 2 * mid + right, 1e-12)
    return np.clip(middle + step, 0, len(loss_Rx) - 1)


#: The arm of the study of weight decay in which torch's AdamW decays.
COUPLED = "arm == 'coupled'"
