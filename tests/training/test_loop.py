"""Training: bits, divergence, precision."""

import dataclasses
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from plain_training import plain_losses

import hpt
from hpt.data.source import load
from hpt.parameterization.groups import param_groups
from hpt.parameterization.sixteen import PARAMETERIZATIONS
from hpt.runs.train_config import lr_factor
from hpt.training.loop import Training, train
from hpt.training.start import build_model
from hpt.training.weights import named_weights

CPU = torch.device("cpu")


def changed(run, parameterization=None, model=None, **values):
    train_config = dataclasses.replace(run.train, **values)
    return dataclasses.replace(
        run,
        train=train_config,
        model=dataclasses.replace(run.model, **(model or {})),
        parameterization=parameterization or run.parameterization,
    )


def test_same_seed_same_bits(tiny_run):
    first, again = train(tiny_run), train(tiny_run)
    assert np.array_equal(first.train_loss, again.train_loss) and first.val_loss == again.val_loss
    assert first.run_id == again.run_id
    other = train(dataclasses.replace(tiny_run, seed=1))
    assert other.run_id != first.run_id and other.train_loss[0] != first.train_loss[0]


def test_training_learns_and_starts_near_guessing(tiny_run):
    result = train(changed(tiny_run, steps=150, lr=2.0**-6))
    assert result.train_loss[0] == pytest.approx(math.log(32), abs=0.8)
    assert result.val_loss < result.train_loss[:5].mean() - 0.2
    assert result.val_loss > load(tiny_run.data).entropy_rate
    assert result.tokens == 150 * 4 * 16 and len(result.train_loss) == 150


def test_one_step_is_adamw_at_the_rates_of_the_groups(tiny_run):
    """After one step from zero moments, AdamW moves every weight by lr·sign(gradient): per role, η
    or η·m."""
    run = changed(tiny_run, "sp+embd", steps=1, warmup_steps=0, decay_fraction=0.0, eps=1e-12)
    before, data = build_model(run), load(run.data)
    inputs, targets = data.batch(run.seed, 0, run.train.batch_size, run.model.context)
    loss = F.cross_entropy(before(inputs).flatten(0, 1), targets.flatten())
    loss.backward()
    result = train(run)
    assert result.train_loss[0] == pytest.approx(loss.item(), rel=1e-6)
    after = Training([run], data, CPU)
    with torch.no_grad():
        weights = named_weights(after.groups)
        for name, p in before.named_parameters():
            m = 16 if "embedding" in name else 1
            weights[name][0].sub_(run.train.lr * m * p.grad.sign())
    assert float(after.validation_loss()) == pytest.approx(result.val_loss, rel=1e-4)


def test_coupled_and_independent_decay_differ_and_shrink(tiny_run):
    norms = {}
    for decay, strength in (("coupled", 0.0), ("coupled", 20.0), ("independent", 0.1)):
        run = changed(tiny_run, "sp+embd", weight_decay=strength, decay=decay, steps=12)
        norms[decay, strength] = train(run).val_loss
    assert len(set(norms.values())) == 3


def test_a_dose_trains_as_the_decay_that_it_comes_to(tiny_run):
    dosed = train(changed(tiny_run, "sp+embd", dose=2.0, decay_on="all"))
    row = dosed.row()
    assert row["weight_decay"] * row["lr"] * row["steps"] == pytest.approx(row["dose"]) == pytest.approx(2)
    given = train(changed(tiny_run, "sp+embd", weight_decay=row["weight_decay"], decay_on="all"))
    matrices = train(changed(tiny_run, "sp+embd", weight_decay=row["weight_decay"]))
    assert given.val_loss == dosed.val_loss != matrices.val_loss
    assert given.row()["dose"] == pytest.approx(2)


def test_forward_multipliers_are_absorbed(tiny_run):
    """Table 8 in the form of Table 3: the abc-symmetry holds for whole runs, up to Adam's ε and
    rounding."""
    rules = [hpt.rule(name, 4) for name in ("mup-table3", "mup-table8")]
    three, eight = (train(dataclasses.replace(tiny_run, parameterization=rule)) for rule in rules)
    np.testing.assert_allclose(eight.train_loss, three.train_loss, rtol=2e-6)
    assert eight.val_loss == pytest.approx(three.val_loss, rel=2e-6)
    assert (three.row()["parameterization"], eight.row()["base_width"]) == ("mup-table3", 4)


@pytest.mark.parametrize("decay", ["coupled", "constant"])
def test_rates_of_roles_follow_schedules_of_their_own(tiny_run, decay):
    """What a step takes off a weight follows its group's schedule under coupled decay alone."""
    values = {"exponential_warmup": 6, "embedding_boost": "early", "boost_share": 0.25}
    run = changed(tiny_run, "sp+embd", decay=decay, weight_decay=0.1, decay_fraction=0.0, **values)
    training, m = Training([run], None, CPU), 16
    for step in range(12):
        groups = zip(training.groups, training.scalars[step].tolist(), strict=True)
        rates = {g.role: (g.lr.item() * by, g.decay.item() * of_decay) for g, (by, of_decay, *_) in groups}
        common = run.train.lr * lr_factor(run.train, step, 12)
        boost = m if step < 3 else 1
        warm = m ** min(0, (step + 0.5) / 6 - 1)
        expected = {"embedding": common * m * boost, "hidden": common * warm, "vector": common}
        assert {role: rates[role][0] for role in expected} == pytest.approx(expected)
        shrink = np.prod(rates["embedding"])
        assert shrink == pytest.approx(0.1 * (expected["embedding"] if decay == "coupled" else common))


