"""Solutions of notebook 12, and mistakes that are often made."""

import numpy as np


def vertex(log2_lr, loss):
    """Of a x² + b x + c the lowest point is −b / (2a)."""
    a, b, _ = np.polyfit(log2_lr, loss, 2)
    return -b / (2 * a)


MISTAKES = {
    "vertex": [
        lambda log2_lr, loss: log2_lr[np.argmin(loss)],  # the best of the grid
        lambda log2_lr, loss: np.polyfit(log2_lr, loss, 2)[1] / (2 * np.polyfit(log2_lr, loss, 2)[0]),  # sign
        lambda log2_lr, loss: -np.polyfit(log2_lr, loss, 2)[1] / np.polyfit(log2_lr, loss, 2)[0],  # the 2
        lambda log2_lr, loss: np.average(log2_lr, weights=1 / np.asarray(loss) ** 2 if min(loss) else None),
        lambda log2_lr, loss: np.mean(log2_lr),
    ]
}
