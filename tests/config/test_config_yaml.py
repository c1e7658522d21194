"""The way of a configuration to YAML and back: shipped ones, and any text and number."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from base_config import BASE
from hypothesis import given, settings
from hypothesis import strategies as st
from shipped import shipped_runs
from yaml_words import AMBIGUOUS

from dfw.config.load import load_config, to_yaml

BASE_FILE = "base.yaml"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path(BASE_FILE).write_text(BASE, encoding="utf-8")


@pytest.mark.parametrize("name", shipped_runs())
def test_shipped_configurations_come_back_from_yaml(name: str):
    config = shipped_runs()[name]
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


@pytest.mark.parametrize("text", AMBIGUOUS)
def test_text_that_looks_like_something_else_stays_text(text: str):
    named = {"name": text} if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", text) else {}
    guidance = {"type": "g", "revision": text, "means": {text: [text]}}
    config = load_config({"extends": BASE_FILE, "prompt": text, "guidance": guidance} | named)
    Path("copy.yaml").write_text(to_yaml(config), encoding="utf-8")
    assert load_config("copy.yaml") == config
    assert (config.prompt, config.guidance and config.guidance.options["means"]) == (text, {text: [text]})


@pytest.mark.parametrize("name", ["1e-3", "12e4", "0123", "on", "1E234"])
def test_a_run_may_be_called_like_a_number(name: str):
    config = load_config(BASE_FILE, [f"name={name}"])
    Path("copy.yaml").write_text(to_yaml(config), encoding="utf-8")
    assert load_config("copy.yaml").name == name
