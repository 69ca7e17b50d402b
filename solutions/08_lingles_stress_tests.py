"""Solutions of notebook 08, and mistakes that are often made."""


def best_even(rates):
    """The rate of the lowest loss among those whose log2 is even."""
    return min((x for x in rates if x % 2 == 0), key=rates.get)


def transfers(losses):
    """The best of every second rate is the same at all widths."""
    return len({best_even(rates) for rates in losses.values()}) == 1


MISTAKES = {
    "transfers": [
        lambda losses: len({min(rates, key=rates.get) for rates in losses.values()}) == 1,  # every rate
        lambda losses: len({best_even(rates) for rates in losses.values()}),  # how many there are
        lambda losses: len({best_even(rates) for rates in losses.values()}) > 1,  # the opposite
        lambda losses: len({min(rates.values()) for rates in losses.values()}) == 1,  # losses, not rates
        lambda losses: True,  # always
    ]
}
