"""A whole run from the configuration: two guidances, a picture, and a scene that agrees with it on its side."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from dreamfw_two_priors import random_model, reference

import dfw
from dfw import Cameras, ConfigError, Progress, Run

CONFIG = Path(__file__).parents[1] / "two-priors.yaml"
SMALL = (
    *("trainer.steps=25", "trainer.preview_every=25", "trainer.preview_width=16", "cameras.width=16", "cameras.batch_size=1"),
    *("renderer.samples=24", "view_sets.reference.width=24", "export.formats=[]", "export.turntable_frames=0", "device=cpu"),
    *("view_sets.reference.image=reference.png", "guidances.zero.model=novel-view"),
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder of a run, with what the configuration names."""
    reference.render("a purple mushroom", 0, 15, 3, 40, 48).save(tmp_path / "reference.png")
    random_model.make(tmp_path / "novel-view")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def errors(run: Run) -> tuple[float, float]:
    """Mean squares of what the colours inside the mask, and the silhouette, are off in the picture's view."""
    settings = run.config.view_sets["reference"]
    cameras = dfw.build("cameras", settings.type, **settings.options)
    assert isinstance(cameras, Cameras)
    views = cameras.sample(Progress(0, 1), torch.Generator())
    seen, mask = run.scene.render(views.cameras).render, views.targets["mask"]
    colour = (mask[..., None] * (seen.colour - views.targets["colour"])).square().sum() / (3 * mask.square().sum())
    return float(colour), float((seen.opacity - mask).square().mean())


def test_the_picture_wins_on_its_side(folder: Path) -> None:
    """At equal steps: the colour's error at most half, the silhouette's smaller, than without the picture's losses."""
    made = dfw.run(CONFIG, *SMALL, listeners=[])
    alone = dfw.run(CONFIG, *SMALL, "losses.rgb.weight=0", "losses.mask.weight=0", listeners=[])
    assert set(made.metrics[-1]["losses"]) >= {"sds", "novel", "rgb", "mask"}
    assert not {"rgb", "mask"} & set(alone.metrics[-1]["losses"])
    found, without = errors(made), errors(alone)
    assert found[0] < without[0] / 2
    assert found[1] < without[1]


def test_the_picture_moves_no_draw_of_the_others(folder: Path) -> None:
    """In the first step both runs see the same scene: the text prior says the same to the bit."""
    steps = ("trainer.steps=1",)
    made = dfw.run(CONFIG, *SMALL, *steps, listeners=[])
    alone = dfw.run(CONFIG, *SMALL, *steps, "losses.rgb.weight=0", "losses.mask.weight=0", listeners=[])
    assert made.metrics[0]["losses"]["sds"] == alone.metrics[0]["losses"]["sds"]


def test_a_loss_without_a_picture_is_refused(folder: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"losses\.rgb: dreamfw/picture \S+ needs target-colour of its views.* write views: NAME"
    ):
        dfw.run(CONFIG, *SMALL, "losses.rgb.views=cameras", "losses.mask.weight=0", listeners=[])
