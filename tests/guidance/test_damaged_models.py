"""A model folder with a fault is refused before a step: with its file, its part, and what to do. No weight is ever random."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save_file
from tiny_control import save_tiny_controlnet
from tiny_deep_floyd import save_tiny_deep_floyd
from tiny_diffusion import save_tiny_model
from tiny_flow import save_tiny_flux, save_tiny_sd3
from tiny_sdxl import save_tiny_sdxl
from torch import Tensor

from dfw import Guidance, GuidanceError
from dfw_guidance.controlnet import ControlNet
from dfw_guidance.deep_floyd import DeepFloyd
from dfw_guidance.flow import Flow
from dfw_guidance.stable_diffusion import StableDiffusion
from dfw_guidance.stable_diffusion_xl import StableDiffusionXL

FAMILIES: dict[str, tuple[type[Guidance], Callable[[Path], Path], tuple[str, ...]]] = {
    "sd": (StableDiffusion, save_tiny_model, ("text_encoder", "unet", "vae")),
    "sdxl": (StableDiffusionXL, save_tiny_sdxl, ("text_encoder", "text_encoder_2", "unet", "vae")),
    "if": (DeepFloyd, save_tiny_deep_floyd, ("text_encoder", "unet")),
    "sd3": (Flow, save_tiny_sd3, ("text_encoder", "text_encoder_2", "text_encoder_3", "transformer", "vae")),
    "flux": (Flow, save_tiny_flux, ("text_encoder", "text_encoder_2", "transformer", "vae")),
}
"""Name -> guidance, what saves a tiny model, and its networks."""


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A whole folder of a family, made once."""
    root = tmp_path_factory.mktemp("models")

    def original(family: str) -> Path:
        return root / family if (root / family).is_dir() else FAMILIES[family][1](root / family)

    return original


@pytest.fixture
def copied(originals: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Path]:
    """A copy of that folder, to damage."""
    return lambda family: Path(shutil.copytree(originals(family), tmp_path / family))


def weights(folder: Path, part: str) -> Path:
    (path,) = (folder / part).glob("*.safetensors")
    return path


def rewrite(path: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> dict[str, Tensor]:
    before: dict[str, Tensor] = load_file(path)
    save_file(change(dict(before)), path, metadata={"format": "pt"})
    return before


def write(path: Path, **changes: object) -> None:
    table = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(table | changes), encoding="utf-8")


def refusal(folder: Path, family: str = "sd", **options: object) -> str:
    """Loads the model, and reads a text with it, because T5 loads only then. Returns the error's message."""
    kind = FAMILIES[family][0]
    with pytest.raises(GuidanceError) as caught:
        kind(kind.Config.model_validate({"model": str(folder), **options})).encode_text(["a red car"])
    assert caught.value.exit_code == 3
    message = str(caught.value)
    assert message.startswith("guidance.model: ")
    assert "\n" not in message
    return message


@pytest.mark.parametrize(("family", "part"), [(name, part) for name, (_, _, parts) in FAMILIES.items() for part in parts])
def test_missing_tensors_are_counted_for_every_network(family: str, part: str, copied: Callable[[str], Path], capfd) -> None:
    folder = copied(family)
    lost: list[str] = []

    def drop(table: dict[str, Tensor]) -> dict[str, Tensor]:
        lost.extend(key for key in sorted(table) if key.endswith("weight"))
        return {key: value for key, value in table.items() if key not in lost[:2]}

    before = rewrite(weights(folder, part), drop)
    capfd.readouterr()
    message = refusal(folder, family)
    assert f"{part} lacks 2 of {len(before)} tensors, the first is {lost[0]!r}" in message
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("part", ["text_encoder", "unet", "vae"])
def test_renamed_tensors_are_missing_tensors(part: str, copied: Callable[[str], Path]) -> None:
    folder = copied("sd")
    before = rewrite(weights(folder, part), lambda table: {f"cond_stage_model.{key}": value for key, value in table.items()})
    count = len(before)
    message = refusal(folder)
    assert f"{part} lacks {count} of {count} tensors, the first is '" in message
    assert f"the file has {count} others, the first is 'cond_stage_model." in message


@pytest.mark.parametrize("part", ["text_encoder", "unet", "vae"])
def test_a_tensor_of_another_shape_is_named_with_both_shapes(part: str, copied: Callable[[str], Path]) -> None:
    folder = copied("sd")
    names: list[str] = []

    def grow(table: dict[str, Tensor]) -> dict[str, Tensor]:
        names.append(sorted(key for key in table if key.endswith("bias"))[0])
        return table | {names[0]: torch.zeros(len(table[names[0]]) + 1)}

    before = rewrite(weights(folder, part), grow)
    size = len(before[names[0]])
    assert f"the first is {names[0]!r}: ({size + 1},), not ({size},)" in refusal(folder)


def test_a_control_network_is_checked_like_any_other(copied: Callable[[str], Path], tmp_path: Path) -> None:
    network = save_tiny_controlnet(tmp_path / "network")
    before = rewrite(weights(network, ""), lambda table: dict(list(table.items())[1:]))
    with pytest.raises(GuidanceError, match=rf"guidance\.controlnet: .*lacks 1 of {len(before)} tensors"):
        ControlNet(ControlNet.Config(model=str(copied("sd")), controlnet=str(network)))


