"""The budget game: spend FLOPs on a map of losses, then commit a learning rate for the largest width."""

from __future__ import annotations

import functools

import numpy as np
import pandas as pd

from hpt.analysis.predict import predict_lr
from hpt.analysis.synthetic import Law, synthetic_sweep
from hpt.errors import ConfigError, did_you_mean
from hpt.metrics.transfer import transfer_report
from hpt.runs.run_config import run_flops
from hpt.study.adaptive import Search
from hpt.study.references import reference

#: Width of the interval of log2 η* at which adaptive search stops, octaves.
TARGET = 0.5


class Game:
    """One game.

    Parameters
    ----------
    variant: one of the sixteen, whose stored runs are the map (``hpt.reference("sixteen")``; between
        stored rates the loss is interpolated).
    seed: draws a map from a known law in place of the stored one.
    budget: FLOPs; by default three runs of the largest width.

    Attributes
    ----------
    flops: of one run of each width; all are for sale.
    rates: of each width, log2 of the lowest and the highest learning rate on the map.
    left: FLOPs not yet spent.
    bought: each run's width, log2_lr, lr and loss (nats a token).

    Raises
    ------
    ConfigError: for an unknown variant.
    """

    def __init__(self, variant: str = "SP", *, seed: int | None = None, budget: float | None = None):
        study = _stored()
        configs = {result.config.model.width: result.config for result in study.results}
        self.flops = {width: run_flops(configs[width]) for width in sorted(configs)}
        table = study.table
        known = set(table["parameterization"])
        if variant not in known:
            raise ConfigError(f"no map is of {variant!r}.", did_you_mean(variant, known))
        runs = table.query("parameterization == @variant")
        if seed is not None:
            runs = _drawn(seed, list(self.flops))
        means = runs.groupby(["width", "log2_lr"])["loss"].mean()
        self._losses = {width: means[width] for width in self.flops}
        self.rates = {width: (min(known.index), max(known.index)) for width, known in self._losses.items()}
        self._widest = max(self.flops)
        self.left = budget
        if budget is None:
            self.left = 3 * self.flops[self._widest]
        self.bought = []

    def buy(self, width: int, log2_lr: float) -> float:
        """The loss of a run, nats a token, for its FLOPs.

        Raises
        ------
        ConfigError: for what is not on the map, and where the budget does not reach.
        """
        low, high = self.rates.get(width, (0, 0))
        if not low <= log2_lr <= high or low == high:
            raise ConfigError(f"{width=}, {log2_lr=} is not on the map.", remedy=f"one of {self.rates}")
        price = self.flops[width]
        if price > self.left:
            raise ConfigError(f"a run of width {width} costs {price:.2g} FLOPs; {self.left:.2g} are left.")
        self.left -= price
        run = self._run(width, log2_lr)
        self.bought.append(run)
        return run["loss"]

    def commit(self, log2_lr: float) -> pd.DataFrame:
        """Your learning rate for the largest width, scored beside par: its log2, the FLOPs spent, and the
        regret, nats above the best there (at least that, for a rate beyond the map's). It ends the game;
        nan commits nothing, and shows par alone.

        Par: the best rate of the narrowest width unchanged, and times the ratio of widths; hpt's adaptive
        search on all but the largest width with its prediction; the largest width's whole grid.
        """
        narrowest = min(self.flops)
        tuned = self._losses[narrowest].idxmin()
        swept = len(self._losses[narrowest]) * self.flops[narrowest]
        own = self._losses[self._widest]
        rows = {
            "you": (log2_lr, self._spent(self.bought)),
            "unchanged": (tuned, swept),
            "1/n": (tuned - np.log2(self._widest / narrowest), swept),
            "adaptive": self._adaptive(),
            "full grid": (own.idxmin(), len(own) * self.flops[self._widest]),
        }
        table = pd.DataFrame.from_dict(rows, orient="index", columns=["log2_lr", "FLOPs"])
        losses = [self._run(self._widest, rate)["loss"] for rate in table["log2_lr"]]
        table["regret"] = np.array(losses) - own.min()
        if np.isfinite(log2_lr):
            self.left = 0.0
        return table

    def _run(self, width, log2_lr):
        known = self._losses[width]
        loss = float(np.interp(log2_lr, known.index, known))
        return {"width": width, "log2_lr": log2_lr, "lr": 2.0**log2_lr, "loss": loss}

    def _spent(self, runs):
        return sum(self.flops[run["width"]] for run in runs)

    def _adaptive(self):
        """The rate that adaptive search predicts for the largest width, and its FLOPs."""
        grids = []
        for width, known in self._losses.items():
            if width != self._widest:
                grids.append((width, tuple(known.index)))
        search = Search((tuple(grids),), TARGET, most_seeds=1, extend=0)
        plan = search.runs(lambda run: self._run(run.width, run.log2_lr)["loss"])
        runs = [self._run(run.width, run.log2_lr) for run in plan]
        report = transfer_report(pd.DataFrame(runs), bootstraps=100)
        found = predict_lr(report, width=self._widest)
        return found["log2_lr"].iloc[0], self._spent(runs)


@functools.cache
def _stored():
    return reference("sixteen")


def _drawn(seed, widths):
    """The sweep of a law that the seed draws."""
    rng = np.random.default_rng(seed)
    law = Law(
        beta=rng.uniform(0.2, 1.2),
        log2_lr=rng.uniform(-9, -6),
        curvature=rng.uniform(0.05, 0.4),
        skew=rng.uniform(0, 1),
        diverges_above=8,
    )
    return synthetic_sweep(law, widths=widths, noise=0.005, seed=seed)
