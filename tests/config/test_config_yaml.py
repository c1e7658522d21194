"""The way of a configuration to YAML and back: shipped ones, and any text and number."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from base_config import BASE
from hypothesis import given, settings
from hypothesis import strategies as st

from dfw.config.load import load_config, shipped_names, to_yaml


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", shipped_names())
def test_shipped_configurations_come_back_from_yaml(name: str):
    config = load_config(name)
    Path("copy.yaml").write_text(to_yaml(config), encoding="utf-8")
    assert load_config("copy.yaml") == config


@pytest.fixture(scope="module")
def way(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("way")


TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), min_size=1, max_size=30)
SPECIAL = st.lists(st.sampled_from(["${", "}", "\\", "$", "a", ": ", "#", "\n", "'", '"', "é", "oc.env:HOME"]), min_size=1).map(
    "".join
)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(
    prompt=TEXT | SPECIAL, scale=st.floats(allow_nan=False, allow_infinity=False), weight=st.floats(0, 1e30), note=TEXT | SPECIAL
)
def test_any_text_and_number_survives_the_way_to_yaml_and_back(way: Path, prompt: str, scale: float, weight: float, note: str):
    from dfw.config.settings import RunConfig

    tree = yaml.safe_load(BASE)
    tree["prompt"] = prompt
    tree["losses"]["sds"] = {"guidance_scale": scale, "weight": weight, "note": note, "list": [scale, {"deep": note}]}
    config = RunConfig.model_validate(tree)
    path = way / "copy.yaml"
    path.write_text(to_yaml(config), encoding="utf-8")
    assert load_config(path) == config
