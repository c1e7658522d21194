"""ImageDream against its authors' network: the picture as a further view, as tokens, and where it is left out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import run_dfw
from original_mvdream import MultiViewUNetModel
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_diffusion import save_tiny_model
from tiny_mvdream import PROMPTED, save_checkpoint, save_published, save_published_imagedream, save_tiny_encoder
from torch import Tensor
from transformers import CLIPImageProcessor, CLIPVisionModel

from dfw import CameraBatch, Conditioning, GuidanceError, cameras_at
from dfw_guidance import imagedream_weights
from dfw_guidance.across_views import poses
from dfw_guidance.convert import convert
from dfw_guidance.imagedream import ImageDream
from dfw_guidance.mvdream import MVDream

SIDE = 16
"""Pixels of the picture: those that the tiny CLIP and here the model read, so that nothing is resized."""


def ring(scenes: int = 1, turned: float = 0.0) -> CameraBatch:
    azimuth = torch.tensor([0.0, 90, 180, -90]).repeat(scenes) + turned
    full = torch.ones_like(azimuth)
    return cameras_at(azimuth, 10 * full, 3 * full, 40 * full, 64, 64).in_groups(4)


def noisy(count: int, side: int = 8, seed: int = 1) -> Tensor:
    return torch.randn(count, 4, side, side, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    pixels = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "picture.png")
    return folder


@pytest.fixture(scope="module")
def published(files: Path) -> tuple[Path, MultiViewUNetModel]:
    return save_published_imagedream(files / "published")


def imagedream(folder: Path, picture: Path, **options: object) -> ImageDream:
    fields = {"model": str(folder), "image": str(picture), "share": None, "resolution": SIDE, "precision": "fp32", **options}
    return ImageDream(ImageDream.Config.model_validate(fields))


@pytest.fixture(scope="module")
def model(files: Path, published: tuple[Path, MultiViewUNetModel]) -> ImageDream:
    return imagedream(published[0], files / "picture.png")


def features(folder: Path, picture: Path) -> Tensor:
    """What CLIP says of the patches, one layer before its last, through transformers' own processor."""
    encoder = CLIPVisionModel.from_pretrained(folder / "image_encoder")
    size = {"height": 16, "width": 16}
    pixels = CLIPImageProcessor(size={"shortest_edge": 16}, crop_size=size)(Image.open(picture), return_tensors="pt").pixel_values
    with torch.no_grad():
        return encoder(pixels, output_hidden_states=True).hidden_states[-2]


@torch.no_grad()
def answer(
    made: ImageDream, authors: MultiViewUNetModel, seen: Tensor, known: float, words: Conditioning, pixels: bool = True
) -> Tensor:
    """What the authors' network predicts for two scenes as their SDS asks it, without the further view's answer."""
    z, t = noisy(8), torch.tensor([3] * 4 + [700] * 4)
    given = (z, t, words.embedding, poses(ring(2)))
    ip = known * seen.expand(8, -1, -1)
    if not pixels:
        return authors(*given, num_frames=4, ip=ip)
    frames = [torch.cat([one[:4], one[3:4], one[4:], one[7:]]) for one in (*given, ip)]
    frames[3][4::5] = 0
    picture = torch.from_numpy(np.array(Image.open(made.config.image))).permute(2, 0, 1)[None] / 255
    latents = made.vae.encode(2 * picture - 1).latent_dist.mean * made.vae.config.scaling_factor
    found = authors(*frames[:4], num_frames=5, ip=frames[4], ip_img=known * latents)
    return torch.cat([found[:4], found[5:9]])


@torch.no_grad()
def agrees(made: ImageDream, authors: MultiViewUNetModel, seen: Tensor, pixels: bool = True) -> None:
    text = "a red cube"
    for words, known in ((made.encode_text([text] * 8), 1.0), (made.encode_text([""] * 8), 0.0)):
        theirs = answer(made, authors, seen, known, words, pixels)
        ours = made.predict(noisy(8), torch.tensor([3] * 4 + [700] * 4), replace(words, cameras=ring(2)))
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
        assert theirs.std() > 0.1
        if known:
            assert (theirs - answer(made, authors, seen, 0.0, words, pixels)).abs().max() > 0.05  # so the picture matters


def test_published_folders_are_read_under_the_authors_names(
    files: Path, model: ImageDream, published: tuple[Path, MultiViewUNetModel]
) -> None:
    agrees(model, published[1], model.features)


def test_features_are_those_of_transformers_processor(files: Path, model: ImageDream) -> None:
    theirs = features(files / "published", files / "picture.png")
    torch.testing.assert_close(model.features, theirs)
    assert theirs.std() > 0.5


def test_the_local_kind_sees_no_further_view(files: Path, published: tuple[Path, MultiViewUNetModel]) -> None:
    folder, authors = published
    local = imagedream(folder, files / "picture.png", pixels=False)
    agrees(local, authors, local.features, pixels=False)


