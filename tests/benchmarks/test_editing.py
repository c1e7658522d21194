"""Figures of edits: what they need is said before anything is made."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
import editing


def test_a_missing_extension_is_named_before_the_sources_are_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(editing, "find_spec", lambda name: None)
    monkeypatch.setattr(sys, "argv", ["editing.py", "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as ended:
        editing.main()
    assert ended.value.code == 2
    assert "pip install --no-deps" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
