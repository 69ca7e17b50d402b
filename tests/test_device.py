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
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True)
    chosen, why = pick_precision("auto", torch.device("cpu"))
    assert chosen == dtype and reason in why


def test_a_cpu_that_is_held_to_less_multiplies_fp32(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True}, raising=False)
    for level, by_onednn in (("AVX2", True), ("AVX512", False)):
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda level=level: level)
        monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda it=by_onednn: it)
        assert pick_precision("auto", torch.device("cpu"))[0] == torch.float32


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


def test_a_process_uses_as_many_cores_as_it_is_given(monkeypatch):
    monkeypatch.delenv("HPT_CORES", raising=False)
    assert cores_here() >= 1
    for asked, cores in (("1", 1), ("0", 1), ("100000", cores_here()), ("many", cores_here())):
        monkeypatch.setenv("HPT_CORES", asked)
        assert cores_here() == cores
