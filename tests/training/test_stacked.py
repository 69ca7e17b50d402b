"""Stacked training: the same numbers as one by one."""

import dataclasses
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

import hpt
from hpt.errors import ConfigError
from hpt.model import transformer
from hpt.training import stacked
from hpt.training.loop import Training, train
from hpt.training.memory import SHARE, step_bytes
from hpt.training.stacked import train_stacked

CPU = torch.device("cpu")
EVERYTHING = {
    "tie_readout": True,
    "norm": "rmsnorm",
    "norm_gain": "scalar",
    "positions": "rotary",
    "qk_norm": True,
    "activation": "swiglu",
    "kv_heads": 1,
    "bias": True,
    "embedding_norm": True,
    "zero_query_init": True,
}
LINGLE = {"activation": "relu", "mlp_ratio": 2.0, "readout_bias": True, "depth_scaled_init": False}
VARIANTS = {
    "SP": ("SP", {}, {}),
    "μP, clipped": ("μP", {}, {"clip": 0.8, "schedule": "cosine", "final_lr": 0.1}),
    "SP+Embd, micro-batches": ("SP+Embd", {}, {"micro_batch_size": 3, "decay": "constant"}),
    "SP, all decays": ("SP", {}, {"decay_on": "all"}),
    "SP+LN+Last, independent decay": ("SP+LN+Last", {"bias": True}, {"decay": "independent", "eps": 1e-4}),
    "all of the model's options": ("μP", EVERYTHING, {}),
    "Lingle's": ("mup-table3", LINGLE, {}),
    "gated linear attention": ("μP", {"mixer": "gla"}, {}),
}


def variant(run, parameterization="SP", architecture=None, **values):
    return dataclasses.replace(
        run,
        parameterization=parameterization,
        model=dataclasses.replace(run.model, **(architecture or {})),
        train=dataclasses.replace(run.train, **values),
    )


def member(run, log2_lr, weight_decay=0.0, seed=0):
    train_config = dataclasses.replace(run.train, lr=2.0**log2_lr, weight_decay=weight_decay)
    return dataclasses.replace(run, seed=seed, train=train_config)


def same_results(together, alone, **tolerance):
    for a, b in zip(together, alone, strict=True):
        assert (a.run_id, a.config, a.diverged, a.tokens, a.parameters) == (
            b.run_id,
            b.config,
            b.diverged,
            b.tokens,
            b.parameters,
        )
        np.testing.assert_allclose(a.train_loss, b.train_loss, **tolerance)
        np.testing.assert_allclose(a.val_loss, b.val_loss, **tolerance)


@pytest.mark.parametrize("name", VARIANTS)
def test_a_stack_gives_what_each_run_gives_alone(tiny_run, name):
    parameterization, architecture, values = VARIANTS[name]
    run = variant(tiny_run, parameterization, architecture, steps=30, **values)
    # At higher rates rounding grows like any other small difference, in a run alone as well.
    runs = [
        member(run, -7),
        member(run, -8, 0.5),
        member(run, -9, 0.1, seed=3),
        member(run, -10, 0.0, seed=1),
    ]
    together, alone = train_stacked(runs, device="cpu"), [train(r, device="cpu") for r in runs]
    same_results(together, alone, rtol=2e-5)
    assert {r.stacked for r in together} == {4} and {r.stacked for r in alone} == {1}
    assert len({r.val_loss for r in together}) == 4 and together[0].train_loss.dtype == np.float32


def test_doses_of_weight_decay_stack(tiny_run):
    runs = [variant(tiny_run, dose=dose, lr=lr) for dose in (0.5, 3.0) for lr in (2.0**-6, 2.0**-8)]
    together = train_stacked(runs)
    same_results(together, [train(r) for r in runs], rtol=2e-5)
    assert len({r.row()["weight_decay"] for r in together}) == 4


def test_members_that_diverge_stop_where_they_would_alone_and_disturb_nobody(tiny_run):
    run = variant(tiny_run, steps=60, warmup_steps=55, loss_bound=7.0)
    # lr·λ of 5 blows the weights up once the warm-up has passed 2/5 of it.
    runs = [member(run, -6), member(run, 20), member(run, -6, 5 * 2**6), member(run, -7, 0.1, seed=1)]
    together, alone = train_stacked(runs), [train(r) for r in runs]
    same_results(together, alone, rtol=2e-5)
    assert [r.diverged for r in together] == [False, True, True, False]
    assert len(together[1].train_loss) < 25 < len(together[2].train_loss) < 60  # dropped at different looks
    assert together[0].seconds == together[3].seconds > together[2].seconds > together[1].seconds > 0
    assert all(r.diverged for r in train_stacked([runs[1], member(run, 21)]))  # nobody is left


def test_bf16_agrees_to_its_rounding(tiny_run):
    run = variant(tiny_run, "SP+Embd", steps=30, precision="bf16")
    runs = [member(run, -6), member(run, -5, seed=1)]
    together = train_stacked(runs)
    same_results(together, [train(r) for r in runs], atol=0.01)
    assert {r.precision for r in together} == {"bf16"}


