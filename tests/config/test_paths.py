"""Paths in configurations: where they are relative to, and what they are in the end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from base_config import BASE

from dfw.config.load import load_config, load_stages, to_yaml
from dfw.config.paths import Written, absolute, path_or_name
from dfw.errors import ConfigError


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "exp").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/ada")
    return tmp_path


def test_a_path_is_relative_to_the_file_that_names_it(here: Path):
    (here / "base.yaml").write_text(BASE + "output: of-the-base\n")
    (here / "exp/own.yaml").write_text("extends: ../base.yaml\noutput: out\nstart: {mesh: ../teapot.glb}\n")
    (here / "exp/inherits.yaml").write_text("extends: ../base.yaml\n")
    own = load_config("exp/own.yaml")
    assert Path(own.output) == here / "exp/out"
    assert own.start is not None
    assert Path(str(own.start.mesh)).parts[-3:] == ("exp", "..", "teapot.glb")
    assert Path(load_config("exp/inherits.yaml").output) == here / "of-the-base"
    assert Path(load_config("exp/own.yaml", ["output=out"]).output) == here / "out"
    assert Path(load_config({"extends": "exp/own.yaml", "output": Path("x")}).output) == here / "x"


def test_the_default_is_relative_to_the_working_directory(here: Path):
    (here / "exp/plain.yaml").write_text(BASE)
    assert Path(load_config("exp/plain.yaml").output) == here / "runs"


def test_what_is_written_names_the_same_place_from_anywhere(here: Path, monkeypatch: pytest.MonkeyPatch):
    (here / "exp/own.yaml").write_text(BASE + "output: out\nstart: {run: ~/runs/x}\n")
    config = load_config("exp/own.yaml")
    (here / "copy.yaml").write_text(to_yaml(config))
    monkeypatch.chdir("/")
    again = load_config(here / "copy.yaml")
    assert again == config
    assert again.start is not None
    assert again.start.run == "/home/ada/runs/x"


def test_a_path_of_a_stage_is_relative_to_the_file(here: Path):
    (here / "exp/staged.yaml").write_text("stages:\n  one: {extends: ../base.yaml, output: out, start: {run: r}}\n")
    (here / "base.yaml").write_text(BASE)
    (stage,) = load_stages("exp/staged.yaml").values()
    assert stage.config.start is not None
    assert [Path(stage.config.output), Path(str(stage.config.start.run))] == [here / "exp/out", here / "exp/r"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("$HOME/runs", "'$HOME/runs': variables of the environment are not filled in; write the path itself, or one with ~"),
        ("~nobody-of-that-name/x", "this machine knows no such home directory"),
        ("a\0b", "a path cannot hold the character"),
        ("", "an empty path"),
    ],
)
def test_what_is_not_a_path(here: Path, text: str, problem: str):
    (here / "x.yaml").write_text(BASE)
    with pytest.raises(ConfigError, match="output: ") as caught:
        load_config({"extends": "x.yaml", "output": text})
    assert problem in str(caught.value)


@pytest.mark.parametrize(("given", "found"), [(3, 3), (None, None), ("cost$ 5", "/f/cost$ 5"), ("/a/b", "/a/b")])
def test_what_is_kept(given: Any, found: Any):
    assert absolute(Written.within(given, Path("/f"))) == found


def test_a_name_stays_a_name_and_a_folder_becomes_a_path(here: Path):
    (here / "exp/models/tiny").mkdir(parents=True)
    (here / "sd15").mkdir()
    names = ("sd15", "embedded")
    assert path_or_name("models/tiny", names) == "models/tiny"
    assert path_or_name(Written.within("models/tiny", here / "exp"), names) == str(here / "exp/models/tiny")
    assert path_or_name("exp", names) == str(here / "exp")
    assert path_or_name("sd15", names) == "sd15"
    assert path_or_name("~/x", names) == "/home/ada/x"
    assert path_or_name(Written.within("./x", here / "exp"), names) == str(here / "exp/x")
    assert path_or_name("a/" * 3000, names) == "a/" * 3000
