"""Wonder3D: which rows of its network see which, the axes of its normals, and the folder that a run fits a scene to."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_wonder3d import save_tiny_wonder3d, tensors
from torch import Tensor

import dfw
from dfw import GuidanceError, Progress
from dfw_cameras.dataset import Dataset
from dfw_guidance.across_views import inflate
from dfw_guidance.wonder3d import AZIMUTHS, Drawn, Wonder3D, camera, main, read_views, save
from dfw_guidance.wonder3d_network import PLACES, AcrossDomains


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_wonder3d(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def model(folder: Path, module_patch: pytest.MonkeyPatch) -> Wonder3D:
    return loaded(folder, module_patch)


@pytest.fixture(scope="module")
def module_patch() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


def loaded(folder: Path, patch: pytest.MonkeyPatch) -> Wonder3D:
    """In float32, whatever this processor multiplies fastest."""
    patch.setattr("dfw_guidance.wonder3d.chosen_precision", lambda *_: torch.float32)
    return Wonder3D(str(folder))


def noisy(seed: int = 1) -> Tensor:
    return torch.randn(12, 4, 8, 8, generator=torch.Generator().manual_seed(seed))


def asked(model: Wonder3D, z: Tensor) -> Tensor:
    picture = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        return model.predict(z, torch.tensor(400), *model.condition(picture))


@torch.no_grad()
def test_attention_across_domains_is_attention_over_the_pixels_of_both() -> None:
    """softmax(q k / sqrt(d)) v with keys and values of a view's normals and of its colours; two views, float64."""
    layer = Attention(query_dim=4, heads=1, dim_head=4, processor=AcrossDomains(AttnProcessor2_0())).double()
    pixels = torch.randn(4, 5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found, (q, k, v) = layer(pixels), (pixels @ part.weight.T for part in (layer.to_q, layer.to_k, layer.to_v))
    for row in range(4):
        keys, values = (torch.cat([one[row % 2], one[row % 2 + 2]]) for one in (k, v))
        expected = (q[row] @ keys.T / 2).softmax(-1) @ values @ layer.to_out[0].weight.T + layer.to_out[0].bias
        torch.testing.assert_close(found[row], expected)


def test_every_tensor_of_the_file_is_in_the_network(model: Wonder3D) -> None:
    _, table = tensors()
    found = model.unet.state_dict()
    assert found.keys() == table.keys()
    assert all(torch.equal(found[name], value) for name, value in table.items())


@torch.no_grad()
def test_without_attention_between_domains_it_is_a_multi_view_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """diffusers' own class on the views of one domain, with picture, place and domain as in the authors' pipeline."""
    alone = loaded(save_tiny_wonder3d(tmp_path / "alone", joint=0), monkeypatch)
    picture = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(5))
    z, (token, beside) = noisy(), alone.condition(picture)
    found = alone.predict(z, torch.tensor(400), token, beside)
    unet, _ = tensors()
    inflate(unet, 6)
    torch.testing.assert_close(beside, alone.vae.encode(2 * picture - 1).latent_dist.mean * alone.vae.config.scaling_factor)
    for rows, domain in ((slice(0, 6), (1.0, 0.0)), (slice(6, 12), (0.0, 1.0))):
        given = torch.tensor([(*place, *domain) for place in PLACES])
        expected = unet(
            torch.cat([z[rows], beside.expand(6, -1, -1, -1)], 1),
            torch.tensor(400),
            encoder_hidden_states=token.expand(6, -1, -1),
            class_labels=torch.cat([given.sin(), given.cos()], 1),
        ).sample
        torch.testing.assert_close(found[rows], expected, rtol=1e-4, atol=1e-5)


def test_colours_see_normals_and_normals_see_colours(model: Wonder3D) -> None:
    z = noisy()
    before = asked(model, z)
    for changed, others in ((2, slice(6, 12)), (9, slice(0, 6))):
        moved = z.clone()
        moved[changed] = noisy(2)[0]
        assert (asked(model, moved) - before)[others].abs().amax((1, 2, 3)).min() > 1e-5


def sphere(side: int = 32) -> tuple[Tensor, Tensor]:
    """Normals (H, W, 3) of a sphere of radius 0.7 without perspective, in the camera's axes, and its mask."""
    line = (torch.arange(side) + 0.5) * 2 / side - 1
    y, x = torch.meshgrid(-line, line, indexing="ij")
    squared = (x**2 + y**2) / 0.49
    return torch.stack([x / 0.7, y / 0.7, (1 - squared).clamp_min(0).sqrt()], -1), squared < 1


def as_drawn(side: int = 32) -> tuple[Tensor, Tensor]:
    """What a perfect network draws of a red sphere: every camera sees the same, but all normals are in the first one's axes."""
    own, mask = sphere(side)
    front = torch.tensor(camera(0.0))[:3, :3]
    colours, normals = torch.ones(6, side, side, 3), torch.ones(6, side, side, 3)
    for place, azimuth in enumerate(AZIMUTHS):
        turned = own @ torch.tensor(camera(azimuth))[:3, :3].T @ front
        normals[place][mask], colours[place][mask] = turned[mask] / 2 + 0.5, torch.tensor([0.8, 0.1, 0.1])
    return colours, normals


