"""Executors: which one a study gets, what is refused, and what one says that trains nothing."""

import dataclasses
import math

import pytest

from hpt.errors import ConfigError
from hpt.study.executor import Executor
from hpt.study.executor_local import LocalExecutor
from hpt.study.executor_ray import RayExecutor


@pytest.fixture
def needy(tiny_study):
    return dataclasses.replace(tiny_study, needs="cuda")


def test_what_trains_nothing_knows_nothing(tiny_study):
    runs = tiny_study.plan({})
    with Executor(None) as executor:
        executor.prepare(runs, runs)
        assert (executor.workers, executor.why) == (1, "nothing to train")
        assert math.isnan(executor.time(runs).run_seconds(runs[0])) and not executor.require_gpu()


def test_an_unknown_name_is_told(tmp_path, tiny_study):
    with pytest.raises(ConfigError, match=r"did you mean 'local'(.|\n)*executor=.local"):
        tiny_study.run(tmp_path, executor="locla")


def test_what_an_executor_cannot_do_is_refused(tmp_path, tiny_study):
    with pytest.raises(ConfigError, match="kept on one machine"):
        tiny_study.run(tmp_path, compiled=True, executor="ray")
    for options in ({"address": "auto"}, {"gpus_per_job": 0.5}):
        with pytest.raises(ConfigError, match="only a cluster"):
            tiny_study.run(tmp_path, **options)


def test_a_study_that_needs_a_gpu_starts_on_nothing_else(tmp_path, needy):
    for executor in ("local", "ray"):
        with pytest.raises(ConfigError, match=r"CUDA(.|\n)*FLOPs(.|\n)*quick"):
            needy.run(tmp_path, executor=executor, device="cpu")
    assert not LocalExecutor(None, device="cpu").require_gpu()
    cluster = RayExecutor(None)
    assert cluster.require_gpu() and cluster.device == "cuda"  # the cluster's, not this machine's
