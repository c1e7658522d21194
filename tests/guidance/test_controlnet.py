"""Depth and normals as control networks expect them, in closed form; predictions against diffusers' own pipeline; a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import ControlNetModel, StableDiffusionControlNetPipeline
from prior_checks import noise, picture, steps_of, two_steps
from tiny_control import save_tiny_controlnet
from tiny_diffusion import save_tiny_model
from torch import Tensor

from dfw import CameraBatch, Conditioning, ConfigError, GuidanceError, PromptBatch, RenderOutput
from dfw.compose import compose
from dfw.config.settings import RunConfig
from dfw.interfaces.pictures import depth_picture, normal_picture
from dfw.interfaces.poses import look_at, spherical_position
from dfw_guidance.controlnet import ControlNet


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    models = tmp_path_factory.mktemp("models")
    return save_tiny_model(models / "sd"), save_tiny_controlnet(models / "control")


def load(folders: tuple[Path, Path], **options: Any) -> ControlNet:
    model, network = (str(folder) for folder in folders)
    return ControlNet(ControlNet.Config.model_validate({"model": model, "controlnet": network, "precision": "fp32", **options}))


def camera(azimuth: float, elevation: float, side: int = 8) -> CameraBatch:
    """One camera three units from the centre it looks at, 60 degrees wide."""
    angles = torch.tensor([azimuth]), torch.tensor([elevation])
    position = spherical_position(*angles, torch.tensor([3.0]))
    pose = look_at(position, torch.zeros(1, 3), torch.tensor([[0.0, 0.0, 1.0]]))
    return CameraBatch(pose, torch.tensor([60.0]), *angles, torch.tensor([3.0]), side, side)


def along_rays(z: Tensor, cameras: CameraBatch) -> Tensor:
    """Distance (1, H, W) along the rays of what lies `z` (H, W) in front of the camera's plane, by the pinhole's geometry."""
    side = z.shape[0]
    place = ((torch.arange(side) + 0.5) / side * 2 - 1) * torch.tan(torch.deg2rad(torch.tensor(30.0)))
    return (z * (1 + place[:, None] ** 2 + place[None, :] ** 2).sqrt())[None]


def test_depth_is_disparity_near_white_and_nothing_black() -> None:
    """A wall at 2, its right half at 4 and its top row open: 1, 1/2 and 0, the same in the corners as in the middle."""
    cameras = camera(30.0, 20.0)
    z = torch.full((8, 8), 2.0)
    z[:, 4:] = 4.0
    opacity = torch.ones(1, 8, 8)
    opacity[:, 0] = 0
    distance = along_rays(z, cameras) * opacity
    found = depth_picture(distance, opacity, cameras)
    expected = torch.where(torch.arange(8) < 4, 1.0, 0.5)[:, None].expand(1, 8, 8, 3).clone()
    expected[:, 0] = 0
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(depth_picture(3 * distance, opacity, cameras), expected, rtol=1e-5, atol=1e-6)


def test_depth_fades_with_opacity_and_an_empty_view_is_black() -> None:
    cameras = camera(0.0, 0.0)
    distance, opacity = along_rays(torch.full((8, 8), 2.0), cameras), torch.ones(1, 8, 8)
    opacity[:, :, :2] = 0.25
    assert depth_picture(distance, opacity, cameras)[0, 3, :, 0].tolist() == pytest.approx([0.25] * 2 + [1.0] * 6)
    assert depth_picture(torch.zeros(1, 8, 8), torch.zeros(1, 8, 8), cameras).abs().max() == 0
    assert depth_picture(distance, 0.4 * torch.ones(1, 8, 8), cameras).isfinite().all()


@pytest.mark.parametrize(
    ("azimuth", "elevation", "world", "colour"),
    [
        (0.0, 0.0, (1, 0, 0), (0.5, 0.5, 1)),  # the front looks at the camera
        (0.0, 0.0, (0, -1, 0), (1, 0.5, 0.5)),  # seen from +x with z up, -y is to the left
        (0.0, 0.0, (0, 0, 1), (0.5, 1, 0.5)),
        (90.0, 0.0, (0, 1, 0), (0.5, 0.5, 1)),
        (90.0, 0.0, (1, 0, 0), (1, 0.5, 0.5)),
        (180.0, 0.0, (0, -1, 0), (0, 0.5, 0.5)),
        (0.0, 90.0 - 1e-3, (0, 0, 1), (0.5, 0.5, 1)),
        (0.0, 30.0, (0, 0, 2), (0.5, 0.5 + 3**0.5 / 4, 0.75)),  # any length; 60 degrees away from the viewer
    ],
)
def test_normals_are_red_left_green_up_blue_near(azimuth: float, elevation: float, world: tuple, colour: tuple) -> None:
    normal = torch.tensor(world, dtype=torch.float32).expand(1, 8, 8, 3)
    found = normal_picture(normal, torch.ones(1, 8, 8), camera(azimuth, elevation))
    torch.testing.assert_close(found, torch.tensor(colour).expand(1, 8, 8, 3).float(), rtol=1e-4, atol=1e-4)


def test_nothing_is_a_wall_that_faces_the_camera() -> None:
    found = normal_picture(torch.zeros(1, 8, 8, 3), torch.zeros(1, 8, 8), camera(40.0, 10.0))
    torch.testing.assert_close(found[0, 0, 0], torch.tensor([0.5, 0.5, 1.0]))


def test_predictions_are_those_inside_the_pipeline(folders: tuple[Path, Path]) -> None:
    model = load(folders, control_scale=0.7)
    network = ControlNetModel.from_pretrained(str(folders[1]))
    pipeline = StableDiffusionControlNetPipeline.from_pretrained(str(folders[0]), controlnet=network, safety_checker=None)
    shown = picture(1)
    steps = steps_of(
        pipeline,
        prompt="a red car",
        negative_prompt="a blue cube",
        image=shown,
        controlnet_conditioning_scale=0.7,
        guidance_scale=7.5,
        num_inference_steps=3,
        output_type="latent",
    )
    prompt = PromptBatch(model.encode_text(["a red car"]), model.encode_text(["a blue cube"])).with_control(shown)
    assert len(steps) == 3
    for output, timestep, sample in steps:
        with torch.no_grad():
            t = torch.tensor([int(timestep)])
            found = model.predict_noise_guided(sample, t, prompt.positive, prompt.negative, 7.5)
        torch.testing.assert_close(found, output, rtol=1e-4, atol=1e-4)


def test_the_picture_matters_and_without_one_it_is_the_plain_model(folders: tuple[Path, Path]) -> None:
    model, z, t = load(folders), noise(2, 4, 8, 8), torch.tensor([100, 700])
    plain = model.encode_text(["a red car"] * 2)
    one, other = (model.predict(z, t, replace(plain, control=picture(seed=seed))) for seed in (0, 1))
    assert (one - other).abs().amax((1, 2, 3)).min() > 1e-4
    expected = model.unet(z, t, encoder_hidden_states=plain.embedding).sample
    torch.testing.assert_close(model.predict(z, t, plain), expected)
    with pytest.raises(ValueError, match=r"cannot join records whose control differs \(none, some\)"):
        Conditioning.cat([plain, replace(plain, control=picture())])


def test_the_picture_comes_from_the_render_at_the_models_size(folders: tuple[Path, Path]) -> None:
    cameras, ones = camera(0.0, 0.0), torch.ones(1, 8, 8)
    render = RenderOutput(ones[..., None].expand(1, 8, 8, 3), ones, along_rays(2 * ones[0], cameras))
    found = load(folders).control_image(render, cameras)
    torch.testing.assert_close(found, torch.ones(1, 3, 16, 16), rtol=1e-5, atol=1e-5)
    normals = load(folders, control="normals")
    with pytest.raises(ConfigError, match=r"the render has no normals; write renderer\.shading\.normals: always"):
        normals.control_image(render, cameras)
    towards = torch.tensor([1.0, 0, 0]).expand(1, 8, 8, 3)
    shown = normals.control_image(replace(render, normal=towards), cameras)
    torch.testing.assert_close(shown[0, :, 3, 3], torch.tensor([0.5, 0.5, 1.0]))


def scene(folders: tuple[Path, Path], control: str, normals: str) -> dict[str, Any]:
    encoding = {"type": "hash-grid", "levels": 2, "features": 2, "log2_size": 8, "base": 4, "finest": 8}
    return {
        "geometry": {"type": "dreamfw/nerf", "encoding": encoding},
        "renderer": {"type": "dreamfw/volume", "samples": 16, "shading": {"normals": normals}},
        "guidance": {"type": "dreamfw/controlnet", "model": str(folders[0]), "controlnet": str(folders[1]), "control": control},
    }


def test_a_render_without_normals_is_refused_before_anything_loads(folders: tuple[Path, Path]) -> None:
    table = {"prompt": "a red car", "losses": {"sds": {"type": "dreamfw/sds"}}, **scene(folders, "normals", "auto")}
    with pytest.raises(ConfigError, match=r"controlnet .*needs normals; renderer .*provides them when renderer\.shading"):
        compose(RunConfig.model_validate(table))


@pytest.mark.parametrize("control", ["depth", "normals"])
def test_score_distillation_of_a_scene_runs_from_yaml(folders: tuple[Path, Path], control: str, tmp_path: Path) -> None:
    seen: list[Tensor] = []
    predict = ControlNet.predict

    def watched(self: ControlNet, noisy: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        assert conditioning.control is not None
        seen.append(conditioning.control)
        return predict(self, noisy, timestep, conditioning)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ControlNet, "predict", watched)
        sections = scene(folders, control, "always")
        rows = two_steps(tmp_path, sections.pop("guidance"), **sections)
    assert all(row["losses"]["sds"] > 0 and row["grad_norm"] > 0 for row in rows)
    assert all(control.shape == (4, 3, 16, 16) and control.std() > 0.01 for control in seen)
    assert all(torch.equal(control[:2], control[2:]) and not control.requires_grad for control in seen)


def test_the_shipped_network_goes_with_the_shipped_model_and_sees_depth() -> None:
    assert ControlNet.Config(model="embedded").network == "embedded"
    assert [ControlNet.Config(control=one).network for one in ("depth", "normals")] == ["depth", "normals"]
    with pytest.raises(ValueError, match=r"the embedded control network sees depth, not normals; write control: depth"):
        ControlNet.Config(model="embedded", control="normals")


def test_a_control_network_for_another_model_is_refused(folders: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(GuidanceError, match=r"width 8, and the control network .* reads 12: it was made for another model"):
        load((folders[0], save_tiny_controlnet(tmp_path / "other", width=12)))
    (tmp_path / "empty").mkdir()
    with pytest.raises(GuidanceError, match=r"guidance\.controlnet: .*lacks config\.json, diffusion_pytorch_model\.safetensors"):
        load((folders[0], tmp_path / "empty"))
