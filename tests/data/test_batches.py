"""Which windows are drawn, and how they reach a device."""

import threading
from itertools import chain

import numpy as np
import pytest
import torch

from hpt.data import batches
from hpt.data.synthetic import SyntheticSource
from hpt.errors import ConfigError, DataError

CPU = torch.device("cpu")

GOLDEN = [0.35224390526353944, 0.927751072887293, 0.2765462956314537]


def test_uniforms_are_a_function_of_their_arguments_alone():
    first = {step: batches.uniforms(7, step, 5) for step in (0, 1, 2**40)}
    again = {step: batches.uniforms(7, step, 5) for step in (2**40, 1, 0)}
    for step in first:
        np.testing.assert_array_equal(first[step], again[step])
    np.testing.assert_array_equal(batches.uniforms(7, 1, 99)[:5], first[1])


def test_uniforms_stay_what_they_were():  # a change here would change every run record
    np.testing.assert_array_equal(batches.uniforms(3, 11, 3), GOLDEN)


def test_uniforms_of_other_seeds_steps_and_streams_differ():
    keys = [(s, t, name) for s in (0, 1, 2**64 - 1) for t in (0, 1, 2**64 - 1) for name in batches.STREAMS]
    drawn = np.concatenate([batches.uniforms(s, t, 64, name) for s, t, name in keys])
    assert len(np.unique(drawn)) == len(drawn)
    assert drawn.min() >= 0 and drawn.max() < 1
    assert abs(drawn.mean() - 0.5) < 5 / np.sqrt(12 * len(drawn))


@pytest.mark.parametrize(("seed", "step"), [(-1, 0), (0, -1), (2**64, 0)])
def test_uniforms_refuse_what_philox_cannot_take(seed, step):
    with pytest.raises(ConfigError, match="outside"):
        batches.uniforms(seed, step, 1)


def test_random_starts_reach_every_window_and_no_other():
    starts = batches.random_starts(0, 0, 2000, tokens=12, context=4, name="text")
    assert set(starts.tolist()) == set(range(8))  # 0 … 7: the last window ends with the last token


@pytest.mark.parametrize("context", [1, 7, 64])
@pytest.mark.parametrize("count", [1, 2, 5, 31])
@pytest.mark.parametrize("spare", [0, 1, 50, 1000])
def test_even_starts_do_not_overlap_where_the_text_is_long_enough(count, context, spare):
    tokens = count * (context + 1) + spare
    starts = batches.even_starts(count, tokens, context, "text")
    gaps = np.diff(starts)
    assert starts[0] == 0 and starts[-1] + context + 1 <= tokens
    assert count == 1 or (gaps.min() >= context + 1 and gaps.max() - gaps.min() <= 1)
    assert count == 1 or starts[-1] + context + 1 == tokens


def test_even_starts_overlap_evenly_in_a_short_text_and_are_never_twice_the_same():
    starts = batches.even_starts(6, tokens=10, context=4, name="text")
    np.testing.assert_array_equal(starts, range(6))
    with pytest.raises(DataError, match="6 windows"):
        batches.even_starts(7, tokens=10, context=4, name="text")


def test_cut_targets_are_the_inputs_one_later():
    inputs, targets = batches.cut(np.arange(100, dtype=np.uint16), np.array([0, 95]), context=4)
    assert inputs.tolist() == [[0, 1, 2, 3], [95, 96, 97, 98]]
    assert targets.tolist() == [[1, 2, 3, 4], [96, 97, 98, 99]]


@pytest.mark.parametrize(
    "call",
    [
        lambda: batches.random_starts(0, 0, 1, tokens=8, context=8, name="notes.txt"),
        lambda: batches.even_starts(1, tokens=8, context=8, name="notes.txt"),
    ],
)
def test_a_context_longer_than_the_text_names_text_and_remedy(call):
    with pytest.raises(DataError, match=r"(?s)notes.txt has 8 tokens.*context=7"):
        call()


@pytest.mark.parametrize(("count", "context"), [(0, 4), (4, 0)])
def test_empty_windows_are_refused(count, context):
    with pytest.raises(ConfigError, match="at least 1"):
        batches.random_starts(0, 0, count, tokens=100, context=context, name="text")


def test_the_next_step_is_read_while_this_one_is_used():
    begun = threading.Event()

    def read(step):
        if step == 4:
            begun.set()
        if step == 6:
            raise DataError("torn")
        return step

    threads, steps = threading.active_count(), batches.ahead(read, range(3, 9))
    assert next(steps) == 3 and begun.wait(60)  # nobody has asked for step 4 yet
    assert [next(steps), next(steps)] == [4, 5]
    with pytest.raises(DataError, match="torn"):
        next(steps)
    given_up = batches.ahead(lambda step: step, range(10**9))
    assert next(given_up) == 0
    given_up.close()
    assert threading.active_count() == threads and list(batches.ahead(read, range(5, 5))) == []


def test_stretches_grow_and_cover_each_step_once():
    stretches = batches.growing(3, 80, 25)
    assert list(chain(*stretches)) == list(range(3, 80))
    assert list(map(len, stretches)) == [1, 2, 4, 8, 16, 25, 21]
    assert batches.growing(5, 5, 25) == batches.growing(6, 5, 25) == []


def test_a_gpu_gets_a_stretch_at_once_pinned_and_does_not_wait_for_it(monkeypatch):
    """On a CPU, which can pin nothing: what is asked of the tensors counts."""
    asked = []

    def to(sides, device, non_blocking=False):
        asked.append((device.type, sides.shape, non_blocking))
        return sides

    source = SyntheticSource(vocab_size=64)
    stretches = [range(2, 5), range(5, 7)]
    plain = list(map(list, batches.feed(lambda step: source.batch(0, step, 2, 8), stretches, CPU)))
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda sides: asked.append("pinned") or sides)
    monkeypatch.setattr(torch.Tensor, "to", to)
    fed = list(
        map(list, batches.feed(lambda step: source.batch(0, step, 2, 8), stretches, torch.device("cuda")))
    )
    one = ["pinned", ("cuda", (3, 2, 8), True)]
    other = ["pinned", ("cuda", (2, 2, 8), True)]
    assert asked == [*one, *one, *other, *other]
    for step, ours, theirs in zip(range(2, 7), chain(*fed), chain(*plain), strict=True):
        for side in (source.batch(0, step, 2, 8), theirs):
            assert all(map(torch.equal, ours, side))
