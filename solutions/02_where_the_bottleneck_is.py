"""Solutions of notebook 02, and mistakes that are often made."""

import numpy as np


def update_size(lr, fan_in, lookup):
    """A matrix adds up fan_in aligned moves of size lr; a lookup picks one."""
    return lr if lookup else lr * fan_in


def hidden_rate(width, tuned_lr, tuned_width):
    """rate · width stays."""
    return tuned_lr * tuned_width / width


def one_token_update(delta, x, lr):
    """sign(delta xᵀ) x = sign(delta) · Σ|x|: with one token every term has the same sign, so n terms make
    n times the size. Over many tokens the sign of a sum of outer products does not factorize."""
    return -lr * np.sign(delta) * np.abs(x).sum()


MISTAKES = {
    "update_size": [
        lambda lr, fan_in, lookup: lr * fan_in,  # a lookup does not sum
        lambda lr, fan_in, lookup: lr * fan_in if lookup else lr,  # the other way round
        lambda lr, fan_in, lookup: lr if lookup else lr * fan_in**0.5,  # aligned moves, not independent
        lambda lr, fan_in, lookup: lr if lookup else lr / fan_in,
        lambda lr, fan_in, lookup: lr,
    ],
    "hidden_rate": [
        lambda width, tuned_lr, tuned_width: tuned_lr,  # does not transfer
        lambda width, tuned_lr, tuned_width: tuned_lr * width / tuned_width,  # upside down
        lambda width, tuned_lr, tuned_width: tuned_lr * (tuned_width / width) ** 0.5,  # half the power
        lambda width, tuned_lr, tuned_width: tuned_lr / width,  # forgets where it was tuned
    ],
    "one_token_update": [
        lambda delta, x, lr: lr * np.sign(delta) * np.abs(x).sum(),  # uphill
        lambda delta, x, lr: -lr * np.sign(delta) * x.sum(),  # x's own signs cancel in sign(x)·x
        lambda delta, x, lr: -lr * delta * (x @ x),  # plain gradient descent, not Adam
        lambda delta, x, lr: -lr * np.sign(delta) * np.sqrt(x @ x),  # the 2-norm in place of the 1-norm
        lambda delta, x, lr: -lr * np.sign(np.outer(delta, x)),  # ΔW, not yet ΔW x
    ],
}
