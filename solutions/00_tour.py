"""Solutions of notebook 00, and mistakes that are often made."""

import numpy as np


def octaves(lr, other):
    """From 0.001 to 0.004 the rate doubles twice: two octaves. Downwards the count is negative."""
    return np.log2(other / lr)


def guessing_loss(vocab_size):
    """Even guessing gives each token the probability 1/V, whose −ln is ln V."""
    return np.log(vocab_size)


MISTAKES = {
    "octaves": [
        lambda lr, other: np.log2(lr / other),  # the wrong way round
        lambda lr, other: abs(np.log2(other / lr)),  # downwards counts below zero
        lambda lr, other: np.log(other / lr),  # nats, not octaves
        lambda lr, other: np.log10(other / lr),  # decades
        lambda lr, other: other / lr,  # a factor
    ],
    "guessing_loss": [
        lambda vocab_size: np.log2(vocab_size),  # bits, not nats
        lambda vocab_size: -np.log(vocab_size),  # the log-probability; the loss is minus that
        lambda vocab_size: 1 / vocab_size,  # the probability itself
        lambda vocab_size: vocab_size,  # the perplexity
    ],
}