def test_normals_are_turned_to_each_views_own_axes_and_tell_where_the_object_is() -> None:
    drawn = read_views(*as_drawn())
    own, mask = sphere()
    for place in range(6):
        torch.testing.assert_close(drawn.normal[place][mask], own[mask], rtol=0, atol=1e-5)
        assert torch.equal(drawn.mask[place] > 0.5, mask)


def test_the_right_is_where_the_front_camera_has_it() -> None:
    front, right = (torch.tensor(camera(angle)) for angle in (0.0, 90.0))
    torch.testing.assert_close(right[:3, 3] / right[:3, 3].norm(), front[:3, 0], rtol=0, atol=1e-6)
    assert float(front[:3, 3].norm() * math.tan(math.radians(2.5))) == pytest.approx(1)


def test_the_folder_is_a_set_of_posed_pictures(tmp_path: Path) -> None:
    """In the scene, every normal of the sphere points from the centre to the pixel; perspective is almost none."""
    save(read_views(*as_drawn()), tmp_path / "views")
    views = Dataset(Dataset.Config(folder=str(tmp_path / "views"), batch_size=6, width=32)).sample(
        Progress(0, 1), torch.Generator().manual_seed(0)
    )
    assert set(views.targets) >= {"colour", "mask", "normal"}
    assert sorted(round(float(one)) for one in views.cameras.azimuth) == sorted(AZIMUTHS)
    own, mask = sphere()
    for pose, normal in zip(views.cameras.camera_to_world, views.targets["normal"], strict=True):
        torch.testing.assert_close(normal[mask], own[mask] @ pose[:3, :3].T, rtol=0, atol=0.02)  # eight bits


def test_a_scene_is_fitted_to_the_folder(tmp_path: Path) -> None:
    save(read_views(*as_drawn()), tmp_path / "views")
    small = ("trainer.steps=2", "trainer.preview_every=2", "trainer.preview_width=16", "cameras.width=16", "renderer.samples=16")
    rest = ("export.formats=[]", "export.turntable_frames=0", "device=cpu", "geometry.encoding.log2_size=10")
    run = dfw.run("wonder3d-sd", f"cameras.folder={tmp_path / 'views'}", *small, *rest, f"output={tmp_path}", listeners=[])
    assert run.status == "finished"
    assert set(run.metrics[0]["losses"]) == {"picture", "mask", "normal", "eikonal"}


def test_the_command_draws_a_folder(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.zeros((64, 64, 4), np.uint8)
    pixels[8:56, 8:56] = 200
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    command = ["wonder3d", str(tmp_path / "picture.png"), str(tmp_path / "out"), "--model", str(folder), "--steps", "2"]
    monkeypatch.setattr(sys, "argv", [*command, "--device", "cpu"])
    main()
    frames = json.loads((tmp_path / "out" / "transforms.json").read_text(encoding="utf-8"))["frames"]
    assert len(frames) == 6
    for key, mode in (("file_path", "RGBA"), ("normal_file_path", "RGB")):
        for frame in frames:
            with Image.open(tmp_path / "out" / frame[key]) as picture:
                assert (picture.mode, picture.size) == (mode, (16, 16))
    with pytest.raises(SystemExit) as ended:  # and nothing there is overwritten
        main()
    assert ended.value.code == GuidanceError.exit_code
    assert len(list((tmp_path / "out").iterdir())) == 13


def test_the_same_seed_draws_the_same(model: Wonder3D) -> None:
    def drawn(seed: int) -> Drawn:
        return model.draw(torch.rand(1, 3, 16, 16), 2, 3.0, torch.Generator().manual_seed(seed))

    torch.manual_seed(0)
    first = drawn(7)
    torch.manual_seed(0)
    again = drawn(7)
    assert torch.equal(first.colour, again.colour)
    torch.manual_seed(0)
    assert not torch.equal(first.colour, drawn(8).colour)


def test_another_network_is_refused(tmp_path: Path) -> None:
    folder = save_tiny_wonder3d(tmp_path / "other")
    settings = folder / "unet" / "config.json"
    table = json.loads(settings.read_text(encoding="utf-8"))
    for change, said in (
        ({"_class_name": "UNet2DConditionModel"}, "is a UNet2DConditionModel, and Wonder3D's is a UNetMV2DConditionModel"),
        ({"cd_attention_mid": False}, "cd_attention_mid is False, not True"),
        ({"num_views": 4}, "num_views is 4, not 6"),
    ):
        settings.write_text(json.dumps({**table, **change}), encoding="utf-8")
        with pytest.raises(GuidanceError, match=said):
            Wonder3D(str(folder))
    settings.write_text(json.dumps(table), encoding="utf-8")
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    kept = load_file(file)
    kept.pop("mid_block.attentions.0.transformer_blocks.0.norm_joint_mid.bias")
    save_file(kept, file)
    with pytest.raises(GuidanceError, match=r"unet lacks 1 of \d+ tensors, the first is .*norm_joint_mid.bias"):
        Wonder3D(str(folder))
