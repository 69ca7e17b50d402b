"""Solutions of notebook 05b, and mistakes that are often made."""

import numpy as np


def dearer(kappa, n, times):
    """(times · n)^κ over n^κ: the width where it starts cancels."""
    return times**kappa


def difference_sd(sd, common):
    """Only the parts that are each run's own are left, two variances of sd² · (1 − common)."""
    return sd * np.sqrt(2 * (1 - common))


MISTAKES = {
    "dearer": [
        lambda kappa, n, times: (times * n) ** kappa,  # the price at the wide end, not the factor
        lambda kappa, n, times: times**-kappa,  # upside down
        lambda kappa, n, times: kappa * np.log(times),  # the logarithm of the factor
        lambda kappa, n, times: kappa**times,  # the wrong one is raised
        lambda kappa, n, times: times * kappa,  # a power is no product
    ],
    "difference_sd": [
        lambda sd, common: sd * np.sqrt(1 - common),  # two runs have noise, not one
        lambda sd, common: sd * np.sqrt(2),  # as if nothing were common
        lambda sd, common: 2 * sd * (1 - common),  # variances add, not deviations
        lambda sd, common: sd * np.sqrt(2) * (1 - common),  # common is a share of the variance
        lambda sd, common: sd**2 * 2 * (1 - common),  # the variance
    ],
}
