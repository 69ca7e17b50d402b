"""Tables of real sweeps: what is missing is noted, what is nonsense is refused by column and
row."""

import numpy as np
import pandas as pd
import pytest

from hpt.analysis.synthetic import Law, synthetic_sweep
from hpt.errors import TableError
from hpt.metrics.table import read_table


@pytest.fixture
def table():
    return synthetic_sweep({"SP": Law(), "μP": Law()}, widths=(64, 128), seeds=2)


def test_missing_diverged_and_infinite_losses_are_told_apart(table):
    table.loc[3, "loss"] = np.nan
    table.loc[4, ["loss", "diverged"]] = [np.nan, True]
    table.loc[5, "diverged"] = True
    diverged = np.isinf(table.loss).sum() + 2
    sweep = read_table(table)
    assert len(sweep.frame) == len(table) - 1
    assert np.isinf(sweep.frame.loss).sum() == diverged
    assert any("1 row(s) without loss" in note for note in sweep.notes)


def test_csv_and_parquet_give_the_same_as_the_frame(table, tmp_path):
    table["diverged"] = table.diverged.map({True: "True", False: ""})
    table.to_csv(tmp_path / "sweep.csv", index=False)
    table.to_parquet(tmp_path / "sweep.parquet")
    expected = read_table(table).frame
    for name in ("sweep.csv", "sweep.parquet"):
        pd.testing.assert_frame_equal(read_table(tmp_path / name).frame, expected, check_dtype=False)
    with pytest.raises(TableError, match=r"no file .*absent\.csv"):
        read_table(tmp_path / "absent.csv")
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(TableError, match="empty"):
        read_table(tmp_path / "empty.csv")
    with pytest.raises(TableError, match="DataFrame"):
        read_table(tmp_path / "sweep.xlsx")


def test_order_and_index_of_the_rows_do_not_matter(table):
    shuffled = table.sample(frac=1, random_state=0)
    twice = pd.concat([table, table])
    for other in (shuffled, shuffled.reset_index(drop=True), twice):
        pd.testing.assert_frame_equal(read_table(other).frame, read_table(table).frame)
    assert read_table(twice).notes == (f"{len(table)} row(s) that repeat another left out",)


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("lr", -1e-3, "'lr', row 7: -0.001 is not a positive"),
        ("lr", np.inf, "'lr', row 7"),
        ("width", 0, "'width', row 7"),
        ("loss", "low", "'loss', row 7: 'low' is not a number"),
        ("loss", -0.1, "'loss', row 7: .* below zero"),
        ("parameterization", None, "'parameterization', row 7: .* is missing"),
        ("diverged", "perhaps", "'diverged', row 7"),
    ],
)
def test_nonsense_names_column_row_and_remedy(table, column, value, words):
    table[column] = table[column].astype(object)
    table.loc[7, column] = value
    with pytest.raises(TableError, match=words) as caught:
        read_table(table)
    assert caught.value.remedy


def test_a_missing_column_suggests_the_nearest(table):
    with pytest.raises(TableError, match="did you mean 'loss_nats'"):
        read_table(table.rename(columns={"loss": "loss_nats"}))
    with pytest.raises(TableError, match="no column 'N'"):
        read_table(table, scale="N")


def test_rows_that_disagree_are_refused_unless_told_apart(table):
    table["warmup"] = 10
    clash = table.iloc[[6]].assign(loss=9.0, warmup=20, index=99).set_index("index")
    both = pd.concat([table, clash])
    with pytest.raises(TableError, match=r"rows \[6, 99\].*seed=") as caught:
        read_table(both)
    assert "by=" in caught.value.remedy
    assert read_table(both, by="warmup").group_columns == ("parameterization", "warmup")


def test_repeats_without_a_seed_count_as_seeds(table):
    sweep = read_table(table.drop(columns="seed"))
    assert len(sweep.frame) == len(table) and not sweep.paired
    assert sweep.frame.seed.max() == 1


def test_one_width_is_too_few_where_two_are_asked_for(table):
    one = table[table.width == 64]
    assert len(read_table(one).frame) == len(one)
    with pytest.raises(TableError, match="'width' has 1 different"):
        read_table(one, least_scales=2)


def test_log2_lr_alone_is_enough(table):
    pd.testing.assert_frame_equal(read_table(table.drop(columns="lr")).frame, read_table(table).frame)


def test_what_was_held_fixed_is_the_group(table):
    """A dose of weight decay where λ follows from the learning rate, else λ; never a stray column."""
    swept = pd.concat([table.assign(dose=d, weight_decay=d / table.lr) for d in (0.0, 0.3)])
    assert read_table(swept).group_columns == ("parameterization", "dose")
    fixed = pd.concat([table.assign(dose=w * table.lr, weight_decay=w) for w in (0.0, 0.3)])
    assert read_table(fixed).group_columns == ("parameterization", "weight_decay")
    alone = table.assign(dose=0.0, weight_decay=0.0)
    assert read_table(alone).group_columns == ("parameterization", "weight_decay")
    assert read_table(table.assign(dose=1.0)).group_columns == ("parameterization",)
