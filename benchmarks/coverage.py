"""How often nominal 95 % intervals hold the truth, over many synthetic sweeps.

    python benchmarks/coverage.py --sweeps 500
    python benchmarks/coverage.py --shape kinked --common 0.5
    python benchmarks/coverage.py --sweeps 504 --seed 70000 --docs docs/coverage.md

Each sweep is one of twelve designs (4 to 6 widths, 7 to 11 learning rates an octave or half an
octave apart, noise 0.005 to 0.03 nats, 1 to 3 seeds) of two parameterizations whose laws are known,
with the optimum at a random place of the grid. In some cases the laws of η* and of the loss bend; the
true β and α are then their mean exponents over the widths. The truth of E and E_extrap is their root
mean square over the sweeps of a design: what a repeat would give on average.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from hpt.analysis.predict import predict_lr
from hpt.analysis.synthetic import Law, synthetic_sweep
from hpt.metrics.transfer import transfer_report

DESIGNS: tuple[dict[str, Any], ...] = tuple(
    {
        "widths": tuple(32 * 2**i for i in range(widths)),
        "spacing": spacing,
        "count": count,
        "noise": noise,
        "seeds": seeds,
    }
    for widths, spacing, count, noise, seeds in (
        (4, 1.0, 7, 0.005, 1),
        (4, 1.0, 9, 0.01, 2),
        (4, 0.5, 11, 0.01, 1),
        (4, 1.0, 7, 0.03, 3),
        (5, 1.0, 7, 0.01, 1),
        (5, 1.0, 9, 0.03, 2),
        (5, 0.5, 9, 0.005, 3),
        (5, 0.5, 11, 0.03, 1),
        (6, 1.0, 7, 0.01, 1),
        (6, 1.0, 11, 0.03, 1),
        (6, 0.5, 11, 0.01, 2),
        (6, 1.0, 9, 0.005, 3),
    )
)


def bends(kind: str, d: int, largest: float) -> dict[str, float]:
    """How the laws of a design bend: alike in all its sweeps, normal over the designs."""
    strength = stats.norm.ppf(((5 * d + 2) % len(DESIGNS) + 0.5) / len(DESIGNS))
    if kind == "curved":
        return {"bend": 0.1 * strength, "loss_bend": 0.01 * strength}
    if kind == "break":
        return {"break_width": largest / 2, "beta_beyond": 0.7 + 0.3 * strength}
    if kind == "floor":
        return {"floor": -8.0 - abs(strength)}
    return {}


def laws(shape: str, skew: float, phase: float, **bent) -> dict[str, Law]:
    """Two parameterizations, one that transfers badly and one that does better; `phase` shifts the
    optimum, octaves."""
    base = {"shape": shape, "skew": skew, "diverges_above": 3.7} | bent
    return {
        "SP": Law(
            L_inf=2.6, A=8.0, alpha=0.45, beta=0.7, gamma=1.3, log2_lr=-7 + phase, curvature=0.25, **base
        ),
        "SP+Embd": Law(
            L_inf=2.45, A=7.0, alpha=0.5, beta=0.9, gamma=1.6, log2_lr=-7 - phase, curvature=0.2, **base
        ),
    }


def without_optimum(
    table: pd.DataFrame, law: dict[str, Law], width: int, octaves: float, whole: bool
) -> pd.DataFrame:
    """The table without the rates that reach within `octaves` of the optimum of one width, the
    largest from below, any other from above; or without that `whole` width."""
    best = table.parameterization.map(lambda name: float(law[name].best_log2_lr(width)))
    lost = table.log2_lr < best + octaves if width == table.width.max() else table.log2_lr > best - octaves
    return table[(table.width != width) | ~(lost | whole)]


def exponents(law: Law, widths) -> dict[str, float]:
    """The exponents of a law, where it bends their means over the widths: of straight lines."""
    x = np.log2(widths)
    reducible = law.best_loss(widths) - law.L_inf
    alpha = -np.polyfit(x, np.log2(reducible), 1)[0]
    beta = -np.polyfit(x, law.best_log2_lr(widths), 1)[0]
    gamma = law.gamma_log + 2 * beta
    return {"alpha": alpha, "beta": beta, "gamma": gamma, "kappa": alpha + law.gamma_log}


def one_sweep(
    d: int,
    design: dict[str, Any],
    shape: str,
    skew: float,
    common: float,
    bootstraps: int,
    seed: int,
    resample: str = "auto",
    edge: str = "none",
    bend: str = "none",
    grid: str = "octaves",
    diverged_loss: float = np.inf,
) -> pd.DataFrame:
    """Every figure of one synthetic sweep beside its truth: figure, truth, estimate, low, high."""
    rng = np.random.default_rng([seed, 7])
    phase = rng.uniform(-0.5, 0.5) * design["spacing"]
    law = laws(shape, skew, phase, **bends(bend, d, design["widths"][-1]))
    if grid == "1-3-10":
        decades = np.log2(np.outer(10.0 ** np.arange(-6, 1), [1, 3]).ravel())
        design = {k: v for k, v in design.items() if k not in ("spacing", "count")} | {"log2_lrs": decades}
    table = synthetic_sweep(law, common=common, seed=seed, diverged_loss=diverged_loss, **design)
    if edge != "none":
        table = without_optimum(
            table, law, design["widths"][seed % 2 - 1], rng.uniform(0.2, 1.5), edge == "dropped"
        )
    report = transfer_report(table, reference="SP+Embd", bootstraps=bootstraps, seed=seed, resample=resample)
    rows = [*_wells(report, law), *_predictions(report, law), *_figures(report, law, design["widths"])]
    columns = ["figure", "truth", "estimate", "low", "high"]
    return pd.DataFrame(rows, columns=columns).dropna(subset="estimate")


def _ends(row: dict, name: str) -> tuple[float, float, float]:
    return row[name], row[f"{name}_low"], row[f"{name}_high"]


def _wells(report, law):
    """η*, L*, h and R(n) of every width."""
    for row in report.basins.to_dict("records"):
        truth = law[row["parameterization"]]
        if not row["edge"] and np.isfinite(row["log2_lr"]):
            yield "log2_lr", float(truth.best_log2_lr(row["width"])), *_ends(row, "log2_lr")
            yield "loss", float(truth.best_loss(row["width"])), *_ends(row, "loss")
            yield "curvature", float(truth.basin_curvature(row["width"])), *_ends(row, "curvature")
    for row in report.penalty.query("parameterization == 'SP'").to_dict("records"):
        truth = law["SP"].best_loss(row["width"]) - law["SP+Embd"].best_loss(row["width"])
        yield "R(n)", float(truth), *_ends(row, "R")


def _predictions(report, law):
    """η* at twice and four times the largest width."""
    for times in (2, 4):
        width = times * report.basins["width"].max()
        for row in predict_lr(report, width=width).to_dict("records"):
            truth = law[row["parameterization"]].best_log2_lr(width)
            yield f"log2_lr_at_{times}n", float(truth), *_ends(row, "log2_lr")


def _figures(report, law, widths):
    """The figures of transfer. The octave error's truth is that of a straight line."""
    for row in report.to_frame().to_dict("records"):
        truth = law[row["parameterization"]]
        for name, value in exponents(truth, widths).items():
            yield name, value, *_ends(row, name)
        for name in ("E", "E_extrap"):
            yield f"{name} {row['parameterization']}", np.nan, *_ends(row, name)
        x = np.log2(widths)
        best = truth.best_log2_lr(np.array(widths))
        straight = np.polyval(np.polyfit(x[:-1], best[:-1], min(1, len(x) - 2)), x[-1])
        yield "octave_error", abs(straight - best[-1]), *_ends(row, "octave_error")
        if row["parameterization"] == "SP":
            yield "R(∞)", law["SP"].L_inf - law["SP+Embd"].L_inf, *_ends(row, "R")


