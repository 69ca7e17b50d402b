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
        read_table(tmp_path / "sweep.docx")


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
    with pytest.raises(TableError, match="did you mean 'losses'") as caught:
        read_table(table.rename(columns={"loss": "losses"}))
    assert caught.value.remedy == "table.rename(columns={'losses': 'loss'})"
    with pytest.raises(TableError, match=r"no column 'width', 'loss'") as caught:
        read_table(table.rename(columns={"loss": "losses", "width": "wide"}))
    assert "'losses': 'loss'" in caught.value.remedy and ": 'width'" in caught.value.remedy
    with pytest.raises(TableError, match="no column 'N'"):
        read_table(table, scale="N")


def test_rows_that_disagree_are_refused_unless_told_apart(table):
    table["warmup"] = 10
    clash = table.iloc[[6]].assign(loss=9.0, warmup=20, index=99).set_index("index")
    both = pd.concat([table, clash])
    with pytest.raises(TableError, match="'warmup' varies"):
        read_table(both)
    with pytest.raises(TableError, match=r"rows \[6, 99\].*'seed': 0"):
        read_table(both, ignore="warmup")
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


def sweep(best=-9.0, **columns):
    rng = np.random.default_rng(1)
    rows = [
        {"width": w, "lr": 2.0**k, "loss": 3 + 0.03 * (k - best) ** 2 + 0.004 * rng.standard_normal()}
        for w in (64, 128, 256)
        for k in range(-13, -4)
    ]
    return pd.DataFrame(rows).assign(**columns)


@pytest.mark.parametrize(
    ("column", "values"), [("bs", (32, 512)), ("split", ("val", "train")), ("tokens", (1, 2))]
)
def test_a_column_that_varies_among_repeats_is_named(column, values):
    both = pd.concat([sweep(-9 - i, **{column: value}) for i, value in enumerate(values)], ignore_index=True)
    with pytest.raises(TableError, match=f"Column '{column}' varies") as caught:
        read_table(both)
    assert all(word in caught.value.remedy for word in ("by=", "fix=", "ignore="))
    assert len(read_table(both, fix={column: values[1]}).frame) == len(both) / 2
    assert read_table(both, by=column).group_columns == (column,)
    assert read_table(both, ignore=column).frame.seed.max() == 1
    with pytest.raises(TableError, match="No row has"):
        read_table(both, fix={column: "other"})


def test_of_logs_of_many_steps_the_last_is_kept():
    table = sweep()
    logs = [table.assign(step=s, loss=table.loss + 1 / s, run=table.index) for s in (10, 20, 30)]
    logs[2] = logs[2].iloc[1:]  # one run stopped early
    logs = pd.concat(logs, ignore_index=True)
    with pytest.raises(TableError, match="'step': 'last'"):
        read_table(logs)
    kept = read_table(logs, fix={"step": "last"})
    assert len(kept.frame) == len(table) and "27 of 80 row(s) kept" in kept.notes[0]
    assert kept.frame.loss.min() == pytest.approx(table.loss.min() + 1 / 30)


def logs(table, steps=(10, 20, 30)):
    return pd.concat([table.assign(step=s, loss=table.loss + 1 / s) for s in steps], ignore_index=True)


def test_other_clocks_are_no_settings():
    """As Hugging Face's Trainer writes them: a step and an epoch."""
    table = logs(sweep()).assign(epoch=lambda t: t.step / 30)
    for column in ("step", "epoch"):
        assert len(read_table(table, fix={column: "last"}, ignore=["step", "epoch"]).frame) == len(sweep())
    with pytest.raises(TableError, match="'step': 'last'"):
        read_table(table)


def test_the_last_step_is_one_at_which_a_loss_was_written():
    table = logs(sweep())
    table.loc[table.step == 30, "loss"] = np.nan
    assert read_table(table, fix={"step": "last"}).frame.loss.min() == pytest.approx(
        sweep().loss.min() + 1 / 20
    )


def test_a_measurement_that_repeats_does_not_keep_every_step():
    """Rounded, it looks like a setting; what is left over then is refused, not averaged."""
    table = logs(sweep()).assign(load=lambda t: np.arange(len(t)) % 7)
    with pytest.raises(TableError, match="'step'"):
        read_table(table, fix={"step": "last"})
    assert len(read_table(table, fix={"step": "last"}, ignore="load").frame) == len(sweep())


@pytest.mark.parametrize("state", ["PRUNED", "crashed", "failed", "KILLED", "RUNNING"])
def test_runs_that_did_not_end_are_left_out_and_told(state):
    table = sweep().assign(State="finished")
    table.loc[[4, 20], ["State", "loss"]] = state, 5.0
    found = read_table(table)
    assert len(found.frame) == len(table) - 2 and "did not end" in " ".join(found.notes)
    assert len(read_table(table.assign(State=state)).frame) == len(table)
    assert len(read_table(table, fix={"State": "finished"}).frame) == len(table) - 2


def test_a_state_may_say_that_a_run_diverged():
    table = sweep().assign(status="ok")
    table.loc[[8, 17], "status"] = "diverged"
    assert np.isinf(read_table(table).frame.loss).sum() == 2


