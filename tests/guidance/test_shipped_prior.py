"""The shipped folder itself: whole, in the wheel, and an ordinary model for unmodified diffusers."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import ControlNetModel, StableDiffusionControlNetPipeline, StableDiffusionPipeline

from dfw import GuidanceError
from dfw_guidance import hub
from dfw_guidance.aliases import EMBEDDED, SHIPPED
from dfw_guidance.checksums import SUMS, changed_files, digest, write_sums
from dfw_guidance.controlnet import ControlNet
from dfw_guidance.layouts import CONTROLNET, STABLE_DIFFUSION, ZERO123, Layout
from dfw_guidance.stable_diffusion import StableDiffusion


@pytest.fixture(scope="module")
def pipeline() -> StableDiffusionPipeline:
    pipeline = StableDiffusionPipeline.from_pretrained(str(EMBEDDED))
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="module")
def model() -> StableDiffusion:
    return StableDiffusion(StableDiffusion.Config(precision="fp32"))


def test_diffusers_samples_it_as_it_is(pipeline: StableDiffusionPipeline) -> None:
    """With no dtype given, as the model card promises."""
    assert {pipeline.unet.dtype, pipeline.vae.dtype, pipeline.text_encoder.dtype} == {torch.float32}
    noise = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    image = pipeline("a red mushroom", num_inference_steps=2, latents=noise, output_type="pt").images
    assert image.shape == (1, 3, 64, 64)
    assert image.std() > 0.05


def test_texts_latents_and_predictions_are_those_of_the_pipeline(
    pipeline: StableDiffusionPipeline, model: StableDiffusion
) -> None:
    texts = ["a red mushroom", "a blue car, front view", ""]
    theirs = torch.cat([pipeline.encode_prompt(text, "cpu", 1, False)[0] for text in texts])
    ours = model.encode_text(texts)
    torch.testing.assert_close(ours.embedding, theirs, rtol=0, atol=1e-5)
    image = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    latents = pipeline.vae.encode(2 * image - 1).latent_dist.mean * pipeline.vae.config.scaling_factor
    torch.testing.assert_close(model.encode_image(image), latents, rtol=0, atol=1e-5)
    timestep = torch.tensor([3, 500, 990])
    expected = pipeline.unet(latents, timestep, encoder_hidden_states=theirs).sample
    torch.testing.assert_close(model.predict(latents, timestep, ours), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("folder", SHIPPED.values(), ids=list(SHIPPED))
def test_checksums_cover_every_file_that_is_read(folder: Path) -> None:
    assert changed_files(folder) == []
    names = {line.split("  ")[1] for line in (folder / SUMS).read_text(encoding="utf-8").splitlines()}
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert files - names == {SUMS, "README.md"}


@pytest.mark.parametrize("folder", SHIPPED.values(), ids=list(SHIPPED))
def test_no_file_says_where_it_was_made(folder: Path) -> None:
    """Diffusers writes into a network's configuration which folder it was loaded from."""
    texts = [path.read_text(encoding="utf-8") for path in folder.rglob("*.json")]
    assert texts
    assert not [text for text in texts if "_name_or_path" in text]


def test_all_that_ships_is_small_and_the_scene_model_differs_in_its_network_alone() -> None:
    assert sum(path.stat().st_size for folder in SHIPPED.values() for path in folder.rglob("*") if path.is_file()) <= 48 * 2**20
    one, other = (
        {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in (EMBEDDED, SHIPPED["mvdream"])
    )
    changed = {name for name in one if one[name] != other[name]}
    assert {name.partition("/")[0] for name in changed} == {"README.md", SUMS, "model_index.json", "unet"}


def test_the_novel_view_model_has_the_same_autoencoder_and_schedule() -> None:
    other = SHIPPED["zero123"]
    shared = [path.relative_to(EMBEDDED) for part in ("vae", "scheduler") for path in (EMBEDDED / part).iterdir()]
    assert len(shared) == 3
    assert [name for name in shared if (EMBEDDED / name).read_bytes() != (other / name).read_bytes()] == []


def test_diffusers_samples_for_a_depth_and_the_guidance_predicts_the_same(pipeline: StableDiffusionPipeline) -> None:
    """The control network goes with the shipped prior in unmodified diffusers, and a picture changes what it draws."""
    network = ControlNetModel.from_pretrained(str(SHIPPED["controlnet"]))
    shown = torch.zeros(1, 3, 64, 64)
    shown[:, :, 12:52, 20:44] = 1.0
    both = StableDiffusionControlNetPipeline.from_pipe(pipeline, controlnet=network)
    both.set_progress_bar_config(disable=True)
    noise = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    call = {"num_inference_steps": 2, "latents": noise, "output_type": "pt"}
    image = both("a red mushroom", image=shown, **call).images
    assert (image - pipeline("a red mushroom", **call).images).abs().mean() > 0.01
    model = ControlNet(ControlNet.Config(model="embedded", precision="fp32"))
    timestep = torch.tensor([700])
    text = replace(model.encode_text(["a red mushroom"]), control=shown)
    down, middle = network(noise, timestep, text.embedding, shown, return_dict=False)
    residuals = {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}
    expected = pipeline.unet(noise, timestep, encoder_hidden_states=text.embedding, **residuals).sample
    torch.testing.assert_close(model.predict(noise, timestep, text), expected, rtol=0, atol=1e-5)


def test_digests_are_those_of_sha256sum(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    assert digest(tmp_path / "x") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    write_sums(tmp_path)
    assert (tmp_path / SUMS).read_text(encoding="utf-8") == f"{digest(tmp_path / 'x')}  x\n"


@pytest.mark.parametrize(
    ("family", "layout", "name"),
    [
        *(
            ("stable-diffusion", STABLE_DIFFUSION, name)
            for name in ("unet/diffusion_pytorch_model.safetensors", "vae/config.json", "vocabulary.json", SUMS)
        ),
        ("zero123", ZERO123, "image_encoder/model.safetensors"),
        ("controlnet", CONTROLNET, "diffusion_pytorch_model.safetensors"),
    ],
)
def test_one_flipped_bit_is_refused_with_the_remedy(
    family: str, layout: Layout, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(SHIPPED[family], tmp_path / "embedded"))
    monkeypatch.setitem(SHIPPED, family, folder)
    assert hub.find_model("embedded", layout, family=family) == folder
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(GuidanceError, match=r"is not as it was shipped.*pip install --force-reinstall") as caught:
        hub.find_model("embedded", layout, family=family)
    assert caught.value.exit_code == 3
    if name != SUMS:
        assert f": {name} is not as" in str(caught.value)


def test_a_lost_list_of_checksums_is_damage_too(tmp_path: Path) -> None:
    assert changed_files(tmp_path) == [SUMS]
