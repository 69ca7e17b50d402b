"""Published figures: typed once, and consistent with each other."""

import numpy as np
import pytest

from hpt.analysis.published import kalra_2026, kalra_2026_by_decay, rank_agreement
from hpt.parameterization.sixteen import PARAMETERIZATIONS, Parameterization


def test_the_means_are_those_of_the_variants():
    """The geometric means over the variants without weight decay, with Embd and without."""
    table = kalra_2026()
    with_embd = np.array([Parameterization.parse(name).embd for name in table.index])
    mean = {on: np.exp(np.log(table["E"][with_embd == on]).mean()) for on in (False, True)}
    published = kalra_2026_by_decay().loc[0.0]
    assert mean[False] == pytest.approx(published["E without Embd"], rel=0.02)
    assert mean[True] == pytest.approx(published["E with Embd"], rel=0.02)


def test_the_variants_are_the_sixteen_but_two():
    assert set(map(str, PARAMETERIZATIONS)) - set(kalra_2026().index) == {"SP+Attn", "SP+Last"}


class Told:
    """A report of variants with these values of E."""

    def __init__(self, E):
        self.E = E

    def to_frame(self):
        return self.E.rename("E").reset_index()


def test_order_alone_is_compared():
    theirs = kalra_2026()["E"]
    same = rank_agreement(Told(np.sqrt(theirs)))
    assert same.estimate == pytest.approx(1) and same.determined and same.n == 14
    reverse = rank_agreement(Told(1 / theirs))
    assert reverse.estimate == pytest.approx(-1) and reverse.high < 0
    shuffled = rank_agreement(Told(theirs.sample(frac=1, random_state=5).set_axis(theirs.index)))
    assert not shuffled.determined and shuffled.reason == "the interval holds zero"
    two = rank_agreement(Told(theirs[["SP", "μP"]]))
    assert not two.determined and two.reason == "fewer than three variants in common" and two.n == 2
