"""The processor: its name, what it can do, and the most that it multiplies in a second."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

_CPUINFO = Path("/proc/cpuinfo")
_SIDES = (512, 1024, 2048)
_TRIES = 4
_ZEN_5 = "26"  # the family


def processor(described: str | None = None) -> dict[str, str]:
    """Return the fields of the first processor in `/proc/cpuinfo`; none where there is no such file."""
    if described is None:
        described = _CPUINFO.read_text(encoding="utf-8") if _CPUINFO.exists() else ""
    lines = (line.partition(":") for line in described.partition("\n\n")[0].splitlines())
    return {name.strip(): value.strip() for name, _, value in lines}


def kind(fields: Mapping[str, str]) -> str:
    """Return which of the promises hold for a processor: "Intel AMX", "AMD Zen 5", or none of them."""
    flags = fields.get("flags", "").split()
    if "amx_bf16" in flags:
        return "Intel AMX"
    zen_5 = fields.get("vendor_id") == "AuthenticAMD" and fields.get("cpu family") == _ZEN_5
    return "AMD Zen 5" if zen_5 and "avx512_bf16" in flags else ""


def multiplies_bfloat16(fields: Mapping[str, str]) -> bool:
    return not {"avx512_bf16", "amx_bf16"}.isdisjoint(fields.get("flags", "").split())


def describe(fields: Mapping[str, str]) -> str:
    """Return a processor's name and numbers, and which fast types of numbers it has."""
    known = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in fields.get("flags", "").split()]
    model = f"family {fields.get('cpu family')} model {fields.get('model')}"
    return f"{fields.get('model name', 'unknown processor')} ({model}; {', '.join(known) or 'no such flags'})"


def gemm_peak(_: object, dtype: str) -> float:
    """Return the most floating-point operations a second of a product of matrices, of several sizes and libraries."""
    import torch

    best = 0.0
    for side in _SIDES:
        torches = torch.ones(side, side, dtype=getattr(torch, dtype))
        best = max(best, _rate(side, lambda torches=torches: torch.mm(torches, torches)))
        if dtype == "float32":  # MKL takes its AVX2 path on AMD, where numpy's OpenBLAS has AVX-512
            array = np.ones((side, side), np.float32)
            best = max(best, _rate(side, lambda array=array: array @ array))
    return best


def _rate(side: int, multiply: Callable[[], object]) -> float:
    times = []
    for _ in range(_TRIES):
        began = time.perf_counter()
        multiply()
        times.append(time.perf_counter() - began)
    return 2 * side**3 / min(times)
