"""When runs are looked into, and the table of it."""

import dataclasses

from hpt.runs.diagnostics import LOOKED_AT, diagnostics_table, look_steps
from hpt.runs.result import decode, encode
from hpt.runs.train_config import TrainConfig
from hpt.training.loop import train


def test_looks_are_spaced_evenly_in_the_logarithm_of_the_step():
    c = TrainConfig(steps=1000, diagnostics=5, decay_fraction=0.2)
    assert sorted(look_steps(c, 1000)) == [0, 8, 85, 799, 999]
    assert look_steps(dataclasses.replace(c, diagnostics=1), 1000) == {999}
    assert look_steps(dataclasses.replace(c, diagnostics=0), 1000) == frozenset()
    assert sorted(look_steps(dataclasses.replace(c, steps=8), 8)) == [0, 1, 2, 5, 7]
    assert look_steps(dataclasses.replace(c, steps=8, diagnostics=900), 8) == {0, 1, 2, 3, 4, 5, 7}


def test_the_table_and_the_record_keep_what_was_seen(tiny_run):
    run = dataclasses.replace(tiny_run, train=dataclasses.replace(tiny_run.train, diagnostics=2))
    result, plain = train(run), train(tiny_run)
    assert result.val_loss == plain.val_loss and result.train_loss.tolist() == plain.train_loss.tolist()
    table = diagnostics_table([plain, decode(encode(result), result.run_id, "here")])
    assert len(table) == 2 * 4 and set(table["step"]) == {0, 11}
    assert table.query("role == 'hidden'")[[*LOOKED_AT]].notna().all(axis=None)
    assert table.query("role == 'vector'")["weight_alignment"].isna().all()
    assert set(table["width"]) == {16} and set(table["parameterization"]) == {"SP"}
