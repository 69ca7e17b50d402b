"""Solutions of notebook 01, and mistakes that are often made."""


def price(narrow, wide):
    """The narrow model decides the rate; the wide one pays, against its own best."""
    tuned = min(narrow, key=narrow.get)
    return wide.get(tuned, float("nan")) - min(wide.values())


def switched(step, switch, early, late):
    """Steps 0 to switch − 1 are early."""
    return early if step < switch else late


MISTAKES = {
    "switched": [
        lambda step, switch, early, late: early if step <= switch else late,  # one step too many
        lambda step, switch, early, late: late if step < switch else early,  # the wrong way round
        lambda step, switch, early, late: early,  # never switches
        lambda step, switch, early, late: early + (late - early) * step / switch,  # a ramp
    ],
    "price": [
        lambda narrow, wide: min(narrow.values()) - min(wide.values()),  # what width is worth
        lambda narrow, wide: wide.get(min(narrow), float("nan")) - min(wide.values()),  # lowest rate
        lambda narrow, wide: wide[min(narrow, key=narrow.get)] - min(wide.values()),  # off the grid: KeyError
        lambda narrow, wide: wide.get(min(narrow, key=narrow.get), float("nan")) - min(narrow.values()),
        lambda narrow, wide: max(wide.values()) - min(wide.values()),  # the worst that could happen
    ],
}
