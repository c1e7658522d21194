"""The arithmetic of training: bfloat16 if the processor has instructions for it, else single precision."""

from __future__ import annotations

import torch


def fast_autocast() -> torch.autocast:
    """Returns autocast to bfloat16 if the CPU computes in it. Emulated, it is ten times slower than single precision."""
    able = torch.cpu.get_capabilities()
    return torch.autocast("cpu", torch.bfloat16, enabled=bool(able.get("avx512_bf16") or able.get("amx_bf16")))