def coverage(
    sweeps: int,
    *,
    designs=DESIGNS,
    shape: str = "bent",
    skew: float = 0.5,
    common: float = 0.0,
    bootstraps: int = 300,
    seed: int = 0,
    resample: str = "auto",
    **options: Any,
) -> pd.DataFrame:
    """Coverage of each figure, in percent, over `sweeps` sweeps dealt to the designs in turn.

    Returns
    -------
    DataFrame indexed by figure: covered (%), below and above (%: truth under or over the interval),
        intervals (number),
    median_error (absolute), median_width, and mean_error (bias).
    """
    deal = [i % len(designs) for i in range(sweeps)]
    runs = [
        one_sweep(d, designs[d], shape, skew, common, bootstraps, seed + i, resample, **options).assign(
            design=d
        )
        for i, d in enumerate(deal)
    ]
    table = pd.concat(runs, ignore_index=True)
    rms = table.groupby(["design", "figure"]).estimate.transform(lambda v: np.sqrt(np.mean(v**2)))
    table["truth"] = table.truth.fillna(rms)
    table["figure"] = table.figure.str.split(" ").str[0]
    below, above = table.truth < table.low, table.truth > table.high
    table = table.assign(
        below=100.0 * below,
        above=100.0 * above,
        covered=100.0 * ~(below | above),
        error=(table.estimate - table.truth).abs(),
        bias=table.estimate - table.truth,
        span=table.high - table.low,
    )
    return table.groupby("figure", sort=False).agg(
        covered=("covered", "mean"),
        below=("below", "mean"),
        above=("above", "mean"),
        intervals=("covered", "size"),
        median_error=("error", "median"),
        median_width=("span", "median"),
        mean_error=("bias", "mean"),
    )


