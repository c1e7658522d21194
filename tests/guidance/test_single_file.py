"""A whole Stable Diffusion in one file: without a network, if the settings of its base model are on this machine."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from single_file import save_single_file
from tiny_diffusion import save_tiny_model
from tiny_sdxl import save_tiny_sdxl

from dfw import GuidanceError
from dfw_guidance import aliases
from dfw_guidance.checksums import digest
from dfw_guidance.flow import Flow
from dfw_guidance.stable_diffusion import StableDiffusion
from dfw_guidance.stable_diffusion_xl import StableDiffusionXL


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def file(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny model as one file; the settings of `sd15` are those in its folder, without weights."""
    settings = Path(shutil.copytree(folder, tmp_path / "settings"))
    for weights in settings.rglob("*.safetensors"):
        weights.unlink()
    monkeypatch.setitem(aliases.ALIASES, "sd15", (str(settings),))
    return save_single_file(folder, tmp_path / "dreamer_8.safetensors")


def load(model: Path) -> StableDiffusion:
    return StableDiffusion(StableDiffusion.Config(model=str(model), precision="fp32"))


def refused(model: Path) -> str:
    with pytest.raises(GuidanceError) as caught:
        load(model)
    assert caught.value.exit_code == 3
    return str(caught.value)


@torch.no_grad()
def test_it_is_the_model_in_the_folder(folder: Path, file: Path) -> None:
    whole, single = load(folder), load(file)
    assert single.state_dict().keys() == whole.state_dict().keys()
    assert all(torch.equal(value, single.state_dict()[name]) for name, value in whole.state_dict().items())
    texts = ["a red car", ""]
    z, t = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([100, 700])
    expected = whole.predict_noise(z, t, whole.encode_text(texts))
    assert torch.equal(single.predict_noise(z, t, single.encode_text(texts)), expected)
    assert single.facts()["weights"] == {"dreamer_8.safetensors": f"sha256:{digest(file)}"}


def test_sdxl_with_its_two_text_encoders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save_tiny_sdxl(tmp_path / "xl")
    monkeypatch.setitem(aliases.ALIASES, "sdxl", (str(folder),))
    file = save_single_file(folder, tmp_path / "juggernaut.safetensors")
    whole, single = (
        StableDiffusionXL(StableDiffusionXL.Config(model=str(model), precision="fp32")).state_dict() for model in (folder, file)
    )
    assert whole.keys() == single.keys()
    assert all(torch.equal(value, single[name]) for name, value in whole.items())


@pytest.mark.parametrize(
    ("start", "message"),
    [
        ("model.diffusion_model.out.2", "unet lacks tensors"),
        ("first_stage_model.encoder.conv_in", "vae lacks tensors"),
        (
            "cond_stage_model.transformer.text_model.final",
            "text_encoder lacks 1 of 20 tensors, the first is 'final_layer_",
        ),
    ],
)
def test_a_tensor_that_is_not_in_it_is_missed(start: str, message: str, file: Path) -> None:
    table = load_file(file)
    lost = next(key for key in sorted(table) if key.startswith(start) and key.endswith("weight"))
    save_file({key: value for key, value in table.items() if key != lost}, file)
    assert message in refused(file)


def test_without_the_settings_it_says_where_they_come_from_and_how_to_convert(file: Path, monkeypatch) -> None:
    monkeypatch.setitem(aliases.ALIASES, "sd15", (str(file.parent / "nothing"),))
    message = refused(file)
    assert "is one file, so its settings and words come from sd15 (2 MB). guidance.model: " in message
    assert "nothing' is not there: no such folder" in message
    assert f"P.from_single_file('{file}').save_pretrained('{file.with_suffix('')}')" in message


def test_files_of_other_kinds_are_named(file: Path, tmp_path: Path) -> None:
    table = load_file(file)
    save_file({"conditioner.embedders.1.model.x": torch.ones(1)}, file)
    assert refused(file).endswith("is a stable-diffusion-xl; write guidance.type=stable-diffusion-xl")
    save_file({"double_blocks.0.weight": torch.ones(1)}, file)
    assert "is one file, but not a whole Stable Diffusion 1.x or XL" in refused(file)
    save_file(table | {"v_pred": torch.ones(1)}, file)
    assert "that predicts noise" in refused(file)
    file.write_bytes(b"<html>")
    assert "is a web page; fetch the file itself" in refused(file)
    with pytest.raises(GuidanceError, match=r"is one file, and dfw reads folders .*StableDiffusion3Pipeline as P"):
        Flow(Flow.Config(model=str(file)))
