"""The schema of configurations: that shipped ones fit it, and that it finds mistakes in components' options."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from omegaconf import OmegaConf

from dfw.compose import compose
from dfw.config.load import load_config, shipped_directory, shipped_names
from dfw.plugins.registry import registry as installed
from dfw.plugins.schema import schema


@cache
def installed_schema() -> dict[str, Any]:
    return schema(installed())


def errors(document: Any) -> list[str]:
    return [error.json_path for error in Draft202012Validator(installed_schema()).iter_errors(document)]


def test_the_schema_is_a_schema_and_plain_json():
    Draft202012Validator.check_schema(installed_schema())
    assert json.loads(json.dumps(installed_schema())) == installed_schema()


@pytest.mark.parametrize("name", shipped_names())
def test_shipped_and_resolved_configurations_fit_the_schema(name: str):
    written = OmegaConf.to_container(OmegaConf.load(shipped_directory() / f"{name}.yaml"))
    assert errors(written) == []
    resolved = compose(load_config(name), installed()).resolved()
    assert errors(resolved.model_dump(mode="json", by_alias=True)) == []


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"promt": "x"}, ["$"]),
        ({"geometry": {"type": "dreamfw/nerf", "radus": 1}}, ["$.geometry"]),
        ({"geometry": {"type": "nerf", "radus": 1}}, ["$.geometry"]),
        ({"geometry": {"type": "nerv"}}, ["$.geometry.type"]),
        ({"geometry": {}}, ["$.geometry"]),
        ({"losses": {"opacity": {"weigth": 1}}}, ["$.losses.opacity"]),
        ({"losses": {"mine": {"type": "opacity", "weight": {"from": 1}}}}, ["$.losses.mine.weight"]),
        ({"losses": {"opacity": None, "entropy": {"weight": {"from": 0, "to": 1}}}}, []),
        ({"guidance": None, "losses": {"opacity": {}}}, []),
        ({"extends": "base.yaml"}, []),
    ],
)
def test_the_schema_finds_mistakes_in_components(change: dict[str, Any], where: list[str]):
    written = OmegaConf.to_container(OmegaConf.load(shipped_directory() / "dreamfusion.yaml"))
    assert [path.split("[")[0] for path in errors(written | change)] == where


def test_the_schema_lets_an_extending_file_leave_things_out():
    assert errors({"extends": "dreamfusion", "geometry": {"blob": 1}}) == []
    assert errors({"prompt": "x"}) != []
