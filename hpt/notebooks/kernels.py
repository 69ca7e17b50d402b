"""Kernels of notebooks that run headless, each a fork of one process that has imported what notebooks import.

A Python with torch, scipy and matplotlib takes a core eight seconds to start and two to end; a fork of it
takes neither. Only Linux can be relied on to fork with these libraries; elsewhere each kernel starts anew.
"""

from __future__ import annotations

import atexit
import functools
import multiprocessing
import os
import sys
import threading
import types
import weakref
from importlib.metadata import EntryPoint
from multiprocessing import forkserver
from typing import Any, ClassVar

import traitlets
import zmq
from ipykernel.kernelspec import get_kernel_dict
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.provisioning import KernelProvisionerFactory, LocalProvisioner

from hpt.device import cores_here
from hpt.files import environment
from hpt.study.worker import end_with_parent, keep_freed_memory

FORKING = multiprocessing.get_context("forkserver") if sys.platform == "linux" else None
ONE_AT_A_TIME = threading.Lock()
#: Imported once for all kernels. Not matplotlib's inline backend: it asks for the kernel as it is imported.
PRELOADED = [
    "ipykernel.kernelapp",
    "ipywidgets",
    "torch.nn.functional",
    "hpt.data.source",
    "hpt.exercises.game",
    "hpt.notebooks.expectations",
    "hpt.notebooks.kernels",
    "hpt.plots.widgets",
    "hpt.study.together",
]


class ThisPython(AsyncKernelManager):
    """Starts the kernel with the interpreter that runs now, whatever kernel specs the machine
    has."""

    threads: ClassVar[int] = 1
    started: ClassVar[weakref.WeakSet[AsyncKernelManager]] = weakref.WeakSet()

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.started.add(self)

    @property
    def kernel_spec(self):
        spec = KernelSpec(**get_kernel_dict(), env=variables(self.threads))
        if FORKING:
            spec.metadata["kernel_provisioner"] = {"provisioner_name": Forked.__name__}
        return spec

    async def _async_interrupt_kernel(self):
        """No cell runs when a kernel is ended; it would only print that it was interrupted."""

    @traitlets.default("transport_encryption")
    def _encrypt(self):
        return "auto" if zmq.has("curve") else "disabled"


def threads_of_each(at_once: int) -> int:
    """Of so many kernels that share the cores."""
    return max(1, cores_here() // at_once)


def variables(threads: int) -> dict[str, str]:
    """What a kernel finds in its environment beside what this process does."""
    return {"HPT_HEADLESS": "1", "HPT_CORES": str(threads), "OMP_NUM_THREADS": str(threads)}


@functools.cache
def preload(threads: int) -> None:
    """Start the process that kernels are forked from, where there is to be one; it goes on by itself."""
    if FORKING:
        FORKING.set_forkserver_preload(PRELOADED)
        # Libraries read it as they are loaded.
        with environment(**variables(threads)):
            forkserver.ensure_running()


class Forked(LocalProvisioner):
    """Launches a kernel as a fork."""

    async def launch_kernel(self, cmd: list[str], **options: Any) -> dict[str, Any]:
        """Start the kernel that a command would; its addresses."""
        preload(self.parent.threads)
        self.cwd = options["cwd"]
        self.process = Kernel(cmd[cmd.index("-f") :], self.cwd, options["env"])
        self.process.start()
        self.pid = self.pgid = self.process.pid
        return self.connection_info


ENTRY = EntryPoint(Forked.__name__, f"{__name__}:{Forked.__name__}", KernelProvisionerFactory.GROUP_NAME)
KernelProvisionerFactory.instance().provisioners[ENTRY.name] = ENTRY


class Kernel(FORKING.Process if FORKING else object):
    """A forked kernel, with what Jupyter asks of a :class:`subprocess.Popen`."""

    stdin = stdout = stderr = None

    def __init__(self, arguments, folder, env):
        super().__init__()
        self.arguments = arguments
        self.folder = folder
        self.env = env

    def start(self):
        """Start it. Whatever script runs here has no part in a kernel: a fork would import it again."""
        with ONE_AT_A_TIME:
            script = sys.modules["__main__"]
            sys.modules["__main__"] = types.ModuleType("__main__")
            try:
                super().start()
            finally:
                sys.modules["__main__"] = script

    def run(self):
        """Be a kernel, in the fork."""
        import matplotlib
        import torch
        from ipykernel.kernelapp import IPKernelApp

        end_with_parent()
        os.setsid()
        os.environ.update(self.env)
        os.chdir(self.folder)
        keep_freed_memory()
        torch.set_num_threads(int(self.env["OMP_NUM_THREADS"]))
        # What a kernel that imports matplotlib itself finds.
        matplotlib.rcParams["backend"] = "module://matplotlib_inline.backend_inline"
        sys.argv = ["ipykernel_launcher", *self.arguments]
        try:
            IPKernelApp.launch_instance([*self.arguments, f"--IPKernelApp.parent_handle={os.getppid()}"])
        finally:
            # Python itself leaves a fork without it.
            atexit._run_exitfuncs()

    def poll(self):
        """The exit status, None while it runs."""
        return self.exitcode

    def wait(self):
        """The exit status, once it has ended."""
        self.join()
        return self.exitcode

    def send_signal(self, signum):
        """Send it a signal."""
        os.kill(self.pid, signum)