CASES: dict[str, dict[str, Any]] = {
    "the main case: basins steeper above, of another family than the fitted well": {},
    "twice the skew": {"skew": 1.0},
    "the fitted well's own family": {"shape": "linex"},
    "parabolas": {"shape": "parabola", "skew": 0.0},
    "a kink at the optimum": {"shape": "kinked"},
    "a sharper kink": {"shape": "kinked", "skew": 1.0},
    "half the noise's variance shared by runs of one seed and width": {"common": 0.5},
    "the same, designs of one seed alone": {
        "common": 0.5,
        "designs": tuple(d for d in DESIGNS if d["seeds"] == 1),
    },
    "noise 0.01 nats alone": {"designs": tuple(d for d in DESIGNS if d["noise"] == 0.01)},
    "five seeds, resampled; half the noise's variance shared": {
        "common": 0.5,
        "resample": "seeds",
        "designs": tuple(d | {"seeds": 5} for d in DESIGNS),
    },
    "the same from parametric noise": {
        "common": 0.5,
        "resample": "parametric",
        "designs": tuple(d | {"seeds": 5} for d in DESIGNS),
    },
    "three seeds, resampled": {"resample": "seeds", "designs": tuple(d | {"seeds": 3} for d in DESIGNS)},
    "a law of η* that bends: a curved power law": {"bend": "curved"},
    "a law of η* that bends: another exponent from half the largest width on": {"bend": "break"},
    "a law of η* that bends: a floor": {"bend": "floor"},
    "diverged runs stuck at a loss of 7": {"diverged_loss": 7.0},
    "rates of 1, 3, 10 …": {"grid": "1-3-10"},
    "rates of 1, 3, 10 …, a curved power law, diverged runs at 10.8": {
        "grid": "1-3-10",
        "bend": "curved",
        "diverged_loss": 10.8,
    },
    "noise that doubles from width to width": {
        "designs": tuple(
            d | {"noise": tuple(d["noise"] * 2.0 ** np.linspace(-1, 1, len(d["widths"])))} for d in DESIGNS
        )
    },
    "two and three widths": {
        "designs": tuple(d | {"widths": d["widths"][: 2 + i % 2]} for i, d in enumerate(DESIGNS))
    },
    "the optimum of the smallest or of the largest width beyond the grid": {"edge": "cut"},
    "the same without any run of that width": {"edge": "dropped"},
}
INTRO = """# How often the intervals hold the truth

Made by `{command}`; do not edit it.

Each case is {sweeps} synthetic sweeps of two parameterizations, dealt to twelve designs: 4 to 6
widths, 7 to 11 learning rates an octave or half an octave apart, noise of 0.005 to 0.03 nats, 1 to
3 seeds, the optimum anywhere between two rates, runs diverging above it. `hpt.transfer_report` with
{bootstraps} bootstraps gives nominal 95 % intervals; **covered** is how many hold the truth (%),
*below* and *above* how many have the truth under or over them, **error** the median absolute error
of the estimate, **width** the median width of the interval, *bias* the mean error. log2_lr is log₂
η* of one width (so error and width are octaves), loss L* (nats), curvature h (nats per (ln η)²).
The truth of E and E_extrap is their root mean square over all sweeps of a design; that of
octave_error is 0, which its folded interval can only miss from below.

## What to read from it

- η*, β, κ, E_extrap, R(n), and η* at twice and four times the largest width (log2_lr_at_2n, _4n) are
  to be covered in 92 to 98 % of the sweeps of each kind.
- **Bends.** Real laws of η* are no exact power laws. What is assumed of their bends stands in
  `hpt/metrics/bend.py`, learned from 85 public ladders of learning rate × size (Li et al. 2025, arXiv
  2503.04715; figures alone are used here), the ones below. It makes the interval of η* one octave beyond
  the largest width about 1.4 times as wide as an exact power law would need, two octaves beyond about
  2.5 times.
  Bends of a kind that leaves no trace at the widths measured, such as a break just beyond them, are
  covered only as far as that prior reaches.
  Where the law is exact that prior is a price: η* at four times the largest width is then covered too
  often, since the same interval has to hold it where a law nears a floor, and a few widths do not tell
  one from the other.
- Where laws bend, β and α are their mean exponents over the widths measured, and the octave error's
  truth is that of a straight line through the optima of the other widths. The estimate of β is that
  mean, as far as the optima contradict an exact law; it was the exact law's own (covered in 90 % where
  η* nears a floor).
- Noise may grow with size: how fast has a posterior from the scatter of each width's runs, half of its
  prior at "not at all". Where it is taken for alike (as it was), β is covered in 83 to 88 % where the
  noise quadruples over the widths.
- Held-out sizes of those ladders, predicted from the smaller ones (`python benchmarks/held_out.py
  FOLDER`, 296 optima at the next size): {held_out}
- Where the loss has a kink at the optimum, the estimate of η* is low by a fifth of its skew, octaves,
  which costs less than 0.001 nats at skew 0.5: the noise of most sweeps leaves nobody able to tell
  such a basin from a smooth one. So the intervals of η* reach up to where a kink would put it, as far
  as the fit does not contradict one; they are that much wider for smooth basins too. Where a kink fits
  evidently better the reason says "lack of fit". β, κ and the losses do not feel it: the shift is
  alike at all widths.
- Noise that runs of one seed and width share (same batches) moves a width's whole basin. Seeds show
  it, and so do, dimly, losses that stray from their law of width alike in all groups. Before the data
  speak none of it is taken to be as likely as some: L*, α and κ are a little too wide where nothing is
  shared. η*, β and R(n) do not feel it.
- The loss's bend is assumed, not learned: α, κ and R(∞) are wider for it, and cover too often where
  the loss does not bend.
- Resampling whole seeds needs no such assumption, at the price of wider intervals: those of one width
  are Student's t with one degree of freedom less than there are seeds. E and E_extrap then cover too
  often. "auto" resamples from five.
- A width whose optimum lies beyond the grid has no η* of its own, but its runs still take part in the
  law of width, unless that of the others contradicts them. The last two cases show what this is worth
  against leaving the width out.
"""


