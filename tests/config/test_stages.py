"""Configurations with stages: what each merges over, which overrides concern it, and what is said of mistakes."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest
from base_config import BASE

from dfw.config.load import load_config, load_stages, load_with_provenance
from dfw.errors import ConfigError

STAGED = """\
prompt: a cup
seed: 1
stages:
  coarse:
    extends: base.yaml
    trainer: {steps: 5}
    seed: 2
  refine:
    extends: coarse
    start: {stage: coarse}
    geometry: {radius: 2}
  other:
    extends: base.yaml
    start: {stage: refine, take: [geometry, renderer]}
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("base.yaml").write_text(BASE, encoding="utf-8")
    Path("x.yaml").write_text(STAGED, encoding="utf-8")


def refused(*overrides: str, text: str = STAGED, **changes: object) -> str:
    Path("x.yaml").write_text(dedent(text), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_stages("x.yaml", overrides, changes)
    return str(caught.value)


def test_a_configuration_without_stages_is_one_without_a_name():
    stages = load_stages("base.yaml", ["seed=3"], {"trainer": {"steps": 7}})
    assert list(stages) == [""]
    assert (stages[""].config.seed, stages[""].config.trainer.steps) == (3, 7)


def test_a_stage_merges_over_what_it_extends_and_the_keys_next_to_stages():
    """BASE has the prompt `a red mushroom`, 400 steps and radius 1.5."""
    stages = {name: loaded.config for name, loaded in load_stages("x.yaml").items()}
    assert list(stages) == ["coarse", "refine", "other"]
    assert {name: config.prompt for name, config in stages.items()} == dict.fromkeys(stages, "a cup")
    assert {name: config.seed for name, config in stages.items()} == {"coarse": 2, "refine": 2, "other": 1}
    assert {name: config.trainer.steps for name, config in stages.items()} == {"coarse": 5, "refine": 5, "other": 400}
    assert {name: config.geometry.options["radius"] for name, config in stages.items()} == {
        "coarse": 1.5,
        "refine": 2,
        "other": 1.5,
    }
    starts = {name: config.start and (config.start.stage, config.start.take) for name, config in stages.items()}
    assert starts == {
        "coarse": None,
        "refine": ("coarse", ("geometry",)),
        "other": ("refine", ("geometry", "renderer")),
    }


def test_a_stage_does_not_start_as_the_stage_that_it_extends():
    Path("x.yaml").write_text(STAGED + "  last: {extends: other}\n")
    assert load_stages("x.yaml")["last"].config.start is None


def test_another_type_in_a_stage_drops_the_options_of_the_old_one():
    Path("x.yaml").write_text(STAGED.replace("{radius: 2}", "{type: nerf, radius: 2}"))
    Path("top.yaml").write_text("extends: x.yaml\nstages: {refine: {geometry: image, losses: {sds: {type: csd}}}}\n")
    refine = load_stages("top.yaml")["refine"].config
    assert (refine.geometry.type, refine.geometry.options) == ("image", {})
    assert (refine.losses["sds"].type, refine.losses["sds"].options) == ("csd", {})


def test_overrides_concern_one_stage_or_all():
    overrides = ["trainer.steps=9", "stages.refine.trainer.steps=8", "stages.refine.geometry.radius=3"]
    stages = load_stages("x.yaml", overrides, {"seed": 4, "stages": {"other": {"seed": 5}}})
    assert {name: loaded.config.trainer.steps for name, loaded in stages.items()} == {"coarse": 9, "refine": 8, "other": 9}
    assert {name: loaded.config.seed for name, loaded in stages.items()} == {"coarse": 4, "refine": 4, "other": 5}
    assert stages["refine"].config.geometry.options["radius"] == 3


def test_stages_as_values_are_as_those_of_a_file():
    values = {"stages": {"one": {"extends": "base.yaml"}, "two": {"extends": "one", "start": {"stage": "one"}}}}
    stages = load_stages(values)
    assert stages["one"].config == load_config("base.yaml")
    assert stages["two"].config.start is not None
    with pytest.raises(ConfigError, match=r"^argument: stages\.two\.sed: unknown key"):
        load_stages({"stages": {"one": {"extends": "base.yaml"}, "two": {"extends": "one", "sed": 3}}})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("stages: []\n", "x.yaml:1: stages: must map names to configurations, e.g. {coarse: {extends: dreamfusion}}"),
        ("stages: {a: base.yaml}\n", "x.yaml:1: stages: must map names to configurations"),
        ("stages:\n  a b: {extends: base.yaml}\n", "x.yaml:2: stages.a b: a stage's name has at most 50 letters, digits"),
        (f"stages:\n  {'a' * 51}: {{extends: base.yaml}}\n", f"x.yaml:2: stages.{'a' * 51}: a stage's name has at most 50"),
        ("stages:\n  a:\n    extends: [x]\n", "x.yaml:3: stages.a.extends: must be a file, a shipped name or a stage before"),
        (
            "stages:\n  a: {extends: base.yaml}\n  b: {extends: bases.yaml}\n",
            "x.yaml:3: stages.b.extends: bases.yaml: no such file",
        ),
        ("stages:\n  a: {prompt: x}\n", "x.yaml:2: stages.a.geometry: missing; it says: The scene."),
        (STAGED.replace("{radius: 2}", "{radius: 2}\n    trainer: {stps: 1}"), "x.yaml:12: stages.refine.trainer.stps: unknown"),
        (
            STAGED.replace("stage: coarse", "stage: other"),
            "x.yaml:10: stages.refine.start.stage: no stage before this one is called 'other'; there are coarse",
        ),
    ],
)
def test_a_mistake_in_a_stage_is_told_with_file_line_path_and_remedy(text: str, expected: str):
    assert refused(text=text).startswith(expected)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("stages.refin.seed=3", "write stages.NAME.key=value, with NAME one of coarse, refine, other"),
        ("stages.refine=3", "write stages.NAME.key=value"),
        ("stages=3", "write stages.NAME.key=value"),
        ("stages.refine.sed=3", "stages.refine.sed: unknown key, did you mean 'seed'?"),
        ("stages.refine.extends=base.yaml", "extends works only in a file"),
        ("sed=3", "stages.coarse.sed: unknown key, did you mean 'seed'?"),
        (
            "stages.coarse.start.stage=refine",
            "stages.coarse.start.stage: no stage before this one is called 'refine'; there are n",
        ),
    ],
)
def test_a_mistake_in_an_override_of_a_stage(override: str, expected: str):
    assert refused(override).startswith(f"override '{override}': {expected}")


def test_changes_of_stages_that_are_not_there():
    assert (
        refused(stages={"fine": {}}) == "argument: stages: must map stages to their changes; the stages are coarse, refine, other"
    )


def test_a_run_alone_has_no_stages():
    with pytest.raises(ConfigError, match=r"^x\.yaml: has stages, and this needs a configuration of one run"):
        load_with_provenance("x.yaml")
    with pytest.raises(ConfigError, match=r"^override 'start\.stage=coarse': start\.stage: no stage before .* there are none"):
        load_stages("base.yaml", ["start.stage=coarse"])
