"""Solutions of notebook 11, and mistakes that are often made."""

import numpy as np


def transferred(lr, width, target, beta):
    """η* ∝ n^(−β)."""
    return lr * (target / width) ** -beta


def at_edge(losses):
    """The lowest has no neighbour on one side."""
    return np.argmin(losses) in (0, len(losses) - 1)


MISTAKES = {
    "transferred": [
        lambda lr, width, target, beta: lr,  # unchanged
        lambda lr, width, target, beta: lr * width / target,  # 1/n, whatever the runs say
        lambda lr, width, target, beta: lr * (target / width) ** beta,  # upside down
        lambda lr, width, target, beta: lr * target**-beta,  # forgets where it was tuned
        lambda lr, width, target, beta: lr - beta * np.log(target / width),  # logarithms on one side only
    ],
    "at_edge": [
        lambda losses: np.argmin(losses) == 0,  # the other edge
        lambda losses: np.argmin(losses) == len(losses) - 1,
        lambda losses: np.argmax(losses) in (0, len(losses) - 1),  # the worst is nearly always there
        lambda losses: not np.isfinite(losses).all(),  # that is divergence
        lambda losses: np.argmin(losses) in (0, len(losses)),  # off by one
    ],
}
