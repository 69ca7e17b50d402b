"""What a worker process of this machine is before it knows torch: a child that ends with its parent."""

import contextlib
import ctypes
import multiprocessing
import os
import platform
import signal
import threading
from collections.abc import Iterator


def start_worker() -> None:
    """Prepare this process for its first job.

    The parent is watched from the start: to import torch takes seconds, in which it may be killed.
    """
    end_with_parent()
    import torch

    torch.set_num_threads(1)
    keep_freed_memory()


def keep_freed_memory() -> None:
    """Let glibc keep the memory of large tensors; giving it back each step costs small models a
    third of their time."""
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        for parameter in (-1, -3):  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD of malloc.h
            libc.mallopt(parameter, 1 << 30)


def end_with_parent() -> None:
    """End when the parent does: a killed one cannot tell, and its children would wait for ever."""

    def watch():
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextlib.contextmanager
def deaf_children() -> Iterator[None]:
    """Processes started inside do not hear Ctrl-C, which reaches all of a terminal: who started them ends
    them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def orderly_end() -> Iterator[None]:
    """Inside, SIGTERM ends this process as an exception does, with exit status 143: workers are ended, and
    what the system holds for them is given back."""
    here = threading.current_thread() is threading.main_thread()
    if not here or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _terminate(*_):
    raise SystemExit(128 + signal.SIGTERM)
