"""Muon against torch's own."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from plain_training import plain_losses

from hpt.errors import ConfigError
from hpt.runs.train_config import lr_factor
from hpt.training.loop import train
from hpt.training.muon import orthogonalized, step_scale
from hpt.training.stacked import train_stacked
from hpt.training.start import build_model, rate_groups

TORCHS = {"muon": "original", "muon-match-rms": "match_rms_adamw"}


def by_muon(run, **values):
    values = {"optimizer": "muon", "lr": 0.02, "rest_lr_ratio": 0.1, **values}
    return dataclasses.replace(run, train=dataclasses.replace(run.train, **values))


@pytest.mark.parametrize("optimizer", TORCHS)
@pytest.mark.parametrize("values", [{}, {"weight_decay": 0.5, "momentum": 0.8}], ids=str)
def test_a_run_is_that_of_torchs_muon_with_adamw_beside(tiny_run, optimizer, values):
    run = by_muon(tiny_run, optimizer=optimizer, **values)
    c = run.train
    model = build_model(run)
    groups = rate_groups(model, run)
    hidden = [{**g, "params": g["params"]} for g in groups if g["name"] == "hidden"]
    muon = torch.optim.Muon(
        [{k: v for k, v in g.items() if k != "eps"} for g in hidden],
        momentum=0.95 if c.momentum is None else c.momentum,
        adjust_lr_fn=TORCHS[optimizer],
    )
    adamw = torch.optim.AdamW([g for g in groups if g["name"] != "hidden"], betas=(c.beta1, c.beta2))
    assert {g["lr"] for g in muon.param_groups} == {0.02}
    assert [g["lr"] for g in adamw.param_groups] == pytest.approx([0.002] * 3)
    peaks = [(g, g["lr"]) for o in (muon, adamw) for g in o.param_groups]

    def take_step(step):
        for group, peak in peaks:
            group["lr"] = peak * lr_factor(c, step, c.steps)
        muon.step()
        adamw.step()

    losses = plain_losses(run, model, take_step)
    # The iteration runs in bf16.
    assert train(run, device="cpu").train_loss == pytest.approx(losses, rel=2e-3)
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("shape", [(2, 24, 8), (3, 8, 24), (1, 16, 16)])
def test_the_step_is_nearly_orthogonal(shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    U, _, Vh = torch.linalg.svd(x, full_matrices=False)
    S = torch.linalg.svdvals(orthogonalized(x))
    assert S.min() > 0.5 and S.max() < 1.3
    cosine = F.cosine_similarity(orthogonalized(x).flatten(1), (U @ Vh).flatten(1))
    assert cosine.min() > 0.95
    for i in range(shape[0]):  # members do not mix
        torch.testing.assert_close(orthogonalized(x[i : i + 1])[0], orthogonalized(x)[i], rtol=0, atol=0.02)


def test_scales_by_name():
    """√max(1, fan_out/fan_in) is the same at every width; 0.2·√max(fan_out, fan_in) gives entries of root
    mean square 0.2."""
    assert step_scale("muon", 4 * 64, 64) == 2 == step_scale("muon", 4 * 256, 256)
    assert step_scale("muon", 64, 256) == 1
    x = torch.randn(1, 128, 32, generator=torch.Generator().manual_seed(0))
    entries = orthogonalized(x) * step_scale("muon-match-rms", 128, 32)
    assert entries.square().mean().sqrt() == pytest.approx(0.2, rel=0.25)


def test_a_stack_gives_what_each_run_gives_alone(tiny_run):
    runs = [by_muon(tiny_run), dataclasses.replace(by_muon(tiny_run), seed=1)]
    for ours, alone in zip(train_stacked(runs), map(train, runs), strict=True):
        assert ours.train_loss == pytest.approx(alone.train_loss, rel=2e-3)


def test_what_it_has_no_rates_for_is_refused_by_name(tiny_run):
    with pytest.raises(ConfigError, match="no learning rates for 'muon'"):
        train(by_muon(dataclasses.replace(tiny_run, parameterization="everett-no-align")))
