"""What a loss looks at: pictures, sets of views, guidances; each against what a run with that one alone gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from small_runs import GAUSSIAN, MEAN, OTHER, PIXELS, SCENE, config, trained

import dfw
from dfw import CameraBatch, ComponentConfig, DensityField, FieldSample, Geometry, Loss, LossInputs, Renderer, RenderOutput
from dfw.compose import compose
from dfw.errors import ConfigError, ContractError, GuidanceError
from dfw.plugins.registry import registry
from dfw.runs.start import make_trainer


class Spy(Loss):
    """Remembers what it was shown; its value is the mean of the picture that it looks at."""

    seen: list[LossInputs] = []  # noqa: RUF012

    class Config(ComponentConfig):
        """Nothing."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config

    def forward(self, inputs: LossInputs) -> torch.Tensor:
        Spy.seen.append(inputs)
        self.log("rows", len(inputs.cameras))
        self.log("mean", inputs.picture.mean())
        return inputs.picture.mean() + 0 * sum(p.sum() for p in inputs.geometry.parameters())


class Scribbler(Renderer):
    """A plane renderer that writes into its cameras."""

    class Config(ComponentConfig):
        """Nothing."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config

    @classmethod
    def provides(cls, config: Any) -> frozenset[str]:
        return frozenset({"colour", "opacity", "depth"})

    def forward(self, geometry: Geometry, cameras: CameraBatch, generator: torch.Generator | None = None) -> RenderOutput:
        cameras.azimuth.zero_()
        values = geometry.image(len(cameras))
        return RenderOutput(values, torch.ones_like(values[..., 0]), torch.zeros_like(values[..., 0]))


@pytest.fixture(autouse=True)
def spy():
    Spy.seen.clear()
    dfw.register("loss", "spy", Spy)
    dfw.register("renderer", "scribbler", Scribbler)
    yield
    registry()._entries = [entry for entry in registry().entries() if entry.distribution != "local"]


@pytest.mark.parametrize("of", ["colour", "normal", "camera-normal", "depth", "opacity"])
def test_a_loss_looks_at_the_picture_that_it_names(of: str, tmp_path: Path):
    _, records = trained(config(SCENE, tmp_path, losses={"spy": {"type": "spy", "of": of}}, guidance=None, trainer={"steps": 1}))
    (inputs,) = Spy.seen
    expected = inputs.render.picture(of, inputs.cameras)
    assert expected.shape == (2, 16, 16, 3)
    assert records[0].losses["spy"] == pytest.approx(float(expected.detach().mean()))
    assert records[0].numbers == {"losses.spy.rows": 2.0, "losses.spy.mean": pytest.approx(float(expected.detach().mean()))}


def test_a_picture_that_the_renderer_does_not_give_is_refused_before_anything_is_built(tmp_path: Path):
    changes = {"losses": {"shape": {"type": "sds", "of": "normal"}}, "renderer": {"type": "volume"}}
    with pytest.raises(ConfigError, match=r"losses\.shape\.of: dreamfw/sds .* needs normals; renderer .* when .*shading"):
        compose(config(SCENE, tmp_path, **changes))
    with pytest.raises(ConfigError, match=r"losses\.shape\.of: .* needs roughness"):
        compose(config(SCENE, tmp_path, losses={"shape": {"type": "sds", "of": "roughness"}}))


def test_normals_and_mask_as_a_latent_ask_for_a_guidance_of_four_channels(tmp_path: Path):
    with pytest.raises(
        ConfigError, match=r"^losses\.shape\.of: normal-mask is a latent of 4 channels, and .*gaussian.* works in 3"
    ):
        trained(config(SCENE, tmp_path, losses={"shape": {"type": "sds", "of": "normal-mask", "guidance_scale": 1}}))


def test_distillation_of_normals_and_of_colour_in_one_run(tmp_path: Path):
    losses = {"sds": {"guidance_scale": 1}, "shape": {"type": "sds", "of": "normal", "guidance_scale": 1, "weight": 0.5}}
    _, records = trained(config(SCENE, tmp_path, losses=losses))
    assert all(set(record.losses) == {"sds", "shape"} for record in records)
    assert all(record.loss == pytest.approx(record.losses["sds"] + 0.5 * record.losses["shape"], rel=1e-5) for record in records)
    assert records[0].losses["sds"] != records[0].losses["shape"]


def test_two_guidances_and_losses_that_choose(tmp_path: Path):
    """One pulls to red, one to blue; at equal weights pixels end in the middle of the two means."""
    blue = GAUSSIAN | {"means": {"a red square": OTHER}}
    both = {
        "guidance": None,
        "guidances": {"red": GAUSSIAN, "blue": blue},
        "losses": {
            "one": {"type": "sds", "guidance": "red", "guidance_scale": 1},
            "two": {"type": "sds", "guidance": "blue", "guidance_scale": 1},
        },
        "optimizer": {"lr": {"from": 0.05, "to": 0.001}},
        "trainer": {"steps": 300},
    }
    trainer, _ = trained(config(PIXELS, tmp_path, **both))
    colour = trainer.scene.render(width=16).colours.mean((0, 1, 2))
    torch.testing.assert_close(colour, (torch.tensor(MEAN) + torch.tensor(OTHER)) / 2, atol=0.03, rtol=0)
    assert len(trainer.prompts) == 2


class Asker(Spy):
    """Asks another guidance about the views that it gets with red."""

    class Config(Spy.Config):
        """Whom it asks."""

        other: str = "blue"
        """A name in `guidances`."""

    def forward(self, inputs: LossInputs) -> torch.Tensor:
        other = inputs.asking("blue")
        assert other.guidance is not inputs.guidance
        assert other.render is inputs.render
        assert inputs.asking("blue") is other
        with pytest.raises(ConfigError, match="no guidance named 'green'; there are red, blue"):
            inputs.asking("green")
        return super().forward(other)


def test_a_loss_may_ask_another_guidance_about_the_same_views(tmp_path: Path):
    dfw.register("loss", "asker", Asker)
    losses = {"a": {"type": "asker", "guidance": "red"}}
    changes = {"guidance": None, "guidances": {"red": GAUSSIAN, "blue": GAUSSIAN}, "losses": losses}
    trainer, _ = trained(config(PIXELS, tmp_path, **changes, trainer={"steps": 1}))
    (inputs,) = Spy.seen
    assert inputs.guidance is trainer.guidances["blue"]


def test_several_guidances_and_a_loss_that_names_none(tmp_path: Path):
    made = config(PIXELS, tmp_path, guidance=None, guidances={"red": GAUSSIAN, "blue": GAUSSIAN})
    with pytest.raises(ConfigError, match=r"losses\.sds\.guidance: missing; the run has several guidances, choose one of red"):
        compose(made)


def picture_file(folder: Path) -> Path:
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[2:6, 2:6] = (200, 100, 50, 255)
    Image.fromarray(pixels).save(folder / "reference.png")
    return folder / "reference.png"


def test_a_set_of_views_with_targets_is_rendered_when_a_loss_asks(tmp_path: Path):
    reference = {"type": "picture", "image": str(picture_file(tmp_path)), "width": 8, "azimuth": 30, "elevation": 10}
    late = {"from": 0, "to": 1, "start": 0.5, "end": 0.5}
    losses = {"sds": {"guidance_scale": 1}, "ref": {"type": "spy", "views": "reference", "weight": late}}
    trainer, records = trained(config(SCENE, tmp_path, losses=losses, view_sets={"reference": reference}))
    assert [set(record.losses) for record in records] == [{"sds"}, {"sds"}, {"sds", "ref"}, {"sds", "ref"}]
    inputs = Spy.seen[0]
    assert inputs.render.colour.shape == (1, 8, 8, 3)
    assert float(inputs.cameras.azimuth) == pytest.approx(30, abs=1e-4)
    assert inputs.views.targets["mask"].sum() == 16
    torch.testing.assert_close(inputs.views.targets["colour"][0, 3, 3], torch.tensor([200, 100, 50]) / 255)
    torch.testing.assert_close(inputs.views.targets["colour"][0, 0, 0], torch.ones(3))
    assert "cameras.reference" in trainer.streams.state()


def test_another_set_of_views_moves_no_draw_of_the_training_views(tmp_path: Path):
    """Weight 1e-30 adds nothing to the parameters in float32, so the two runs differ in draws alone, if at all."""
    alone, _ = trained(config(SCENE, tmp_path))
    losses = {"sds": {"guidance_scale": 1}, "more": {"type": "sds", "views": "wide", "weight": 1e-30, "guidance_scale": 1}}
    beside, _ = trained(config(SCENE, tmp_path, losses=losses, view_sets={"wide": {"type": "random", "fov": [60, 70]}}))
    for name, value in alone.geometry.named_parameters():
        assert torch.equal(value, beside.geometry.get_parameter(name)), name


def test_a_step_in_which_nothing_looks_at_the_training_views_has_no_opacity(tmp_path: Path):
    losses = {"more": {"type": "sds", "views": "wide", "guidance_scale": 1}}
    _, records = trained(config(SCENE, tmp_path, losses=losses, view_sets={"wide": {"type": "random", "width": 16}}))
    assert [record.opacity for record in records] == [None] * 4


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        ({"type": "spy", "views": "refer"}, r"losses\.x\.views: no set of views is called 'refer'; there are cameras"),
        ({"type": "spy", "guidance": "zero"}, r"losses\.x\.guidance: no guidance is called 'zero'; there are guidance"),
    ],
)
def test_names_that_do_not_exist(loss: dict[str, Any], message: str, tmp_path: Path):
    with pytest.raises(ValueError, match=message):
        config(SCENE, tmp_path, losses={"x": loss}, view_sets={"reference": {"type": "random"}})


def test_a_component_that_writes_into_what_it_was_given_is_named(tmp_path: Path):
    made = config(PIXELS, tmp_path, renderer={"type": "scribbler"})
    with pytest.raises(ContractError, match=r"renderer \(local/scribbler, .*it wrote into the azimuth that it was given"):
        trained(made)


def test_a_guidance_that_reads_text_needs_a_prompt(tmp_path: Path):
    with pytest.raises(ConfigError, match="prompt: missing; say what to make"):
        compose(config(PIXELS, tmp_path, prompt=""))
    compose(config(PIXELS, tmp_path, prompt="", guidance=None, losses={"spy": {"type": "spy"}}))


def test_negative_prompts_and_the_empty_text_are_no_condition(tmp_path: Path):
    trainer, _ = trained(config(PIXELS, tmp_path, trainer={"steps": 1}))
    batch = trainer.prompts["guidance"].batch(trainer.scene.views(3, 16))
    expected = trainer.guidances["guidance"].unconditional()
    assert torch.equal(batch.negative.embedding, expected.embedding.expand(3, -1, -1))
    with pytest.raises(GuidanceError, match="provides no 'text' and does not say"):
        trainer.guidances["guidance"].conditional()


@pytest.mark.parametrize("batches", [2, 3])
def test_accumulated_gradients_are_the_mean_of_the_batches(batches: int, tmp_path: Path):
    """The geometry's gradient of k batches equals the mean of what k trainers with those draws would have."""
    spy = {"losses": {"spy": {"type": "spy"}}, "guidance": None, "optimizer": {"type": "sgd", "betas": [0.0, 0.0], "lr": 1.0}}
    one, _ = trained(config(PIXELS, tmp_path, **spy, trainer={"steps": 1}))
    many, records = trained(config(PIXELS, tmp_path, **spy, trainer={"steps": 1, "accumulate": batches}))
    # pixels do not depend on the camera: every batch has the same gradient, so their mean is one batch's
    torch.testing.assert_close(one.geometry.values, many.geometry.values)
    assert len(Spy.seen) == 1 + batches
    assert records[0].losses["spy"] == pytest.approx(float(Spy.seen[0].picture.detach().mean()))


