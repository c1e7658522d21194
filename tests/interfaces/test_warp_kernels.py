"""Warp is loaded silently, and what is written to stderr afterwards is seen."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


def test_loading_warp_says_nothing_and_stderr_is_given_back() -> None:
    code = "import dfw, sys; print(dfw.load_warp() is dfw.load_warp()); print('here', file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("True\n", "here\n")


def test_importing_dfw_imports_no_warp() -> None:
    code = "import sys, dfw.interfaces.warp_kernels; sys.exit('warp' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


KERNEL = """
from dfw.interfaces.warp_kernels import load_warp

warp = load_warp()


@warp.kernel
def twos(a: warp.array(dtype=float)):
    a[warp.tid()] = 2.0


numbers = warp.zeros(3, dtype=float, device="cpu")
warp.launch(twos, dim=3, inputs=[numbers], device="cpu")
print(numbers.numpy().tolist(), warp.config.kernel_cache_dir)
"""


@pytest.mark.parametrize("blocked", ["HOME", "WARP_CACHE_PATH"])
def test_kernels_go_to_a_temporary_folder_where_home_cannot_be_written(tmp_path: Path, blocked: str) -> None:
    """Nobody may write below /proc, not even root. Only the user may write into the folder that takes its place."""
    (tmp_path / "kernel.py").write_text(KERNEL)
    surroundings = {name: value for name, value in os.environ.items() if name not in ("XDG_CACHE_HOME", "WARP_CACHE_PATH")}
    surroundings |= {blocked: "/proc/nohome", "TMPDIR": str(tmp_path)}
    code = [sys.executable, str(tmp_path / "kernel.py")]
    done = subprocess.run(code, capture_output=True, text=True, check=True, env=surroundings)
    (folder,) = tmp_path.glob("dfw-warp-*")
    assert done.stdout.startswith(f"[2.0, 2.0, 2.0] {folder}")
    assert folder.stat().st_mode & 0o077 == 0
    assert "so they go to" in done.stderr
    assert "set WARP_CACHE_PATH" in done.stderr


def test_a_folder_of_somebody_else_is_not_used_for_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dfw.interfaces.warp_kernels import _own_temporary_folder

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    first = _own_temporary_folder()
    assert _own_temporary_folder() == first
    first.chmod(0o777)
    assert _own_temporary_folder() != first
