"""Warp compiles kernels for CPUs and GPUs. It is loaded here once, and says nothing on the screen."""

from __future__ import annotations

import os
import sys
from functools import cache
from typing import Any

import torch


@cache
def load_warp() -> Any:
    """The module `warp`, initialised. It prints neither its banner nor its warning that there is no CUDA driver."""
    import warp

    warp.config.log_level = warp.LOG_WARNING
    if torch.cuda.is_available():
        warp.init()  # type: ignore[no-untyped-call]
        return warp
    sys.stderr.flush()
    kept = os.dup(2)  # the warning comes from C++, which heeds no log level and writes to file descriptor 2
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
        try:
            warp.init()  # type: ignore[no-untyped-call]
        finally:
            os.dup2(kept, 2)
            os.close(kept)
    return warp
