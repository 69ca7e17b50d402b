"""The Ray executor on real clusters of several processes: the same bits, and what happens when
parts of it die."""

import contextlib
import dataclasses
import os
import signal
import threading
import time
from types import SimpleNamespace

import numpy as np
import pandas as pd
import psutil
import pytest
from click.testing import CliRunner

from hpt import cli
from hpt.errors import ConfigError, DataError, StoreError, StudyError
from hpt.runs.store import Store
from hpt.study import executor_ray
from hpt.study.executor_ray import RayExecutor

# read when Ray is imported; with RAY_AUTH_MODE it writes no token into the user's home
os.environ |= {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AUTH_MODE": "disabled",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1",
    # a killed machine counts as lost after two seconds, not half a minute
    "RAY_health_check_initial_delay_ms": "0",
    "RAY_health_check_period_ms": "500",
}
ray = pytest.importorskip("ray", reason='the executor "ray" needs Ray: pip install "hpt[ray]"')
cluster_utils = pytest.importorskip("ray.cluster_utils")

NODE = {
    "num_cpus": 1,
    "num_gpus": 0,
    "object_store_memory": executor_ray.OBJECT_STORE_BYTES,
    "include_dashboard": False,
}
TIMES = ["seconds", "tokens_per_second"]


@pytest.fixture(scope="module")
def cluster():
    """Two machines of one CPU each, as far as Ray can tell."""
    cluster = start_cluster()
    started = ray_processes()
    yield cluster
    started += ray_processes()
    cluster.shutdown()
    for process in still_alive(started, 2):
        process.kill()  # what outlived a killed parent
    assert not still_alive(started, 60)


def start_cluster(tries=3):
    """Ray gives up on a node after half a minute, whatever the machine does beside."""
    for _ in range(tries):
        try:
            cluster = cluster_utils.Cluster(initialize_head=True, head_node_args=NODE)
            cluster.add_node(**NODE)
            return cluster
        except Exception as error:  # plain ones
            told = error
            for process in ray_processes():
                process.kill()
    return pytest.skip(f"Ray's nodes do not start in the time that Ray gives them: {told}")


def ray_processes(name=""):
    """Processes of the clusters that this process started, parents first."""
    return [p for p in psutil.Process().children(recursive=True) if "ray" in title(p) and name in title(p)]


def still_alive(processes, seconds):
    """Those that do not end within so many seconds."""
    deadline = time.monotonic() + seconds
    while (left := [p for p in processes if title(p)]) and time.monotonic() < deadline:
        time.sleep(0.02)
    return left