def test_counters_of_older_releases_may_be_there_or_not(copied: Callable[[str], Path], caplog) -> None:
    folder = copied("sd")
    rewrite(weights(folder, "text_encoder"), lambda table: table | {"text_model.embeddings.position_ids": torch.arange(12)[None]})
    StableDiffusion(StableDiffusion.Config(model=str(folder)))
    assert caplog.records == []


def test_tensors_that_no_layer_reads_are_a_warning(copied: Callable[[str], Path], caplog) -> None:
    folder = copied("sd")
    rewrite(weights(folder, "unet"), lambda table: table | {"add_embedding.weight": torch.zeros(2)})
    StableDiffusion(StableDiffusion.Config(model=str(folder)))
    assert "unet does not use 1 tensors of its file, the first is 'add_embedding.weight'" in caplog.text


DISGUISES = {
    "a git-lfs pointer; run `git lfs pull`": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 3438\n",
    "a web page": b"\n<!DOCTYPE html><html><body>Log in</body></html>",
    "empty; fetch it again": b"",
    "a pickle": b"PK\x03\x04\x00\x00archive/data.pkl",
    "damaged or cut off at 15 bytes": b"not safetensors",
}


@pytest.mark.parametrize("part", ["text_encoder", "vae"])
@pytest.mark.parametrize("what", DISGUISES)
def test_a_file_that_is_something_else_is_named(part: str, what: str, copied: Callable[[str], Path]) -> None:
    folder = copied("sd")
    path = weights(folder, part)
    path.write_bytes(DISGUISES[what])
    assert f"{part}/{path.name} is {what}" in refusal(folder)


@pytest.mark.parametrize("part", ["text_encoder", "unet"])
def test_a_file_cut_off_is_damaged(part: str, copied: Callable[[str], Path]) -> None:
    folder = copied("sd")
    path = weights(folder, part)
    path.write_bytes(path.read_bytes()[:-100])
    assert f"{part}/{path.name} is damaged or cut off at {path.stat().st_size} bytes" in refusal(folder)


def shard(folder: Path, part: str, missing: bool = False, place: str | None = None) -> None:
    """Splits the weights of a part in two files with an index, as large models are saved."""
    path = weights(folder, part)
    table = load_file(path)
    path.unlink()
    halves = [dict(list(table.items())[::2]), dict(list(table.items())[1::2])]
    names = [f"{path.stem}-0000{n}-of-00002.safetensors" for n in (1, 2)]
    for name, half in zip(names, halves, strict=True):
        save_file(half, path.with_name(name), metadata={"format": "pt"})
    places = {key: place or name for name, half in zip(names, halves, strict=True) for key in half}
    index = path.with_name(f"{path.stem}.safetensors.index.json")
    index.write_text(json.dumps({"metadata": {"total_size": 10**13}, "weight_map": places}), encoding="utf-8")
    if missing:
        path.with_name(names[1]).unlink()


def test_shards_are_read_and_a_missing_one_is_named(copied: Callable[[str], Path], originals: Callable[[str], Path]) -> None:
    folder = copied("sd")
    shard(folder, "unet")
    shard(folder, "text_encoder")
    whole, split = (StableDiffusion(StableDiffusion.Config(model=str(one))) for one in (originals("sd"), folder))
    assert all(torch.equal(value, split.state_dict()[name]) for name, value in whole.state_dict().items())
    (folder / "text_encoder" / "model-00002-of-00002.safetensors").unlink()
    assert "lacks text_encoder/model-00002-of-00002.safetensors" in refusal(folder)


@pytest.mark.parametrize("place", ["../../secret.safetensors", "/etc/passwd", "pytorch_model.bin"])
def test_an_index_names_only_safetensors_beside_it(place: str, copied: Callable[[str], Path]) -> None:
    folder = copied("sd")
    shard(folder, "unet", place=place)
    assert f"names {place!r}, which is not a .safetensors file beside it" in refusal(folder)


