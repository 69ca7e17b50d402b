"""Solutions of notebook 03, and mistakes that are often made."""


def embedding_lr(lr, width, base_width=1):
    """lr falls as 1/width; times the width it stays."""
    return lr * width / base_width


def groups(model, lr, base_width=1):
    """Both embeddings, of tokens and of positions, are lookups; all else trains at lr."""
    named = list(model.named_parameters())
    lookups = [parameter for name, parameter in named if "embedding" in name]
    others = [parameter for name, parameter in named if "embedding" not in name]
    rate = embedding_lr(lr, model.config.width, base_width)
    return [{"params": lookups, "lr": rate}, {"params": others, "lr": lr}]


def _without_positions(model, lr, base_width=1):
    named = list(model.named_parameters())
    lookups = [parameter for name, parameter in named if name == "token_embedding.weight"]
    others = [parameter for name, parameter in named if name != "token_embedding.weight"]
    rate = embedding_lr(lr, model.config.width, base_width)
    return [{"params": lookups, "lr": rate}, {"params": others, "lr": lr}]


def _embeddings_twice(model, lr, base_width=1):
    everything = {"params": list(model.parameters()), "lr": lr}
    return [everything, groups(model, lr, base_width)[0]]


MISTAKES = {
    "embedding_lr": [
        lambda lr, width, base_width=1: lr,  # SP
        lambda lr, width, base_width=1: lr * width,  # forgets the base width
        lambda lr, width, base_width=1: lr * base_width / width,  # upside down
        lambda lr, width, base_width=1: lr * (width / base_width) ** 0.5,  # half the power
        lambda lr, width, base_width=1: print(lr * width / base_width),  # printed, not returned
    ],
    "groups": [
        lambda model, lr, base_width=1: [{"params": list(model.parameters()), "lr": lr}],  # SP
        _without_positions,  # positions are looked up too
        _embeddings_twice,  # torch takes no parameter in two groups
        lambda model, lr, base_width=1: groups(model, lr, base_width)[:1],  # the rest never trains
        lambda model, lr, base_width=1: groups(model, lr, 1),  # forgets the base width
        lambda model, lr, base_width=1: {"embedding": lr * model.config.width, "hidden": lr},  # no groups
    ],
}
