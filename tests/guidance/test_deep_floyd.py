"""DeepFloyd IF's first stage through the real classes, against diffusers' own pipeline."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import safetensors.torch
import torch
from diffusers import IFPipeline
from prior_checks import noise, picture, steps_of, two_steps
from tiny_deep_floyd import save_tiny_deep_floyd
from tiny_diffusion import save_tiny_model
from transformers import AutoTokenizer, T5EncoderModel

import dfw_guidance.t5
from dfw import GuidanceError, PromptError
from dfw_guidance.clip import tokenise
from dfw_guidance.deep_floyd import DeepFloyd
from dfw_guidance.files import Files


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_deep_floyd(tmp_path_factory.mktemp("models") / "if")


@pytest.fixture(scope="module")
def model(folder: Path) -> DeepFloyd:
    return load(folder)


def load(folder: Path, **options: str) -> DeepFloyd:
    return DeepFloyd(DeepFloyd.Config.model_validate({"model": str(folder), "precision": "fp32", **options}))


def test_sizes_and_schedule_are_those_of_the_first_stage(model: DeepFloyd) -> None:
    assert (model.space, model.channels, model.latent_resolution, model.resolution) == ("pixel", 3, 16, 16)
    cosine = torch.cos((torch.arange(1001, dtype=torch.float64) / 1000 + 0.008) / 1.008 * torch.pi / 2) ** 2
    expected = torch.cumprod(1 - (1 - cosine[1:] / cosine[:-1]).clamp(max=0.999), 0)
    torch.testing.assert_close(model.schedule.alpha.double() ** 2, expected, rtol=1e-3, atol=1e-7)


def test_predictions_are_those_inside_the_pipeline(folder: Path, model: DeepFloyd) -> None:
    """The pipeline's guided prediction for its own inputs, negative prompt and all; its three variance channels apart."""
    pipeline = IFPipeline.from_pretrained(str(folder), safety_checker=None, watermarker=None)
    steps = steps_of(
        pipeline,
        prompt="A red car ",
        negative_prompt="a blue cube",
        guidance_scale=7.5,
        num_inference_steps=3,
        clean_caption=False,
    )
    positive, negative = model.encode_text(["A red car "]), model.encode_text(["a blue cube"])
    assert len(steps) == 3
    for output, timestep, sample in steps:
        with torch.no_grad():
            found = model.predict_noise_guided(sample, torch.tensor([int(timestep)]), positive, negative, 7.5)
        torch.testing.assert_close(found, output[:, :3], rtol=1e-4, atol=1e-4)


def test_images_are_spread_to_plus_minus_one_and_back(model: DeepFloyd) -> None:
    x = picture()
    torch.testing.assert_close(model.encode_image(x), 2 * x - 1)
    torch.testing.assert_close(model.decode_image(2 * x - 1), x)
    assert model.decode_image(torch.full((1, 3, 16, 16), 7.0)).max() == 1


