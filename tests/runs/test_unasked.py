"""A run whose losses ask no guidance: it goes on without the one that its configuration names."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_runs import SCENE, config

from dfw import hookimpl
from dfw.errors import ConfigError
from dfw.runs.controls import Controls
from dfw.runs.runner import run
from dfw.runs.scene import Scene


class Watcher:
    """Keeps what the run's controls say after each step."""

    def __init__(self) -> None:
        self.said: list[tuple[bool, str]] = []

    @hookimpl
    def dfw_scene_lent(self, scene: Scene, controls: Controls) -> None:
        with pytest.raises(ConfigError) as refused:
            controls.ask(0.5, 1.0)
        self.said.append((controls.asks_a_prior, str(refused.value)))


def test_it_trains_and_its_controls_have_nobody_to_ask(tmp_path: Path) -> None:
    watcher, wide = Watcher(), {"width": 64}  # wider than the guidance sees, which is nothing to warn of here
    losses = {"sds": {"weight": 0}, "opacity": {"type": "opacity"}}
    made = run(config(SCENE, tmp_path, losses=losses, cameras=wide, trainer={"steps": 2}), listeners=[watcher])
    assert made.status == "finished"
    assert watcher.said == [(False, "no loss has asked a guidance yet; ask again after the first step")] * 2
