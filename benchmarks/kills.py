"""Kill a study again and again, and see that its table is always the same, to the bit.

    python benchmarks/kills.py --minutes 60

Each round starts a small study in a new folder and kills it at random instants, the study or one of its
workers, with SIGKILL, SIGTERM or SIGINT, until a start ends by itself. Between kills a record may be cut
short, a byte of it flipped, or the cache damaged. Then: the final table equals that of an undisturbed study
to the bit, no run was trained that was stored whole, and no process is left. The exit status is 1 at the
first round where that does not hold; its folder stays.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import psutil

import hpt
from hpt.config import from_dict, to_dict
from hpt.data.source import DataConfig
from hpt.study.study import Study

TIMES = ["seconds", "tokens_per_second"]
#: What no study of this size takes, however slow the machine.
SECONDS = 1800
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


def small_study() -> Study:
    """A part of smoke's study on the synthetic source: some thirty runs of about a second."""
    study = hpt.load_profile("smoke")
    study = study.select(["SP", "μP"], study.widths[:2])
    base = study.base
    model = dataclasses.replace(base.model, vocab_size=64)
    data = DataConfig(source="synthetic", vocab_size=64)
    # Long enough that most kills hit a run and not an import.
    train = dataclasses.replace(base.train, steps=400)
    return dataclasses.replace(study, base=dataclasses.replace(base, model=model, data=data, train=train))


def start(study: Study, folder: Path) -> subprocess.Popen:
    """The study in a process group of its own, with a cache of its own."""
    environment = os.environ | {"HPT_CACHE_DIR": str(folder / "cache"), "HPT_HEADLESS": "1"}
    command = [
        sys.executable,
        __file__,
        "--study",
        json.dumps(to_dict(study)),
        "--store",
        str(folder / "store"),
    ]
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)


def disturb(process: subprocess.Popen, chance: random.Random, patience: float) -> str:
    """Wait for a random time and kill the study or a worker; what was done, "" where it had ended."""
    try:
        process.wait(chance.uniform(0, patience))
        return ""
    except subprocess.TimeoutExpired:
        pass
    workers = psutil.Process(process.pid).children()
    if workers and chance.random() < 0.3:
        with contextlib.suppress(psutil.NoSuchProcess):
            chance.choice(workers).kill()
        wait(process)
        return "a worker killed"
    number = chance.choice(SIGNALS)
    process.send_signal(number)
    wait(process)
    return number.name


def wait(process: subprocess.Popen) -> None:
    """Until it ends; AssertionError where it does not."""
    try:
        process.wait(SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise AssertionError(f"it hung for {SECONDS} s") from None


def damage(folder: Path, chance: random.Random) -> str:
    """Harm a random file of the store or the cache, or none."""
    files = [*folder.glob("store/records/*.json"), *folder.glob("cache/*/*.json")]
    if not files or chance.random() < 0.5:
        return ""
    file = chance.choice(files)
    raw = bytearray(file.read_bytes())
    if chance.random() < 0.5:
        del raw[chance.randrange(len(raw) + 1) :]
    elif raw:
        raw[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)
    file.write_bytes(raw)
    return f"{file.parent.name} harmed"


def left_over(group: int, seconds: float = 30) -> bool:
    """Whether a process of the group outlives its parent by so long."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return False
        time.sleep(0.05)
    return True


def whole_records(folder: Path) -> dict[str, int]:
    """When each record that the store reads was written."""
    records = {}
    for file in folder.glob("store/records/*.json"):
        checksum, _, body = file.read_bytes().partition(b"\n")
        if hpt.runs.result._checksum(body.removesuffix(b"\n")) == checksum:
            records[file.name] = file.stat().st_mtime_ns
    return records


def one_round(
    study: Study, expected: pd.DataFrame, folder: Path, chance: random.Random, patience: float
) -> list[str]:
    """Disturb a study until it ends by itself; raises AssertionError where a promise is broken."""
    done = []
    for attempt in range(200):
        before = whole_records(folder)
        process = start(study, folder)
        # The longer it takes, the more it is left alone.
        done += filter(None, [disturb(process, chance, patience * (1 + attempt / 5))])
        assert not left_over(process.pid), "a worker outlived the study"
        after = whole_records(folder)
        assert all(after.get(name) == written for name, written in before.items()), (
            "a stored run was trained again"
        )
        if process.returncode == 0:
            break
        done += filter(None, [damage(folder, chance)])
    assert process.returncode == 0, "it never ended"
    table = study.run(folder / "store", quiet=True)
    pd.testing.assert_frame_equal(table.drop(columns=TIMES), expected.drop(columns=TIMES), check_exact=True)
    return done


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where the stores are; by default a temporary one")
    parser.add_argument("--study", help=argparse.SUPPRESS)
    parser.add_argument("--store", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.study:
        from_dict(Study, json.loads(given.study)).run(given.store, stack=False)
        return
    chance = random.Random(given.seed)
    root = Path(tempfile.mkdtemp(prefix="kills-", dir=given.folder))
    study = small_study()
    (root / "undisturbed").mkdir()
    begun = time.monotonic()
    process = start(study, root / "undisturbed")
    assert process.wait() == 0, (root / "undisturbed/log").read_text()
    undisturbed = time.monotonic() - begun
    # Several kills before the study could end.
    patience = undisturbed / 4
    expected = study.run(root / "undisturbed/store", quiet=True)
    print(f"{len(expected)} runs take {undisturbed:.0f} s undisturbed; stores in {root}", flush=True)
    rounds = kills = 0
    begun = time.monotonic()
    while time.monotonic() - begun < 60 * given.minutes:
        folder = root / f"round{rounds}"
        folder.mkdir()
        try:
            done = one_round(study, expected, folder, chance, patience)
        except AssertionError as error:
            sys.exit(f"round {rounds} of seed {given.seed}: {error}\nsee {folder}")
        rounds += 1
        kills += sum("harmed" not in what for what in done)
        print(f"round {rounds}: {', '.join(done) or 'undisturbed'}; the same table", flush=True)
        shutil.rmtree(folder)
    print(f"{rounds} rounds, {kills} kills, every final table the same to the bit")
    shutil.rmtree(root)


if __name__ == "__main__":
    main()
