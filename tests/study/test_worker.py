"""Worker processes: they end with their parent, and their parent ends in good order."""

import os
import re
import signal
import subprocess
import sys
import textwrap
import time

import psutil
import pytest

from hpt.study.worker import deaf_children

PARENT = """
    import concurrent.futures, multiprocessing, sys, time
    from hpt.study.worker import deaf_children, start_worker
    if __name__ == "__main__":
        context = multiprocessing.get_context("spawn")
        with deaf_children():
            pool = concurrent.futures.ProcessPoolExecutor(1, context, start_worker)
            pool.submit(time.sleep, 600)
        print("started", flush=True)
        time.sleep(600)
"""


def start(tmp_path, program):
    script = tmp_path / "parent.py"
    script.write_text(textwrap.dedent(program))
    return subprocess.Popen(
        [sys.executable, script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def workers_of(process, seconds=300):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = [p for p in psutil.Process(process.pid).children() if "spawn_main" in " ".join(p.cmdline())]
        if found:
            return found
        time.sleep(0.01)
    raise AssertionError("no worker came")


@pytest.mark.parametrize("importing", [True, False])
def test_a_worker_ends_with_its_killed_parent_while_it_imports_too(tmp_path, importing):
    process = start(tmp_path, PARENT)
    (worker,) = workers_of(process)
    if not importing:
        while "libtorch" not in "".join(m.path for m in worker.memory_maps()):
            time.sleep(0.05)
    process.kill()
    process.communicate()
    _, alive = psutil.wait_procs([worker], timeout=60)
    assert not alive


def test_ctrl_c_is_kept_from_children_alone():
    with deaf_children():
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    child.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        child.wait(0.5)
    child.kill()
    child.wait()
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


ENDED = """
    import os, signal, time
    from hpt.study.worker import orderly_end
    try:
        with orderly_end():
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)
    finally:
        print("in good order", signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)
"""


def test_sigterm_ends_in_good_order_inside_alone(tmp_path):
    """In a process of its own: other libraries leave handlers of theirs in this one."""
    process = start(tmp_path, ENDED)
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 143 and said == "in good order True\n"


STUDY = """
    import os
    os.environ["CXX"] = "no-such-compiler"
    from hpt.__main__ import main
    import hpt, dataclasses
    if __name__ == "__main__":
        from hpt.data.source import DataConfig
        small = hpt.load_profile("smoke")
        data = DataConfig(source="synthetic", vocab_size=64)
        model = dataclasses.replace(small.base.model, vocab_size=64)
        train = dataclasses.replace(small.base.train, steps=300)
        base = dataclasses.replace(small.base, data=data, model=model, train=train)
        small = dataclasses.replace(small, base=base)
        hpt.load_profile = lambda name: small
        main(["study", "--store", STORE, "--workers", "2"], prog_name="hpt")
"""


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_study_that_is_told_to_stop_says_one_line_and_leaves_nobody(tmp_path, number, status):
    process = start(tmp_path, STUDY.replace("STORE", repr(str(tmp_path / "store"))))
    records = tmp_path / "store/records"
    deadline = time.monotonic() + 300
    while not list(records.glob("*.json")) and time.monotonic() < deadline:
        time.sleep(0.05)
    workers = workers_of(process)
    # As a terminal does: to all of them.
    os.killpg(process.pid, signal.SIGINT) if number == signal.SIGINT else process.send_signal(number)
    _, said = process.communicate(timeout=300)
    assert process.returncode == status
    assert "Traceback" not in said and "leaked" not in said, said
    if number == signal.SIGINT:
        (kept,) = re.findall(r"^interrupted: (\d+) of \d+ runs are kept", said, re.MULTILINE)
        assert 0 < int(kept) <= len(list(records.glob("*.json")))
    _, alive = psutil.wait_procs(workers, timeout=60)
    assert not alive and list(records.glob("*.json"))
