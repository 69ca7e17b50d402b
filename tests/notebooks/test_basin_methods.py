"""The contest of basin methods: exact where a method is exact, and won by the one that hpt
keeps."""

import numpy as np
import pytest
from basin_methods import HPT, METHODS, compare_methods, own_skew

from hpt.analysis.synthetic import Law
from hpt.errors import ConfigError

RATES = np.arange(-9.6, -4.5)


def test_methods_find_what_is_of_their_own_kind():
    parabola, linex = Law(shape="parabola"), Law(shape="linex", skew=0.5)
    for name in ("parabola, 3 rates", "parabola, 5 rates", "cubic", "skewed well, a skew a width"):
        (found,) = METHODS[name](RATES, parabola.loss(128, RATES)[:, None])
        assert found == pytest.approx(parabola.log2_lr, abs=0.02), name
    assert own_skew(RATES, linex.loss(128, RATES)[:, None])[0] == pytest.approx(linex.log2_lr, abs=0.02)
    assert METHODS["parabola, 5 rates"](RATES, linex.loss(128, RATES)[:, None])[0] < linex.log2_lr - 0.05
    (corner,) = METHODS["PCHIP"](RATES, linex.loss(128, RATES)[:, None])
    assert np.abs(corner - RATES).min() < 0.02  # a monotone interpolation has its minimum at a point


def test_the_method_kept_has_the_smallest_error():
    frame = compare_methods(sweeps=4, shapes=(("bent", 0.5), ("linex", 0.5)), bootstraps=40)
    error = frame.groupby("method").error.mean()
    assert error.idxmin() == HPT and set(error.index) == {HPT, *METHODS}
    assert frame[frame.method == HPT].covered.mean() > 85 > frame[frame.method == "PCHIP"].covered.mean()
    with pytest.raises(ConfigError):
        compare_methods(sweeps=0)
