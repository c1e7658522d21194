"""Modules of Warp kernels for the CPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from dfw import load_warp


def load_kernels(name: str, sources: Mapping[str, Callable[..., Any]]) -> dict[str, Any]:
    """Returns the kernels of the functions `sources` in one module, compiled and loaded before any thread launches them."""
    wp = load_warp()
    module, made = wp.get_module(name), {}
    for key, source in sources.items():
        source.__name__ = source.__qualname__ = f"{key}_{name.replace('.', '_')}"
        made[key] = wp.kernel(enable_backward=False, module=module)(source)
    module.load(wp.get_device("cpu"))
    return made
