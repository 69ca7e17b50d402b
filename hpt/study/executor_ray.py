"""The Ray executor: each job is a task on a cluster of machines; results go through a store that
all of them reach."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections import Counter, deque
from pathlib import Path

import torch

from hpt.data.source import load
from hpt.device import cores_here
from hpt.errors import ConfigError, DataError, HptError, StoreError, StudyError
from hpt.study.executor import Executor
from hpt.study.jobs import run_job
from hpt.study.worker import keep_freed_memory

#: How often a job is repeated after its worker or its machine was lost.
RETRIES = 3
#: Seconds between looks at the cluster, and how long it may be out of reach.
LOOK_SECONDS, LOST_SECONDS = 2.0, 20.0
#: How long a record may take to show on this machine: NFS caches what a folder lacks.
STORE_SECONDS = 60.0
#: How often a cluster of this machine is started.
STARTS = 3
#: Ray wants a store for large objects, of this size at least; jobs return a few strings.
OBJECT_STORE_BYTES = 80_000_000


class RayExecutor(Executor):
    """Tasks on a Ray cluster, which the ``with`` block joins.

    A job takes one CPU, with as many torch threads, and ``gpus_per_job`` GPUs. Each machine reads
    and tokenizes its own text, whose fingerprint has to be that of this machine. Steps are neither
    compiled nor timed: the machines may differ.

    Parameters
    ----------
    store: on a file system that all machines share, or behind a URL.
    asked: at most so many jobs at a time; by default as many as the cluster holds.
    device: "auto" (a GPU where the cluster has one), "cpu", "cuda".
    address: of the cluster, "host:port", or "auto", the one that this machine is part of; by
        default $RAY_ADDRESS, else "local", one of this machine alone, started for the study and
        ended with it.
    gpus_per_job: a fraction lets jobs share a GPU; by default 1 on GPUs.
    """

    def __post_init__(self):
        if self.compile:
            raise ConfigError(
                'compiled=True with executor="ray".',
                "programs of steps are made and kept on one machine",
                "compiled=None",
            )

    def require_gpu(self):
        """Have each job take a GPU of the cluster; this machine may have none."""
        if self.device == "auto":
            self.device = "cuda"
        return self.device == "cuda"

    def __enter__(self) -> RayExecutor:
        """Join the cluster.

        Raises
        ------
        ConfigError: Ray is not installed, or the cluster has no GPU and the job wants one.
        StudyError: the cluster cannot be reached.
        """
        self._ray = _import_ray()
        self._joined = not self._ray.is_initialized()
        if self._joined:
            _join(self._ray, self.address)
        try:
            self._look_around()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_) -> None:
        if self._joined:
            # The cluster ends what this driver started; runs in hand repeat the next time.
            self._ray.shutdown()

    def _look_around(self):
        """What the cluster has, and how many jobs it does at a time."""
        context = self._ray.get_runtime_context()
        self._head = context.gcs_address
        self._node = context.get_node_id()
        self._seen = time.monotonic()
        resources = self._ray.cluster_resources()
        cpus = int(resources.get("CPU", 0))
        gpus = resources.get("GPU", 0.0)
        self.gpus_per_job = _gpus_per_job(gpus, self.device, self.gpus_per_job)
        room = cpus
        if self.gpus_per_job:
            room = min(cpus, int(gpus / self.gpus_per_job))
            self.device = "cuda"
        elif self.device == "auto":
            self.device = "cpu"
        # Not room: machines may join later.
        self._most = self.asked or float("inf")
        self.workers = max(1, min(room, self._most))
        machines = len(self._machines())
        self.why = (
            f"Ray at {self._head}: machines {machines}, CPUs {cpus}, GPUs {gpus:g}; "
            f"{self.workers} jobs at a time"
        )

    def _machines(self):
        """Ray's names of those in reach."""
        return {node["NodeID"] for node in self._ray.nodes() if node["Alive"]}

    def run(self, configs):
        """Train every configuration and yield each result as it is stored.

        A job whose worker or machine is lost is repeated.

        Raises
        ------
        StudyError: a job is lost too often, or the cluster; whatever was stored stays.
        StoreError: this machine does not see what a worker stored.
        DataError: a machine's text differs from this machine's.
        """
        start = self._starter(configs)
        waiting = deque(self.jobs(configs)[0])
        losses = Counter()
        running = {}
        try:
            while waiting or running:
                while waiting and len(running) < self._most:
                    job = waiting.popleft()
                    running[start(job)] = job
                done, _ = self._ray.wait(list(running), timeout=LOOK_SECONDS)
                self._look(len(running) + len(waiting))
                for task in done:
                    job = running.pop(task)
                    try:
                        run_ids = self._ray.get(task)
                    except self._ray.exceptions.RayTaskError as error:
                        # The job's own error.
                        own = isinstance(error.cause, HptError)
                        raise (error.cause if own else error) from None
                    except self._ray.exceptions.RayError as error:
                        losses[job] += 1
                        if losses[job] > RETRIES:
                            raise _gave_up(job, error) from error
                        waiting.appendleft(job)
                    else:
                        yield from map(self._load, run_ids)
        finally:
            for task in running:
                self._ray.cancel(task, force=True)

    def jobs(self, configs):
        """Stacks and single runs; how many fit into a GPU is known only where there is one."""
        if self._has_the_device():
            return super().jobs(configs)
        return [(config,) for config in configs], "one by one"

    def is_stacked(self, job):
        """As planned by :meth:`jobs`, on whatever machine the job is done."""
        return self._has_the_device() and super().is_stacked(job)

    def _has_the_device(self):
        return self.device == "cpu" or torch.cuda.is_available()

    def _starter(self, configs):
        """What starts a job and gives Ray's reference to it."""
        path = self.store.path
        shared = str(path.resolve() if isinstance(path, Path) else path)
        where = (shared, self.device, load(configs[0].data).fingerprint)
        # Retries are counted here: Ray itself repeats a job that ran out of memory without end.
        task = self._ray.remote(num_cpus=1, num_gpus=self.gpus_per_job, max_retries=0)(_run_job)
        return lambda job: task.remote(job, *where, self.is_stacked(job))

    def _look(self, left):
        """Fail when the head, or this machine's part in the cluster, has been away for
        ``LOST_SECONDS``.

        Ray itself would wait for a minute and then end the process.
        """
        if time.monotonic() - self._seen < LOOK_SECONDS:
            return
        try:
            _reach(self._head)
            alive = self._machines()
        except OSError:
            alive = ()
        if self._node in alive:
            self._seen = time.monotonic()
        elif time.monotonic() - self._seen > LOST_SECONDS:
            raise StudyError(
                f"the Ray cluster at {self._head} is lost, with {left} jobs left.",
                "its head, or Ray on this machine, was stopped or cannot be reached",
                "the same command once the cluster runs again; finished runs are kept",
            )

    def _load(self, run_id):
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
            # Reading the folder renews what NFS knows of it.
            list(self.store.run_ids())
        return result


