"""Programs of steps: what each depends on, that none is made twice, and those of stacks and of CUDA."""

import dataclasses
import os
import shutil

import numpy as np
import pytest
import torch
from changed_run import changed

from hpt.data.source import load
from hpt.training import programs as module
from hpt.training.compiled import train_compiled
from hpt.training.loop import Training
from hpt.training.programs import obstacle, program_key
from hpt.training.stacked import train_stacked
from hpt.training.step import Step
from hpt.training.weights import all_tensors

CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("programs")
needs_compiler = pytest.mark.skipif(bool(obstacle(CPU)), reason=obstacle(CPU))


def key_of(config, members=1):
    """The program's, of a run or a stack."""
    run = Training([config] * members, None, CPU)
    fixed = [*run.one_step.constants.values(), torch.tensor(1.0)]
    arguments = [*all_tensors(run.groups), *run.first_inputs(), *fixed]
    return program_key(config, run.one_step, run.groups, Step.__call__, arguments)


@needs_compiler
def test_a_program_that_is_on_disk_is_not_made_again(run, programs, tmp_path, monkeypatch):
    train_compiled(run)
    own, unpacked = (
        tmp_path / "own" / "programs",
        tmp_path / "unpacked",
    )  # the other process may compile in the shared
    own.mkdir(parents=True)
    unpacked.mkdir()
    shutil.copy(programs / f"{key_of(run)}.pt2", own)
    module._loaded.clear()
    monkeypatch.setenv("HPT_CACHE_DIR", str(own.parent))
    monkeypatch.setenv("TMPDIR", str(unpacked))
    monkeypatch.setattr(module, "_compile", lambda *_: pytest.fail("compiled again"))
    train_compiled(changed(run, lr=2.0**-10, steps=5))
    assert not list(unpacked.iterdir()) and not [p for p in own.iterdir() if p.is_dir()]
    assert os.environ["TMPDIR"] == str(unpacked)


def test_the_key_holds_all_that_the_program_depends_on(run, monkeypatch):
    same = [
        changed(run, lr=0.5),
        changed(run, "μP", seed=4, weight_decay=0.2, steps=7),
        changed(run, schedule="cosine"),
    ]
    assert set(map(key_of, same)) == {key_of(run)}
    others = [
        changed(run, batch_size=5),
        changed(run, clip=None),
        changed(run, beta2=0.9),
        changed(run, eps=1e-4),
        changed(run, precision="bf16"),
        changed(run, micro_batch_size=2),
    ]
    others += [
        dataclasses.replace(run, model=dataclasses.replace(run.model, **{name: value}))
        for name, value in [
            ("width", 8),
            ("depth", 2),
            ("context", 8),
            ("activation", "relu2"),
            ("tie_readout", True),
        ]
    ]
    assert len({key_of(run, 2), *map(key_of, [run, *others])}) == len(others) + 2
    before = key_of(run)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    assert key_of(run) != before


@needs_compiler
def test_a_stacks_programs_made_as_for_cuda_give_what_eager_steps_give(run, tmp_path, monkeypatch):
    """Compiled, kept and loaded again by the way that CUDA takes, on a CPU, in micro-batches, which are two
    programs; who diverges stays in them and disturbs nobody."""
    run = changed(run, batch_size=6, micro_batch_size=2)
    # Alone in its folder: the suite's other process makes programs too.
    monkeypatch.setenv("HPT_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(module, "_compile", module._compile_for_cuda)
    monkeypatch.setattr(module, "_load", module._load_for_cuda)
    runs = [changed(run, lr=2.0**-7), changed(run, lr=1e6, seed=1), changed(run, "SP", seed=2)]
    eager = train_stacked(runs, device="cpu")
    for _ in range(2):
        module._loaded.clear()
        found = Training(runs, load(run.data), CPU, compiled=True).finish()
        assert [(r.stacked, r.compiled, r.diverged) for r in found] == [(3, True, r.diverged) for r in eager]
        for ours, expected in zip(found, eager, strict=True):
            assert len(ours.train_loss) == len(expected.train_loss)
            np.testing.assert_allclose(ours.val_loss, expected.val_loss, rtol=2e-5)
    assert len(list((tmp_path / "programs").glob("*.pt2"))) == 2
