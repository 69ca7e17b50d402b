"""How often nominal 95 % intervals hold the truth, over many synthetic sweeps.

    python benchmarks/coverage.py --sweeps 500
    python benchmarks/coverage.py --shape kinked --common 0.5

Each sweep is one of twelve designs (4 to 6 widths, 7 to 11 learning rates an octave or half an octave apart, noise
0.005 to 0.03 nats, 1 to 3 seeds) of two parameterizations whose laws are known, with the optimum at a random place of
the grid. The truth of E and E_extrap is their root mean square over the sweeps of a design: what a repeat would give
on average.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
import pandas as pd

from hpt.sweeps import Law, synthetic_sweep
from hpt.transfer import transfer_report

DESIGNS: tuple[dict[str, Any], ...] = tuple(
    {"widths": tuple(32 * 2**i for i in range(widths)), "spacing": spacing, "count": count, "noise": noise,
     "seeds": seeds}
    for widths, spacing, count, noise, seeds in (
        (4, 1.0, 7, 0.005, 1), (4, 1.0, 9, 0.01, 2), (4, 0.5, 11, 0.01, 1), (4, 1.0, 7, 0.03, 3),
        (5, 1.0, 7, 0.01, 1), (5, 1.0, 9, 0.03, 2), (5, 0.5, 9, 0.005, 3), (5, 0.5, 11, 0.03, 1),
        (6, 1.0, 7, 0.01, 1), (6, 1.0, 11, 0.03, 1), (6, 0.5, 11, 0.01, 2), (6, 1.0, 9, 0.005, 3),
    )
)


def laws(shape: str, skew: float, phase: float) -> dict[str, Law]:
    """Two parameterizations, one that transfers badly and one that does better; `phase` shifts the optimum, octaves."""
    base = {"shape": shape, "skew": skew, "diverges_above": 3.7}
    return {
        "SP": Law(L_inf=2.6, A=8.0, alpha=0.45, beta=0.7, gamma=1.3, log2_lr=-7 + phase, curvature=0.25, **base),
        "SP+Embd": Law(L_inf=2.45, A=7.0, alpha=0.5, beta=0.9, gamma=1.6, log2_lr=-7 - phase, curvature=0.2, **base),
    }


def one_sweep(
    design: dict[str, Any], shape: str, skew: float, common: float, bootstraps: int, seed: int
) -> pd.DataFrame:
    """Every figure of one synthetic sweep beside its truth: figure, truth, estimate, low, high."""
    rng = np.random.default_rng([seed, 7])
    law = laws(shape, skew, rng.uniform(-0.5, 0.5) * design["spacing"])
    table = synthetic_sweep(law, common=common, seed=seed, **design)
    report = transfer_report(table, reference="SP+Embd", bootstraps=bootstraps, seed=seed)
    rows: list[tuple] = []

    def ends(row: dict, name: str) -> tuple[float, float, float]:
        return row[name], row[f"{name}_low"], row[f"{name}_high"]

    for row in report.basins.to_dict("records"):
        truth = law[row["parameterization"]]
        if not row["edge"] and np.isfinite(row["log2_lr"]):
            values = {"log2_lr": truth.best_log2_lr, "loss": truth.best_loss, "curvature": truth.basin_curvature}
            rows += [(name, float(value(row["width"])), *ends(row, name)) for name, value in values.items()]
    for row in report.penalty.query("parameterization == 'SP'").to_dict("records"):
        truth = law["SP"].best_loss(row["width"]) - law["SP+Embd"].best_loss(row["width"])
        rows.append(("R(n)", float(truth), *ends(row, "R")))
    for row in report.to_frame().to_dict("records"):
        truth = law[row["parameterization"]]
        rows += [(name, getattr(truth, name), *ends(row, name)) for name in ("alpha", "beta", "gamma", "kappa")]
        rows += [(f"{name} {row['parameterization']}", np.nan, *ends(row, name)) for name in ("E", "E_extrap")]
        rows.append(("octave_error", 0.0, *ends(row, "octave_error")))
        if row["parameterization"] == "SP":
            rows.append(("R(∞)", law["SP"].L_inf - law["SP+Embd"].L_inf, *ends(row, "R")))
    return pd.DataFrame(rows, columns=["figure", "truth", "estimate", "low", "high"]).dropna(subset="estimate")


def coverage(sweeps: int, *, designs=DESIGNS, shape: str = "bent", skew: float = 0.5, common: float = 0.0,
             bootstraps: int = 300, seed: int = 0) -> pd.DataFrame:
    """Coverage of each figure, in percent, over `sweeps` sweeps dealt to the designs in turn.

    Returns
    -------
    DataFrame indexed by figure: covered (%), below and above (%: truth under or over the interval), intervals (number),
    median_error (absolute), median_width, and mean_error (bias).
    """
    deal = [i % len(designs) for i in range(sweeps)]
    runs = [one_sweep(designs[d], shape, skew, common, bootstraps, seed + i).assign(design=d)
            for i, d in enumerate(deal)]
    table = pd.concat(runs, ignore_index=True)
    rms = table.groupby(["design", "figure"]).estimate.transform(lambda v: np.sqrt(np.mean(v**2)))
    table["truth"] = table.truth.fillna(rms)
    table["figure"] = table.figure.str.split(" ").str[0]
    below, above = table.truth < table.low, table.truth > table.high
    table = table.assign(below=100.0 * below, above=100.0 * above, covered=100.0 * ~(below | above),
                         error=(table.estimate - table.truth).abs(), bias=table.estimate - table.truth,
                         span=table.high - table.low)
    return table.groupby("figure", sort=False).agg(
        covered=("covered", "mean"), below=("below", "mean"), above=("above", "mean"), intervals=("covered", "size"),
        median_error=("error", "median"), median_width=("span", "median"), mean_error=("bias", "mean"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sweeps", type=int, default=500)
    parser.add_argument("--bootstraps", type=int, default=300)
    parser.add_argument("--shape", default="bent", choices=("parabola", "linex", "bent", "kinked"))
    parser.add_argument("--skew", type=float, default=0.5)
    parser.add_argument("--common", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=0)
    options = vars(parser.parse_args())
    start = time.perf_counter()
    result = coverage(**options)
    print(f"nominal 95 % intervals, {options}, {time.perf_counter() - start:.0f} s")
    print(result.round(4).round(dict.fromkeys(("covered", "below", "above"), 1)).to_string())


if __name__ == "__main__":
    main()
