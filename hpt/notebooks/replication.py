"""docs/replication.md: what our reference studies say of the paper, with figures and tables."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from hpt.analysis.path import PATH, gap_steps
from hpt.analysis.published import rank_agreement
from hpt.errors import StoreError
from hpt.files import check_file
from hpt.markdown import markdown_table
from hpt.metrics.intervals import Figure
from hpt.metrics.quantities import DECAYS, QUANTITIES, value_text
from hpt.metrics.report import TransferReport
from hpt.notebooks.claims import Claim
from hpt.notebooks.expectations import (
    Finding,
    claims_tested,
    findings,
    outcomes_of,
    reference_claims,
    write_reference_claims,
)
from hpt.notebooks.findings import reference_report
from hpt.notebooks.rendering import environment
from hpt.plots.figures import plot_basins
from hpt.plots.phases import plot_phases
from hpt.plots.waterfall import plot_waterfall
from hpt.study.cost import duration
from hpt.study.references import (
    Reference,
    machines_of,
    reference,
    reference_definition,
    reference_names,
    reference_parts,
)

SHOWN = ("E", "kappa", "R")


@dataclass(frozen=True)
class Told:
    """A reference study, the report of its table, and what came of its expectations."""

    reference: Reference
    report: TransferReport
    findings: list[Finding]

    @property
    def claims(self) -> list[Claim]:
        """The claims of the papers that it tests."""
        return claims_tested(self.reference, self.report, self.findings)


def write_replication(out: Path = Path("docs/replication.md"), bootstraps: int = 1000) -> Path:
    """Write the page, and its figures into a folder of its name beside it.

    Parameters
    ----------
    out: the page, in Markdown.
    bootstraps: replicates behind each interval.

    Raises
    ------
    StoreError: where not one reference study is there.
    ConfigError: for a page that cannot be written, before anything is computed.
    """
    check_file(out)
    studies = []
    for name in reference_names():
        try:
            found = reference(name)
        except StoreError:
            continue
        report = reference_report(found, bootstraps)
        studies.append(Told(found, report, findings(found, report)))
    if not studies:
        raise StoreError("no reference study is there.", "none has been made", "make reference")
    write_reference_claims({study.reference.name: study.claims for study in studies})
    page = replication_page(studies, reference_claims(), out.with_suffix(""))
    out.write_text(page, encoding="utf-8")
    return out


def replication_page(studies: Iterable[Told], claims: Iterable[Claim], folder: Path) -> str:
    """The page in Markdown, with the claims as a table; its figures are written into ``folder``."""
    studies = list(studies)
    folder.mkdir(parents=True, exist_ok=True)
    first = studies[0]
    base = reference_parts(first.reference.name)[0].study.base
    told = {study.reference.name for study in studies}
    template = environment().get_template("replication.md.j2")
    page = template.render(
        level=f"{first.report.level:.0%}",
        model=base.model,
        train=base.train,
        tokens=base.train.steps * base.train.batch_size * base.model.context,
        widths=sorted(first.report.basins["width"].unique().tolist()),
        seeds=_seeds(first.report.table),
        text=_text(first.reference.manifest["text"]),
        tested=list(claims),
        expected=[outcome for study in studies for outcome in outcomes_of(study.findings)],
        studies=[_section(study, folder) for study in studies],
        lacking={n: reference_definition(n)["question"] for n in reference_names() if n not in told},
    )
    return page.rstrip() + "\n"


def _seeds(table):
    """How many seeds a learning rate has, in words."""
    counts = table.groupby(["parameterization", "width", "log2_lr"])["seed"].nunique()
    return " to ".join(map(str, sorted({counts.min(), counts.max()}))) + " seed(s)"


def _text(facts):
    """The text in words."""
    packages = ", ".join(facts.get("packages", ()))
    what = f"the Python sources of {packages}" if packages else "text"
    return f"{what} ({facts['train_tokens'] / 1e6:.1f} million tokens to train on)"


def _section(study, folder):
    """What the template says of one study; its figures are saved.  Those of several arms would hide one
    another in a figure: their notebook draws them."""
    manifest = study.reference.manifest
    report = study.report
    one_arm = "arm" not in report.group_columns
    return {
        "name": study.reference.name,
        "question": manifest["question"],
        "reference": study.reference,
        "pictures": _pictures(study, folder) if one_arm else {},
        "figures": markdown_table(figures_table(report)),
        "outcomes": outcomes_of(study.findings),
        "agreement": _agreement(report) if one_arm and len(report.groups) > 2 else "",
        "notebook": reference_definition(study.reference.name)["notebook"],
        "command": manifest["command"],
        "seconds": duration(manifest["seconds"]),
        "machines": ", ".join(machines_of(manifest)),
    }


def _pictures(study, folder):
    """The figures of a study of one arm, saved: for each file what it shows."""
    report = study.report
    drawn = {
        "basins": (
            plot_basins(report, regret=True),
            "Loss above the lowest of its curve, nats, against the hidden learning rate.",
        ),
        "phases": (
            plot_phases(report),
            "E, κ and R(∞) against each other; grey and hollow is what the runs do not determine.",
        ),
    }
    if set(PATH) <= set(report.basins["parameterization"]):
        drawn["waterfall"] = (
            plot_waterfall(gap_steps(report)),
            "The gap between SP and μP at the largest width, a switch at a time; whiskers are intervals, "
            "grey is not told from zero.",
        )
    shown = {}
    for name, (figure, caption) in drawn.items():
        file = folder / f"{study.reference.name}_{name}.png"
        figure.savefig(file, bbox_inches="tight")
        shown[f"{folder.name}/{file.name}"] = caption
    return shown


def _agreement(report):
    """How far the order of the variants is the paper's."""
    said = []
    for name in ("E", "kappa"):
        found = rank_agreement(report, name)
        said.append(
            f"the order of {found.n} variants by {QUANTITIES[name].symbol} has a rank correlation of {found}"
        )
    return ", ".join(said)


def figures_table(report: TransferReport) -> pd.DataFrame:
    """One row a group: the loss at the largest width, and E, κ and R with intervals or the reason why there
    is none."""
    columns = list(report.group_columns)
    size = report.basins[report.scale]
    widest = report.basins[size == size.max()]
    frame = report.to_frame().merge(widest[[*columns, "loss"]], on=columns, how="left")
    rows = []
    for row in frame.to_dict("records"):
        shown = {column: value_text(row[column]) for column in columns}
        shown["loss, nats"] = "–" if pd.isna(row["loss"]) else f"{row['loss']:.3f}"
        for figure in SHOWN:
            found = Figure.from_row(row, figure)
            shown[QUANTITIES[figure].labelled()] = str(found) if found.determined else f"– ({found.reason})"
        rows.append(shown)
    table = pd.DataFrame(rows).rename(columns={"parameterization": "variant"})
    return table.loc[:, [column not in DECAYS or table[column].nunique() > 1 for column in table]]