@pytest.mark.parametrize("content", ["[1]", "null", "{", "3", '"x"'])
@pytest.mark.parametrize(
    "name",
    [
        "model_index.json",
        "scheduler/scheduler_config.json",
        "unet/config.json",
        "text_encoder/config.json",
        "tokenizer/tokenizer_config.json",
    ],
)
def test_a_table_of_settings_that_is_none_is_named(name: str, content: str, copied: Callable[[str], Path]) -> None:
    folder = copied("sd")
    (folder / name).write_text(content, encoding="utf-8")
    message = refusal(folder)
    assert Path(name).name in message
    assert "is not JSON" in message or f"holds {content} instead of a table" in message


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("scheduler/scheduler_config.json", {"num_train_timesteps": 10**9}, "num_train_timesteps: 1000000000"),
        ("scheduler/scheduler_config.json", {"num_train_timesteps": 500_000}, "num_train_timesteps: 500000, and 1 to 100000"),
        ("scheduler/scheduler_config.json", {"num_train_timesteps": "many"}, "num_train_timesteps: 'many'"),
        ("scheduler/scheduler_config.json", {"beta_start": None}, "does not load"),
        ("unet/config.json", {"layers_per_block": 10**6}, "layers_per_block: 1000000, and the most that can be meant is 1000"),
        ("unet/config.json", {"sample_size": 500_000}, "it works at 1000000 pixels, and 1 to 8192 are possible"),
        ("unet/config.json", {"block_out_channels": "wide"}, "does not load"),
        ("text_encoder/config.json", {"hidden_size": 10**12}, "hidden_size: 1000000000000"),
        ("text_encoder/config.json", {"quantization_config": {"quant_method": "bitsandbytes"}}, "quantised weights"),
        ("unet/config.json", {"quantization_config": {"quant_method": "torchao"}}, "quantised weights"),
        (
            "vae/config.json",
            {"_class_name": "AutoencoderTiny"},
            "vae holds AutoencoderTiny, and this guidance reads AutoencoderKL",
        ),
        ("unet/config.json", {"_class_name": "os.system"}, "unet holds os.system"),
    ],
)
def test_settings_out_of_bounds_are_refused(name: str, changes: dict[str, object], message: str, copied) -> None:
    folder = copied("sd")
    write(folder / name, **changes)
    assert message in refusal(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"class_embed_type": "projection", "projection_class_embeddings_input_dim": 8}, "a class or an image embedding"),
        ({"num_class_embeds": 4}, "asks for a class (num_class_embeds=4)"),
        ({"addition_embed_type": "text_image", "cross_attention_dim": 8}, "(addition_embed_type=text_image)"),
        ({"encoder_hid_dim_type": "image_proj", "encoder_hid_dim": 8}, "(encoder_hid_dim_type=image_proj)"),
        ({"out_channels": 8}, "its U-Net reads 4 channels and predicts 8"),
        ({"in_channels": 9, "out_channels": 9}, "its network reads 9 channels and its VAE makes 4"),
        ({"cross_attention_dim": 16}, "its U-Net reads texts of width 16, and its text encoders write 8"),
    ],
)
def test_a_network_that_asks_for_more_than_a_text_is_refused_when_it_loads(changes, message, copied) -> None:
    folder = copied("sd")
    unet = UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(str(folder / "unet")) | changes)
    unet.save_pretrained(str(folder / "unet"))
    assert message in refusal(folder)


def test_a_refiner_is_not_the_base_model(copied: Callable[[str], Path]) -> None:
    folder = copied("sdxl")
    settings = UNet2DConditionModel.load_config(str(folder / "unet")) | {"addition_embed_type": None}
    UNet2DConditionModel.from_config(settings).save_pretrained(str(folder / "unet"))
    assert "its U-Net has addition_embed_type=None, and this kind of model has text_time" in refusal(folder, "sdxl")


@pytest.mark.parametrize("kernel", ["evil/kernel", "kernels-community/flash-attn", "flash_attention_2"])
def test_a_model_cannot_name_the_code_of_its_attention(kernel: str, copied: Callable[[str], Path]) -> None:
    folder = copied("sd")
    write(folder / "text_encoder" / "config.json", _attn_implementation=kernel, attn_implementation=kernel)
    model = StableDiffusion(StableDiffusion.Config(model=str(folder)))
    assert model.text_encoder.config._attn_implementation == "sdpa"


def test_code_that_a_model_brings_is_not_run(copied: Callable[[str], Path], tmp_path: Path) -> None:
    folder, trace = copied("sd"), tmp_path / "trace"
    code = f"open({str(trace)!r}, 'w').close()\n"
    for part in ("", "unet", "text_encoder", "tokenizer", "scheduler"):
        for name in ("evil.py", "pipeline.py", "modeling.py"):
            (folder / part / name).write_text(code, encoding="utf-8")
    reference = {"AutoModel": "modeling.Evil", "AutoTokenizer": ["modeling.Evil", None], "AutoConfig": "modeling.Evil"}
    for name in ("unet/config.json", "text_encoder/config.json", "tokenizer/tokenizer_config.json"):
        write(folder / name, auto_map=reference, trust_remote_code=True, custom_pipeline="pipeline")
    write(folder / "model_index.json", unet=["evil", "Evil"], custom_pipeline="pipeline")
    StableDiffusion(StableDiffusion.Config(model=str(folder))).encode_text(["a red car"])
    assert not trace.exists()


def test_a_folder_of_one_variant_says_which(copied: Callable[[str], Path]) -> None:
    folder = copied("sd")
    assert "write guidance.variant=null" in refusal(folder, variant="fp16")
    for part in FAMILIES["sd"][2]:
        path = weights(folder, part)
        path.rename(path.with_suffix(".fp16.safetensors"))
    message = refusal(folder)
    assert "lacks text_encoder/model.safetensors" in message
    assert message.endswith("write guidance.variant=fp16")
    assert "check that it has a variant 'bf16'" not in refusal(folder, variant="bf16")
    StableDiffusion(StableDiffusion.Config(model=str(folder), variant="fp16"))