@torch.no_grad()
def test_the_negative_prompt_keeps_its_words_and_loses_the_picture(model: ImageDream) -> None:
    words, negative = model.encode_text(["a blue car"]), model.encode_negative("a blue car")
    torch.testing.assert_close(negative.embedding, words.embedding)
    assert (float(words.extras["picture"]), float(negative.extras["picture"])) == (1, 0)
    assert float(model.unconditional().extras["picture"]) == 0


@torch.no_grad()
def test_poses_are_relative_to_the_pictures(files: Path, model: ImageDream, published: tuple[Path, MultiViewUNetModel]) -> None:
    """A picture from the side: what stands at its azimuth is told the pose of the front."""
    side = imagedream(published[0], files / "picture.png", azimuth=30)
    torch.testing.assert_close(side.poses(ring(turned=30)), poses(ring()), rtol=0, atol=1e-6)
    text = model.encode_text(["a red cube"] * 4)
    z, t = noisy(4), torch.full((4,), 500)
    expected = model.predict(z, t, replace(text, cameras=ring()))
    torch.testing.assert_close(side.predict(z, t, replace(text, cameras=ring(turned=30))), expected, rtol=1e-4, atol=1e-4)
    assert (side.predict(z, t, replace(text, cameras=ring())) - expected).abs().max() > 1e-3


def test_the_authors_checkpoint_becomes_a_folder(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sizes of the published network are replaced by the tiny one's; everything else is as for the real file."""
    base, encoder = save_tiny_model(tmp_path / "base"), save_tiny_encoder(tmp_path / "encoder")
    sizes = {name: value for name, value in PROMPTED.items() if name != "_class_name"}
    monkeypatch.setattr(imagedream_weights.convert_imagedream, "__defaults__", (sizes,))
    authors = save_checkpoint(tmp_path / "ipmv.pt", picture=True)
    convert(tmp_path / "ipmv.pt", tmp_path / "made", base, encoder)
    made = imagedream(tmp_path / "made", files / "picture.png")
    agrees(made, authors, made.features)


def test_what_cannot_be_used_is_said(model: ImageDream, files: Path, tmp_path: Path) -> None:
    folder, picture = files / "published", files / "picture.png"
    with pytest.raises(GuidanceError, match=r"is a MVDreamPipeline; write guidance\.type=imagedream"):
        MVDream(MVDream.Config(model=str(folder)))
    plain, _ = save_published(tmp_path / "plain")
    with pytest.raises(GuidanceError, match=r"is a MVDreamPipeline; write guidance\.type=mvdream"):
        imagedream(plain, picture)
    save_checkpoint(tmp_path / "ipmv.pt", picture=True)
    with pytest.raises(GuidanceError, match=r"does not hold a whole ImageDream .*\("):  # of the published size
        convert(
            tmp_path / "ipmv.pt", tmp_path / "made", save_tiny_model(tmp_path / "base"), save_tiny_encoder(tmp_path / "encoder")
        )
    assert not (tmp_path / "made").exists()
    words = replace(model.encode_text(["a"] * 3), cameras=ring().select(slice(0, 3)))
    with pytest.raises(GuidanceError, match="3 pictures are not whole scenes of 4 views"):
        model.predict(noisy(3), torch.full((3,), 5), words)


@pytest.mark.parametrize(
    "name",
    ["middle_block.1.transformer_blocks.0.attn2.to_k_ip.weight", "image_embed.latents", "image_embed.layers.2.0.to_kv.weight"],
)
def test_a_folder_with_a_lost_tensor_is_refused(name: str, files: Path, tmp_path: Path) -> None:
    folder, _ = save_published_imagedream(tmp_path / "published")
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    tensors.pop(name)
    save_file(tensors, file)
    with pytest.raises(GuidanceError, match="unet lacks"):
        imagedream(folder, files / "picture.png")


def test_its_views_are_drawn_and_its_gradient_checked(
    files: Path, published: tuple[Path, MultiViewUNetModel], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fields = [
        "imagedream-sd",
        f"image={files / 'picture.png'}",
        f"guidance.model={published[0]}",
        "guidance.share=null",
        f"guidance.resolution={SIDE}",
    ]
    fields += [f"guidance.resolution={SIDE}", "prompt=a red cube", "negative_prompt=a blue car", "device=cpu", "precision=fp32"]
    out = tmp_path / "sheet.png"
    code, _, said = run_dfw("sample", *fields, "--count", "1", "--steps", "1", "--out", str(out), capsys=capsys)
    assert code == 0, said
    with Image.open(out) as sheet:
        assert sheet.size == (4 * SIDE + 3 * 2, SIDE)
    options = ("--draws", "4", "--points", "2", "--out", str(tmp_path / "guidance.svg"))
    code, said, _ = run_dfw("guidance", "check", *fields, *options, capsys=capsys)
    assert code == 0
    assert "no closed form for this guidance" in said
