"""Columns by the names that people have, and the numbers in their cells."""

import numpy as np
import pandas as pd
import pytest

from hpt.errors import TableError
from hpt.metrics.columns import numbers, plain
from hpt.metrics.table import read_table

TABLE = pd.DataFrame({"width": [64, 64, 128], "lr": [0.01, 0.02, 0.01], "loss": [3.0, 3.1, 2.9]})


@pytest.mark.parametrize(
    "names",
    [
        ("n_embd", "learning_rate", "val_loss"),
        ("d_model", "max_lr", "eval_loss"),
        ("hidden_size", "peak_lr", "val/loss"),
        ("config/model_dim", "config/lr", "summary/val_loss"),
        ("params.n_embd", "params.learning_rate", "metrics.val_loss"),
        ("params_width", "params_lr", "value"),
        ("Width", "LearningRate", "Val Loss"),
        ("model.d_model", "optimizer.lr", "eval/loss"),
        ("nEmbd", "LR", "train_loss"),
    ],
)
def test_usual_names_are_found_and_told(names):
    sweep = read_table(TABLE.set_axis(list(names), axis=1))
    pd.testing.assert_frame_equal(sweep.frame, read_table(TABLE).frame)
    assert len(sweep.notes) == 3 and all(f"{name!r} taken for" in str(sweep.notes) for name in names)


def test_where_two_fit_the_reader_says_which():
    both = TABLE.rename(columns={"loss": "val_loss"}).assign(test_loss=9.0)
    with pytest.raises(TableError, match="all fit 'loss'") as caught:
        read_table(both)
    assert "'val_loss': 'loss'" in caught.value.remedy
    pd.testing.assert_frame_equal(
        read_table(both, loss="val_loss", ignore="test_loss").frame, read_table(TABLE).frame
    )
    beside = read_table(TABLE.assign(val_loss=[1.0, 2.0, 3.0]))
    assert beside.frame.loss.max() == 3.1 and "not 'val_loss'" in beside.notes[0]
    with pytest.raises(TableError, match="loss='vall' is not"):
        read_table(both, loss="vall")


def test_names_without_prefix_case_and_marks():
    names = ("config/n_embd", "nEmbd", "n-embd", "params.N_Embd", "summary/config.n embd")
    assert {plain(name) for name in names} == {"n_embd"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2^-9", 2.0**-9),
        ("2**-9", 2.0**-9),
        ("10^(-3)", 1e-3),
        ("1/512", 1 / 512),
        ("125M", 125e6),
        ("1.3B", 1.3e9),
        ("3e-4", 3e-4),
        ("0,001", 0.001),
        ("3,5", 3.5),
        ("1,024", np.nan),
        ("−4", -4.0),
        ("much", np.nan),
        ("1/0", np.nan),
    ],
)
def test_numbers_as_people_write_them(text, value):
    assert numbers(pd.Series([text], dtype=object)).tolist() == pytest.approx([value], nan_ok=True)


@pytest.mark.parametrize("text", ["diverged", "nan", "NaN", "∞", "inf", "Infinity"])
def test_text_that_says_diverged(text):
    table = TABLE.astype({"loss": object})
    table.loc[1, "loss"] = text
    assert np.isinf(read_table(table).frame.loss).sum() == 1
