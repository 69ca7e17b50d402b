"""How long the table of a store of many records takes: the first time, and once its rows are kept.

    python benchmarks/many_records.py --records 20000

Beside it stands the least that any reader does: each file read, its SHA-256 and its JSON.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import hpt
from hpt.runs.result import RunResult, encode


def write_records(store: hpt.Store, count: int) -> None:
    """Records of runs of the profile quick, at sixteen weight decays and as many seeds as it takes, as if
    they had been trained."""
    configs = []
    for run in hpt.load_profile("quick").plan({}):
        for weight_decay in np.arange(16) / 16:
            train = dataclasses.replace(run.train, weight_decay=float(weight_decay))
            configs.append(dataclasses.replace(run, train=train))
    losses = np.linspace(7, 3, configs[0].train.steps, dtype=np.float32)
    for number in range(count):
        seed, which = divmod(number, len(configs))
        config = dataclasses.replace(configs[which], seed=seed)
        result = RunResult(
            config=config,
            run_id=config.run_id("made"),
            val_loss=3.0,
            train_loss=losses,
            diverged=False,
            seconds=1.0,
            tokens_per_second=1.0,
            parameters=1,
            tokens=1,
            device="cpu",
            precision="fp32",
            precision_reason="",
            data_fingerprint="made",
            versions={},
        )
        # Unsynced: to sync so many takes minutes.
        (store.path / f"records/{result.run_id}.json").write_bytes(encode(result))


def seconds(do: Callable[[], object]) -> float:
    """How long it takes."""
    begun = time.perf_counter()
    do()
    return time.perf_counter() - begun


def plain(folder: Path) -> list[dict]:
    """All records, read and checked by their checksum alone."""
    records = []
    for file in sorted(folder.glob("records/*.json")):
        checksum, body = file.read_bytes().split(b"\n")[:2]
        assert hashlib.sha256(body).hexdigest().encode() == checksum
        records.append(json.loads(body))
    return records


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--records", type=int, default=20_000)
    count = parser.parse_args().records
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HPT_CACHE_DIR"] = f"{folder}/cache"
        store = hpt.Store(f"{folder}/store")
        write_records(store, count)
        assert len(store.table([])) == 0
        least = seconds(lambda: plain(store.path))
        first = seconds(store.table)
        again = seconds(store.table)
        assert len(store.table()) == count
    print(f"{count} records: the first table {first:.2f} s, the next {again:.2f}; files alone {least:.2f}")
    print(f"ratios to the files alone: {first / least:.2f} and {again / least:.2f}")


if __name__ == "__main__":
    main()
