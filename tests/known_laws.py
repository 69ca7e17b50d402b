"""Sweeps of known laws that many tests share."""

import numpy as np

from hpt.analysis.synthetic import Law, synthetic_sweep
from hpt.metrics.basin import gather
from hpt.metrics.bootstrap import SharedDraws
from hpt.metrics.group import fit_group
from hpt.metrics.noise import CommonNoise

LAWS = {
    "SP": Law(),
    "SP+Embd": Law(L_inf=2.42, beta=0.9, gamma=1.5),
    "μP": Law(L_inf=2.4, alpha=0.55, beta=1.0, gamma=1.7),
}
WIDTHS = (32, 64, 128, 256, 512)


def noisy(laws=LAWS, **changes):
    """A sweep with a little noise and two seeds."""
    return synthetic_sweep(laws, **{"widths": WIDTHS, "noise": 0.005, "seeds": 2} | changes)


def fitted(**changes):
    """The fit of a sweep of one group, of four widths unless told otherwise."""
    settings = {"widths": WIDTHS[:4], "noise": 0.01, "seeds": 2}
    table = synthetic_sweep(Law(shape="linex"), **settings | changes)
    return fit_group((), gather(table[np.isfinite(table.loss)], "width"))


def shared_draws(fit, B=400, common=None, seeds_W=None, seed=0):
    """What replicates of a fit have in common with those of other groups."""
    shape = B, len(fit.points.scale_W), 1 + int(fit.points.seed_WxP.max())
    rng = np.random.default_rng(seed)
    return SharedDraws.draw(common or CommonNoise.none(), shape, rng, seeds_W)
