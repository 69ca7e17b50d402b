"""The adaptive search against the full grid, on synthetic twins of a profile whose truth is known.

    python benchmarks/adaptive.py --sweeps 100 --target 0.5

Both plans are :meth:`hpt.Study.plan` itself, fed with the same losses: a run has the same noise in
both. The laws are about those that the quick profile measures, with the optimum of each
parameterization moved by up to half an octave from sweep to sweep.
"""

from __future__ import annotations

import argparse
import dataclasses
import time

import numpy as np
import pandas as pd

from hpt.analysis.synthetic import Law, synthetic_sweep
from hpt.metrics.transfer import basins
from hpt.study.cost import run_flops
from hpt.study.profiles import load_profile
from hpt.study.study import Study

LAWS = {
    "SP": Law(L_inf=3.7, A=2.8, alpha=0.4, beta=0.7, gamma=1.1, log2_lr=-7.4, curvature=0.64, skew=1.2),
    "SP+Embd": Law(
        L_inf=3.7, A=5.0, alpha=0.74, beta=0.95, gamma=2.06, log2_lr=-7.5, curvature=0.17, skew=0.5
    ),
    "μP": Law(L_inf=3.7, A=3.6, alpha=0.6, beta=0.83, gamma=1.68, log2_lr=-9.0, curvature=0.23, skew=0.9),
}


def twin(study: Study, *, noise: float, common: float, shape: str, seed: int):
    """The laws of one sweep by parameterization, and the loss of every run that a plan might ask
    for."""
    rng = np.random.default_rng([seed, 11])
    laws = {}
    for name in map(str, study.parameterizations):
        moved = LAWS[name].log2_lr + rng.uniform(-0.5, 0.5)
        laws[name] = dataclasses.replace(LAWS[name], shape=shape, log2_lr=moved)
    ends = [x for grid in study.log2_lrs.values() for x in grid]
    lattice = np.arange(min(ends) - study.extend, max(ends) + study.extend + 0.5, 0.5)
    table = synthetic_sweep(
        laws,
        widths=study.widths,
        log2_lrs=lattice,
        seeds=max(study.seeds, *map(study.best_seeds_at, study.widths)),
        noise=noise,
        common=common,
        seed=seed,
    )
    cells = zip(table.parameterization, table.width, table.log2_lr, table.seed, strict=True)
    return laws, dict(zip(cells, table.loss, strict=True))


def search(study: Study, losses: dict) -> tuple[pd.DataFrame, int]:
    """The table that the study ends with, and how often it asked for runs."""
    known: dict = {}
    rounds = 0
    while new := [c for c in study.plan(known) if c not in known]:
        rounds += 1
        known |= {
            c: losses[str(c.parameterization), c.model.width, round(2 * np.log2(c.train.lr)) / 2, c.seed]
            for c in new
        }
    rows = [
        (str(c.parameterization), c.model.width, c.train.lr, c.seed, loss, run_flops(c))
        for c, loss in known.items()
    ]
    return pd.DataFrame(rows, columns=["parameterization", "width", "lr", "seed", "loss", "flops"]), rounds


def one_sweep(study: Study, laws: dict[str, Law], losses: dict, seed: int) -> pd.DataFrame:
    """One row a basin: interval, error, whether it covers the truth, runs and FLOPs."""
    table, rounds = search(study, losses)
    wells = basins(table, bootstraps=400, seed=seed)
    truth = [float(laws[p].best_log2_lr(w)) for p, w in zip(wells.parameterization, wells.width, strict=True)]
    cost = table.groupby(["parameterization", "width"]).flops.agg(["size", "sum"]).to_numpy()
    return pd.DataFrame(
        {
            "plan": study.search,
            "sweep": seed,
            "parameterization": wells.parameterization,
            "width": wells.width,
            "interval": wells.log2_lr_high - wells.log2_lr_low,
            "error": (wells.log2_lr - truth).abs(),
            "covered": (wells.log2_lr_low <= truth) & (truth <= wells.log2_lr_high),
            "runs": cost[:, 0],
            "flops": cost[:, 1],
            "rounds": rounds,
        }
    )


def compare(
    sweeps: int = 100,
    *,
    target: float = 0.5,
    study: Study | None = None,
    noise: float = 0.02,
    common: float = 0.2,
    shape: str = "bent",
    seed: int = 0,
) -> pd.DataFrame:
    """Every basin of both plans over many sweeps, as :func:`one_sweep` has it.

    Parameters
    ----------
    sweeps: how many. target: octaves, of the adaptive search. study: by default the quick profile.
    noise: nats of one run; common: the share of its variance that runs of one width and seed have
        in common.
    shape: of the basins, as in :class:`hpt.Law`.
    """
    # The whole grid with two seeds around the best is the measure.
    two = {"best_seeds": 2, "best_neighbours": {}}
    study = dataclasses.replace(study or load_profile("quick"), **two)
    found = []
    for i in range(seed, seed + sweeps):
        laws, losses = twin(study, noise=noise, common=common, shape=shape, seed=i)
        for kind in ("grid", "adaptive"):
            found.append(one_sweep(dataclasses.replace(study, search=kind, target=target), laws, losses, i))
    return pd.concat(found, ignore_index=True)


def summary(basins_of_both: pd.DataFrame, by: tuple[str, ...] = ()) -> pd.DataFrame:
    """One row a plan (and group): interval and error in octaves, coverage in percent, runs and
    FLOPs of a sweep.

    runs_to_grid and flops_to_grid are shares of the grid's at the grid's mean interval, where an
    interval is taken to shrink as one over the root of the runs; "open" intervals (%) have no width
    and are left out of the mean.
    """
    table = basins_of_both.assign(
        open=100.0 * ~np.isfinite(basins_of_both.interval),
        interval=basins_of_both.interval.where(np.isfinite(basins_of_both.interval)),
    )
    sweeps = table.sweep.nunique()
    grouped = table.groupby([*by, "plan"], sort=False)
    made = grouped.agg(
        interval=("interval", "mean"),
        open=("open", "mean"),
        error=("error", "median"),
        covered=("covered", lambda v: 100 * v.mean()),
        runs=("runs", lambda v: v.sum() / sweeps),
        flops=("flops", lambda v: v.sum() / sweeps),
        rounds=("rounds", "mean"),
    )
    for cost in ("runs", "flops"):
        spent = made[cost] * made.interval**2
        grid = spent.xs("grid", level="plan") if by else spent["grid"]
        made[f"{cost}_to_grid"] = spent.div(grid, level=by[0]) if by else spent / grid
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sweeps", type=int, default=100)
    parser.add_argument("--target", type=float, default=0.5, help="octaves")
    parser.add_argument("--noise", type=float, default=0.02, help="nats")
    parser.add_argument("--common", type=float, default=0.2)
    parser.add_argument("--shape", default="bent", choices=("parabola", "linex", "bent", "kinked"))
    parser.add_argument("--seed", type=int, default=0)
    options = vars(parser.parse_args())
    start = time.perf_counter()
    found = compare(**options)
    print(f"quick profile's synthetic twin, {options}, {time.perf_counter() - start:.0f} s")
    print(summary(found).round(3).to_string())
    print(summary(found, ("parameterization",)).round(3).to_string())


if __name__ == "__main__":
    main()