def test_divergence_is_a_result_and_stops_early(tiny_run):
    result = train(changed(tiny_run, lr=1e6, steps=400, loss_bound=30.0))
    assert result.diverged and result.val_loss == math.inf and len(result.train_loss) < 400
    last = result.train_loss[-1]
    assert not last <= 30.0 and (result.train_loss[:-1] <= 30.0).all()
    assert result.row()["diverged"] and result.row()["loss"] == math.inf


def test_clipping_bounds_the_step(tiny_run):
    assert train(changed(tiny_run, clip=1e-3)).val_loss != train(tiny_run).val_loss


def test_at_base_width_variants_are_one_run_bit_for_bit(tiny_run):
    """At m = 1 every switch but Attn changes nothing."""
    losses = {True: set(), False: set()}
    for p in PARAMETERIZATIONS:
        run = dataclasses.replace(tiny_run, parameterization=dataclasses.replace(p, base_width=16))
        losses[p.attn].add((train(run).val_loss, train(run).train_loss.tobytes()))
    assert len(losses[True]) == len(losses[False]) == 1 and losses[True] != losses[False]


def test_widths_and_rates_see_the_same_tokens(tiny_run):
    """The order of batches depends on the seed alone."""
    data = load(tiny_run.data)
    seen = []
    for run in (tiny_run, changed(tiny_run, "mup", model={"width": 32}, lr=0.01)):
        recorder = Recorder(data)
        train(run, data=recorder)
        seen.append(recorder.batches)
    assert len(seen[0]) == 12 and all(torch.equal(a, b) for a, b in zip(*seen, strict=True))


class Recorder:
    def __init__(self, source):
        self.source, self.batches = source, []

    def __getattr__(self, name):
        return getattr(self.source, name)

    def batch(self, *key):
        inputs, targets = self.source.batch(*key)
        self.batches.append(inputs)
        return inputs, targets


def test_tied_readout_starts_like_an_untied_one(tiny_run):
    wide = {"width": 128, "vocab_size": 32}
    runs = [
        changed(tiny_run, "mup", model={**wide, "tie_readout": tied}, steps=1, warmup_steps=0)
        for tied in (False, True)
    ]
    losses = [train(run).train_loss[0] for run in runs]
    assert losses[0] == pytest.approx(losses[1], abs=0.15)


def losses_in_fp32(run):
    """The training losses of the same run written as a textbook would: fp32, whole logits, torch's
    cross-entropy and AdamW."""
    model = build_model(run)
    groups = param_groups(model, run.parameterization, lr=run.train.lr)
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.95))
    steps = run.train.steps
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: lr_factor(run.train, step, steps))

    def take_step(_):
        optimizer.step()
        schedule.step()

    return np.array(plain_losses(run, model, take_step))


@pytest.mark.parametrize("width", [16, 32, 64])
def test_the_fast_step_stays_within_seed_noise_of_plain_fp32(tiny_run, width):
    run = changed(tiny_run, "SP+Embd", model={"width": width, "d_head": 16}, steps=60)
    plain = losses_in_fp32(run)
    np.testing.assert_allclose(train(changed(run, precision="fp32")).train_loss, plain, rtol=2e-4)
    fast = train(changed(run, precision="bf16"))
    assert fast.precision == "bf16" and not np.array_equal(fast.train_loss, plain)
    # Other weights and other batches: what chance alone does to the curve.
    others = [losses_in_fp32(dataclasses.replace(run, seed=seed)) for seed in (1, 2)]
    seed_noise = np.mean([np.abs(other - plain)[20:].mean() for other in others])
    assert np.abs(fast.train_loss - plain)[20:].mean() < seed_noise / 5


def test_micro_batches_give_the_whole_batch_to_rounding(tiny_run):
    whole, parts = train(tiny_run), train(changed(tiny_run, micro_batch_size=3))
    np.testing.assert_allclose(parts.train_loss, whole.train_loss, rtol=1e-4)
    assert parts.val_loss == pytest.approx(whole.val_loss, rel=1e-3)


def test_tiny_numbers_count_as_zero_while_training_alone(tiny_run):
    tiny = torch.finfo(torch.float32).tiny
    seen = []
    run = Training([tiny_run], load(tiny_run.data), CPU)
    run.one_step.model.register_forward_hook(lambda *_: seen.append(torch.full((), tiny).div(2).item()))
    run.advance(1)
    assert seen == [0.0] and torch.full((), tiny).div(2) > 0
