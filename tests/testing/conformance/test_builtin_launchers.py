"""The kit over the built-in launchers."""

from __future__ import annotations

from dfw.testing import LauncherTests
from dfw_launchers.local import Local


class TestLocal(LauncherTests):
    component = Local
