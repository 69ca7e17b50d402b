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
        ("width (units)", "Learning Rate", "val loss (nats/token)"),
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
    assert caught.value.remedy == "table.drop(columns=['test_loss'])"
    pd.testing.assert_frame_equal(
        read_table(both, loss="val_loss", ignore="test_loss").frame, read_table(TABLE).frame
    )
    beside = read_table(TABLE.assign(val_loss=[1.0, 2.0, 3.0]))
    assert beside.frame.loss.max() == 3.1 and "not 'val_loss'" in beside.notes[0]
    with pytest.raises(TableError, match="no column 'vall'"):
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
        ("2⁻⁹", 2.0**-9),
        ("10⁻³", 1e-3),
        ("3×10⁻⁴", 3e-4),
        ("3·10^{-4}", 3e-4),
        ("3 x 10**-4", 3e-4),
        ("$2^{-9}$", 2.0**-9),
        ("12.5%", 0.125),
        ("1/512", 1 / 512),
        ("125M", 125e6),
        ("1.3B", 1.3e9),
        ("3e-4", 3e-4),
        ("0,001", 0.001),
        ("3,5", 3.5),
        ("1,024", np.nan),
        ("−4", -4.0),
        ("much", np.nan),
        ("3.5 (1)", np.nan),
        ("2_64", np.nan),
        ("64d", np.nan),
        ("1/0", np.nan),
    ],
)
def test_numbers_as_people_write_them(text, value):
    assert numbers(pd.Series([text], dtype=object)).tolist() == pytest.approx([value], nan_ok=True)


def test_integers_beyond_the_floats_are_infinite():
    found = numbers(pd.Series([None, 10**400, -(10**5000), 2**70, True], dtype=object))
    assert found.tolist()[1:] == [np.inf, -np.inf, 2.0**70, 1.0] and np.isnan(found[0])


@pytest.mark.parametrize("label", ["{}d", "w{}", "width={}", "width_{}", "d_model: {}", "{} units", "dim-{}"])
def test_a_word_that_all_sizes_have_is_left_out(label):
    table = TABLE.assign(width=TABLE.width.map(label.format))
    pd.testing.assert_frame_equal(read_table(table).frame, read_table(TABLE).frame)
    mixed = table.assign(width=["gpt2-small", "gpt2-small", "gpt2-large"])
    with pytest.raises(TableError, match="not a number"):
        read_table(mixed)


def test_a_comma_in_a_size_is_for_thousands_and_in_a_loss_it_is_refused():
    assert set(read_table(TABLE.assign(width=["1,024", "1,024", "2,048"])).frame.width) == {1024, 2048}
    with pytest.raises(TableError, match="'3,827' is not a number"):
        read_table(TABLE.assign(loss="3,827"))


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("lr (log2)", 2),
        ("log2(lr)", 2),
        ("log₂ η", 2),
        ("log10_lr", 10),
        ("LR (log10)", 10),
        ("ln(lr)", np.e),
    ],
)
def test_logarithms_of_the_rate(name, base):
    table = TABLE.assign(lr=np.log(TABLE.lr) / np.log(base)).rename(columns={"lr": name})
    pd.testing.assert_frame_equal(read_table(table).frame, read_table(TABLE).frame)


@pytest.mark.parametrize("name", ["log_lr", "lr (1e-3)", "lr x 1000"])
def test_rates_in_a_unit_that_is_not_known_are_refused(name):
    with pytest.raises(TableError, match="no column 'lr'"):
        read_table(TABLE.rename(columns={"lr": name}))


@pytest.mark.parametrize(
    ("name", "turned"),
    [
        ("loss (bits)", lambda loss: loss / np.log(2)),
        ("val_loss_bits", lambda loss: loss / np.log(2)),
        ("Validation Perplexity", np.exp),
        ("eval/ppl", np.exp),
    ],
)
def test_units_in_the_name_of_a_loss(name, turned):
    table = TABLE.assign(loss=turned(TABLE.loss)).rename(columns={"loss": name})
    pd.testing.assert_frame_equal(read_table(table).frame, read_table(TABLE).frame)


def test_a_loss_is_taken_before_an_accuracy_and_the_other_is_named():
    table = TABLE.rename(columns={"loss": "eval/loss"}).assign(**{"eval/accuracy": 0.5})
    sweep = read_table(table)
    pd.testing.assert_frame_equal(sweep.frame, read_table(TABLE).frame)
    assert "not 'eval/accuracy'" in " ".join(sweep.notes)


def test_two_columns_of_one_name_are_refused_also_where_a_reader_renamed_one():
    double = pd.concat([TABLE, TABLE[["loss"]] + 1], axis=1)
    for table in (double, TABLE.assign(**{"loss.1": 9.0}), pd.concat([TABLE, TABLE[["lr"]]], axis=1)):
        with pytest.raises(TableError, match="two columns"):
            read_table(table)


@pytest.mark.parametrize(
    "text", ["diverged", "nan", "NaN", "∞", "inf", "Infinity", "div.", "exploded", ">10"]
)
def test_text_that_says_diverged(text):
    table = TABLE.astype({"loss": object})
    table.loc[1, "loss"] = text
    assert np.isinf(read_table(table).frame.loss).sum() == 1


def test_the_rate_of_each_step_is_not_taken_for_that_of_the_run():
    both = TABLE.rename(columns={"lr": "learning_rate"}).assign(lr=1e-5)
    with pytest.raises(TableError, match="all fit 'lr'") as caught:
        read_table(both)
    assert caught.value.remedy == "table.drop(columns=['lr'])"
    for told in (read_table(both, lr="learning_rate"), read_table(TABLE.assign(learning_rate=TABLE.lr))):
        pd.testing.assert_frame_equal(told.frame, read_table(TABLE).frame)


@pytest.mark.parametrize("name", ["loss_mean", "mean val loss", "mean"])
def test_means_over_seeds_are_losses(name):
    table = TABLE.assign(std=[0.01, 0.01, 0.02]).rename(columns={"loss": name})
    pd.testing.assert_frame_equal(read_table(table).frame, read_table(TABLE).frame)


def test_what_follows_a_plus_or_minus_is_left_out():
    for mark in ("±", "+/-", "+-"):
        table = TABLE.assign(loss=TABLE.loss.map(lambda loss, mark=mark: f"{loss} {mark} 0.01"))
        pd.testing.assert_frame_equal(read_table(table).frame, read_table(TABLE).frame)
