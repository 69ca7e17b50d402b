"""Which device and precision a run gets, and why."""

import pytest
import torch

from hpt.device import cores_here, flushed_denormals, pick_device, pick_precision
from hpt.errors import ConfigError


@pytest.mark.parametrize(
    ("capabilities", "dtype", "reason"),
    [
        ({"amx_bf16": True, "avx512_bf16": True}, torch.bfloat16, "AMX"),
        ({"avx512_bf16": True}, torch.bfloat16, "AVX-512"),
        ({"avx2": True, "avx512_f": True}, torch.float32, "no fast bf16"),
        ({}, torch.float32, "no fast bf16"),
    ],
)
def test_a_cpu_multiplies_bf16_where_its_hardware_does(monkeypatch, capabilities, dtype, reason):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    chosen, why = pick_precision("auto", torch.device("cpu"))
    assert chosen == dtype and reason in why


def test_precision_and_device_are_explained():
    cpu = pick_device("cpu")
    assert pick_precision("fp32", cpu) == (torch.float32, "as asked")
    dtype, reason = pick_precision("auto", cpu)
    assert (dtype == torch.bfloat16) == ("this CPU multiplies bf16" in reason) and reason
    with pytest.raises(ConfigError, match="cdua"):
        pick_device("cdua")


@pytest.mark.parametrize("flushed", [False, True])
def test_denormals_are_flushed_for_a_while(flushed):
    """And then treated as before."""

    def halved():
        return float(torch.full((), torch.finfo(torch.float32).tiny) / 2)

    torch.set_flush_denormal(flushed)
    try:
        with pytest.raises(RuntimeError, match="on the way"), flushed_denormals():
            assert halved() == 0
            raise RuntimeError("on the way")
        assert (halved() == 0) == flushed
    finally:
        torch.set_flush_denormal(False)


def test_there_is_a_core():
    assert cores_here() >= 1
