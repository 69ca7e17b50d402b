"""Figures that others published, to compare with.

Kalra & Barkeshli 2026 give E and κ of their variants on the interactive page of their analysis: GPT of 12
layers, widths 128 to 2048, FineWeb-Edu, 10 000 steps. They publish no intervals.
"""

from __future__ import annotations

from importlib import resources

import pandas as pd
from scipy import stats

from hpt.metrics.intervals import Figure
from hpt.metrics.report import TransferReport


def kalra_2026() -> pd.DataFrame:
    """E (nats) and κ of Kalra & Barkeshli's variants without weight decay; index: parameterization. SP+Attn
    and SP+Last are not there at this weight decay."""
    return _published("kalra_2026.csv")


def kalra_2026_by_decay() -> pd.DataFrame:
    """Their geometric means of E over the variants without and with Embd, and the median κ of those with
    it, computed from all their points; index: weight decay λ. Whether their decay is coupled to the
    learning rate they do not say."""
    return _published("kalra_2026_by_decay.csv")


def _published(file):
    return pd.read_csv(resources.files("hpt.analysis") / file, index_col=0)


def rank_agreement(report: TransferReport, figure: str = "E") -> Figure:
    """Spearman's rank correlation between a report's variants and Kalra & Barkeshli's, on "E" or "kappa".

    The interval is a bootstrap over variants (percentiles of 999 resamples); it says how far the order of
    so few variants can be trusted, not how sure each place in it is. n is the number of variants.
    """
    here = report.to_frame().set_index("parameterization")[figure]
    both = kalra_2026()[[figure]].join(here.rename("here")).dropna()
    if len(both) < 3:
        return Figure.nothing("fewer than three variants in common", len(both))
    pair = both[figure].to_numpy(), both["here"].to_numpy()
    found = stats.bootstrap(
        pair, _rank_correlation, paired=True, vectorized=False, rng=0, n_resamples=999, method="percentile"
    )
    ends = tuple(found.confidence_interval)
    reason = "the interval holds zero" if ends[0] <= 0 <= ends[1] else ""
    return Figure.of(_rank_correlation(*pair), ends, reason, "bootstrap over variants", len(both))


def _rank_correlation(x, y):
    return stats.spearmanr(x, y).statistic
