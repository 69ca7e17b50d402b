"""Solutions of notebook 09, and mistakes that are often made."""


def warmup(step, warmup_steps, m):
    """From 1/m to 1, its logarithm straight."""
    return m ** min(0, step / warmup_steps - 1)


MISTAKES = {
    "warmup": [
        lambda step, warmup_steps, m: m ** (step / warmup_steps - 1),  # goes on rising
        lambda step, warmup_steps, m: min(1, 1 / m + step / warmup_steps),  # straight itself
        lambda step, warmup_steps, m: min(1, step / warmup_steps),  # from zero
        lambda step, warmup_steps, m: m ** min(0, 1 - step / warmup_steps),  # falls
    ]
}
