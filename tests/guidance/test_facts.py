"""What the manifest says of a model: enough to find the same files again, and cheap however large they are."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from tiny_additions import pipeline_from, save_lora
from tiny_control import save_tiny_controlnet
from tiny_diffusion import save_tiny_model

from dfw_guidance import checksums
from dfw_guidance.checksums import fingerprint
from dfw_guidance.controlnet import ControlNet


def test_a_model_and_all_that_is_added_to_it(tmp_path: Path) -> None:
    folder, network = save_tiny_model(tmp_path / "tiny"), save_tiny_controlnet(tmp_path / "network")
    lora = save_lora(pipeline_from(folder), tmp_path / "lora", 1)
    entry = {"path": str(lora), "scale": 0.5}
    config = ControlNet.Config.model_validate(
        {"model": str(folder), "controlnet": str(network), "lora": [entry], "precision": "fp32"}
    )
    facts = ControlNet(config).facts()

    def sums(root: Path) -> dict[str, str]:
        found = {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in root.rglob("*.safetensors")}
        return {path.relative_to(root).as_posix(): f"sha256:{value}" for path, value in found.items()}

    expected = {"model": str(folder), "folder": str(folder), "commit": None, "variant": None, "weights": sums(folder)}
    control = {"model": str(network), "folder": str(network), "commit": None, "variant": None, "weights": sums(network)}
    added = [{**entry, "weights": sums(lora.parent)[lora.name]}]
    assert len(sums(folder)) == 3
    assert facts == expected | {"lora": added, "controlnet": control, "precision": "fp32"}


def test_the_hubs_cache_has_the_digest_in_a_name(tmp_path: Path) -> None:
    blob = tmp_path / "blobs" / ("4d" * 32)
    blob.parent.mkdir()
    blob.write_bytes(b"x")
    link = tmp_path / "snapshots" / "model.safetensors"
    link.parent.mkdir()
    link.symlink_to(blob)
    assert fingerprint(link) == f"sha256:{'4d' * 32}"


def test_a_large_file_is_sampled_from_its_first_to_its_last_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checksums, "WHOLE", 2**20)
    path = tmp_path / "large"
    data = bytearray(3 * 2**20 + 5)
    seen = set()
    for place in (None, 0, len(data) // 2, len(data) - 1):
        if place is not None:
            data[place] ^= 1
        path.write_bytes(data)
        seen.add(fingerprint(path))
    assert len(seen) >= 3  # the middle may fall between two samples
    assert all(value.startswith("sampled-sha256:") for value in seen)
    path.write_bytes(data + b"x")
    assert fingerprint(path) not in seen
