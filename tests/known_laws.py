"""Sweeps of known laws that many tests share."""

from hpt.analysis.synthetic import Law, synthetic_sweep

LAWS = {
    "SP": Law(),
    "SP+Embd": Law(L_inf=2.42, beta=0.9, gamma=1.5),
    "μP": Law(L_inf=2.4, alpha=0.55, beta=1.0, gamma=1.7),
}
WIDTHS = (32, 64, 128, 256, 512)


def noisy(laws=LAWS, **changes):
    """A sweep with a little noise and two seeds."""
    return synthetic_sweep(laws, **{"widths": WIDTHS, "noise": 0.005, "seeds": 2} | changes)