def _import_ray():
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # What Ray's FutureWarning recommends.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError as error:
        raise ConfigError(f'executor="ray" needs Ray: {error}.', remedy='pip install "hpt[ray]"') from None
    return ray


def _join(ray, address):
    """Join the cluster, or start one of this machine."""
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    if address == "local":
        _start_here(ray, quiet)
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


def _start_here(ray, quiet):
    """Start a cluster of this machine; Ray gives up after half a minute, which a busy machine needs."""
    for _ in range(STARTS):
        try:
            ray.init(
                address="local",
                num_cpus=cores_here(),
                include_dashboard=False,
                object_store_memory=OBJECT_STORE_BYTES,
                **quiet,
            )
            return
        # Ray raises plain exceptions here.
        except Exception as error:
            ray.shutdown()
            told = error
    first_line = str(told).strip().partition("\n")[0]
    raise StudyError(
        f"Ray does not start on this machine, tried {STARTS} times: {first_line}.",
        "the machine is busy, or has too little memory",
        'the same command when less runs beside it, or executor="local"',
    ) from told


def _reach(address):
    """Fail with OSError where nothing listens at "host:port"."""
    host, _, port = address.rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), timeout=LOOK_SECONDS).close()


def _gpus_per_job(gpus, device, asked):
    """How many of the cluster's GPUs a job takes, as far as it was asked for."""
    wanted = asked
    if asked is None:
        wanted = float(device.startswith("cuda") or (device == "auto" and gpus > 0))
    is_share = 0 <= wanted <= 1 or (wanted > 1 and wanted % 1 == 0)
    if not is_share or (wanted > 0 and device in ("cpu", "mps")):
        raise ConfigError(
            f"gpus_per_job={asked} with device={device!r} cannot be had.",
            "Ray gives out a share of one GPU, or whole ones, to jobs that train on GPUs",
            'gpus_per_job=0.25, device="auto"',
        )
    if wanted > gpus:
        raise ConfigError(
            f"a job wants {wanted:g} GPUs and the Ray cluster has {gpus:g}.",
            "machines without a GPU, or started without --num-gpus",
            'device="cpu"',
        )
    return wanted


def _run_job(configs, store_path, device, fingerprint, stacked):
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
    return run_job(configs, store_path, device, stacked)


def _gave_up(job, error):
    c = job[0]
    reason = str(error).strip().partition("\n")[0]
    return StudyError(
        f"the job with {c.parameterization.name} at width {c.model.width} was lost {RETRIES + 1} times; the "
        f"last time: {type(error).__name__}: {reason}",
        "a machine ran out of memory, or something kills the workers",
        "the same command with fewer workers or a larger gpus_per_job; finished runs are kept",
    )
