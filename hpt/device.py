"""Which device a run uses, and in which precision its matmuls run, with the reason."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Literal

import psutil
import torch

from hpt.errors import ConfigError

Precision = Literal["auto", "fp32", "bf16"]


def pick_device(asked: str = "auto") -> torch.device:
    """The device that ``asked`` names; "auto" takes CUDA where it is there, else the CPU.

    Apple's "mps" is there for the asking; "auto" leaves it, since nobody has measured it on small
    models.

    Raises
    ------
    ConfigError: where the named device is not there.
    """
    cuda = torch.cuda.is_available()
    if asked == "auto":
        return torch.device("cuda" if cuda else "cpu")
    available = {"cpu": True, "cuda": cuda, "mps": torch.backends.mps.is_available()}
    if not available.get(asked.partition(":")[0]):
        raise ConfigError(
            f"device {asked!r} is not available here.",
            "no such accelerator, or a CPU build of torch",
            'device="auto"',
        )
    return torch.device(asked)


def pick_precision(asked: Precision, device: torch.device) -> tuple[torch.dtype, str]:
    """The dtype of matmuls and the reason for it; weights, norms and the optimizer stay in fp32.

    "auto" asks what the device can do, never a clock, so one machine always answers the same.
    """
    if asked != "auto":
        return {"fp32": torch.float32, "bf16": torch.bfloat16}[asked], "as asked"
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return torch.bfloat16, "this GPU multiplies bf16 in hardware"
        return torch.float32, "this GPU has no bf16 hardware"
    if device.type == "cpu" and (how := _bf16_of_this_cpu()):
        return torch.bfloat16, f"this CPU multiplies bf16 {how}"
    return torch.float32, f"no fast bf16 matmul is known on this {device.type} device"


def _bf16_of_this_cpu():
    """How this CPU multiplies bf16 fast; "" where it does not, or where torch is held to less
    (ATEN_CPU_CAPABILITY, ONEDNN_MAX_CPU_ISA)."""
    # Older torch does not tell.
    has = getattr(torch.cpu, "get_capabilities", dict)()
    if not (has.get("amx_bf16") or has.get("avx512_bf16")):
        return ""
    if (
        torch.backends.cpu.get_cpu_capability() != "AVX512"
        or not torch.ops.mkldnn._is_mkldnn_bf16_supported()
    ):
        return ""
    # By AVX-512: two to two and a half times the fp32 speed of a matmul on a Zen 4 core, at every size that
    # hpt trains.
    return "in AMX tiles" if has.get("amx_bf16") else "by AVX-512"


@contextlib.contextmanager
def flushed_denormals() -> Iterator[None]:
    """Numbers below 1.2e-38 count as zero on the CPU, in this thread, while it lasts.

    A CPU takes ten times as long for a softmax that has some of them, and a high learning rate
    makes many.
    """
    before = bool(torch.tensor(1.2e-38) / 2 == 0)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


def total_bytes(device: torch.device) -> int:
    """Memory of a GPU, or of the machine."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return psutil.virtual_memory().total


def cores_here() -> int:
    """The cores that this process may use: HPT_CORES, where that is set and there are more."""
    cores = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    asked = os.environ.get("HPT_CORES", "")
    return min(cores, max(1, int(asked))) if asked.isdecimal() else cores
