"""LoRA and textual inversion of a prior: the model becomes what diffusers' own pipeline makes of the same files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from tiny_additions import as_kohya, pipeline_from, save_lora
from tiny_deep_floyd import save_tiny_deep_floyd
from tiny_diffusion import WIDTH, save_tiny_model
from tiny_flow import save_tiny_sd3
from tiny_sdxl import FIRST, SECOND, save_tiny_sdxl
from torch import Tensor

from dfw import Guidance, GuidanceError, PromptError
from dfw_guidance.aliases import EMBEDDED
from dfw_guidance.deep_floyd import DeepFloyd
from dfw_guidance.flow import Flow
from dfw_guidance.stable_diffusion import StableDiffusion
from dfw_guidance.stable_diffusion_xl import StableDiffusionXL

TEXTS = ["a red car", ""]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def loras(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two files: one for U-Net and text encoder, one for the U-Net alone."""
    pipeline, root = pipeline_from(folder), tmp_path_factory.mktemp("loras")
    return [save_lora(pipeline, root / "both", 1), save_lora(pipeline, root / "unet", 2, encoders=())]


def load(folder: Path, kind: type[Guidance] = StableDiffusion, **options: object) -> Any:
    return kind(kind.Config.model_validate({"model": str(folder), "precision": "fp32", **options}))


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def theirs(pipeline: Any, texts: list[str] = TEXTS) -> tuple[Tensor, Tensor]:
    """Embeddings and noise prediction of diffusers' own Stable Diffusion pipeline."""
    embedding = torch.cat([pipeline.encode_prompt(text, "cpu", 1, False)[0] for text in texts])
    z, t = noise(len(texts), 4, *(2 * [pipeline.unet.config.sample_size])), torch.tensor([100, 700])
    return embedding, pipeline.unet(z, t, encoder_hidden_states=embedding).sample


def ours(model: Any, texts: list[str] = TEXTS) -> tuple[Tensor, Tensor]:
    text = model.encode_text(texts)
    side = model.latent_resolution
    return text.embedding, model.predict(noise(len(texts), 4, side, side), torch.tensor([100, 700]), text)


def agree(found: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor]) -> None:
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


@torch.no_grad()
def test_one_lora_is_that_of_diffusers(folder: Path, loras: list[Path]) -> None:
    plain = ours(load(folder))
    pipeline = pipeline_from(folder)
    pipeline.load_lora_weights(str(loras[0].parent), weight_name=loras[0].name, adapter_name="x")
    pipeline.set_adapters(["x"], [0.8])
    model = load(folder, lora=[{"path": str(loras[0]), "scale": 0.8}])
    agree(ours(model), theirs(pipeline))
    assert min((one - other).abs().max() for one, other in zip(ours(model), plain, strict=True)) > 1e-3


@torch.no_grad()
def test_several_loras_add_up_and_scale_0_is_the_plain_model(folder: Path, loras: list[Path]) -> None:
    pipeline = pipeline_from(folder)
    for name, path in zip("xy", loras, strict=True):
        pipeline.load_lora_weights(str(path.parent), weight_name=path.name, adapter_name=name)
    pipeline.set_adapters(["x", "y"], [0.5, -1.5])
    entries = [{"path": str(path), "scale": scale} for path, scale in zip(loras, (0.5, -1.5), strict=True)]
    agree(ours(load(folder, lora=entries)), theirs(pipeline))
    agree(ours(load(folder, lora=[{"path": str(loras[0].parent), "scale": 0}])), ours(load(folder)))


@torch.no_grad()
def test_kohyas_format_gives_the_same(folder: Path, loras: list[Path], tmp_path: Path) -> None:
    kohya = as_kohya(loras[0], tmp_path / "kohya.safetensors")
    assert {key.split("_")[1] for key in load_file(kohya)} == {"te", "unet"}
    pipeline = pipeline_from(folder)
    pipeline.load_lora_weights(str(tmp_path), weight_name=kohya.name)
    found = ours(load(folder, lora=[{"path": str(kohya)}]))
    agree(found, theirs(pipeline))
    agree(found, ours(load(folder, lora=[{"path": str(loras[0]), "scale": 1.0}])))