def test_the_text_encoder_is_loaded_once_and_gone_afterwards(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, batches = load(folder), []
    real = T5EncoderModel.from_pretrained

    def watched(*args: object, **options: object) -> object:
        encoder, report = real(*args, **options)
        encoder.register_forward_pre_hook(lambda _module, inputs: batches.append(len(inputs[0])))
        return encoder, report

    monkeypatch.setattr(T5EncoderModel, "from_pretrained", watched)
    first = model.encode_text(["a red car", "", "a red car"])
    model.encode_text(["", "a red car"])
    assert batches == [2]
    assert [name for name, _ in model.named_children()] == ["unet"]
    torch.testing.assert_close(first.embedding[0], first.embedding[2], rtol=0, atol=0)


def test_a_file_of_answers_replaces_the_encoder(folder: Path, model: DeepFloyd, tmp_path: Path) -> None:
    path = tmp_path / "answers" / "car.safetensors"
    texts = ["a red car", "", "a blue cube"]
    torch.testing.assert_close(
        load(folder, embeddings=str(path)).encode_text(texts).embedding, model.encode_text(texts).embedding
    )
    assert set(safetensors.torch.load_file(path)) == set(texts)
    bare = tmp_path / "bare"
    save_tiny_deep_floyd(bare)
    for part in ("text_encoder", "tokenizer"):
        (bare / part).rename(tmp_path / part)
    there = load(bare, embeddings=str(path))
    torch.testing.assert_close(there.encode_text(texts).embedding, model.encode_text(texts).embedding)
    with pytest.raises(GuidanceError, match=r"guidance\.embeddings: .*car\.safetensors' lacks 'a cube', and .*lacks tokenizer/"):
        there.encode_text(["a cube"])
    with pytest.raises(GuidanceError, match=r"lacks tokenizer/tokenizer_config\.json, text_encoder/config\.json"):
        load(bare)


def test_answers_of_another_model_are_refused(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    safetensors.torch.save_file({"a red car": torch.zeros(77, 4096)}, path)
    with pytest.raises(GuidanceError, match=r"belongs to another model: 'a red car' has shape \(77, 4096\).*\(77, 8\)"):
        load(folder, embeddings=str(path)).encode_text(["a red car"])
    path.write_bytes(b"no tensors")
    with pytest.raises(GuidanceError, match=r"guidance\.embeddings: cannot read .*other\.safetensors"):
        load(folder, embeddings=str(path)).encode_text(["a red car"])


def test_a_text_beyond_the_context_is_refused(model: DeepFloyd) -> None:
    with pytest.raises(PromptError, match=r"has 80 tokens and this model reads 76"):
        model.encode_text(["a " * 80])


def test_a_tokenizer_of_sentencepiece_alone_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save_tiny_deep_floyd(tmp_path / "slow")
    (folder / "tokenizer" / "tokenizer.json").rename(folder / "tokenizer" / "spiece.model")
    monkeypatch.setattr(dfw_guidance.t5, "_installed", lambda _name: False)
    with pytest.raises(GuidanceError, match=r"spiece\.model needs the packages sentencepiece and protobuf; run pip install"):
        load(folder).encode_text(["a red car"])


def test_sentencepieces_own_file_is_read_as_sentencepiece_reads_it(tmp_path: Path) -> None:
    """DeepFloyd's repositories have no other: T5's ids are SentencePiece's, and </s> at the end."""
    sentencepiece = pytest.importorskip("sentencepiece")
    written = io.BytesIO()
    lines = ["a red car", "a blue cube on a red car", "front view", "back view, side view overhead"] * 20
    ids = {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1}
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=written, vocab_size=28, model_type="unigram", minloglevel=2, **ids
    )
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer" / "spiece.model").write_bytes(written.getvalue())
    settings = {"tokenizer_class": "T5Tokenizer", "extra_ids": 0, "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    (tmp_path / "tokenizer" / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    words = Files(tmp_path, None).tokenizer(AutoTokenizer, "tokenizer")
    reference = sentencepiece.SentencePieceProcessor(model_proto=written.getvalue())
    for text in ("a red car", "", "blue view"):
        tokens = tokenise(words, [text], 16)
        assert tokens.input_ids[0, : int(tokens.attention_mask.sum())].tolist() == [*reference.encode(text), 1]


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_stays_inside(folder: Path, model: DeepFloyd, precision: str) -> None:
    half = load(folder, precision=precision)
    z, t = noise(2, 3, 16, 16), torch.tensor([100, 700])
    found = half.predict(z, t, half.encode_text(["a red car"] * 2))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, model.predict(z, t, model.encode_text(["a red car"] * 2)), rtol=0.1, atol=0.06)


def test_a_model_of_another_kind_names_the_guidance_to_write(tmp_path: Path) -> None:
    with pytest.raises(GuidanceError, match=r"is a StableDiffusionPipeline; write guidance\.type=stable-diffusion"):
        load(save_tiny_model(tmp_path / "sd"))
    with pytest.raises(ValueError, match="'sdxl' is a model of stable-diffusion-xl, not of deep-floyd; known names here: if-m"):
        DeepFloyd.Config(model="sdxl")


def test_score_distillation_runs_from_yaml(folder: Path, tmp_path: Path) -> None:
    rows = two_steps(
        tmp_path, {"type": "dreamfw/deep-floyd", "model": str(folder), "embeddings": str(tmp_path / "car.safetensors")}
    )
    assert all(row["losses"]["sds"] > 0 and row["grad_norm"] > 0 for row in rows)
    assert set(safetensors.torch.load_file(tmp_path / "car.safetensors")) == {"a red car", ""}
