"""Solutions of notebook 10, and mistakes that are often made."""


def wider(lr, tuned_width, width):
    """A lookup keeps the rate that was best; a hidden matrix sums over width inputs, so its rate falls."""
    return lr, lr * tuned_width / width


MISTAKES = {
    "wider": [
        lambda lr, tuned_width, width: (lr, lr),  # SP, as it was tuned
        lambda lr, tuned_width, width: (lr * tuned_width / width,) * 2,  # SP, scaled: the embedding starves
        lambda lr, tuned_width, width: (lr * width / tuned_width, lr),  # η·m at η unchanged
        lambda lr, tuned_width, width: (lr * tuned_width / width, lr),  # the wrong way round
        lambda lr, tuned_width, width: lr * tuned_width / width,  # the hidden rate alone
        lambda lr, tuned_width, width: (lr, lr * (tuned_width / width) ** 0.5),  # half the power
    ]
}
