"""Warp is loaded silently, and what is written to stderr afterwards is seen."""

from __future__ import annotations

import subprocess
import sys


def test_loading_warp_says_nothing_and_stderr_is_given_back() -> None:
    code = "import dfw, sys; print(dfw.load_warp() is dfw.load_warp()); print('here', file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("True\n", "here\n")


def test_importing_dfw_imports_no_warp() -> None:
    code = "import sys, dfw.interfaces.warp_kernels; sys.exit('warp' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
