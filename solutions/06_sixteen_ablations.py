"""Solutions of notebook 06, and mistakes that are often made."""


def main_effect(loss):
    """On minus off with the other off, on minus off with the other on, and their mean."""
    return ((loss[1, 0] - loss[0, 0]) + (loss[1, 1] - loss[0, 1])) / 2


MISTAKES = {
    "main_effect": [
        lambda loss: loss[1, 0] - loss[0, 0],  # only where the other is off
        lambda loss: loss[1, 1] - loss[0, 0],  # both at once
        lambda loss: (loss[1, 0] - loss[0, 0]) + (loss[1, 1] - loss[0, 1]),  # the sum
        lambda loss: ((loss[0, 0] - loss[1, 0]) + (loss[0, 1] - loss[1, 1])) / 2,  # off minus on
        lambda loss: ((loss[0, 1] - loss[0, 0]) + (loss[1, 1] - loss[1, 0])) / 2,  # of the other switch
        lambda loss: (loss[1, 1] - loss[0, 1]) - (loss[1, 0] - loss[0, 0]),  # the interaction
    ]
}
