"""A job: runs that one worker trains together into a store, whichever executor the worker belongs to."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from hpt.data import DataConfig, load
from hpt.run import RunConfig
from hpt.store import Store
from hpt.training import train


@functools.lru_cache(maxsize=4)
def _data(config: DataConfig):
    return load(config)


def run_job(configs: Sequence[RunConfig], store_path: str, device: str) -> list[str]:
    """Train the configurations that no other process stored meanwhile; returns the ids of all."""
    store, run_ids = Store(store_path), []
    for config in configs:
        data = _data(config.data)
        run_id = config.run_id(data.fingerprint)
        with store.lock(run_id):
            if run_id not in store:
                store.save(train(config, data=data, device=device))
        run_ids.append(run_id)
    return run_ids
