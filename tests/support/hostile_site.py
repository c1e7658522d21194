"""A place to run `dfw` in, where hostile packages can be installed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_packages import on_path

from dfw.cli.main import main
from dfw.plugins.registry import rediscover

TINY = """\
name: tiny
prompt: grey
device: cpu
geometry: {type: dreamfw/image, width: 8, height: 8}
renderer: {type: dreamfw/plane}
losses:
  opacity: {type: dreamfw/opacity}
prompter: {type: dreamfw/plain}
cameras: {width: 8, batch_size: 2}
trainer: {steps: 4, preview_width: 8}
"""
FIELD = """\
geometry: {type: dreamfw/sdf-scene}
renderer: {type: dreamfw/volume, samples: 8, occupancy: {enabled: false}}
export: {formats: [], turntable_frames: 0}
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An import path in front of all others, a working folder, and a registry that has read them."""
    folder = tmp_path / "site"
    folder.mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    for name in ("DFW_BLOCK_PLUGINS", "DFW_NO_PLUGINS"):
        monkeypatch.setenv(name, "")  # so that what a command adds is taken back
        monkeypatch.delenv(name)
    Path("tiny.yaml").write_text(TINY, encoding="utf-8")
    Path("field.yaml").write_text(f"extends: tiny.yaml\n{FIELD}", encoding="utf-8")
    Path("guided.yaml").write_text("extends: tiny.yaml\nlosses: {sds: {type: dreamfw/sds, guidance_scale: 1}}\n")
    with on_path(folder):
        yield folder
    rediscover()


def dfw(*arguments: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    rediscover()
    code = main(arguments)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def one_error(err: str) -> str:
    """The error's text; there must be exactly one, on one line, and no traceback."""
    assert "Traceback" not in err
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, err
    return lines[0]


def only_run() -> Path:
    (path,) = Path("runs/tiny").iterdir()
    return path
