"""The generator's truth is the truth it states."""

import numpy as np
import pytest

from hpt.analysis.synthetic import Law, synthetic_sweep
from hpt.errors import ConfigError

WIDTHS = np.array([32, 128, 1024])
SHAPES = ("parabola", "linex", "bent")


@pytest.mark.parametrize("shape", [*SHAPES, "kinked"])
def test_the_optimum_is_where_the_law_says(shape):
    law = Law(shape=shape, skew=0.7)
    best = law.best_log2_lr(WIDTHS)
    assert law.loss(WIDTHS, best) == pytest.approx(law.best_loss(WIDTHS), abs=1e-15)
    for step in (-0.01, 0.01):
        assert (law.loss(WIDTHS, best + step) > law.best_loss(WIDTHS)).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_curvatures_are_second_derivatives_and_grow_as_stated(shape):
    law = Law(shape=shape, skew=0.7, beta=0.8, gamma=1.3)
    ln_best, d = law.best_log2_lr(WIDTHS) * np.log(2), 1e-3

    def second(f, step):
        return (f(step) - 2 * f(0 * step) + f(-step)) / step**2

    h = second(lambda du: law.loss(WIDTHS, (ln_best + du) / np.log(2)), np.full(3, d))
    assert h == pytest.approx(law.basin_curvature(WIDTHS), rel=1e-3)
    lr = np.exp(ln_best)
    linear = second(lambda dlr: law.loss(WIDTHS, np.log2(lr + dlr)), d * lr)
    assert np.diff(np.log(linear)) / np.diff(np.log(WIDTHS)) == pytest.approx(law.gamma, abs=1e-2)
    assert law.kappa == pytest.approx(law.alpha - 2 * law.beta + law.gamma)
    assert law.kappa == pytest.approx(law.alpha + law.gamma_log)


@pytest.mark.parametrize("shape", ["linex", "bent", "kinked"])
def test_the_high_side_is_steeper(shape):
    law = Law(shape=shape, skew=0.7)
    for octaves in (0.5, 2.0):
        assert law.loss(128, law.log2_lr + octaves) > law.loss(128, law.log2_lr - octaves)


def test_laws_bend_as_told():
    straight = Law(beta=0.8)
    widths = np.array([32, 64, 128, 256, 512])
    curved = Law(beta=0.8, bend=0.1)
    assert np.diff(curved.best_log2_lr(widths), 2) == pytest.approx(-0.1)
    assert -np.polyfit(np.log2(widths), curved.best_log2_lr(widths), 1)[0] == pytest.approx(0.8)
    broken = Law(beta=0.8, break_width=128, beta_beyond=0.2)
    assert np.diff(broken.best_log2_lr(widths)) == pytest.approx([-0.8, -0.8, -0.2, -0.2])
    floor = Law(beta=0.8, floor=-8.0).best_log2_lr(np.array([32, 2**30]))
    assert floor[0] == pytest.approx(straight.best_log2_lr(32), abs=0.25) and floor[1] == pytest.approx(
        -8, abs=1e-3
    )
    reducible = np.log(Law(loss_bend=0.02).best_loss(widths) - 2.5)
    assert np.diff(reducible, 2) == pytest.approx(-0.02)


def test_diverged_runs_may_have_a_finite_loss_and_widths_their_own_noise():
    law = Law(diverges_above=2.0)
    stuck, inf = (synthetic_sweep(law, diverged_loss=loss) for loss in (7.0, np.inf))
    gone = inf.diverged.to_numpy()
    assert stuck.loss[gone].to_numpy() == pytest.approx(7.0, rel=0.05) and "diverged" not in stuck
    noise = (
        synthetic_sweep(Law(), widths=[32, 64], noise=[0.0, 0.1]).loss
        - synthetic_sweep(Law(), widths=[32, 64], noise=0.0).loss.to_numpy()
    )
    assert (noise[:9] == 0)[np.isfinite(noise[:9])].all() and noise[9:].std() > 0.03


def test_runs_diverge_on_the_high_side_only():
    law = Law(diverges_above=2.0)
    loss = law.loss(128, law.log2_lr + np.array([-30.0, 0.0, 1.99, 2.0, 5.0]))
    assert np.isfinite(loss).tolist() == [True, True, True, False, False]
    table = synthetic_sweep(law, count=9)
    assert (table.diverged == np.isinf(table.loss)).all() and table.diverged.any()


def test_grids_bracket_the_optimum_and_can_be_given():
    law = Law()
    for width, rows in synthetic_sweep(law, count=7, spacing=0.5).groupby("width"):
        assert abs(rows.log2_lr.mean() - law.best_log2_lr(width)) <= 0.25
        assert np.diff(rows.log2_lr) == pytest.approx(0.5)
    table = synthetic_sweep(law, log2_lrs=[-9, -8, -7], seeds=2)
    assert sorted(table.log2_lr.unique()) == [-9, -8, -7] and len(table) == 5 * 3 * 2
    assert table.lr.to_numpy() == pytest.approx(2.0 ** table.log2_lr.to_numpy())


def test_noise_has_the_size_asked_for_and_the_share_in_common():
    laws = {"SP": Law(diverges_above=99), "μP": Law(L_inf=2.0, diverges_above=99)}
    quiet = synthetic_sweep(laws, widths=[64], seeds=400, noise=0.0)
    noise = synthetic_sweep(laws, widths=[64], seeds=400, noise=0.02, common=0.75, seed=3).loss - quiet.loss
    assert noise.std() == pytest.approx(0.02, rel=0.05)
    cells = noise.to_numpy().reshape(2 * 9, 400)
    assert np.corrcoef(cells)[np.triu_indices(18, 1)].mean() == pytest.approx(0.75, abs=0.05)


def test_a_seed_gives_the_same_sweep_again():
    assert synthetic_sweep(Law(), seed=1).equals(synthetic_sweep(Law(), seed=1))
    assert not synthetic_sweep(Law(), seed=1).loss.equals(synthetic_sweep(Law(), seed=2).loss)


def test_nonsense_is_refused():
    with pytest.raises(ConfigError, match="out of range"):
        synthetic_sweep(Law(), noise=-1)
    with pytest.raises(ConfigError, match="alpha"):
        Law(alpha=-0.5)
