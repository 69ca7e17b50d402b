"""A solution of notebook 13: what each fault looks like in the rates at two widths, over those of Table 3."""

#: Of each fault: the role, and the rate over the healthy one as a function of m.
SIGNS = {
    "hidden not ÷ m": ("hidden", lambda m: m),
    "hidden ÷ √m": ("hidden", lambda m: m**0.5),
    "readout not ÷ m": ("readout", lambda m: m),
    "embedding ÷ m": ("embedding", lambda m: 1 / m),
    "embedding ÷ 16": ("embedding", lambda m: 1 / 16),
    "vectors ÷ m": ("vector", lambda m: 1 / m),
}


def fault_of(rates):
    """The fault of an optimizer from its rates, over the one at the base width: {m: {role: rate}}.

    At the base width alone, m = 1, only the constant shows; at m = 16 alone it is not told from ÷ m.
    """
    healthy = {m: {"embedding": 1, "vector": 1, "hidden": 1 / m, "readout": 1 / m} for m in rates}
    for fault, (role, factor) in SIGNS.items():
        if all(abs(rates[m][role] / healthy[m][role] / factor(m) - 1) < 1e-6 for m in rates):
            return fault
    return "none"
