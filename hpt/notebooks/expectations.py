"""What was expected of a reference study, written down before its runs, beside what came out.

The expectations stand in hpt/study/references.toml, under the study; what came out is computed here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from hpt.analysis.compare import common_widths, gap_closed, groups_of
from hpt.analysis.factorial import effects
from hpt.metrics.report import TransferReport
from hpt.metrics.transfer import transfer_report
from hpt.metrics.verdicts import interval
from hpt.notebooks.claims import Verdict
from hpt.study.references import Reference


class Found(NamedTuple):
    """What came out, in words, its interval, which the verdict is read from, and why the data do not
    determine it, if they do not."""

    came_out: str
    low: float
    high: float
    reason: str = ""


@dataclass(frozen=True)
class Outcome:
    """An expectation and what came of it.

    Attributes
    ----------
    question, expected: as they were written down before the runs.
    came_out: the figure with its interval.
    verdict: holds, if the whole interval lies where it was expected; does not hold here, if none of it
        does; else, or where the data do not determine the figure, not determined.
    """

    question: str
    expected: str
    came_out: str
    verdict: Verdict


def outcomes(reference: Reference, report: TransferReport) -> list[Outcome]:
    """Each expectation of a reference study with what came out.

    Parameters
    ----------
    reference: the study.
    report: of its table.
    """
    asked = reference.manifest["expected"]
    find = FINDERS[reference.name]
    return [_outcome(expectation, find[name](reference, report)) for name, expectation in asked.items()]


def _outcome(expectation: Mapping, found: Found) -> Outcome:
    came_out, low, high, reason = found
    expected_low, expected_high = (float(end) for end in expectation["interval"])
    if reason:
        came_out = f"{came_out} ({reason})"
        verdict = Verdict.UNDETERMINED
    elif expected_low <= low and high <= expected_high:
        verdict = Verdict.HOLDS
    elif low > expected_high or high < expected_low:
        verdict = Verdict.FAILS
    else:
        verdict = Verdict.UNDETERMINED
    return Outcome(expectation["question"], expectation["expected"], came_out, verdict)


def _row(found, kind, switch):
    return found[(found["kind"] == kind) & (found["switch"] == switch)].iloc[0]


def _share_of_loss(_, report, switch="Embd"):
    """A switch's share of the loss from SP to μP, over every order of the switches."""
    share = _row(effects(report, "loss"), "share", switch)
    text = f"{share['estimate']:.0%} [{share['low']:.0%}, {share['high']:.0%}] at width {share['width']:g}"
    return Found(text, share["low"], share["high"], share["reason"])


def _part_of_loss(switch):
    """A switch's Shapley value on the loss, nats."""

    def find(_, report):
        part = _row(effects(report, "loss"), "shapley", switch)
        text = f"{part['estimate']:+.3f} [{part['low']:+.3f}, {part['high']:+.3f}] nats"
        return Found(text, part["low"], part["high"], part["reason"])

    return find


def _factor_of_E(_, report):
    """What Embd divides E by, over all settings of the other switches."""
    effect = _row(effects(report, "E"), "main", "Embd")
    factor, low, high = (2.0 ** -effect[end] for end in ("estimate", "high", "low"))
    return Found(f"a factor of {factor:.1f} [{low:.1f}, {high:.1f}]", low, high, effect["reason"])


def _gap_without_embd(_, report):
    """The share of the gap from SP to μP that μP without Embd closes, at the largest width."""
    share = gap_closed(report, by="μP-Embd").sort_values("width").iloc[-1]
    low = share["share_low"]
    high = share["share_high"]
    text = f"{share['share']:.0%} [{low:.0%}, {high:.0%}] at width {share['width']:g}"
    return Found(text, low, high, share["reason"])


def _effect_on_kappa(_, report):
    """Embd's main effect on κ."""
    effect = _row(effects(report, "kappa"), "main", "Embd")
    text = f"{effect['estimate']:+.2f} [{effect['low']:+.2f}, {effect['high']:+.2f}]"
    return Found(text, effect["low"], effect["high"], effect["reason"])


def _between(reference, report, figure, condition, switch):
    """The effect of the one thing, a column of two values, that differs among the runs of a condition."""
    part = transfer_report(reference.table.query(condition), by="arm", bootstraps=report.bootstraps)
    return _row(effects(part, figure, switches=(switch,)), "main", switch)


