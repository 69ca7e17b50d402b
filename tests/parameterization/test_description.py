"""The table of a model under a rule adds up and says what groups cannot do."""

from torch import nn

import hpt
from hpt.model.transformer import ModelConfig, Transformer

CONFIG = ModelConfig(width=64, depth=2, d_head=16, vocab_size=50, context=12)


def tied(n):
    model = nn.ModuleDict(
        {"words": nn.Embedding(30, n), "body": nn.Linear(n, n), "out": nn.Linear(n, 30, bias=False)}
    )
    model["out"].weight = model["words"].weight
    return model


def test_what_tying_costs_is_reported():
    text = str(hpt.describe(tied(32), "mup", lr=0.1, base_model=tied(8)))
    assert "words.weight is tied to out.weight and follows the embedding's rule" in text
    assert "steps are 4 " in text and f"start {1 / (32**-0.5 / 2):.4g} times" in text
    other = str(hpt.describe(tied(32), "mup", lr=0.1, base_model=tied(8), tied="readout"))
    assert "follows the readout's rule" in other and "steps are 0.25" in other


def test_description_adds_up():
    model = Transformer(CONFIG)
    d = hpt.describe(model, "sp+embd", lr=0.01, base_width=16, weight_decay=0.1)
    frame, groups = (
        d.to_frame(),
        hpt.param_groups(model, "sp+embd", lr=0.01, base_width=16, weight_decay=0.1),
    )
    assert list(frame["name"]) == [n for n, _ in model.named_parameters()]
    total = d.totals.set_index("role").loc["all"]
    assert total["elements"] == sum(p.numel() for p in model.parameters()) == frame["elements"].sum()
    assert total["tensors"] == len(list(model.parameters()))
    assert all(d.totals[c].iloc[:-1].sum() == total[c] for c in ("elements", "tensors"))
    lr = {id(p): g["lr"] for g in groups for p in g["params"]}
    assert [lr[id(p)] for p in model.parameters()] == list(frame["lr"])
    embedding = frame[frame["name"] == "token_embedding.weight"].iloc[0]
    assert (embedding["m"], embedding["lr"], embedding["init_std"], embedding["shape"]) == (
        4,
        0.04,
        1,
        "50×64",
    )
    text, html = str(d), d._repr_html_()
    assert "blocks.*.mlp.up.weight" in text and "blocks.*.mlp.up.weight" in html and "embedding" in text


def test_description_says_what_groups_cannot_do():
    d = hpt.describe(Transformer(CONFIG), "mup-table8", lr=0.01, base_width=16)
    assert d.frame.set_index("name").loc["readout.weight", "multiplier"] == 0.25
    assert any('forward="absorb"' in n for n in d.notes)
    settled = hpt.describe(Transformer(CONFIG), "mup-table8", lr=0.01, base_width=16, forward="absorb")
    assert (settled.frame["multiplier"] == 1).all() and not settled.notes


def test_the_head_says_which_lr_and_which_base_width():
    """The advice keeps the hidden rate of μP: η of the base over m, by either convention."""
    model = Transformer(CONFIG)
    best_at_base, m = 0.01, 4
    base, hidden = (hpt.describe(model, rule, lr=0.01, base_width=16) for rule in ("mup-table3", "sp+embd"))
    assert "at which you tuned; lr: what was best there, at every width" in str(base)
    assert (
        f"what was best there, divided by m, {m} here" in str(hidden)
        and hidden.advice in hidden._repr_html_()
    )
    followed = hpt.describe(model, "mup", lr=best_at_base / m, base_width=16).frame
    rates = hpt.describe(model, "mup-table3", lr=best_at_base, base_width=16).frame["lr"]
    assert followed["lr"].to_list() == rates.to_list()
