"""The schema of configurations: that shipped ones fit it, and that it finds mistakes in components' options."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from shipped import shipped_runs

from dfw.compose import compose
from dfw.config.kinds import all_places
from dfw.config.load import shipped_directory, shipped_names
from dfw.config.yaml_text import read_yaml
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
def test_shipped_configurations_fit_the_schema(name: str):
    written = read_yaml((shipped_directory() / f"{name}.yaml").read_text(encoding="utf-8"))[0]
    if name.startswith("sketch-shape"):  # no reference to a field of the run stands for what the user gives
        written["stages"]["latent"]["losses"]["shape"]["mesh"] = "boxes.glb"
    if name == "sketch":
        written["losses"]["sketch"]["mesh"] = "boxes.glb"
    assert errors(written) == []


@pytest.mark.parametrize("name", shipped_runs())
def test_resolved_configurations_fit_the_schema(name: str):
    resolved = compose(shipped_runs()[name], installed()).resolved()
    assert errors(resolved.model_dump(mode="json", by_alias=True)) == []


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"promt": "x"}, ["$"]),
        ({"geometry": {"type": "dreamfw/nerf", "radus": 1}}, ["$.geometry"]),
        ({"geometry": {"type": "nerf", "radus": 1}}, ["$.geometry"]),
        ({"geometry": {"type": "nerv"}}, ["$.geometry.type"]),
        ({"geometry": {}}, ["$.geometry"]),
        ({"trainer": {"steps": "${seed}"}, "geometry": {"type": "nerf", "radius": "${cameras.distance.0}"}}, []),
        ({"trainer": {"steps": "seed"}}, ["$.trainer.steps"]),
        ({"geometry": "nerf"}, []),
        ({"geometry": "nerv"}, ["$.geometry"]),
        ({"geometry": 3}, ["$.geometry"]),
        ({"cameras": {"widht": 3}}, ["$.cameras"]),
        ({"cameras": {"count": 3}}, []),  # of `orthogonal`, which a file that this one extends may name
        ({"cameras": {"type": "random", "count": 3}}, ["$.cameras"]),
        ({"cameras": {"type": "random", "width": "wide"}}, ["$.cameras.width"]),
        ({"prompter": "plain"}, []),
        ({"prompter": {"type": "plain", "sectors": 8}}, ["$.prompter"]),
        ({"view_sets": {"near": "orthogonal", "far": {"type": "picture", "imag": "x.png"}}}, ["$.view_sets.far"]),
        ({"guidance": None, "guidances": {"a": "stable-diffusion", "b": {"type": "stable-diffusio"}}}, ["$.guidances.b.type"]),
        ({"export": {"formats": ["glb", {"type": "obj"}, "stp"]}}, ["$.export.formats"]),
        ({"export": {"formats": [{"type": "glb", "roughnes": 1}]}}, ["$.export.formats"]),
        ({"renderer": {"type": "volume", "background": "learned"}}, []),
        ({"renderer": {"type": "volume", "background": "learnd"}}, ["$.renderer.background"]),
        ({"renderer": {"type": "volume", "background": {"type": "learned", "layer": 2}}}, ["$.renderer.background"]),
        ({"losses": {"sds": {"noise": {"type": "fixed", "seed": 1}}}}, ["$.losses.sds.noise"]),
        ({"losses": {"sds": {"noise": "fixed", "of": "normal", "views": "near", "guidance": "a"}}}, []),
        ({"losses": {"sds": {"of": 3}}}, ["$.losses.sds.of"]),
        ({"losses": {"near": "sds", "far": "sdss"}}, ["$.losses.far"]),
        ({"start": {"run": "runs/a", "take": ["geometry", "optimizer"]}}, []),
        ({"start": {"run": "runs/a", "take": ["guidance"]}}, ["$.start"]),
        ({"start": {"rnu": "runs/a"}}, ["$.start"]),
        ({"optimizer": {"type": "sgd", "groups": {"geometry": {"lr": 0.1, "betas": [0.9, 0.99]}}}}, []),
        ({"optimizer": {"groups": {"geometry": {"momentum": 1}}}}, ["$.optimizer.groups.geometry"]),
        ({"losses": {"opacity": {"weigth": 1}}}, ["$.losses.opacity"]),
        ({"losses": {"mine": {"type": "opacity", "weight": {"from": 1}}}}, ["$.losses.mine.weight"]),
        ({"losses": {"opacity": None, "entropy": {"weight": {"from": 0, "to": 1}}}}, []),
        ({"guidance": None, "losses": {"opacity": {}}}, []),
        ({"extends": "base.yaml"}, []),
    ],
)
def test_the_schema_finds_mistakes_in_components(change: dict[str, Any], where: list[str]):
    written = read_yaml((shipped_directory() / "dreamfusion.yaml").read_text(encoding="utf-8"))[0]
    assert list(dict.fromkeys(path.split("[")[0] for path in errors(written | change))) == where


def test_the_schema_lets_an_extending_file_leave_things_out():
    assert errors({"extends": "dreamfusion", "geometry": {"radius": 1}}) == []
    assert errors({"extends": "dreamfusion", "geometry": {"radus": 1}}) == ["$.geometry"]
    assert errors({"prompt": "x"}) != []


def test_the_schema_knows_stages():
    stages: dict[str, Any] = {"coarse": {"extends": "dreamfusion"}, "refine": {"extends": "coarse", "start": {"stage": "coarse"}}}
    assert errors({"prompt": "a cup", "stages": stages}) == []
    assert errors({"stages": stages | {"last": {"geometry": {"type": "nerf", "radus": 1}}}}) == ["$.stages.last.geometry"]
    assert errors({"stages": stages | {"last": {"stages": {}}}}) == ["$.stages.last"]
    assert errors({"stages": {}}) == ["$.stages"]


def test_every_place_of_every_kind_is_in_the_schema():
    """A mapping with a type that nobody has is refused wherever a component may stand."""
    for kind, place in all_places():
        document: Any = {"type": "nobody/nothing"}
        for key in reversed(place.split(".")):
            document = {key: document} if key != "*" else [document] if kind.name == "exporter" else {"mine": document}
        (path,) = errors({"extends": "dreamfusion"} | document)
        assert path.replace(".mine", ".*").replace("[0]", ".*") == f"$.{place}.type"