def test_ramps_of_batch_size_and_ranges(tmp_path: Path):
    cameras = {"batch_size": {"from": 1, "to": 4}, "elevation": [0, {"from": 0, "to": 60}], "width": 16}
    made = config(PIXELS, tmp_path, losses={"spy": {"type": "spy"}}, guidance=None, cameras={"type": "random"} | cameras)
    trained(made)
    counts = [len(inputs.cameras) for inputs in Spy.seen]
    assert counts == [max(1, round(1 + 3 * step / 6)) for step in range(6)]
    assert all(float(i.cameras.elevation.max()) <= 60 * step / 6 + 1e-3 for step, i in enumerate(Spy.seen))


class Rough(DensityField):
    """A soft ball whose points are rougher the higher they lie."""

    class Config(ComponentConfig):
        """Nothing."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.amount = torch.nn.Parameter(torch.tensor(8.0))

    @classmethod
    def provides(cls, config: Any) -> frozenset[str]:
        return frozenset({"density-field", "roughness"})

    @property
    def radius(self) -> float:
        return 1.0

    def density(self, points: torch.Tensor) -> torch.Tensor:
        return self.amount * torch.exp(-8 * points.square().sum(-1))

    def sample(self, points: torch.Tensor, normals: bool = False) -> FieldSample:
        roughness = (points[..., 2:] + 1) / 2
        return FieldSample(self.density(points), torch.full_like(points, 0.5), extras={"roughness": roughness})


def test_what_a_field_says_of_its_points_is_a_picture(tmp_path: Path):
    """Composited like colour: between the lowest and the highest roughness times opacity, and higher in the upper half."""
    dfw.register("geometry", "rough", Rough)
    plain = {"type": "volume", "samples": 32, "background": "solid"}
    cameras = {"elevation": [0, 0], "batch_size": 2}
    losses = {"spy": {"type": "spy", "of": "roughness"}}
    scene = {"geometry": {"type": "rough"}, "renderer": plain, "cameras": cameras, "losses": losses, "guidance": None}
    trained(config(SCENE, tmp_path, **scene, trainer={"steps": 1}))
    (inputs,) = Spy.seen
    rough, opacity = inputs.render.extras["roughness"][..., 0].detach(), inputs.render.opacity.detach()
    assert (rough <= opacity + 1e-6).all()
    seen = opacity > 0.3
    mean = (rough / opacity.clamp_min(1e-6)).where(seen, torch.tensor(0.0)).sum((0, 2)) / seen.sum((0, 2)).clamp_min(1)
    rows = mean[mean > 0]
    assert (rows.diff() < 0).all()  # row 0 is on top
    assert inputs.picture.shape == (2, 16, 16, 3)
    pictures = []
    for chunk in (100, 2**15):
        made = config(
            SCENE, tmp_path, geometry={"type": "rough"}, renderer=plain | {"chunk": chunk}, losses=losses, guidance=None
        )
        trainer = make_trainer(made, compose(made).build())
        pictures.append(trainer.scene.render(width=16).render.extras["roughness"])
    torch.testing.assert_close(*pictures)
