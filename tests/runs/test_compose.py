"""From configuration to components: everything is checked before anything is constructed."""

from __future__ import annotations

from pathlib import Path

import pytest
from shipped import shipped_runs
from toy_components import TOY, Bend, Box, Tracer, built

from dfw import __version__
from dfw.compose import compose
from dfw.config.load import load_config, load_with_provenance, to_yaml
from dfw.config.settings import RunConfig
from dfw.config.yaml_text import read_yaml
from dfw.errors import ConfigError, GuidanceError, PluginError
from dfw.plugins.registry import registry as installed

TEXT = """\
prompt: a box
geometry: {type: box}
renderer:
  type: acme/tracer
  shading: {normals: analytic}
losses:
  bend: {weight: 2}
trainer: {steps: 100}
"""


@pytest.fixture(autouse=True)
def nothing_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    built.clear()


def composed(*overrides: str, text: str = TEXT):
    Path("toy.yaml").write_text(text, encoding="utf-8")
    loaded = load_with_provenance("toy.yaml", overrides)
    return compose(loaded.config, TOY, loaded.provenance)


def refused(*overrides: str, error: type[Exception] = ConfigError, text: str = TEXT) -> str:
    with pytest.raises(error) as caught:
        composed(*overrides, text=text)
    assert built == []
    return str(caught.value)


def test_composing_constructs_nothing_and_building_constructs_all():
    composition = composed()
    assert built == []
    parts = composition.build()
    assert built == ["box", "tracer", "bend"]
    assert isinstance(parts.geometry, Box)
    assert isinstance(parts.renderer, Tracer)
    assert (parts.guidances, parts.prompter) == ({}, None)
    assert list(parts.cameras) == ["cameras"]
    assert isinstance(parts.losses["bend"], Bend)


def test_origins_and_plugins_name_where_parts_come_from():
    composition = composed()
    facts = {"name": "acme/box", "distribution": "acme", "version": "0.3", "module": "toy_components"}
    assert composition.origins()["geometry"].facts() == facts
    assert composition.origins()["cameras"].qualified == "dreamfw/random"
    formats = {f"export.formats.{index}" for index in range(3)}
    assert set(composition.origins()) == {"geometry", "renderer", "losses.bend", "cameras", "prompter", *formats}
    assert composition.plugins() == {"acme": "0.3", "dreamfw": __version__}


def test_the_resolved_configuration_is_complete_and_comes_back_the_same():
    resolved = composed().resolved()
    assert resolved.geometry.type == "acme/box"
    assert resolved.geometry.options == {"radius": 1.0, "colours": [0.5, 0.25], "fail": "no"}
    assert resolved.renderer.options == {"shading": {"normals": "analytic", "amount": 1.0}}
    assert (resolved.losses["bend"].type, resolved.losses["bend"].weight) == ("acme/bend", 2)
    assert (resolved.seed, resolved.cameras.type, resolved.cameras.options["batch_size"]) == (0, "dreamfw/random", 4.0)
    Path("resolved.yaml").write_text(to_yaml(resolved), encoding="utf-8")
    again = load_config("resolved.yaml")
    assert again == resolved
    assert compose(again, TOY).resolved() == resolved
    assert [part.config for part in compose(again, TOY).parts()] == [part.config for part in composed().parts()]


def test_ramps_survive_resolving():
    resolved = composed(
        "losses.bend.sharpness={from: 1, to: 2, unit: step, end: 50}", "losses.bend.weight={from: 0, to: 3}"
    ).resolved()
    assert resolved.losses["bend"].options["sharpness"]["from"] == 1
    assert compose(resolved, TOY).chosen["losses", "bend"].config.sharpness.end == 50
    assert resolved.losses["bend"].weight.to == 3


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["geometry.radus=2"], "override 'geometry.radus=2': geometry.radus: unknown key, did you mean 'radius'? (acme/box 0.3)"),
        (
            ["geometry.radius=big"],
            "override 'geometry.radius=big': geometry.radius: must be a valid number (is 'big') (acme/box 0.3)",
        ),
        (["renderer.shading.normals=no"], "renderer.shading.normals: must be 'none' or 'analytic' (is 'no') (acme/tracer 0.3)"),
        (["losses.bend.sharpnes=1"], "losses.bend.sharpnes: unknown key, did you mean 'sharpness'? (acme/bend 0.3)"),
        (["losses.bend.sharpness={from: 1, to: 0, ease: log}"], "losses.bend.sharpness.ease: log needs values above 0"),
    ],
)
def test_options_are_checked_with_origin_and_near_miss(overrides: list[str], expected: str):
    assert expected in refused(*overrides)


def test_options_in_a_file_are_told_with_their_line():
    text = TEXT.replace("{type: box}", "\n  type: box\n  radus: 3")
    assert refused(text=text) == "toy.yaml:4: geometry.radus: unknown key, did you mean 'radius'? (acme/box 0.3)"


def test_a_missing_section_of_options_is_told():
    text = TEXT.replace("  shading: {normals: analytic}\n", "")
    assert refused(text=text).startswith("toy.yaml:3: renderer.shading: missing")


def test_mistakes_of_all_components_come_together():
    assert len(refused("geometry.a=1", "renderer.b=1", "losses.bend.c=1").splitlines()) == 3


