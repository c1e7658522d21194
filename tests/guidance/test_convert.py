"""Original checkpoints of Zero-1-to-3 and folders of pickles become folders that a run reads, and no pickle runs code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import single_file
import torch
from safetensors.torch import load_file
from tiny_diffusion import save_tiny_model
from tiny_zero123 import save_tiny_zero123
from torch import Tensor

from dfw import GuidanceError
from dfw_guidance.convert import convert, convert_zero123, read_weights
from dfw_guidance.stable_diffusion import StableDiffusion

NETWORK = "diffusion_pytorch_model.safetensors"


def original(folder: Path) -> dict[str, Tensor]:
    """The tensors of the tiny model under the names of the authors' code."""
    table = {f"model.diffusion_model.{k}": v for k, v in single_file.unet(load_file(folder / "unet" / NETWORK)).items()}
    table |= {f"first_stage_model.{k}": v for k, v in single_file.vae(load_file(folder / "vae" / NETWORK)).items()}
    table |= {f"cc_projection.{k[11:]}": v for k, v in load_file(folder / "cc_projection" / NETWORK).items()}
    head = "cond_stage_model.model.visual."
    encoder = load_file(folder / "image_encoder" / "model.safetensors")
    for name, value in encoder.items():
        place = name.replace("vision_model.", "").replace("encoder.layers", "transformer.resblocks")
        for ours, theirs in (
            ("embeddings.class_embedding", "class_embedding"),
            ("embeddings.position_embedding.weight", "positional_embedding"),
            ("embeddings.patch_embedding", "conv1"),
            ("pre_layrnorm", "ln_pre"),
            ("post_layernorm", "ln_post"),
            ("layer_norm", "ln_"),
            ("self_attn", "attn"),
            ("mlp.fc1", "mlp.c_fc"),
            ("mlp.fc2", "mlp.c_proj"),
        ):
            place = place.replace(ours, theirs)
        if name == "visual_projection.weight":
            table[f"{head}proj"] = value.T
        elif "attn.q_proj" in place:
            parts = [
                load_file(folder / "image_encoder" / "model.safetensors")[name.replace("q_proj", f"{p}_proj")] for p in "qkv"
            ]
            table[head + place.replace("q_proj.", "in_proj_")] = torch.cat(parts)
        elif "attn.k_proj" not in place and "attn.v_proj" not in place:
            table[head + place] = value
    return table


def sizes(folder: Path) -> dict[str, dict[str, Any]]:
    """The tiny model's own settings, in place of the real ones."""
    found = {}
    for name, part in (("unet", "unet"), ("vae", "vae"), ("clip", "image_encoder")):
        settings = json.loads((folder / part / "config.json").read_text())
        kept = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "image_size", "patch_size")
        clip = {key: settings[key] for key in (*kept, "projection_dim")} if name == "clip" else settings
        found[name] = {key: value for key, value in clip.items() if not key.startswith("_")}
    return found


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_zero123(tmp_path_factory.mktemp("tiny") / "model")


def same(one: Path, other: Path) -> bool:
    a, b = load_file(one), load_file(other)
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


PARTS = (f"unet/{NETWORK}", f"vae/{NETWORK}", f"cc_projection/{NETWORK}", "image_encoder/model.safetensors")


def test_the_original_checkpoint_becomes_the_folder_it_was_made_of(tiny: Path, tmp_path: Path) -> None:
    convert_zero123(original(tiny), tmp_path / "out", **sizes(tiny))
    assert all(same(tiny / part, tmp_path / "out" / part) for part in PARTS)
    assert json.loads((tmp_path / "out" / "image_encoder" / "config.json").read_text())["hidden_act"] == "quick_gelu"


def test_averaged_weights_take_the_place_of_the_last_ones(tiny: Path, tmp_path: Path) -> None:
    """As the authors' own code samples: `model_ema.` holds them, their names without dots."""
    table = original(tiny)
    ema = {f"model_ema.{k[6:].replace('.', '')}": v for k, v in table.items() if k.startswith("model.")}
    last = {k: torch.zeros_like(v) if k.startswith("model.") else v for k, v in table.items()}
    convert_zero123(last | ema, tmp_path / "out", **sizes(tiny))
    assert all(same(tiny / part, tmp_path / "out" / part) for part in PARTS)


@pytest.mark.parametrize(
    ("lost", "said"),
    [
        ("cc_projection.weight", r"not one of Zero-1-to-3: it has no cc_projection"),
        ("model.diffusion_model.out.2.bias", r"does not hold a whole Zero-1-to-3 \(.*\); fetch it again"),
        ("cc_projection.bias", r"does not hold a whole Zero-1-to-3 \('cc_projection\.bias'\)"),
        ("cond_stage_model.model.visual.ln_pre.bias", r"its image encoder lacks 1 tensors, .*pre_layrnorm\.bias"),
    ],
)
def test_a_checkpoint_that_lacks_tensors_is_refused(tiny: Path, tmp_path: Path, lost: str, said: str) -> None:
    table = original(tiny)
    del table[lost]
    with pytest.raises(GuidanceError, match=said):
        convert_zero123(table, tmp_path / "out", **sizes(tiny))


