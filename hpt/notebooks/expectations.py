"""What was expected of a reference study, written down before its runs, beside what came out.

The expectations stand in hpt/study/references.toml, under the study; what came out is computed here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from hpt.analysis.compare import gap_closed
from hpt.analysis.factorial import effects
from hpt.metrics.report import TransferReport
from hpt.notebooks.claims import Verdict
from hpt.study.references import Reference

#: What came out, in words, and the interval of it, which the verdict is read from.
Found = tuple[str, float, float]


@dataclass(frozen=True)
class Outcome:
    """An expectation and what came of it.

    Attributes
    ----------
    question, expected: as they were written down before the runs.
    came_out: the figure with its interval.
    verdict: holds, if the whole interval lies where it was expected; does not hold here, if none of it
        does; else not determined.
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
    return [_outcome(expectation, find[name](report)) for name, expectation in asked.items()]


def _outcome(expectation: Mapping, found: Found) -> Outcome:
    came_out, low, high = found
    expected_low, expected_high = (float(end) for end in expectation["interval"])
    if expected_low <= low and high <= expected_high:
        verdict = Verdict.HOLDS
    elif low > expected_high or high < expected_low:
        verdict = Verdict.FAILS
    else:
        verdict = Verdict.UNDETERMINED
    return Outcome(expectation["question"], expectation["expected"], came_out, verdict)


def _row(found, kind, switch):
    return found[(found["kind"] == kind) & (found["switch"] == switch)].iloc[0]


def _share_of_loss(report, switch="Embd"):
    """A switch's share of the loss from SP to μP, over every order of the switches."""
    share = _row(effects(report, "loss"), "share", switch)
    text = f"{share['estimate']:.0%} [{share['low']:.0%}, {share['high']:.0%}] at width {share['width']:g}"
    return text, share["low"], share["high"]


def _part_of_loss(switch):
    """A switch's Shapley value on the loss, nats."""

    def find(report):
        part = _row(effects(report, "loss"), "shapley", switch)
        text = f"{part['estimate']:+.3f} [{part['low']:+.3f}, {part['high']:+.3f}] nats"
        return text, part["low"], part["high"]

    return find


def _factor_of_E(report):
    """What Embd divides E by, over all settings of the other switches."""
    effect = _row(effects(report, "E"), "main", "Embd")
    factor, low, high = (2.0 ** -effect[end] for end in ("estimate", "high", "low"))
    return f"a factor of {factor:.1f} [{low:.1f}, {high:.1f}]", low, high


def _gap_without_embd(report):
    """The share of the gap from SP to μP that μP without Embd closes, at the largest width."""
    share = gap_closed(report, by="μP-Embd").sort_values("width").iloc[-1]
    low, high = share["share_low"], share["share_high"]
    return f"{share['share']:.0%} [{low:.0%}, {high:.0%}] at width {share['width']:g}", low, high


def _effect_on_kappa(report):
    """Embd's main effect on κ."""
    effect = _row(effects(report, "kappa"), "main", "Embd")
    text = f"{effect['estimate']:+.2f} [{effect['low']:+.2f}, {effect['high']:+.2f}]"
    return text, effect["low"], effect["high"]


#: For each study, what finds the outcome of each expectation.
FINDERS: dict[str, dict[str, Callable[[TransferReport], Found]]] = {
    "sixteen": {
        "embd_share": _share_of_loss,
        "ln_loss": _part_of_loss("LN"),
        "last_loss": _part_of_loss("Last"),
        "embd_E": _factor_of_E,
        "without_embd": _gap_without_embd,
        "embd_kappa": _effect_on_kappa,
    }
}