@torch.no_grad()
def test_on_the_shipped_prior(tmp_path: Path) -> None:
    path = save_lora(pipeline_from(EMBEDDED), tmp_path / "lora", 3)
    save_file({"<toy>": noise(2, 128)}, tmp_path / "toy.safetensors")
    pipeline = pipeline_from(EMBEDDED)
    pipeline.load_lora_weights(str(path.parent), adapter_name="x")
    pipeline.set_adapters(["x"], [0.7])
    pipeline.load_textual_inversion(str(tmp_path / "toy.safetensors"))
    texts = ["a red <toy>, front view", "a blue car"]
    additions = {"lora": [{"path": str(path), "scale": 0.7}], "textual_inversion": [{"path": str(tmp_path / "toy.safetensors")}]}
    model = StableDiffusion(StableDiffusion.Config.model_validate({"precision": "fp32", **additions}))
    agree(ours(model, texts), theirs(pipeline, texts))
    with pytest.raises(PromptError, match=r"does not know 'unicorn'\."):
        model.encode_text(["a unicorn on a <toy>"])


@torch.no_grad()
def test_sdxls_three_networks(tmp_path: Path) -> None:
    folder = save_tiny_sdxl(tmp_path / "xl")
    name, encoders = "StableDiffusionXLPipeline", ("text_encoder", "text_encoder_2")
    path = save_lora(pipeline_from(folder, name), tmp_path / "lora", 4, encoders)
    save_file({"clip_l": noise(2, FIRST), "clip_g": noise(2, SECOND, seed=1)}, tmp_path / "toy.safetensors")
    pipeline = pipeline_from(folder, name)
    pipeline.load_lora_weights(str(path.parent), adapter_name="x")
    pipeline.set_adapters(["x"], [0.8])
    vectors = load_file(tmp_path / "toy.safetensors")
    for key, end in (("clip_l", ""), ("clip_g", "_2")):
        network, words = getattr(pipeline, f"text_encoder{end}"), getattr(pipeline, f"tokenizer{end}")
        pipeline.load_textual_inversion(vectors[key], token="<toy>", text_encoder=network, tokenizer=words)
    inversion = {"path": str(tmp_path / "toy.safetensors"), "token": "<toy>"}
    model = load(folder, StableDiffusionXL, lora=[{"path": str(path), "scale": 0.8}], textual_inversion=[inversion])
    text = model.encode_text(["a <toy>"])
    embedding, _, pooled, _ = pipeline.encode_prompt("a <toy>", device="cpu", do_classifier_free_guidance=False)
    agree((text.embedding, text.pooled), (embedding, pooled))
    z, t = noise(1, model.channels, model.latent_resolution, model.latent_resolution), torch.tensor([300])
    added = {"text_embeds": pooled, "time_ids": torch.tensor([model.time_ids])}
    expected = pipeline.unet(z, t, encoder_hidden_states=embedding, added_cond_kwargs=added).sample
    torch.testing.assert_close(model.predict(z, t, text), expected, rtol=0, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize(
    ("kind", "save", "name"),
    [(Flow, save_tiny_sd3, "StableDiffusion3Pipeline"), (DeepFloyd, save_tiny_deep_floyd, "IFPipeline")],
)
def test_the_denoisers_of_the_others(kind: type[Guidance], save: Callable[[Path], Path], name: str, tmp_path: Path) -> None:
    folder = save(tmp_path / "model")
    part = "unet" if kind is DeepFloyd else "transformer"
    original = pipeline_from(folder, name)
    path = save_lora(original, tmp_path / "lora", 5, encoders=())
    pipeline = pipeline_from(folder, name)
    pipeline.load_lora_weights(str(path.parent), adapter_name="x")
    pipeline.set_adapters(["x"], [0.8])
    pipeline.fuse_lora(components=[part])
    pipeline.unload_lora_weights()
    model, plain = load(folder, kind, lora=[{"path": str(path), "scale": 0.8}]), load(folder, kind)
    before, found = (getattr(one, part).state_dict() for one in (plain, model))
    assert any((found[key] != value).any() for key, value in before.items())
    for key, value in getattr(pipeline, part).state_dict().items():
        torch.testing.assert_close(found[key], value, rtol=0, atol=1e-6)


def test_the_model_stays_an_ordinary_frozen_one(folder: Path, loras: list[Path]) -> None:
    """No layer of peft stays, no random number is drawn, and a loss's own adapter starts as the model and leaves it alone."""
    before = torch.random.get_rng_state()
    model = load(folder, lora=[{"path": str(path)} for path in loras])
    assert torch.equal(torch.random.get_rng_state(), before)
    plain = load(folder)
    assert [type(module) for module in model.modules()] == [type(module) for module in plain.modules()]
    assert model.state_dict().keys() == plain.state_dict().keys()
    assert not any(parameter.requires_grad for parameter in model.parameters())
    with torch.no_grad():
        adapter = model.adapter(4, torch.Generator().manual_seed(0))
        z, t, text = noise(2, 4, 8, 8), torch.tensor([100, 700]), model.encode_text(TEXTS)
        expected = model.predict(z, t, text)
        assert torch.equal(adapter(z, t, text), expected)
        for parameter in adapter.parameters():
            parameter.add_(0.1)
        assert (adapter(z, t, text) - expected).abs().max() > 1e-3
        assert torch.equal(model.predict(z, t, text), expected)


@torch.no_grad()
def test_precision_applies_after_the_merge(folder: Path, loras: list[Path]) -> None:
    half = load(folder, lora=[{"path": str(loras[0])}], precision="bf16")
    whole = load(folder, lora=[{"path": str(loras[0])}])
    for name, value in half.unet.state_dict().items():
        assert torch.equal(value, whole.unet.state_dict()[name].bfloat16())


# -- textual inversion -------------------------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("count", [1, 3])
def test_new_words_are_those_of_diffusers(count: int, folder: Path, tmp_path: Path) -> None:
    save_file({"<toy>": noise(count, WIDTH) if count > 1 else noise(WIDTH)}, tmp_path / "learned_embeds.safetensors")
    pipeline = pipeline_from(folder)
    pipeline.load_textual_inversion(str(tmp_path / "learned_embeds.safetensors"))
    before = torch.random.get_rng_state()
    model = load(folder, textual_inversion=[{"path": str(tmp_path)}])
    assert torch.equal(torch.random.get_rng_state(), before)
    texts = ["a red <toy>", "a blue cube"]
    agree(ours(model, texts), theirs(pipeline, texts))
    assert (model.encode_text(["a red <toy>"]).embedding - load(folder).encode_text(["a red <toy>"]).embedding).abs().max() > 1e-3


@torch.no_grad()
def test_the_web_uis_format_takes_the_files_name(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "charturner.safetensors"
    save_file({"emb_params": noise(2, WIDTH)}, path)
    first = load(folder, textual_inversion=[{"path": str(path)}])
    other = load(folder, textual_inversion=[{"path": str(path), "token": "<x>"}])
    assert (first.tokens, other.tokens) == (("charturner",), ("<x>",))
    one, two = (model.encode_text([text]).embedding for model, text in ((first, "a charturner car"), (other, "a <x> car")))
    torch.testing.assert_close(one, two)


@torch.no_grad()
def test_a_vocabulary_knows_the_new_words(tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path / "small")
    table = {"words": ["a", "view", "front"], "kinds": ["car"], "colours": ["red", "green"], "solids": ["car"]}
    (folder / "vocabulary.json").write_text(json.dumps(table), encoding="utf-8")
    save_file({"<my-toy>": noise(WIDTH)}, tmp_path / "toy.safetensors")
    model = load(folder, textual_inversion=[{"path": str(tmp_path / "toy.safetensors")}])
    assert len(model.encode_text(["a <my-toy> car"])) == 1
    with pytest.raises(PromptError, match="'blue'"):
        model.encode_text(["a blue <my-toy> car"])


def test_the_check_before_loading_knows_them_too(tmp_path: Path) -> None:
    save_file({"<toy>": noise(128)}, tmp_path / "toy.safetensors")

    def checked(text: str, *entries: dict[str, str]) -> object:
        return StableDiffusion.check_prompt(StableDiffusion.Config.model_validate({"textual_inversion": entries}), text)

    found, named = {"path": str(tmp_path / "toy.safetensors")}, {"path": "someone/toy", "token": "<it>"}
    assert checked("a red <toy> on a <it>", found, named) == ()
    with pytest.raises(PromptError, match="'toy'"):
        checked("a red <toy> on a cube", named)
    assert checked("a red <what>", {"path": "someone/toy"}) == ()  # the word is in a file that is not here yet


# -- files that do not fit ---------------------------------------------------------------------------------------------


def refused(folder: Path, **options: object) -> str:
    with pytest.raises(GuidanceError) as caught:
        load(folder, **options)
    assert caught.value.exit_code == 3
    return str(caught.value)


def test_low_rank_weights_of_another_model_are_refused(folder: Path, loras: list[Path], tmp_path: Path) -> None:
    table = load_file(loras[1])
    wide = {key: torch.zeros(value.shape[0], value.shape[1] + 1) if "lora_A" in key else value for key, value in table.items()}
    save_file(wide, tmp_path / "wide.safetensors")
    message = refused(folder, lora=[{"path": str(loras[0])}, {"path": str(tmp_path / "wide.safetensors")}])
    assert message.startswith(f"guidance.lora.1: '{tmp_path}/wide.safetensors' does not load: it was made for another model: ")
    assert message.count("size mismatch for ") == 1
    save_file({f"unet.mars.{key}": value for key, value in table.items()}, tmp_path / "mars.safetensors")
    found = refused(folder, lora=[{"path": str(tmp_path / "mars.safetensors")}])
    assert "it was made for another model: this one has no layer such as 'unet.mars." in found
    save_file(table | {"unet.conv_in.dora_scale": torch.ones(1)}, tmp_path / "dora.safetensors")
    assert "it is a DoRA" in refused(folder, lora=[{"path": str(tmp_path / "dora.safetensors")}])


def test_layers_left_out_are_counted(folder: Path, loras: list[Path], tmp_path: Path, caplog) -> None:
    table = load_file(loras[1])
    first = sorted(key for key in table if "lora_A" in key)[0]
    extra = {first.replace("unet.", "unet.mars."): table[first].clone()}
    save_file(table | extra, tmp_path / "more.safetensors")
    load(folder, lora=[{"path": str(tmp_path / "more.safetensors")}])
    assert f"1 of {len(table) // 2 + 1} low-rank layers are not of this model" in caplog.text


def test_a_text_encoder_that_is_not_kept_is_not_changed(tmp_path: Path) -> None:
    folder = save_tiny_deep_floyd(tmp_path / "if")
    save_file({"text_encoder.encoder.block.0.q.lora_A.weight": torch.ones(2, 8)}, tmp_path / "t5.safetensors")
    with pytest.raises(GuidanceError, match="it changes text_encoder, and dfw keeps that in memory only while it reads"):
        load(folder, DeepFloyd, lora=[{"path": str(tmp_path / "t5.safetensors")}])


def test_vectors_of_another_model_and_known_words_are_refused(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "toy.safetensors"
    entry = {"textual_inversion": [{"path": str(path)}]}
    save_file({"<toy>": noise(2, WIDTH + 1)}, path)
    assert f"its vectors have shape (2, {WIDTH + 1}), and the text_encoder of this model reads vectors of {WIDTH}" in refused(
        folder, **entry
    )
    save_file({"clip_l": noise(WIDTH), "clip_g": noise(WIDTH)}, path)
    assert "it holds clip_g, clip_l, and this model needs one tensor: it was made for another model" in refused(folder, **entry)
    save_file({"car</w>": noise(WIDTH)}, path)
    assert "this model knows the token 'car</w>' already; write another one" in refused(folder, **entry)
    save_file({"<toy>": noise(WIDTH)}, path)
    assert "guidance.textual_inversion.1" in refused(folder, textual_inversion=[{"path": str(path)}] * 2)


def test_what_is_no_file_of_weights_is_named(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    (tmp_path / "x.pt").write_bytes(b"PK\x03\x04")
    (tmp_path / "two").mkdir()
    for name in ("a", "b"):
        save_file({"x": torch.ones(1)}, tmp_path / "two" / f"{name}.safetensors")
    for name, what in {
        "x.safetensors": "is a git-lfs pointer",
        "x.pt": "is a pickle, and a pickle can run code",
        "none.safetensors": "is missing",
        "two": "must hold one .safetensors file (it holds a.safetensors, b.safetensors); name the file itself",
    }.items():
        message = refused(folder, lora=[{"path": str(tmp_path / name)}])
        assert message.startswith("guidance.lora.0: ")
        assert what in message


def test_a_place_on_a_hub_out_of_reach_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    for place in ("someone/lora", "someone/lora/a.safetensors"):
        message = refused(folder, lora=[{"path": place}])
        assert message.startswith("guidance.lora.0: there is no file ")
        assert "someone/lora is not complete in the cache" in message
        assert "HF_HUB_OFFLINE is set" in message


def test_nothing_is_printed(folder: Path, loras: list[Path], capfd) -> None:
    load(folder, lora=[{"path": str(path)} for path in loras])
    assert capfd.readouterr() == ("", "")


def test_paths_are_kept_absolute_and_hub_ids_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.safetensors").touch()

    def kept(path: str) -> str:
        return StableDiffusion.Config.model_validate({"lora": [{"path": path}]}).lora[0].path

    assert kept("x.safetensors") == kept("./x.safetensors") == str(tmp_path / "x.safetensors")
    assert kept("someone/lora") == "someone/lora"
    assert kept("someone/lora/a-b.safetensors") == "someone/lora/a-b.safetensors"
    with pytest.raises(ValueError, match="neither a file, nor a folder, nor on the hub"):
        kept("my lora")
