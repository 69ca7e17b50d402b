"""The Ray executor: each job is a task on a cluster of machines; results go through a store that
all of them reach."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from hpt.data.source import load
from hpt.device import cores_here
from hpt.errors import ConfigError, DataError, HptError, StoreError, StudyError
from hpt.runs.result import RunResult
from hpt.runs.run_config import RunConfig
from hpt.runs.store import Store
from hpt.study.executor_local import keep_freed_memory
from hpt.study.jobs import plan_jobs, run_job

#: How often a job is repeated after its worker or its machine was lost.
RETRIES = 3
#: Seconds between looks at the cluster, and how long it may be out of reach.
LOOK_SECONDS, LOST_SECONDS = 2.0, 20.0
#: How long a record may take to show on this machine: NFS caches what a folder lacks.
STORE_SECONDS = 60.0
#: Ray wants a store for large objects, of this size at least; jobs return a few strings.
OBJECT_STORE_BYTES = 80_000_000


class RayPool:
    """Tasks on a Ray cluster that train runs into a store; use it in a ``with`` block, as
    :class:`hpt.study.executor_local.Pool`.

    A job takes one CPU, with as many torch threads, and ``gpus_per_job`` GPUs. Each machine reads
    and tokenizes its own text, whose fingerprint has to be that of this machine.

    Parameters
    ----------
    store: where each worker puts its results: on a file system that all machines share, or behind a
        URL.
    workers: at most so many jobs at a time; by default as many as the cluster holds.
    device: "auto" (a GPU where the cluster has one), "cpu", "cuda".
    address: of the cluster, "host:port", or "auto", the one that this machine is part of; by
        default $RAY_ADDRESS, else "local", one of this machine alone, started for the study and
        ended with it.
    gpus_per_job: a fraction lets jobs share a GPU; by default 1 on GPUs.
    stack: as in :meth:`hpt.Study.run`.

    Raises
    ------
    ConfigError: Ray is not installed, or the cluster has no GPU and the job wants one.
    StudyError: the cluster cannot be reached.
    """

    def __init__(
        self,
        store: Store,
        workers: int | None = None,
        device: str = "auto",
        *,
        address: str | None = None,
        gpus_per_job: float | None = None,
        stack: bool | None = None,
    ):
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault(
            "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0"
        )  # what Ray's FutureWarning recommends
        try:
            import ray
        except ImportError as error:
            raise ConfigError(
                f'executor="ray" needs Ray: {error}.',
                "an installation without it",
                'pip install "hpt[ray]"',
            ) from None
        self.store, self.stack, self._ray, self._connected = (
            store,
            stack,
            ray,
            not ray.is_initialized(),
        )
        if self._connected:
            _connect(ray, address)
        try:
            self._head = ray.get_runtime_context().gcs_address
            self._node = ray.get_runtime_context().get_node_id()
            self._seen = time.monotonic()
            resources = ray.cluster_resources()
            cpus, gpus = int(resources.get("CPU", 0)), resources.get("GPU", 0.0)
            self.gpus_per_job = _gpus_per_job(gpus, device, gpus_per_job)
        except BaseException:
            self.__exit__()
            raise
        self.device = "cuda" if self.gpus_per_job else "cpu" if device == "auto" else device
        room = min(cpus, int(gpus / self.gpus_per_job)) if self.gpus_per_job else cpus
        self._most = workers or float("inf")  # not room: machines may join later
        self.workers = max(1, min(room, self._most))
        self.why = (
            f"Ray at {self._head}: machines {sum(n['Alive'] for n in ray.nodes())}, CPUs {cpus}, "
            f"GPUs {gpus:g}; {self.workers} jobs at a time"
        )

    def __enter__(self) -> RayPool:
        return self

    def __exit__(self, *_) -> None:
        if self._connected:
            self._ray.shutdown()  # the cluster ends what this driver started; runs in hand repeat the next time

    def run(self, configs: Sequence[RunConfig]) -> Iterator[RunResult]:
        """Train every configuration and yield each result as it is stored.

        A job whose worker or machine is lost is repeated.

        Raises
        ------
        StudyError: a job is lost too often, or the cluster; whatever was stored stays.
        StoreError: this machine does not see what a worker stored.
        DataError: a machine's text differs from this machine's.
        """
        ray = self._ray
        fingerprints = {data: load(data).fingerprint for data in {c.data for c in configs}}
        path = str(
            self.store.path.resolve() if isinstance(self.store.path, Path) else self.store.path
        )
        # Retries are counted here: Ray itself repeats a job that ran out of memory without end.
        task = ray.remote(num_cpus=1, num_gpus=self.gpus_per_job, max_retries=0)(_run_job)
        waiting, running = deque((job, 0) for job in self._jobs(configs)), {}
        try:
            while waiting or running:
                while waiting and len(running) < self._most:
                    job, losses = waiting.popleft()
                    running[
                        task.remote(job, path, self.device, fingerprints[job[0].data], self.stack)
                    ] = job, losses
                done, _ = ray.wait(list(running), timeout=LOOK_SECONDS)
                self._look(len(running) + len(waiting))
                for ref in done:
                    job, losses = running.pop(ref)
                    try:
                        run_ids = ray.get(ref)
                    except ray.exceptions.RayTaskError as error:  # the job's own error
                        raise (
                            error.cause if isinstance(error.cause, HptError) else error
                        ) from None
                    except ray.exceptions.RayError as error:
                        if losses == RETRIES:
                            raise _gave_up(job, error) from error
                        waiting.appendleft((job, losses + 1))
                    else:
                        yield from map(self._load, run_ids)
        finally:
            for ref in running:
                ray.cancel(ref, force=True)

    def _jobs(self, configs: Sequence[RunConfig]) -> list[tuple[RunConfig, ...]]:
        """Stacks and single runs; how many fit into a GPU is known only where there is one."""
        if self.device == "cpu" or torch.cuda.is_available():
            return plan_jobs(configs, self.device, workers=self.workers, stack=self.stack)[0]
        return [(config,) for config in configs]

    def _look(self, left: int) -> None:
        """Fail when the head, or this machine's part in the cluster, has been away for
        ``LOST_SECONDS``.

        Ray itself would wait for a minute and then end the process.
        """
        if time.monotonic() - self._seen < LOOK_SECONDS:
            return
        try:
            _reach(self._head)
            if any(n["NodeID"] == self._node and n["Alive"] for n in self._ray.nodes()):
                self._seen = time.monotonic()
                return
        except OSError:
            pass
        if time.monotonic() - self._seen > LOST_SECONDS:
            raise StudyError(
                f"the Ray cluster at {self._head} is lost, with {left} jobs left.",
                "its head, or Ray on this machine, was stopped or cannot be reached",
                "the same command once the cluster runs again; finished runs are kept",
            )

    def _load(self, run_id: str) -> RunResult:
        """What a worker stored, as soon as this machine sees it."""
        deadline = time.monotonic() + STORE_SECONDS
        while (result := self.store.load(run_id)) is None:
            if time.monotonic() > deadline:
                raise StoreError(
                    f"a worker stored run {run_id}, which is not in the store {self.store.path} here.",
                    "a folder that is not shared by all machines of the cluster",
                    "a folder on a shared file system, or a URL such as s3://bucket/runs",
                )
            time.sleep(0.2)
            list(self.store.run_ids())  # reading the folder renews what NFS knows of it
        return result


def _connect(ray, address: str | None) -> None:
    """Join the cluster, or start one of this machine."""
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    if address == "local":
        ray.init(
            address="local",
            num_cpus=cores_here(),
            include_dashboard=False,
            object_store_memory=OBJECT_STORE_BYTES,
            **quiet,
        )
        return
    try:
        if address != "auto":
            _reach(address)  # Ray itself would try for minutes
        ray.init(address=address, **quiet)
    except (OSError, ValueError, RuntimeError) as error:
        raise StudyError(
            f"cannot join the Ray cluster at {address}: {error}.",
            "no cluster runs there, or this machine is not part of it",
            "`ray start --address=HOST:PORT` on this machine first",
        ) from error


def _reach(address: str) -> None:
    """Fail with OSError where nothing listens at "host:port"."""
    host, _, port = address.rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), timeout=LOOK_SECONDS).close()


def _gpus_per_job(gpus: float, device: str, asked: float | None) -> float:
    wanted = (
        asked
        if asked is not None
        else float(device.startswith("cuda") or (device == "auto" and gpus > 0))
    )
    if wanted < 0 or (wanted > 1 and wanted % 1):
        raise ConfigError(
            f"gpus_per_job={asked} is no number of GPUs.",
            "Ray gives out a share of one, or whole ones",
            "gpus_per_job=0.25",
        )
    if wanted > 0 and device in ("cpu", "mps"):
        raise ConfigError(
            f"gpus_per_job={asked} and device={device!r} exclude each other.", "", 'device="auto"'
        )
    if wanted > gpus:
        raise ConfigError(
            f"a job wants {wanted:g} GPUs and the Ray cluster has {gpus:g}.",
            "machines without a GPU, or started without --num-gpus",
            'device="cpu"',
        )
    return wanted


def _run_job(
    configs: Sequence[RunConfig], store_path: str, device: str, fingerprint: str, stack: bool | None
) -> list[str]:
    """What a worker of the cluster does; returns the ids of the job's runs."""
    torch.set_num_threads(1)  # as many as the task has CPUs
    keep_freed_memory()
    here = load(configs[0].data).fingerprint
    if here != fingerprint:
        raise DataError(
            f"the text on {socket.gethostname()} has fingerprint {here}, that of the study {fingerprint}.",
            "other versions of the installed packages, or other files, on that machine",
            "`pip install -r requirements.lock` from the same lock file on every machine",
        )
    return run_job(configs, store_path, device, stack)


def _gave_up(job: Sequence[RunConfig], error: Exception) -> StudyError:
    c = job[0]
    reason = str(error).strip().partition("\n")[0]
    return StudyError(
        f"the job with {c.parameterization} at width {c.model.width} was lost {RETRIES + 1} times; the "
        f"last time: {type(error).__name__}: {reason}",
        "a machine ran out of memory, or something kills the workers",
        "the same command with fewer workers or a larger gpus_per_job; finished runs are kept",
    )
