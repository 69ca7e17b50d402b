"""Solutions of notebook 07, and mistakes that are often made."""


def dose(lr, weight_decay, steps):
    """A step forgets a share lr·λ, and there are that many steps."""
    return lr * weight_decay * steps


def wider_decay(weight_decay, tuned_width, width):
    """lr falls by tuned_width/width, so that λ has to grow by as much."""
    return weight_decay * width / tuned_width


MISTAKES = {
    "dose": [
        lambda lr, weight_decay, steps: weight_decay * steps,  # independent of lr
        lambda lr, weight_decay, steps: lr * weight_decay,  # a step's
        lambda lr, weight_decay, steps: 1 / (lr * weight_decay),  # the span
        lambda lr, weight_decay, steps: lr * steps,  # without λ
    ],
    "wider_decay": [
        lambda weight_decay, tuned_width, width: weight_decay,  # the same λ
        lambda weight_decay, tuned_width, width: weight_decay * tuned_width / width,  # falls with lr
        lambda weight_decay, tuned_width, width: weight_decay * (width / tuned_width) ** 0.5,
        lambda weight_decay, tuned_width, width: width / tuned_width,  # the factor alone
    ],
}
