"""Solutions of notebook 04, and mistakes that are often made."""


def hidden(m):
    """At the start √n · std stays, in a step n · lr."""
    return m**-0.5, 1 / m


def embedding(m):
    """One row, no sum: neither changes."""
    return 1, 1


def readout(m):
    """The activations align with the initial readout too, for their gradient came through it: both are
    aligned sums over fan_in."""
    return 1 / m, 1 / m


MISTAKES = {
    "hidden": [
        lambda m: (1 / m, m**-0.5),  # the learning rate first
        lambda m: (m**-0.5, m**-0.5),  # a step's sum taken for independent
        lambda m: (1 / m, 1 / m),  # the start's sum taken for aligned
        lambda m: (1, 1 / m),
        lambda m: 1 / m,  # one of two
    ],
    "embedding": [
        lambda m: (1, m),  # right for η the hidden rate at this width; here it is the one at the base width
        lambda m: (m**-0.5, 1),
        lambda m: (m**-0.5, 1 / m),  # a hidden matrix
        lambda m: 1,
    ],
    "readout": [
        lambda m: (m**-0.5, 1 / m),  # the trap
        lambda m: (1 / m, 1),  # Table 8's rate without its multiplier
        lambda m: (1, 1 / m),
        lambda m: (m**-0.5, m**-0.5),
    ],
}
