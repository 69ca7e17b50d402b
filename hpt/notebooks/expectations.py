"""What was expected of a reference study, written down before its runs, beside what came out.

The expectations stand in hpt/study/references.toml, under the study; some are claims of a paper as well.
What came out is computed in :mod:`hpt.notebooks.findings`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from hpt.errors import StoreError
from hpt.files import StrPath, write_whole
from hpt.metrics.report import TransferReport
from hpt.notebooks.claims import Answer, Claim, Verdict, check_claims
from hpt.notebooks.findings import Found, NotRunError, find, reference_report
from hpt.study.references import (
    FOLDER,
    Reference,
    reference,
    reference_definition,
    reference_file,
    reference_names,
)


@dataclass(frozen=True)
class Outcome:
    """An expectation and what came of it.

    Attributes
    ----------
    question, expected: as they were written down before the runs.
    came_out: the figure with its interval.
    verdict: holds, if the whole interval lies where it was expected; does not hold here, if none of it
        does; else, or where the data do not determine the figure, undetermined; not run, where the study
        lacks the runs.
    """

    question: str
    expected: str
    came_out: str
    verdict: Verdict


@dataclass(frozen=True)
class Finding:
    """An expectation as references.toml has it, and what came out, None where it is not run."""

    expectation: Mapping[str, Any]
    found: Found | None


def findings(reference: Reference, report: TransferReport) -> list[Finding]:
    """Each expectation of a reference study with what came out.

    Parameters
    ----------
    reference: the study.
    report: of its table, as :func:`hpt.notebooks.reference_report` makes it.
    """
    made = []
    for expectation in reference_definition(reference.name)["expected"].values():
        try:
            found = find(reference, report, expectation)
        except NotRunError:
            found = None
        made.append(Finding(expectation, found))
    return made


def outcomes(reference: Reference, report: TransferReport) -> list[Outcome]:
    """Each expectation of a reference study with what came out and the verdict; see :func:`findings`."""
    return outcomes_of(findings(reference, report))


def outcomes_of(made: Iterable[Finding]) -> list[Outcome]:
    """The verdict on each expectation."""
    told = []
    for finding in made:
        asked = finding.expectation
        found = finding.found
        answer = _answer(found, asked["interval"])
        because = f"({answer.reason})" if found and found.reason else ""
        came_out = f"{answer.came_out} {because}".strip()
        told.append(Outcome(asked["question"], asked["expected"], came_out, answer.verdict))
    return told


def claims_tested(reference: Reference, report: TransferReport, made: Iterable[Finding]) -> list[Claim]:
    """The claims of the papers that a reference study tests, with their verdicts.

    Parameters
    ----------
    reference, report: the study, and its report.
    made: what :func:`findings` says of it.
    """
    runs = runs_in_words(reference)
    claims = claims_of(made, runs)
    if reference.name == "sixteen":
        return check_claims(reference.results, report, runs) + claims
    return claims


def claims_of(made: Iterable[Finding], runs: str) -> list[Claim]:
    """The verdict on each expectation that is a claim of a paper too; ``runs`` says what it was tested on."""
    claims = []
    for finding in made:
        asked = finding.expectation
        if "claim" not in asked:
            continue
        answer = _answer(finding.found, asked["claimed"], denied=asked.get("says") == "fails")
        claims.append(
            Claim(
                asked["source"],
                asked["claim"],
                paper=asked["paper"],
                figure=asked["question"],
                expected=asked["expected"],
                answer=answer,
                runs=runs,
            )
        )
    return claims


def _answer(found, expected, denied=False):
    """The verdict on the statement that a figure lies within a range, or, denied, outside it."""
    if found is None:
        return Answer("", Verdict.NOT_RUN, "its runs are not made yet")
    if found.reason:
        return Answer(found.came_out, Verdict.UNDETERMINED, found.reason)
    low, high = (float(end) for end in expected)
    inside = low <= found.low and found.high <= high
    outside = found.low > high or found.high < low
    if denied:
        inside, outside = outside, inside
    if inside:
        return Answer(found.came_out, Verdict.HOLDS)
    if outside:
        return Answer(found.came_out, Verdict.FAILS)
    return Answer(found.came_out, Verdict.UNDETERMINED, "the interval reaches into both answers")


def write_reference_claims(claims: Mapping[str, Iterable[Claim]], folder: StrPath = FOLDER) -> None:
    """Keep the claims of each study beside the packed studies, with the checksum of what they are read
    from."""
    kept = {
        name: {"sha256": _checksum(name, folder), "claims": [dataclasses.asdict(claim) for claim in of_study]}
        for name, of_study in claims.items()
    }
    text = json.dumps(kept, indent=1, ensure_ascii=False)
    write_whole(_claims_file(folder), text.encode())


def reference_claims(folder: StrPath = FOLDER) -> list[Claim]:
    """The claims of both papers, held against the reference studies.

    They are read from what :func:`write_reference_claims` kept, and computed anew for a study that has
    changed since.

    Parameters
    ----------
    folder: of the packed studies.
    """
    file = _claims_file(folder)
    kept = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    claims = []
    for name in reference_names():
        of_study = kept.get(name)
        if of_study and of_study["sha256"] == _checksum(name, folder):
            claims += [_read(claim) for claim in of_study["claims"]]
        else:
            claims += _computed(name, folder)
    return claims


def _computed(name, folder):
    try:
        study = reference(name, folder=folder)
    except StoreError:
        expected = reference_definition(name)["expected"].values()
        return claims_of([Finding(each, None) for each in expected], f"`make reference NAMES={name}`")
    report = reference_report(study, 200)
    return claims_tested(study, report, findings(study, report))


def runs_in_words(reference: Reference) -> str:
    """Which runs, and how large."""
    widths = reference.table["width"]
    return (
        f"reference study `{reference.name}`: {len(reference.results)} runs, "
        f"widths {widths.min()} to {widths.max()}"
    )


def _read(claim):
    came_out, verdict, reason = claim["answer"]
    return Claim(**claim | {"answer": Answer(came_out, Verdict(verdict), reason)})


def _claims_file(folder):
    return reference_file("claims", "quick", folder).with_suffix(".json")


def _checksum(name, folder):
    file = reference_file(name, "quick", folder)
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.exists() else ""