def test_measurements_and_names_of_runs_are_no_settings():
    rng = np.random.default_rng(0)
    twice = pd.concat([sweep(), sweep()], ignore_index=True)
    twice["loss"] += 0.001 * rng.standard_normal(len(twice))
    twice = twice.assign(gap=rng.uniform(1, 2, len(twice)), label=[f"r{i}" for i in range(len(twice))])
    assert "['gap', 'label']" in " ".join(read_table(twice).notes)


def test_seeds_that_are_all_different_are_runs_without_seeds():
    twice = pd.concat([sweep(), sweep()], ignore_index=True)
    twice["loss"] += np.linspace(0, 0.001, len(twice))
    apart = read_table(twice.assign(seed=np.random.default_rng(0).permutation(len(twice))))
    pd.testing.assert_frame_equal(apart.frame, read_table(twice).frame)
    assert not apart.paired and "share a seed" in apart.notes[0]


def test_seeds_are_counted_from_zero_at_each_width():
    parts = [sweep().assign(seed=s + sweep().width) for s in (0, 1)]
    sweeps = read_table(pd.concat(parts).assign(loss=lambda t: t.loss + 0.01 * (t.seed - t.width)))
    assert sweeps.paired and set(sweeps.frame.seed) == {0, 1}


@pytest.mark.parametrize("stuck", [10.82, 7.7, 1e3, 1e30])
def test_finite_losses_of_diverged_runs_are_infinite(stuck):
    table = sweep()
    gone = table.lr > 2.0**-8
    said = read_table(table.assign(loss=table.loss.mask(gone, stuck)))
    inf = read_table(table.assign(loss=table.loss.mask(gone, np.inf)))
    pd.testing.assert_frame_equal(said.frame, inf.frame)
    assert "beyond a cliff" in said.notes[-1] and not inf.notes


def test_accuracies_are_no_losses():
    table = sweep().assign(loss=lambda t: 1.3 - 0.2 * t.loss)
    with pytest.raises(TableError, match="highest between") as caught:
        read_table(table)
    assert "accuracy" in caught.value.remedy
    assert read_table(table, loss_unit="accuracy").unit == "error"


def test_what_a_run_measured_is_no_setting():
    """Two members of a stack have equal seconds, other runs have others."""
    rows = [(64, 2.0**-x, 3 + 0.1 * x + 0.01 * s, s, 1.0 + (x > 7)) for x in (6, 7, 8) for s in (0, 1)]
    table = pd.DataFrame(rows, columns=["width", "lr", "loss", "seed", "summary/_runtime"])
    table.loc[1, "summary/_runtime"] = 7.0
    assert not read_table(table).notes
    with pytest.raises(TableError, match="batch"):
        read_table(table.rename(columns={"summary/_runtime": "batch"}))


def test_columns_go_by_the_readers_names_too():
    """In by=, fix= and ignore=; without prefix and marks where no other column is meant."""
    doses = [sweep().assign(wd=wd, **{"config/batch_size": 32}) for wd in (0.0, 0.1)]
    table = pd.concat(doses, ignore_index=True).rename(columns={"width": "n_embd"})
    for name in ("wd", "weight_decay", "WD"):
        assert read_table(table, by=name).group_columns == ("weight_decay",)
        assert len(read_table(table, fix={name: 0}).frame) == len(sweep())
        assert read_table(table, ignore=name).frame.seed.max() == 1
    assert read_table(table, by="batch_size").group_columns == ("weight_decay", "config/batch_size")
    with pytest.raises(TableError, match="no column 'batch'"):
        read_table(table, by="batch")
    table.loc[3, "config/batch_size"] = 64
    with pytest.raises(TableError, match="of the same n_embd, lr"):
        read_table(table, ignore="wd")
    with pytest.raises(TableError, match="'n_embd', row 0: -64"):
        read_table(table.assign(n_embd=-table.n_embd))


@pytest.mark.parametrize("value", [0.0001, "1e-4", "0.0001", "0.1e-3"])
def test_a_value_to_keep_is_compared_as_a_number_too(value):
    table = pd.concat([sweep().assign(wd=wd) for wd in (1e-4, 0.1)], ignore_index=True)
    assert set(read_table(table, fix={"wd": value}).frame.weight_decay) == {1e-4}


def test_counters_of_a_trainer_are_no_settings():
    table = logs(sweep()).assign(total_flos=lambda t: t.step * t.width, eval_runtime=lambda t: t.index % 4)
    assert len(read_table(table, fix={"step": "last"}).frame) == len(sweep())


@pytest.mark.parametrize(
    "asked",
    [
        {"by": "lr"},
        {"by": ["loss"]},
        {"by": "width"},
        {"ignore": "learning rate"},
        {"by": 3},
        {"scale": "lr"},
        {"fix": "seed"},
        {"fix": {"seed": [0]}},
    ],
    ids=str,
)
def test_columns_that_cannot_be_asked_for_are_refused(table, asked):
    with pytest.raises(TableError):
        read_table(table, **asked)


def test_an_error_lists_a_few_of_many_values(table):
    with pytest.raises(TableError) as error:
        read_table(table.assign(run=range(len(table))), fix={"run": -1})
    assert len(str(error.value)) < 400
