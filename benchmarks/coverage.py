"""How often nominal 95 % intervals hold the truth, over many synthetic sweeps.

    python benchmarks/coverage.py --sweeps 500
    python benchmarks/coverage.py --shape kinked --common 0.5

Each sweep is one of twelve designs (4 to 6 widths, 7 to 11 learning rates an octave or half an
octave apart, noise 0.005 to 0.03 nats, 1 to 3 seeds) of two parameterizations whose laws are known,
with the optimum at a random place of the grid. In some cases the laws of η* and of the loss bend; the
true β and α are then their mean exponents over the widths. The truth of E and E_extrap is their root
mean square over repeats of the same runs with fresh noise, and that of the octave error what these runs
would give without any.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from hpt.analysis.predict import predict_lr
from hpt.analysis.synthetic import Law, synthetic_sweep
from hpt.metrics import figures
from hpt.metrics.law import fit_laws
from hpt.metrics.transfer import transfer_report
from hpt.metrics.wells import SKEW_RANGE, TRIALS, WellFit, skew_cost

#: Repeats of a sweep that say what its errors are on average.
REPEATS = 200

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
    noise = np.broadcast_to(design["noise"], len(design["widths"]))
    noise_of_width = dict(zip(design["widths"], noise, strict=True))
    rows = [*_wells(report, law), *_predictions(report, law), *_figures(report, law, design["widths"])]
    for group, row in zip(report.groups, report.figures.to_dict("records"), strict=True):
        rows += _errors(group, row, law, noise_of_width, common, rng)
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
    """The exponents and R(∞)."""
    for row in report.to_frame().to_dict("records"):
        truth = law[row["parameterization"]]
        for name, value in exponents(truth, widths).items():
            yield name, value, *_ends(row, name)
        if row["parameterization"] == "SP":
            yield "R(∞)", law["SP"].L_inf - law["SP+Embd"].L_inf, *_ends(row, "R")


def _errors(group, row, law, noise_of_width, common, rng):
    """E, E_extrap and the octave error, each beside what repeats of the same runs would give."""
    if group.fit.law is None:
        return
    points = group.fit.basins
    truth = law[group.key[0]]
    scale_Wx1 = points.scale_W[:, None]
    exact_WxP = truth.loss(scale_Wx1, points.origin_W[:, None] + points.u_WxP / np.log(2))
    noise_Wx1 = np.array([noise_of_width[width] for width in points.scale_W])[:, None]
    own_BxWxP = rng.standard_normal((REPEATS, *exact_WxP.shape))
    shared_BxWxS = rng.standard_normal((REPEATS, len(scale_Wx1), points.seed_WxP.max() + 1))
    shared_BxWxP = np.take_along_axis(shared_BxWxS, points.seed_WxP[None], -1)
    noise_BxWxP = noise_Wx1 * (np.sqrt(1 - common) * own_BxWxP + np.sqrt(common) * shared_BxWxP)
    loss_DxWxP = exact_WxP + np.concatenate([np.zeros_like(noise_BxWxP[:1]), noise_BxWxP])
    skew_S = np.linspace(*SKEW_RANGE, TRIALS)
    trials = skew_S, skew_cost(skew_S, np.mean(noise_Wx1**2))
    fit = fit_laws(points, WellFit(points, *trials)(loss_DxWxP))
    E_D = figures.E(fit, points, loss_DxWxP)
    E_extrap_D, octaves_D = figures.E_extrap(points, loss_DxWxP, *trials)
    truths = {
        "E": np.sqrt(np.mean(E_D[1:] ** 2)),
        "E_extrap": np.sqrt(np.mean(E_extrap_D[1:] ** 2)),
        "octave_error": abs(octaves_D[0]),
    }
    for name, value in truths.items():
        yield name, float(value), *_ends(row, name)


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
        one_sweep(d, designs[d], shape, skew, common, bootstraps, seed + i, resample, **options)
        for i, d in enumerate(deal)
    ]
    table = pd.concat(runs, ignore_index=True)
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
    options = vars(parser.parse_args())
    start = time.perf_counter()
    result = coverage(**options)
    print(f"nominal 95 % intervals, {options}, {time.perf_counter() - start:.0f} s")
    print(result.round(4).round(dict.fromkeys(("covered", "below", "above"), 1)).to_string())


if __name__ == "__main__":
    main()