def _cost(condition, switch, sign=1):
    """What the larger value of a column, the later of two names, costs at the best learning rate of the
    largest width, nats; with ``sign`` −1, the smaller value."""

    def find(reference, report):
        effect = _between(reference, report, "loss", condition, switch)
        low, high = sorted(sign * effect[end] for end in ("low", "high"))
        text = f"{sign * effect['estimate']:+.3f} [{low:+.3f}, {high:+.3f}] nats"
        return Found(text, low, high, effect["reason"])

    return find


def _cost_of_a_small_dose(reference, report):
    """What a dose of 1 costs each variant: the range over all of them."""
    costs = [
        _between(
            reference,
            report,
            "loss",
            COUPLED + f" and parameterization == '{name}' and dose in (0, 1)",
            "dose",
        )
        for name in reference.table["parameterization"].unique()
    ]
    low = min(cost["low"] for cost in costs)
    high = max(cost["high"] for cost in costs)
    each = ", ".join(f"{cost['estimate']:+.3f}" for cost in costs)
    reason = next((cost["reason"] for cost in costs if cost["reason"]), "")
    return Found(f"{each} nats, all intervals within [{low:+.3f}, {high:+.3f}]", low, high, reason)


def _factor_of_dose(reference, report):
    """What a dose of 1 multiplies E of SP by."""
    condition = COUPLED + " and parameterization == 'SP' and dose in (0, 1)"
    effect = _between(reference, report, "E", condition, "dose")
    factor, low, high = (2.0 ** effect[end] for end in ("estimate", "low", "high"))
    return Found(f"a factor of {factor:.2f} [{low:.2f}, {high:.2f}]", low, high, effect["reason"])


def _share_lost(reference, report):
    """The share of the gap that SP+Embd closes at a dose of 10, less its share without decay."""
    table = reference.table.query(COUPLED + " and dose in (0, 10)")
    part = transfer_report(table, bootstraps=report.bootstraps)
    found = {}
    for (dose,), groups in groups_of(part, ("SP", "SP+Embd", "μP")).items():
        w = [group.at(max(common_widths(groups)))[0] for group in groups]
        sp, embd, mup = (group.drawn("loss_BxW", i) for group, i in zip(groups, w, strict=True))
        found[dose] = (sp - embd) / (sp - mup)
    lost_B = found[10] - found[0]
    low, high = interval(lost_B, report.level)
    return Found(f"{np.median(lost_B):+.0%} [{low:+.0%}, {high:+.0%}]", low, high)


def _shift(reference, report):
    """Octaves by which a dose of 10 moves η* of SP at the largest width."""
    table = reference.table.query(COUPLED + " and parameterization == 'SP' and dose in (0, 10)")
    without, with_decay = transfer_report(table, bootstraps=report.bootstraps).groups
    before_B = without.drawn("log2_lr_BxW", -1)
    after_B = with_decay.drawn("log2_lr_BxW", -1)
    moved_B = after_B - before_B
    low, high = interval(moved_B, report.level)
    return Found(f"{np.median(moved_B):+.2f} [{low:+.2f}, {high:+.2f}] octaves", low, high)


#: The arm of the study of weight decay in which torch's AdamW decays.
COUPLED = "arm == 'coupled'"
#: For each study, what finds the outcome of each expectation.
FINDERS: dict[str, dict[str, Callable[[Reference, TransferReport], Found]]] = {
    "sixteen": {
        "embd_share": _share_of_loss,
        "ln_loss": _part_of_loss("LN"),
        "last_loss": _part_of_loss("Last"),
        "embd_E": _factor_of_E,
        "without_embd": _gap_without_embd,
        "embd_kappa": _effect_on_kappa,
    },
    "decay": {
        "small_dose": _cost_of_a_small_dose,
        "large_dose": _cost(COUPLED + " and parameterization == 'SP' and dose in (0, 10)", "dose"),
        "E_of_SP": _factor_of_dose,
        "confound": _cost(
            "parameterization == 'SP+Embd' and dose == 10 and arm in ('coupled', 'hidden matrices only')",
            "arm",
            sign=-1,
        ),
        "share": _share_lost,
        "shift": _shift,
    },
}
