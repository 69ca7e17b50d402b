"""Every call that an error prints is run here, and gives what was asked for."""

import ast
import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import hpt
from hpt.errors import HptError

CALL = re.compile(r"\b(param_groups|coord_check|audit)\(")
IDS = torch.randint(50, (4, 9), generator=torch.Generator().manual_seed(0))
LR = 2**-9


class Net(nn.Module):
    def __init__(self, n, rows=50, classes=50):
        super().__init__()
        self.words, self.body = nn.Embedding(rows, n), nn.Linear(n, n)
        self.out = nn.Linear(n, classes, bias=False)

    def forward(self, ids):
        return self.out(self.body(self.words(ids)))


class Marked(Net):
    """With a parameter that no layer explains."""

    def __init__(self, n):
        super().__init__(n)
        self.mark = nn.Parameter(torch.zeros(1, 5, n))


class Wrapped(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.net, self.value = Net(n), nn.Linear(n, 1)


class Raw(nn.Module):
    """An embedding that is no nn.Embedding."""

    def __init__(self, n):
        super().__init__()
        self.patch, self.out = nn.Linear(50, n), nn.Linear(n, 50)


class Tied(Net):
    """Its readout starts at zero."""

    def __init__(self, n):
        super().__init__(n)
        nn.init.zeros_(self.out.weight)


def loss(model):
    return F.cross_entropy(model(IDS[:, :-1]).flatten(0, 1), IDS[:, 1:].flatten())


def llama(n, extra=False):
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": n, "intermediate_size": 2 * n, "num_attention_heads": 4, "num_hidden_layers": 1}
    with torch.device("meta"):
        model = transformers.LlamaForCausalLM(transformers.LlamaConfig(vocab_size=96, **sizes))
        if extra:
            model.value = nn.Linear(n, 1)
    return model


def groups(model, **options):
    return hpt.param_groups(model, "sp+embd", lr=LR, **options)


def check(make=Net, widths=(8, 16, 32), steps=1):
    return hpt.coord_check(make, widths, "mup-table3", loss=loss, lr=LR, steps=steps, seeds=1)


ASKED = '"sp+embd", lr=LR'
CHECKED = '"mup-table3", loss=loss, lr=LR, seeds=1, steps=1'
#: The mistake, what its call is run with in place of "…", and the names in it.
CASES = {
    "no base": (lambda: groups(Net(32)), ASKED, {"model": Net(32), "base": Net(16)}),
    "no base width": (lambda: groups(llama(512)), ASKED, {"model": llama(512)}),
    "a width as base": (lambda: groups(Net(32), base_model=16), ASKED, {"model": Net(32), "base": Net(16)}),
    "a wrapper": (
        lambda: groups(Wrapped(32), base_model=Net(16)),
        ASKED,
        {"model": Wrapped(32), "base": Wrapped(16)},
    ),
    "a head of its own": (
        lambda: groups(llama(64, extra=True), base_width=32),
        ASKED,
        {"model": llama(64, extra=True), "base": llama(32, extra=True)},
    ),
    "rows": (
        lambda: groups(Net(64, 64), base_model=Net(32, 32)),
        ASKED,
        {"model": Net(64, 64), "base": Net(32, 64)},
    ),
    "classes": (
        lambda: groups(Net(64, classes=10), base_model=Net(32, classes=5)),
        f"model, {ASKED}, base_model=base",
        {"model": Net(64, classes=10), "base": Net(32, classes=5)},
    ),
    "raw parameter": (
        lambda: groups(Marked(32), base_model=Marked(16)),
        f"model, {ASKED}, base_model=base",
        {"model": Marked(32), "base": Marked(16)},
    ),
    "no table": (
        lambda: hpt.embedding_lr_groups(Raw(32), lr=LR, width=32),
        "LR",
        {"model": Raw(32), "base": Raw(16)},
    ),
    "one rate for Muon": (
        lambda: groups(Net(32), base_model=Net(16), optimizer="muon"),
        'model, "mup-table3", base_model=base',
        {"model": Net(32), "base": Net(16)},
    ),
    "two widths": (lambda: check(widths=[8, 16]), CHECKED, {"make_model": Net}),
    "one width": (lambda: check(lambda n: Net(8)), f"[8, 16, 32], {CHECKED}", {}),
    "zero readout": (lambda: check(Tied), f"Tied, [8, 16, 32], {CHECKED[:-9]}", {"Tied": Tied}),
    "no loss": (
        lambda: hpt.audit(Net, [8, 16, 32], "mup-table3"),
        "loss(model)",
        {"make_model": Net, "widths": [8, 16, 32], "rule": "mup-table3"},
    ),
}


def message(mistake):
    with pytest.raises(HptError) as error:
        mistake()
    return str(error.value)


def call_in(text):
    """The call that a message prints, up to the bracket that closes it."""
    start = CALL.search(text).start()
    depth = 0
    for end, letter in enumerate(text[start:], start):
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if letter == ")" and depth == 0:
            return text[start : end + 1]
    raise AssertionError(text)


@pytest.mark.parametrize("case", CASES)
def test_the_call_that_is_printed_works(case):
    mistake, asked, names = CASES[case]
    call = call_in(message(mistake)).replace("…", asked)
    names = {"LR": LR, "loss": loss, "Net": Net, **names}
    result = eval(f"hpt.{call}", {"hpt": hpt, **names})
    if isinstance(result, list):
        model = names["model"]
        table = next(p for p in model.parameters() if p.ndim == 2)
        rates = {p: group["lr"] for group in result for p in group["params"]}
        assert set(rates) == set(model.parameters())
        assert rates[table] == (3e-4 if case == "one rate for Muon" else 2 * LR)
    else:
        assert len(getattr(result, "check", result).table)


def test_no_printed_call_is_left_out():
    """All calls in the wing's errors, read off its code, are in the messages of the cases."""
    printed = set()
    for file in Path(hpt.parameterization.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            is_error = isinstance(node, ast.Call) and getattr(node.func, "id", "").endswith("Error")
            texts = [each.value for each in ast.walk(node) if isinstance(each, ast.Constant)] * is_error
            printed |= {text for text in texts if isinstance(text, str) and CALL.search(text)}
    messages = [message(mistake) for mistake, _, _ in CASES.values()]
    assert len(printed) > 8
    assert not {text for text in printed if not any(text in each for each in messages)}
