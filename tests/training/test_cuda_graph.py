"""The owner of a captured step, as far as a CPU can tell."""

import contextlib
import dataclasses
import gc
import weakref

import pytest
import torch

from hpt.data.source import load
from hpt.training.cuda_graph import WARM_UP, CapturedGraph
from hpt.training.loop import Training
from hpt.training.stacked import train_stacked


@pytest.fixture
def no_collector():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def test_elsewhere_than_on_cuda_every_call_is_a_plain_one():
    graph, calls = CapturedGraph(torch.device("cpu")), []
    for x in (torch.ones(2), torch.zeros(3)):
        assert torch.equal(graph.run(lambda x: calls.append(x) or x + 1, x), x + 1)
    assert len(calls) == 2


@pytest.mark.usefixtures("no_collector")
def test_a_finished_stack_is_freed_with_its_last_reference(tiny_run):
    """A graph that waits for the cycle collector could be freed while another is captured."""
    runs = [tiny_run, dataclasses.replace(tiny_run, seed=1)]
    stack = Training(runs, load(tiny_run.data), torch.device("cpu"))
    stack.advance(stack.steps)
    stack.results()
    kept = [weakref.ref(x) for x in (stack, stack.graph, stack.one_step, stack.groups[0].weight)]
    del stack
    assert [reference() for reference in kept] == [None] * 4


class FakeCuda:
    """What a capture asks of torch.cuda, on a CPU: the graph repeats a call on the same tensors."""

    def __init__(self, monkeypatch):
        self.alive, self.captures = 0, []
        fake = {"CUDAGraph": lambda: FakeGraph(self), "graph": self.capture, "Stream": lambda _: self}
        fake |= {"current_stream": lambda _: self, "stream": lambda _: contextlib.nullcontext()}
        for name, value in fake.items():
            monkeypatch.setattr(torch.cuda, name, value)

    def wait_stream(self, _):
        pass

    @contextlib.contextmanager
    def capture(self, graph, capture_error_mode):
        self.captures.append((capture_error_mode, gc.isenabled()))
        yield


class FakeGraph:
    def __init__(self, cuda):
        self.cuda, self.replays = cuda, 0
        cuda.alive += 1

    def replay(self):
        self.replays += 1

    def reset(self):
        self.cuda.alive -= 1


def test_on_cuda_the_step_is_captured_once_and_replayed(monkeypatch):
    cuda, graph, calls = FakeCuda(monkeypatch), CapturedGraph(torch.device("cuda")), []
    for i in range(WARM_UP + 3):
        graph.run(lambda x: calls.append(x) or x, torch.tensor(i))
    # Other threads may use CUDA meanwhile, and nothing that the collector finds is freed.
    assert cuda.captures == [("thread_local", False)] and gc.isenabled()
    assert len(calls) == WARM_UP + 1 and graph.graph.replays == 3
    # The graph's own memory holds the inputs of the last replay.
    assert calls[-1] is graph.inputs[0] and calls[-1].item() == WARM_UP + 2
    graph.release()
    assert cuda.alive == 0 and graph.graph is graph.inputs is graph.output is None


@pytest.mark.parametrize("fails", [False, True])
def test_a_stack_releases_its_graph_when_it_ends(tiny_run, monkeypatch, fails):
    cuda = FakeCuda(monkeypatch)

    def finish(self):
        self.graph.graph = FakeGraph(cuda)
        if fails:
            raise torch.OutOfMemoryError
        return ["done"]

    monkeypatch.setattr(Training, "finish", finish)
    expected = pytest.raises(torch.OutOfMemoryError) if fails else contextlib.nullcontext()
    with expected:
        train_stacked([tiny_run], device="cpu")
    assert cuda.alive == 0