class Evil:
    """Makes a folder when it is unpickled."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.place),)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_gives_its_tensors_and_runs_nothing(tmp_path: Path, zipped: bool) -> None:
    weights = {"a": torch.arange(6.0).view(2, 3), "b": torch.nn.Parameter(torch.ones(2, dtype=torch.float16))}
    table = {"state_dict": weights, "callbacks": {"x": Evil(tmp_path / "made")}, "when": pytest.approx(1.0)}
    torch.save(table, tmp_path / "a.ckpt", _use_new_zipfile_serialization=zipped)
    found = read_weights(tmp_path / "a.ckpt")
    assert not (tmp_path / "made").exists()
    assert found.keys() == {"a", "b"}
    assert torch.equal(found["a"], weights["a"])
    assert torch.equal(found["b"], weights["b"].detach())
    torch.load(tmp_path / "a.ckpt", weights_only=False)
    assert (tmp_path / "made").exists()  # the pickle does run code where it is read as usual


class Program(torch.nn.Module):
    """Writes a file when it is loaded."""

    def __init__(self, place: str) -> None:
        super().__init__()
        self.place = place

    @torch.jit.export
    def __getstate__(self) -> tuple[str, bool]:
        return self.place, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[str, bool]) -> None:
        self.place, self.training = state[0], state[1]
        torch.save([torch.ones(1)], state[0])

    def forward(self) -> None:
        """Does nothing."""


def test_a_program_is_refused_and_not_run(tmp_path: Path) -> None:
    made = tmp_path / "made"
    torch.jit.script(Program(str(made))).save(str(tmp_path / "a.ckpt"))
    with pytest.raises(GuidanceError, match="it is a TorchScript program, which would run"):
        read_weights(tmp_path / "a.ckpt")
    assert not made.exists()
    torch.jit.load(str(tmp_path / "a.ckpt"))
    assert made.exists()  # it does run where it is read as usual


def test_an_unknown_tensor_of_the_image_encoder_is_named(tiny: Path, tmp_path: Path) -> None:
    table = original(tiny) | {"cond_stage_model.model.visual.more": torch.ones(1)}
    with pytest.raises(GuidanceError, match="its image encoder has an unknown tensor 'more'"):
        convert_zero123(table, tmp_path / "out", **sizes(tiny))


@pytest.mark.parametrize(
    ("source", "out", "said"),
    [
        ("bad.safetensors", "out", "does not hold weights"),
        ("views.pt", "out", r"unet.*No such file or directory; name files that are there"),
        ("folder", "file/out", r"file.*Not a directory; name files that are there"),
    ],
)
def test_files_that_cannot_be_read_or_written_are_one_sentence(tmp_path: Path, source: str, out: str, said: str) -> None:
    (tmp_path / "bad.safetensors").write_bytes(b"x" * 20)
    torch.save({"model.diffusion_model.camera_embed.0.weight": torch.ones(1)}, tmp_path / "views.pt")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "model_index.json").write_text("{}")
    (tmp_path / "file").touch()
    with pytest.raises(GuidanceError, match=said):
        convert(tmp_path / source, tmp_path / out, tmp_path / "base")


def test_a_folder_of_pickles_becomes_one_of_safetensors(tmp_path: Path) -> None:
    whole = save_tiny_model(tmp_path / "whole")
    pickled = tmp_path / "pickled"
    for path in whole.rglob("*"):
        place = pickled / path.relative_to(whole)
        if path.is_file():
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(path.read_bytes())
    for path in list(pickled.rglob("*.safetensors")):
        name = "pytorch_model.bin" if path.stem == "model" else f"{path.stem}.bin"
        torch.save(load_file(path), path.with_name(name))
        path.unlink()
    convert(pickled, tmp_path / "safe")
    assert not list((tmp_path / "safe").rglob("*.bin"))
    StableDiffusion(StableDiffusion.Config(model=str(tmp_path / "safe")))
    assert same(whole / "unet" / NETWORK, tmp_path / "safe" / "unet" / NETWORK)


def test_the_command_says_what_is_wrong_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "text.ckpt").write_text("no weights")
    torch.save({"a": torch.ones(1)}, tmp_path / "other.ckpt")
    (tmp_path / "there").mkdir()
    for source, out, said in (
        ("text.ckpt", "out", "text.ckpt does not hold weights"),
        ("other.ckpt", "out", "not one of Zero-1-to-3"),
        ("none.ckpt", "out", "there is no file or folder none.ckpt"),
        ("other.ckpt", "there", "there is there already; name a folder that is not"),
    ):
        command = [sys.executable, "-m", "dfw_guidance.convert", source, out]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (GuidanceError.exit_code, "")
        assert done.stderr.startswith("error: ")
        assert said in done.stderr
        assert sorted(path.name for path in tmp_path.iterdir()) == ["other.ckpt", "text.ckpt", "there"]
