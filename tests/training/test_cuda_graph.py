"""The owner of a captured step, as far as a CPU can tell."""

import dataclasses
import gc
import weakref

import pytest
import torch

from hpt.data.source import load
from hpt.training.cuda_graph import CapturedGraph
from hpt.training.stacked import Stack


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
    stack = Stack(runs, load(tiny_run.data), torch.device("cpu"))
    stack.advance(stack.steps)
    stack.results()
    kept = [weakref.ref(x) for x in (stack, stack.graph, stack.model, stack.optimizer.weights[0])]
    del stack
    assert [reference() for reference in kept] == [None] * 4
