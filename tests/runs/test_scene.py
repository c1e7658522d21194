"""A scene opened without its prior, looked at from anywhere, lent to listeners; averaged parameters; numbers by name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from small_runs import PIXELS, SCENE, config, trained

from dfw import Scene, hookimpl
from dfw.compose import compose
from dfw.errors import ConfigError, ExportError
from dfw.runs.directory import RunDirectory
from dfw.runs.outputs import preview, turntable
from dfw.runs.runner import reopen, resume, run
from dfw.runs.start import make_trainer


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(config(SCENE, tmp_path_factory.mktemp("finished")), listeners=[]).directory


def forbidden(self, config):
    raise AssertionError("looking at a scene built a guidance or a loss")


def test_it_opens_without_guidance_and_losses(finished: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("dfw_guidance.gaussian.Gaussian.__init__", forbidden)
    monkeypatch.setattr("dfw_losses.sds.SDS.__init__", forbidden)
    _, scene = reopen(RunDirectory.open(finished))
    assert scene.step == 4
    picture = scene.render(azimuth=90, elevation=20, width=24, height=16)
    assert picture.image().size == (24, 16)
    assert float(picture.cameras.azimuth) == 90
    assert picture._repr_png_().startswith(b"\x89PNG")


def test_an_opened_scene_shows_what_the_trainer_shows(tmp_path: Path):
    made = config(SCENE, tmp_path)
    trainer, _ = trained(made)
    result = run(made, listeners=[])
    _, scene = reopen(RunDirectory.open(result.directory))
    ours, theirs = scene.render(width=16).colours, trainer.scene.render(width=16).colours
    assert torch.equal(ours, theirs)
    assert scene.look == trainer.scene.look


def test_by_default_the_scene_is_shown_from_the_front_as_in_previews(finished: Path):
    _, scene = reopen(RunDirectory.open(finished))
    front = scene.render(width=16)
    assert float(front.cameras.azimuth) == 0
    first = scene.views(4, 16).select(slice(0, 1))
    torch.testing.assert_close(front.cameras.camera_to_world, first.camera_to_world)
    assert torch.equal(front.colours, scene.render(first).colours)


def test_previews_and_turntables_go_through_the_time_of_a_scene_that_moves(finished: Path, tmp_path: Path):
    _, scene = reopen(RunDirectory.open(finished))
    times = []
    scene.renderer.register_forward_pre_hook(lambda _, given: times.append(given[1].time))
    preview(scene, RunDirectory.open(finished))
    turntable(scene, tmp_path / "turn.gif", 5, 16)
    torch.testing.assert_close(torch.cat(times), torch.tensor([0, 1 / 3, 2 / 3, 1, 0, 0.25, 0.5, 0.75, 1]))
    times.clear()
    scene.render(width=16, time=0.25)
    scene.render(width=16)
    assert times == [torch.tensor([0.25]), None]


def test_a_run_made_on_a_gpu_opens_where_there_is_none(finished: Path, tmp_path: Path):
    import shutil

    copy = Path(shutil.copytree(finished, tmp_path / "copy"))
    text = (copy / "resolved.yaml").read_text()
    (copy / "resolved.yaml").write_text(text.replace("device: cpu", "device: cuda:7"))
    assert str(reopen(RunDirectory.open(copy))[1].device) == ("cuda" if torch.cuda.is_available() else "cpu")


def test_a_device_that_is_none_is_a_sentence(finished: Path):
    with pytest.raises(ConfigError, match="device: no device is called 'teapot'"):
        reopen(RunDirectory.open(finished), "teapot")
    with pytest.raises(ConfigError, match="device: cuda:7 is not there"):
        reopen(RunDirectory.open(finished), "cuda:7")


def test_pictures_that_were_too_slow_become_smaller(finished: Path):
    _, scene = reopen(RunDirectory.open(finished))
    assert scene.render(width=64).cameras.width == 64
    assert scene.render(width=64, milliseconds=1000).cameras.width == 16  # nothing is known yet: the smallest
    scene._pixels_per_second = 32 * 32 * 1000.0
    assert scene.render(width=64, milliseconds=1).cameras.width == 32
    scene._pixels_per_second = 1e12
    assert scene.render(width=64, milliseconds=1).cameras.width == 64


def test_a_picture_in_a_hurry_uses_what_training_remembers(finished: Path, monkeypatch: pytest.MonkeyPatch):
    _, scene = reopen(RunDirectory.open(finished))
    exact = scene.render(width=16).colours
    with torch.no_grad():
        next(scene.geometry.parameters()).add_(0)  # as after a step: what was seen of the scene is of the one before

    def forbidden(*_: object) -> None:
        raise AssertionError("all of the scene was looked at")

    monkeypatch.setattr("dfw_renderers.occupancy.survey", forbidden)
    assert (scene.render(width=16, milliseconds=1000).colours - exact).abs().mean() < 0.01
    assert not scene.renderer.hurried
    with pytest.raises(AssertionError, match="all of the scene"):
        scene.render(width=16)
    assert not scene.renderer.hurried


class Viewer:
    """A listener that looks at the scene between steps."""

    def __init__(self) -> None:
        self.shown: list[tuple[int, tuple[int, ...]]] = []

    @hookimpl
    def dfw_scene_lent(self, scene: Scene) -> None:
        self.shown.append((scene.step, tuple(scene.render(width=16).colours.shape)))


def test_listeners_are_lent_the_scene_and_the_run_keeps_its_bits(tmp_path: Path):
    viewer = Viewer()
    alone = run(config(SCENE, tmp_path), listeners=[]).directory
    watched = run(config(SCENE, tmp_path), listeners=[viewer]).directory
    assert viewer.shown == [(step, (1, 16, 16, 3)) for step in range(4)]
    file = Path("checkpoints") / "step-000004" / "geometry.safetensors"
    assert (alone / file).read_bytes() == (watched / file).read_bytes()


def test_latents_need_the_guidance_that_decodes_them(tmp_path: Path):
    latent = {"type": "image", "width": 16, "height": 16, "space": "latent"}
    made = config(PIXELS, tmp_path, geometry=latent, guidance=None, losses={"opacity": {}}, prompt="")
    trainer = make_trainer(made, compose(made).build())
    with pytest.raises(ExportError, match="only a guidance can decode latents"):
        trainer.scene.render(width=16)


# --- averages -------------------------------------------------------------------------------------------------------------------


def test_an_average_is_the_recursion_and_pictures_show_it(tmp_path: Path):
    decay, made = 0.9, config(PIXELS, tmp_path, trainer={"ema": 0.9})
    trainer = make_trainer(made, compose(made).build())
    expected = trainer.geometry.values.detach().clone()
    for number, _ in enumerate(trainer, start=1):
        rate = min(decay, (1 + number) / (10 + number))
        expected = rate * expected + (1 - rate) * trainer.geometry.values.detach()
    own = trainer.geometry.values.detach().clone()
    torch.testing.assert_close(trainer.scene.render(width=16).colours, expected.clamp(0, 1))
    assert torch.equal(trainer.geometry.values, own)
    assert not torch.allclose(own, expected, atol=1e-3)


def test_averages_resume_and_open(tmp_path: Path):
    made = config(PIXELS, tmp_path, trainer={"ema": 0.9, "steps": 8})
    whole = run(made, listeners=[]).directory
    first = run(config(PIXELS, tmp_path, trainer={"ema": 0.9, "steps": 5}), listeners=[]).directory
    resume(first, ["trainer.steps=8"], listeners=[])
    ours, theirs = (reopen(RunDirectory.open(path))[1].render(width=16).colours for path in (first, whole))
    assert torch.equal(ours, theirs)


# --- numbers --------------------------------------------------------------------------------------------------------------------


class Heard:
    """A listener that keeps what it is told."""

    def __init__(self) -> None:
        self.metrics: list[dict[str, float]] = []

    @hookimpl
    def dfw_step_ended(self, step) -> None:
        self.metrics.append(dict(step.metrics))


def test_what_components_log_reaches_listeners_and_metrics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from dfw_geometry.image import Image

    plain = Image.image

    def logged(self, batch=None):
        self.log("largest", self.values.max())
        self.log("calls", 3)
        return plain(self, batch)

    monkeypatch.setattr(Image, "image", logged)
    heard = Heard()
    directory = run(config(PIXELS, tmp_path), listeners=[heard]).directory
    assert all(one["geometry.calls"] == 3.0 for one in heard.metrics)
    rows = RunDirectory.open(directory).read_metrics()
    assert [row["geometry.largest"] for row in rows] == [one["geometry.largest"] for one in heard.metrics]
    assert "geometry.largest" in (directory / "report.html").read_text()


def test_what_components_log_while_they_are_shown_is_not_of_a_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from dfw_geometry.image import Image

    plain = Image.image

    def logged(self, batch=None):
        self.log("trained" if self.training else "shown", 1)
        return plain(self, batch)

    monkeypatch.setattr(Image, "image", logged)
    heard = Heard()
    run(config(PIXELS, tmp_path), listeners=[heard])
    assert all(one["geometry.trained"] == 1.0 for one in heard.metrics)
    assert not any("geometry.shown" in one for one in heard.metrics)