def test_an_unknown_component_is_told_with_its_line():
    assert refused("geometry.type=bux", error=PluginError).startswith(
        "override 'geometry.type=bux': no geometry named 'bux' (geometry.type). Did you mean 'box'?"
    )
    text = TEXT.replace("acme/tracer", "acme/traser")
    assert refused(text=text, error=PluginError).startswith(
        "toy.yaml:4: no renderer named 'acme/traser' (renderer.type). Did you mean 'acme/tracer'?"
    )


def test_a_loss_key_that_is_no_loss_is_told():
    assert "no loss named 'glow' (losses.glow.type)" in refused("losses.glow.weight=1", error=PluginError)


def test_what_a_part_requires_must_be_provided_by_another():
    text = refused("renderer.shading.normals=none")
    hint = "renderer acme/tracer 0.3 provides them when renderer.shading.normals is 'analytic'"
    assert text == f"toy.yaml:7: losses.bend: acme/bend 0.3 needs normals; {hint}"
    assert "acme/bend 0.3 needs noise-prediction; this run has no guidance, add one" in refused(
        "losses.bend.needs=noise-prediction"
    )
    assert "needs depth; renderer acme/tracer 0.3 does not provide it, choose another renderer" in refused(
        "losses.bend.needs=depth"
    )
    assert "needs flow; no other part of this run provides it" in refused("losses.bend.needs=flow")


def test_an_override_inside_a_part_leaves_the_origin_of_the_part_itself():
    assert refused("losses.bend.needs=depth").startswith("toy.yaml:7: losses.bend: acme/bend 0.3 needs depth")


def test_ramps_in_steps_must_end_with_the_run():
    text = refused("losses.bend.sharpness={from: 1, to: 2, end: 101, unit: step}")
    assert "losses.bend.sharpness: ends at step 101, after the run's 100 steps" in text
    assert "renderer.shading.amount: " in refused("renderer.shading.amount={from: 1, to: 2, end: 200, unit: step}")
    assert "losses.bend.ramps.x: " in refused("losses.bend.ramps.x={from: 1, to: 2, end: 200, unit: step}")
    composed("losses.bend.sharpness={from: 1, to: 2, end: 100, unit: step}")


def test_a_plugin_that_breaks_while_it_is_asked_is_named():
    assert "losses.bend (acme/bend, acme 0.3) failed to check its options: RuntimeError: a validator with a bug" in refused(
        "losses.bend.needs=crash", error=PluginError
    )
    text = refused("losses.bend.needs=error", error=PluginError)
    assert "losses.bend (acme/bend, acme 0.3) cannot say what it requires: KeyError: 'oops'" in text


def test_a_constructor_that_raises_is_named_and_a_dfw_error_passes():
    with pytest.raises(
        PluginError, match=r"geometry \(acme/box, acme 0\.3\) failed to start: ValueError: no such file"
    ) as caught:
        composed("geometry.fail=value").build()
    assert isinstance(caught.value.__cause__, ValueError)
    with pytest.raises(PluginError, match="SystemExit"):
        composed("geometry.fail=exit").build()
    with pytest.raises(GuidanceError, match="gated"):
        composed("geometry.fail=dfw").build()


def test_requirements_are_checked_before_any_component_is_looked_for():
    text = refused("plugins=[dreamfw-none>=9]", "geometry.type=nothing", error=PluginError)
    assert 'pip install "dreamfw-none>=9"' in text
    assert text.startswith("override 'plugins=[dreamfw-none>=9]': plugins: ")


def test_composing_works_without_provenance():
    tree = read_yaml(TEXT)[0]
    tree["geometry"]["radus"] = 1
    with pytest.raises(ConfigError) as caught:
        compose(RunConfig.model_validate(tree), TOY)
    assert str(caught.value) == "geometry.radus: unknown key, did you mean 'radius'? (acme/box 0.3)"


@pytest.mark.parametrize("name", shipped_runs())
def test_shipped_configurations_compose_and_use_qualified_names(name: str):
    config = shipped_runs()[name]
    composition = compose(config, installed())
    used = [config.geometry.type, config.renderer.type, *(loss.type for loss in config.losses.values())]
    assert all(kind.startswith("dreamfw/") for kind in used)
    resolved = composition.resolved()
    Path("resolved.yaml").write_text(to_yaml(resolved), encoding="utf-8")
    assert compose(load_config("resolved.yaml"), installed()).resolved() == resolved


def test_a_loss_of_weight_zero_is_written_down_and_takes_no_part():
    """Not even what it needs of others is asked for: so an inherited loss can be left out."""
    extra = "losses.glow.type=bend", "losses.glow.needs=nothing", "losses.glow.weight=0"
    composition = composed(*extra)
    assert [path for path in composition.chosen if path[0] == "losses"] == [("losses", "bend")]
    composition.build()
    assert built == ["box", "tracer", "bend"]
    assert composition.resolved().losses["glow"].weight == 0
    built.clear()
    assert "losses.glow.weigth" in refused(*extra, "losses.glow.weigth=1")
    assert refused("losses.bend.weight=0") == "toy.yaml:6: losses: the weight of every loss is 0; give one of them another"
