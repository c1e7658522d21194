"""The prior's tools on the import path, the model that ships, and a small world to train on."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EMBEDDED = ROOT / "plugins" / "guidance" / "dfw_guidance" / "embedded"
sys.path.insert(0, str(ROOT / "tools" / "prior"))


@pytest.fixture(scope="module")
def small_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one small round of buffers."""
    import rounds

    out = tmp_path_factory.mktemp("prior")
    rounds.main(["--out", str(out / "rounds"), "--rounds", "1", "--views", "2", "--stack-views", "1"])
    return out