def test_memory_cuts_a_stack_into_chunks(tiny_run, monkeypatch):
    runs = [member(tiny_run, -6 - i / 4) for i in range(7)]
    whole = train_stacked(runs)
    free = 3.5 * step_bytes(tiny_run, CPU, stacked=True) / SHARE
    monkeypatch.setattr(stacked, "available_bytes", lambda place: free)
    chunks = train_stacked(runs)
    assert sorted(r.stacked for r in chunks) == [2, 2, 2, 2, 3, 3, 3]
    same_results(chunks, whole, rtol=2e-5)


def test_a_stack_too_large_for_the_memory_goes_on_in_halves(tiny_run, monkeypatch):
    runs, advance, most = [member(tiny_run, -6 - i) for i in range(5)], Training.advance, 2

    def small_memory(stack, until):
        if len(stack.configs) > most:
            raise torch.OutOfMemoryError("out of memory")
        advance(stack, until)

    monkeypatch.setattr(Training, "advance", small_memory)
    results = train_stacked(runs)
    assert [r.config for r in results] == runs and [r.stacked for r in results] == [2, 2, 1, 2, 2]
    most = 0
    with pytest.raises(torch.OutOfMemoryError):
        train_stacked(runs)


@pytest.mark.parametrize(
    ("field", "values", "architecture"),
    [
        ("train.steps", {"steps": 13}, {}),
        ("train.clip", {"clip": 1.0}, {}),
        ("model.width", {}, {"width": 32}),
        ("train.decay", {"decay": "constant"}, {}),
    ],
)
def test_runs_that_differ_in_more_are_refused_by_the_fields_name(tiny_run, field, values, architecture):
    with pytest.raises(ConfigError, match=field):
        train_stacked(
            [tiny_run, member(tiny_run, -3, 0.1, 2), variant(tiny_run, "SP", architecture, **values)]
        )
    assert train_stacked([]) == []


#: Of a stack with SP: what is theirs alone, the first field in which they differ.
OTHERS = {
    "attention": ("μP", {}),
    "readout.std": ("SP+Last", {"tie_readout": True}),
    "embedding.eps": (hpt.rule("sp").with_laws("embedding", eps=1.0), {}),
    "readout.multiplier": (hpt.rule("sp").with_laws("readout", multiplier=-1.0), {}),
    "base_width": (dataclasses.replace(hpt.rule("sp"), base_width=8), {}),
}


@pytest.mark.parametrize("field", OTHERS)
def test_parameterizations_that_differ_in_more_than_starts_and_rates_do_not_stack(tiny_run, field):
    other, architecture = OTHERS[field]
    with pytest.raises(ConfigError, match=rf"parameterization\.{field}"):
        train_stacked([variant(tiny_run, "SP", architecture), variant(tiny_run, other, architecture)])


def test_parameterizations_stack_and_disturb_nobody(tiny_run):
    """A member's bits are those that it has in a stack of its own."""
    names = ("SP", "SP+Embd", "SP+LN+Last", "SP+Embd+LN+Last")
    constant = hpt.rule("sp").with_laws("embedding", lr=hpt.PowerLaw(constant=16.0))
    rules = [*names, constant, hpt.rule("sp").with_power(0.5)]
    runs = [member(variant(tiny_run, rule, steps=30), -7 - i / 3, 0.1 * i) for i, rule in enumerate(rules)]
    runs.append(member(runs[1], -8, seed=2))
    together = train_stacked(runs)
    same_results(together, [train(run) for run in runs], rtol=2e-5)
    alone = [train_stacked([run])[0] for run in runs]
    assert [r.val_loss for r in together] == [r.val_loss for r in alone]
    assert {r.stacked for r in together} == {7} and len({r.val_loss for r in together}) == 7


@pytest.mark.parametrize("base_width", [1, 8])
def test_all_of_the_sixteen_are_two_stacks_a_shape(tiny_run, base_width):
    rules = [dataclasses.replace(p, base_width=base_width) for p in hpt.PARAMETERIZATIONS]
    keys = {rule: stacked.stack_key(variant(tiny_run, rule)) for rule in rules}
    assert len(set(keys.values())) == 2
    assert all((keys[a] == keys[b]) == (a.attn == b.attn) for a in rules for b in rules)


def test_the_gpus_attention_stacks_too(tiny_run, monkeypatch):
    """On a GPU, attention is torch's own function; in a stack it must not fall back to a loop over
    members."""
    runs = [member(tiny_run, -6), member(tiny_run, -4, seed=1)]
    written_out, calls = train_stacked(runs), []

    def attend(q, k, v, mask_TxT, scale):
        calls.append(q.device)
        # On a CPU the fused one has no rule for stacks.
        with sdpa_kernel(SDPBackend.MATH):
            return F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale)

    monkeypatch.setattr(transformer, "attend", attend)
    same_results(train_stacked(runs), written_out, rtol=2e-5)
    assert calls


def test_the_losses_of_a_stack_are_of_the_right_members(tiny_run):
    """In another order, the results are the same in that order."""
    runs = [member(tiny_run, -3), member(tiny_run, -8, seed=1), member(tiny_run, -5)]
    forward, backward = train_stacked(runs), train_stacked(runs[::-1])
    same_results(backward[::-1], forward, rtol=2e-5)
    assert all(math.isfinite(r.val_loss) for r in forward) and stacked.stack_key(
        runs[0]
    ) == stacked.stack_key(runs[1])
