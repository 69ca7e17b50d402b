"""What a kink at the optimum would change, and when it shows."""

import numpy as np
import pytest

from hpt.analysis.synthetic import Law, synthetic_sweep
from hpt.metrics.basin import gather
from hpt.metrics.group import fit_group
from hpt.metrics.kink import KINK_OCTAVES, SMOOTH_OCTAVES, ShapeDoubt
from hpt.metrics.transfer import transfer_report
from hpt.metrics.verdicts import LACK_OF_FIT

WIDTHS = (32, 64, 128, 256, 512)


def doubt(law, **changes):
    table = synthetic_sweep(law, widths=WIDTHS, **{"noise": 0.0, "spacing": 0.5} | changes)
    return fit_group((), gather(table[np.isfinite(table.loss)], "width")).shape


def test_a_smooth_basin_fits_a_smooth_sweep_better_and_a_kinked_one_a_kinked():
    smooth, kinked = doubt(Law(shape="linex")), doubt(Law(shape="kinked", skew=2.0))
    assert smooth.tilt(0.002) > 0 > kinked.tilt(0.002)
    assert smooth.worse > 0 > kinked.worse


def test_few_rates_leave_nothing_to_compare():
    assert doubt(Law(shape="linex"), count=4, spacing=1.0) == ShapeDoubt()


@pytest.mark.parametrize(("worse", "share"), [(0.0, 0.5), (1e3, 0.0), (-1e3, 1.0)])
def test_the_share_of_a_kink_follows_the_evidence(worse, share):
    skew_B = np.full(20_000, 1.0)
    octaves_B = ShapeDoubt(worse).draw(skew_B, 1.0, np.random.default_rng(0))
    assert np.mean(octaves_B) == pytest.approx(share * KINK_OCTAVES, abs=0.003)
    spread = SMOOTH_OCTAVES if share != 0.5 else np.hypot(SMOOTH_OCTAVES, KINK_OCTAVES / 12**0.5)
    assert np.std(octaves_B) == pytest.approx(spread, rel=0.03)


def test_a_kinked_basin_shows_as_a_lack_of_fit_or_in_a_wider_interval():
    sharp = {"SP": Law(shape="kinked", skew=2.0)}
    found = transfer_report(
        synthetic_sweep(sharp, widths=WIDTHS, noise=0.003, seeds=3, spacing=0.5, count=13), bootstraps=100
    ).basins
    assert set(found.reason) == {LACK_OF_FIT} and not found.determined.any()
    truth = sharp["SP"].best_log2_lr(found.width)
    assert ((found.log2_lr_low <= truth) & (truth <= found.log2_lr_high)).mean() >= 0.6
    smooth = transfer_report(
        synthetic_sweep(Law(), widths=WIDTHS, noise=0.005, seeds=2), bootstraps=100
    ).basins
    assert smooth.determined.all()
    assert (smooth.log2_lr_high - smooth.log2_lr > smooth.log2_lr - smooth.log2_lr_low).mean() >= 0.8
