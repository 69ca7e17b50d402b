"""What a run was made with: date, versions, machine, commit."""

from __future__ import annotations

import platform
import subprocess
from datetime import datetime
from importlib.metadata import distributions, version
from pathlib import Path

from hpt.device import cores_here


def environment_facts() -> dict[str, str]:
    """Date, versions of python, torch and hpt, platform, processor, cores and git commit."""
    return {
        "date": f"{datetime.now().astimezone():%Y-%m-%d %H:%M %z}",
        "python": platform.python_version(),
        "torch": version("torch"),
        "hpt": next((own.version for own in distributions(name="hpt")), "not installed"),
        "platform": platform.platform(aliased=True, terse=True),
        "processor": _processor(),
        "cores": str(cores_here()),
        "git": _git_commit(),
    }


def _output_of(*command):
    """What a command prints, "" where it cannot be run or fails."""
    try:
        said = subprocess.check_output(command, stderr=subprocess.DEVNULL, text=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return ""
    return said.strip()


def _processor():
    # on Linux, then on a Mac
    line = _output_of("grep", "--max-count=1", "^model name", "/proc/cpuinfo")
    name = line.partition(": ")[2] or _output_of("sysctl", "-n", "machdep.cpu.brand_string")
    return name or platform.processor() or platform.machine()


def _git_commit():
    git = ("git", "-C", str(Path(__file__).parent))
    # empty for a package installed inside another repository
    if not _output_of(*git, "ls-files", __file__):
        return "none (not run from a commit)"
    commit = _output_of(*git, "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*")
    return commit.replace("-dirty", " (with uncommitted changes)")
