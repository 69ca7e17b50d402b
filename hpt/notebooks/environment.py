"""What a run ran on: versions, machine, and the commit of the code."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def environment_facts() -> dict[str, str]:
    """Date, versions of python, torch and hpt, platform, processor, cores and git commit."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "date": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %z"),
        "python": platform.python_version(), "torch": _version("torch"), "hpt": _version("hpt"),
        "platform": platform.platform(aliased=True, terse=True), "processor": _processor(), "cores": str(cores),
        "git": _git_commit(),
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _run(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def _processor() -> str:
    if sys.platform == "darwin":
        return _run("sysctl", "-n", "machdep.cpu.brand_string") or platform.machine()
    info = Path("/proc/cpuinfo")
    name = re.search(r"^model name\s*:\s*(.+)$", info.read_text(), re.MULTILINE) if info.exists() else None
    return name[1] if name else platform.processor() or platform.machine()


def _git_commit() -> str:
    here = Path(__file__)
    git = ("git", "-C", str(here.parent))
    tracked = _run(*git, "ls-files", here.name)  # empty for a package installed inside another repository
    commit = _run(*git, "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*") if tracked else ""
    return commit.replace("-dirty", " (with uncommitted changes)") or "none (not run from a commit)"
