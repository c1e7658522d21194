"""Warp compiles kernels for CPUs and GPUs. It is loaded here once, and says nothing on the screen."""

from __future__ import annotations

import logging
import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch

log = logging.getLogger("dfw.warp")


@cache
def load_warp() -> Any:
    """The module `warp`, initialised. It prints neither its banner nor its warning that there is no CUDA driver.

    Kernels are kept where warp keeps them: in `WARP_CACHE_PATH`, else in the user's cache folder. Where that cannot be written,
    as in a container whose user has no home, they are kept in a temporary folder, and a warning says so.
    """
    import warp

    warp.config.log_level = warp.LOG_WARNING
    try:
        _initialise(warp)
    except OSError as error:
        folder = _own_temporary_folder()
        os.environ["WARP_CACHE_PATH"] = str(folder)  # child processes find the kernels there, too
        warp.config.kernel_cache_dir = str(folder)
        _initialise(warp)
        log.warning(
            "warp cannot keep its compiled kernels (%s), so they go to %s; set WARP_CACHE_PATH to a folder you may write to",
            error,
            folder,
        )
    return warp


def _initialise(warp: Any) -> None:
    """Starts warp silently. Raises OSError if it cannot keep compiled kernels."""
    with _quiet(not torch.cuda.is_available()):
        warp.init()
    with tempfile.TemporaryFile(dir=str(warp.config.kernel_cache_dir)):
        pass


@contextmanager
def _quiet(wanted: bool) -> Iterator[None]:
    """Silences descriptor 2 if `wanted`: warp's warning about CUDA comes from C++, which heeds no log level."""
    if not wanted:
        yield
        return
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _own_temporary_folder() -> Path:
    """Returns a folder for kernels that only this user may write, since what lies in it is run. It outlives the process."""
    user = os.getuid() if hasattr(os, "getuid") else os.getlogin()
    folder = Path(tempfile.gettempdir()) / f"dfw-warp-{user}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    mine = not hasattr(os, "getuid") or (found.st_uid == os.getuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH))
    return folder if mine and folder.is_dir() and not folder.is_symlink() else Path(tempfile.mkdtemp(prefix="dfw-warp-"))