# Printed by held_out.py on the ladders of Step Law, 300 bootstraps.
HELD_OUT = """hpt's intervals hold
  95.6 % of them with the measured optimum's own uncertainty counted (86.6 % before the bend was
  reckoned with), at a median width of 1.33 octaves; the straight line with Student's t holds 96.0 % at
  4.0 octaves. Of the 273 that all three predict the median error is 0.214 octaves (0.28 before), the
  straight line's 0.241 (hpt's less this: −0.026 [−0.051, −0.001]), and that of the largest size's
  optimum unchanged 0.208 (0.006 [−0.041, 0.051]: on these ladders the optimum hardly moves, so that
  neither is told to be better).
- The same where the ladders judged had no part in the prior (`--learn`, which takes the one under which
  other ladders are likeliest): with that of the dense models alone (DRIFT 0.4, EXACT 0) 98.3 % of 117
  sizes of mixtures of experts are held, at 1.62 octaves and an error of 0.19; with that of the mixtures
  alone (DRIFT 0.15, EXACT 0) 91.1 % of 179 sizes of dense models, at 0.81 octaves and an error of 0.22."""


def write_docs(path: Path, sweeps: int, bootstraps: int, seed: int) -> None:
    """Run every case and write the page of coverage tables."""
    command = (
        f"python benchmarks/coverage.py --sweeps {sweeps} --bootstraps {bootstraps} --seed {seed} "
        f"--docs {path}"
    )
    parts = [INTRO.format(command=command, sweeps=sweeps, bootstraps=bootstraps, held_out=HELD_OUT)]
    for title, options in CASES.items():
        made = coverage(sweeps, bootstraps=bootstraps, seed=seed, **options)
        settings = {"shape": "bent", "skew": 0.5, "common": 0.0, "resample": "auto"} | options
        said = ", ".join(f"{k} {v}" for k, v in settings.items() if k != "designs")
        lines = [
            f"\n## {title[0].upper()}{title[1:]}\n\n{said}\n",
            "| figure | covered % | below | above | intervals | error | width | bias |",
            "|---|" + "---:|" * 7,
        ]
        for name, row in made.iterrows():
            shares = f"**{row.covered:.1f}** | {row.below:.1f} | {row.above:.1f} | {row.intervals:.0f}"
            lines.append(
                f"| {name} | {shares} | {row.median_error:.4f} | {row.median_width:.4f} | "
                f"{row.mean_error:+.4f} |"
            )
        parts.append("\n".join(lines) + "\n")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(parts), encoding="utf-8")
        print(f"{title}: done", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sweeps", type=int, default=500)
    parser.add_argument("--bootstraps", type=int, default=300)
    parser.add_argument("--shape", default="bent", choices=("parabola", "linex", "bent", "kinked"))
    parser.add_argument("--skew", type=float, default=0.5)
    parser.add_argument("--common", type=float, default=0.0)
    parser.add_argument("--resample", default="auto", choices=("auto", "seeds", "parametric"))
    parser.add_argument(
        "--edge",
        default="none",
        choices=("none", "cut", "dropped"),
        help="cut the grid of one width short of its optimum, or drop that width",
    )
    parser.add_argument(
        "--bend",
        default="none",
        choices=("none", "curved", "break", "floor"),
        help="how the law of η* leaves a power law",
    )
    parser.add_argument("--grid", default="octaves", choices=("octaves", "1-3-10"))
    parser.add_argument("--diverged-loss", type=float, default=np.inf, help="written for diverged runs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--docs", type=Path, help="run every case and write this page")
    options = vars(parser.parse_args())
    docs = options.pop("docs")
    if docs:
        write_docs(docs, options["sweeps"], options["bootstraps"], options["seed"])
        return
    start = time.perf_counter()
    result = coverage(**options)
    print(f"nominal 95 % intervals, {options}, {time.perf_counter() - start:.0f} s")
    print(result.round(4).round(dict.fromkeys(("covered", "below", "above"), 1)).to_string())


if __name__ == "__main__":
    main()