def title(process):
    """Its command line; nothing for one that has ended, waited for or not."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def longer(study, steps):
    """The SP half of a study, with so many steps a run."""
    return dataclasses.replace(
        study.select(["SP"]),
        base=dataclasses.replace(study.base, train=dataclasses.replace(study.base.train, steps=steps)),
    )


def when_stored(folder, count, action):
    """Call ``action`` in a thread with the workers at work, once ``count`` runs are in the
    store."""

    def watch():
        deadline = time.monotonic() + 1500
        while time.monotonic() < deadline:
            stored = len(list((folder / "records").glob("*.json")))
            workers = ray_processes("ray::_run_job")
            if stored >= count and workers:
                action(workers)
                break
            time.sleep(0.005)

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """A store for what the local executor trains."""
    return Store(tmp_path_factory.mktemp("local"))


def assert_same_bits(study, table, folder, local):
    expected = study.run(local, workers=1, stack=False, quiet=True)
    pd.testing.assert_frame_equal(table.drop(columns=TIMES), expected.drop(columns=TIMES))
    for run_id in table["run_id"]:
        assert np.array_equal(
            Store(folder).load(run_id).train_loss, local.load(run_id).train_loss, equal_nan=True
        )


@pytest.mark.parametrize(
    ("gpus", "device", "asked", "wanted"),
    [
        (8, "auto", None, 1),
        (8, "cuda", 0.25, 0.25),
        (8, "auto", 2, 2),
        (8, "cpu", None, 0),
        (0, "auto", None, 0),
        (8, "auto", 0, 0),
    ],
)
def test_gpus_per_job(gpus, device, asked, wanted):
    assert executor_ray._gpus_per_job(gpus, device, asked) == wanted


@pytest.mark.parametrize(
    ("gpus", "device", "asked"),
    [(0, "cuda", None), (0, "auto", 0.5), (8, "cpu", 0.5), (8, "auto", 1.5), (8, "auto", -1)],
)
def test_gpus_per_job_refuses(gpus, device, asked):
    with pytest.raises(ConfigError, match=r"GPU|gpus_per_job"):
        executor_ray._gpus_per_job(gpus, device, asked)


def test_no_cluster_there_is_told(tmp_path):
    executor = RayExecutor(Store(tmp_path), address="127.0.0.1:9")
    with pytest.raises(StudyError, match="cannot join"), executor:
        pass


def test_a_lost_worker_and_a_lost_machine_change_no_bit(cluster, local, tmp_path, tiny_study):
    study, killed = longer(tiny_study, 100), []

    def kill_worker(workers):
        killed.append(workers[0])
        workers[0].kill()

    def kill_machine(workers):
        killed.append(ray_processes("raylet/raylet")[-1])
        killed[-1].kill()

    threads = [when_stored(tmp_path, 1, kill_worker), when_stored(tmp_path, 4, kill_machine)]
    table = study.run(tmp_path.as_uri(), executor="ray", address=cluster.address, stack=False, quiet=True)
    for thread in threads:
        thread.join()
    assert len(killed) == 2 and not still_alive(killed, 30)
    assert_same_bits(study, table, tmp_path, local)
    assert len(list((tmp_path / "records").iterdir())) == len(table)


def test_a_job_that_always_dies_ends_the_study(cluster, tmp_path, tiny_study, monkeypatch):
    monkeypatch.setattr(executor_ray, "RETRIES", 1)
    monkeypatch.setattr(executor_ray, "_run_job", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(StudyError, match=r"lost 2 times(.|\n)*finished runs are kept"):
        tiny_study.run(tmp_path, executor="ray", address=cluster.address, workers=1, quiet=True)


def test_other_text_on_a_machine_is_told(cluster, tmp_path, tiny_study, monkeypatch):
    monkeypatch.setattr(executor_ray, "load", lambda config: SimpleNamespace(fingerprint="0123abc"))
    with pytest.raises(DataError, match=r"fingerprint [0-9a-f]{64}, that of the study 0123abc(.|\n)*lock"):
        tiny_study.run(tmp_path, executor="ray", address=cluster.address, quiet=True)
    assert not list(Store(tmp_path).run_ids())


def test_a_store_that_is_not_shared_is_told(cluster, tiny_study, monkeypatch):
    monkeypatch.setattr(executor_ray, "STORE_SECONDS", 0)
    with pytest.raises(StoreError, match="not shared"):
        tiny_study.run("memory://alone", executor="ray", address=cluster.address, quiet=True)


def test_a_gpu_that_the_cluster_lacks_is_told(cluster, tmp_path, tiny_study):
    with pytest.raises(ConfigError, match="wants 1 GPUs and the Ray cluster has 0"):
        dataclasses.replace(tiny_study, needs="cuda").run(tmp_path, executor="ray", address=cluster.address)
    assert not ray.is_initialized()


def test_the_command_line_runs_a_study_on_the_cluster(cluster, tmp_path, tiny_study, monkeypatch):
    monkeypatch.setattr("hpt.load_profile", lambda name: tiny_study)
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    done = CliRunner().invoke(cli.main, ["study", "--executor", "ray", "--store", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert f"Ray at {cluster.address}" in done.output and len(list(Store(tmp_path).run_ids())) > 12


def test_a_lost_head_ends_the_study_and_the_next_cluster_resumes_it(
    cluster, local, tmp_path, tiny_study, monkeypatch
):
    """The last test here: it leaves no cluster."""
    monkeypatch.setattr(executor_ray, "LOST_SECONDS", 2)
    study = longer(tiny_study, 100)

    def kill_all(workers):
        for process in ray_processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    thread = when_stored(tmp_path, 3, kill_all)
    with pytest.raises(StudyError, match=r"is lost, with \d+ jobs left"):
        study.run(tmp_path, executor="ray", address=cluster.address, stack=False, quiet=True)
    thread.join()
    assert not ray.is_initialized()
    finished = {p: p.stat().st_mtime_ns for p in (tmp_path / "records").glob("*.json")}
    table = study.run(tmp_path, executor="ray", address="local", stack=False, quiet=True)
    assert 3 <= len(finished) < len(table) and all(p.stat().st_mtime_ns == t for p, t in finished.items())
    assert_same_bits(study, table, tmp_path, local)
