"""Figures that others published, to compare with.

Kalra & Barkeshli 2026 give E and κ of their variants on the interactive page of their analysis: GPT of 12
layers, widths 128 to 2048, FineWeb-Edu, 10 000 steps. They publish no intervals.
"""

from __future__ import annotations

import pandas as pd
from scipy import stats

from hpt.metrics.report import TransferReport
from hpt.metrics.verdicts import Figure

#: Parameterization, E, κ at weight decay 0; SP+Attn and SP+Last are not there at this weight decay.
_WITHOUT_DECAY = (
    ("SP", 0.0486, -0.228),
    ("SP+Embd", 0.00291, -0.241),
    ("SP+LN", 0.135, 0.437),
    ("SP+Attn+Embd", 0.00037, -3.16),
    ("SP+Attn+LN", 0.103, -0.553),
    ("SP+Attn+Last", 0.0246, -0.691),
    ("SP+Embd+LN", 0.0765, -2.89),
    ("SP+Embd+Last", 0.00140, 0.538),
    ("SP+LN+Last", 0.188, 0.777),
    ("μP-Embd", 0.0650, -0.827),
    ("μP-Attn", 0.0469, -0.0311),
    ("μP-LN", 0.00716, -0.741),
    ("μP-Last", 0.0321, -1.13),
    ("μP", 0.00108, -3.59),
)
#: Weight decay λ, geometric means of E over the variants without and with Embd, median κ of those with it;
#: computed from all their points.
_BY_DECAY = (
    (0.0, 0.077, 0.0058, -0.7),
    (1e-4, 0.047, 0.0037, -1.0),
    (3e-4, 0.070, 0.0022, -2.3),
    (6e-4, 0.032, 0.0021, -2.4),
    (1e-3, 0.032, 0.0025, -2.3),
    (3e-3, 0.029, 0.0071, 0.6),
    (6e-3, 0.025, 0.0085, 0.8),
    (1e-2, 0.023, 0.0141, 0.5),
)


def kalra_2026() -> pd.DataFrame:
    """E (nats) and κ of Kalra & Barkeshli's variants without weight decay; index: parameterization."""
    columns = ["parameterization", "E", "kappa"]
    return pd.DataFrame(_WITHOUT_DECAY, columns=columns).set_index("parameterization")


def kalra_2026_by_decay() -> pd.DataFrame:
    """Their geometric means of E over the variants without and with Embd, and the median κ of those with
    it; index: weight decay λ. Whether their decay is coupled to the learning rate they do not say."""
    columns = ["weight_decay", "E without Embd", "E with Embd", "median kappa with Embd"]
    return pd.DataFrame(_BY_DECAY, columns=columns).set_index("weight_decay")


def rank_agreement(report: TransferReport, figure: str = "E") -> Figure:
    """Spearman's rank correlation between a report's variants and Kalra & Barkeshli's, on "E" or "kappa".

    The interval is a bootstrap over variants (percentiles of 999 resamples); it says how far the order of
    so few variants can be trusted, not how sure each place in it is. n is the number of variants.
    """
    here = report.to_frame().set_index("parameterization")[figure]
    both = kalra_2026()[[figure]].join(here.rename("here")).dropna()
    pair = both[figure].to_numpy(), both["here"].to_numpy()
    found = stats.bootstrap(
        pair, _rank_correlation, paired=True, vectorized=False, rng=0, n_resamples=999, method="percentile"
    )
    ends = tuple(found.confidence_interval)
    reason = "the interval holds zero" if ends[0] <= 0 <= ends[1] else ""
    return Figure.of(_rank_correlation(*pair), ends, reason, "bootstrap over variants", len(both))


def _rank_correlation(x, y):
    return stats.spearmanr(x, y).statistic
