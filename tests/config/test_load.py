"""Configuration files: merging, overrides, origins in messages."""

from __future__ import annotations

import json
import re
from pathlib import Path
from textwrap import dedent

import pytest
from base_config import BASE

from dfw.compose import compose
from dfw.config.load import find_config, load_config, load_stages, load_with_provenance, shipped_directory, shipped_names
from dfw.config.schedules import Ramp
from dfw.errors import ConfigError
from dfw.runs.stages import compose_stages


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages name files relative to the working directory."""
    monkeypatch.chdir(tmp_path)


def write(name: str, text: str) -> str:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(dedent(text), encoding="utf-8")
    return name


def message(source: str, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(source, overrides)
    return str(caught.value)


def test_a_file_becomes_a_checked_configuration():
    config = load_config(write("base.yaml", BASE))
    assert (config.prompt, config.trainer.steps, config.seed) == ("a red mushroom", 400, 0)
    assert (config.geometry.type, config.geometry.options) == ("nerf", {"radius": 1.5})
    assert (config.losses["sds"].type, config.losses["sds"].options) == ("sds", {"guidance_scale": 10})
    assert config.losses["orientation"].weight == Ramp(**{"from": 0, "to": 10, "start": 0, "end": 0.5})


def test_extends_merges_mappings_and_replaces_the_rest():
    write("configs/base.yaml", BASE + "cameras: {elevation: [-10, 45], fov: [40, 50]}\n")
    config = load_config(
        write("mine.yaml", "extends: configs/base.yaml\nprompt: a car\ngeometry: {blob: 3}\ncameras: {elevation: [0, 10]}\n")
    )
    assert config.prompt == "a car"
    assert config.geometry.options == {"radius": 1.5, "blob": 3}
    assert config.cameras.options == {"elevation": [0, 10], "fov": [40, 50]}


def test_extends_is_relative_to_its_file_and_makes_chains():
    write("a/base.yaml", BASE)
    write("a/middle.yaml", "extends: base.yaml\nseed: 3\n")
    loaded = load_with_provenance(write("b/top.yaml", "extends: ../a/middle.yaml\ntrainer: {steps: 7}\n"))
    assert (loaded.config.seed, loaded.config.trainer.steps, loaded.config.prompt) == (3, 7, "a red mushroom")


def test_extends_takes_a_shipped_name():
    config = load_config(write("top.yaml", "extends: dreamfusion\nprompt: a car\n"))
    assert config.prompt == "a car"
    assert config.guidance is not None
    assert config.guidance.options["model"] == "embedded"


def test_extends_in_a_circle_and_to_nowhere():
    write("a.yaml", "extends: b.yaml\n")
    write("b.yaml", "extends: a.yaml\n")
    assert "extend each other in a circle: a.yaml -> b.yaml -> a.yaml" in message("a.yaml")
    assert message(write("c.yaml", "seed: 1\nextends: nowhere.yaml\n")).startswith(
        "c.yaml:2: extends: nowhere.yaml: no such file"
    )
    assert message(write("d.yaml", "extends: [a.yaml]\n")).startswith("d.yaml:1: extends: must be a file")


def test_another_type_drops_the_options_of_the_old_one():
    write("base.yaml", BASE)
    config = load_config("base.yaml", ["geometry.type=sdf-scene", "geometry.shape=ball"])
    assert (config.geometry.type, config.geometry.options) == ("sdf-scene", {"shape": "ball"})
    config = load_config("base.yaml", ["losses.orientation.type=entropy"])
    assert config.losses["orientation"].options == {}
    assert config.losses["orientation"].weight == Ramp(**{"from": 0, "to": 10, "start": 0, "end": 0.5})


@pytest.mark.parametrize(("override", "kept"), [("dreamfw/nerf", True), ("nerf", True), ("acme/nerf", True), ("image", False)])
def test_the_same_type_with_its_distribution_keeps_the_options(override: str, kept: bool):
    config = load_config(write("base.yaml", BASE), [f"geometry.type={override}"])
    assert config.geometry.options == ({"radius": 1.5} if kept else {})


def test_the_same_name_of_another_distribution_is_another_type():
    write("base.yaml", BASE.replace("type: nerf", "type: dreamfw/nerf"))
    assert load_config("base.yaml", ["geometry.type=acme/nerf"]).geometry.options == {}
    assert load_config("base.yaml", ["geometry.type=nerf"]).geometry.options == {"radius": 1.5}


def test_keys_are_words_as_they_are_written():
    config = load_config(write("x.yaml", BASE.replace("  sds:", "  2: {type: sds}\n  true: {type: sds}\n  sds:")))
    assert set(config.losses) == {"2", "true", "sds", "orientation"}


def test_nested_types_follow_the_same_rule():
    write("base.yaml", BASE + "guidance: {type: g, noise: {type: a, low: 1}}\n")
    config = load_config("base.yaml", ["guidance.noise={type: b, high: 2}"])
    assert config.guidance is not None
    assert config.guidance.options == {"noise": {"type": "b", "high": 2}}


def test_a_name_is_short_for_a_mapping_with_that_type():
    write(
        "base.yaml", BASE + "cameras: orthogonal\nguidance: {type: g, noise: fixed}\nview_sets: {near: {type: dataset, a: 1}}\n"
    )
    config = load_config("base.yaml", ["cameras.count=8", "guidance.noise.seed=1", "view_sets.near=picture", "losses.sds=csd"])
    assert (config.cameras.type, config.cameras.options) == ("orthogonal", {"count": 8})
    assert config.guidance is not None
    assert config.guidance.options == {"noise": {"type": "fixed", "seed": 1}}
    assert (config.view_sets["near"].type, config.view_sets["near"].options) == ("picture", {})
    assert (config.losses["sds"].type, config.losses["sds"].options) == ("csd", {})


def test_what_a_loss_looks_at_stays_when_its_type_changes():
    more = "guidances: {a: g, b: g}\nview_sets: {near: random}\n"
    write("base.yaml", BASE.replace("{guidance_scale: 10}", "{scale: 1, of: normal, views: near, guidance: b, weight: 3}") + more)
    loss = load_config("base.yaml", ["losses.sds.type=csd"]).losses["sds"]
    assert (loss.type, loss.of, loss.views, loss.guidance, loss.weight, loss.options) == ("csd", "normal", "near", "b", 3, {})


def test_other_cameras_drop_the_options_of_the_default_ones():
    write("base.yaml", BASE + "cameras: {width: 32}\n")
    assert load_config("base.yaml", ["cameras.type=random"]).cameras.options == {"width": 32}
    assert load_config("base.yaml", ["cameras.type=orthogonal"]).cameras.options == {}


def test_values_in_python_are_a_configuration_too():
    write("base.yaml", BASE)
    values = {"extends": "base.yaml", "prompt": "a cup", "trainer": {"steps": 9}, "cameras": {"elevation": (0, 30)}}
    config = load_config(values, ["trainer.steps=8"])
    assert (config.prompt, config.trainer.steps, config.geometry.options) == ("a cup", 8, {"radius": 1.5})
    changes = {"trainer": {"steps": 7}, "start": {"run": Path("a/b")}, "geometry": "image"}
    config = load_with_provenance(values, ["trainer.steps=8"], changes).config
    assert (config.trainer.steps, config.geometry.type, config.geometry.options) == (7, "image", {})
    assert config.start is not None
    assert config.start.run == str(Path.cwd() / "a/b")


@pytest.mark.parametrize(
    ("values", "changes", "expected"),
    [
        ({"prompt": "a cup"}, {}, "argument: geometry: missing; it says: The scene."),
        (
            {"extends": "base.yaml", "trainer": {"stps": 3}},
            {},
            "argument: trainer.stps: unknown key, did you mean 'steps'",
        ),
        (
            {"extends": "base.yaml"},
            {"trainer": {"steps": 0}},
            "argument: trainer.steps: must be greater than 0 (is 0)",
        ),
        ({"extends": "bases.yaml"}, {}, "bases.yaml: no such file"),
        ({"extends": "base.yaml"}, {"seed": object()}, "argument: seed: must be a valid integer (is <object object at"),
    ],
)
def test_a_mistake_in_python_names_the_argument(values: dict[str, object], changes: dict[str, object], expected: str):
    write("base.yaml", BASE)
    with pytest.raises(ConfigError) as caught:
        load_with_provenance(values, (), changes)
    assert str(caught.value).startswith(expected)


def test_an_override_that_replaces_a_component_is_where_its_mistakes_are():
    write("base.yaml", BASE + "guidance: {type: g, noise: {type: fixed, seed: 1}}\n")
    provenance = load_with_provenance("base.yaml", ["guidance.noise=fixd"]).provenance
    assert provenance.where(("guidance", "noise", "type")) == "override 'guidance.noise=fixd'"
    assert provenance.where(("guidance", "type")) == "base.yaml:12"


@pytest.mark.parametrize(
    ("override", "path"),
    [
        ("cameras.fov=[x, 50]", ("cameras", "fov", "0")),
        ("cameras={fov: [x, 50]}", ("cameras", "fov", "0")),
        ("cameras={fov: x}", ("cameras", "fov")),
        ("geometry={type: image, radius: 3}", ("geometry", "radius")),
    ],
)
def test_nothing_of_what_an_override_replaced_is_blamed_on_the_file(override: str, path: tuple[str, ...]):
    write("base.yaml", BASE + "cameras:\n  fov:\n    - 40\n    - 50\n")
    provenance = load_with_provenance("base.yaml", [override]).provenance
    assert provenance.where(path) == f"override {override!r}"


def test_messages_call_an_override_as_they_are_told():
    write("base.yaml", BASE)
    with pytest.raises(ConfigError, match=r"^--faces few: export\.faces: must be a valid integer"):
        load_config("base.yaml", {"export.faces=few": "--faces few"})


def test_an_empty_loss_in_an_extending_file_changes_nothing():
    write("base.yaml", BASE)
    assert load_config(write("top.yaml", "extends: base.yaml\nlosses:\n  sds:\n")).losses["sds"].options == {"guidance_scale": 10}


@pytest.mark.parametrize(
    ("override", "read"),
    [
        ("trainer.steps=7", lambda c: (c.trainer.steps, 7)),
        ("losses.sds.guidance_scale=50", lambda c: (c.losses["sds"].options["guidance_scale"], 50)),
        ("losses.sds.weight=1e-3", lambda c: (c.losses["sds"].weight, 0.001)),
        ("losses.orientation.weight.to=20", lambda c: (c.losses["orientation"].weight.to, 20)),
        ("losses.orientation.weight=2", lambda c: (c.losses["orientation"].weight, 2)),
        ("losses.new.type=entropy", lambda c: (c.losses["new"].type, "entropy")),
        ("cameras.elevation=[0, 30]", lambda c: (c.cameras.options, {"elevation": [0, 30]})),
        ("export.formats=[glb]", lambda c: ([one.type for one in c.export.formats], ["glb"])),
        ("optimizer.max_grad_norm=null", lambda c: (c.optimizer.max_grad_norm, None)),
        ("geometry.note=a, b", lambda c: (c.geometry.options["note"], "a, b")),
        ("geometry.note=", lambda c: (c.geometry.options["note"], "")),
        ("seed=${trainer.steps}", lambda c: (c.seed, 400)),
    ],
)
def test_overrides(override: str, read):
    got, expected = read(load_config(write("base.yaml", BASE), [override]))
    assert got == expected


@pytest.mark.parametrize(
    "prompt", ["a blue car", "a car: red, fast", "{x}", "[1, 2]", "1984", "true", "a = b", "a 'car'", "# no comment"]
)
def test_a_prompt_is_taken_as_it_stands(prompt: str):
    assert load_config(write("base.yaml", BASE), [f"prompt={prompt}"]).prompt == prompt


def test_the_last_override_wins():
    assert load_config(write("base.yaml", BASE), ["seed=1", "seed=2"]).seed == 2


def test_an_option_of_a_loss_can_be_switched_off():
    write("base.yaml", BASE)
    write("clip.yaml", "extends: base.yaml\nlosses: {sds: {clip: {limit: 1}}}\n")
    assert load_config("clip.yaml").losses["sds"].options["clip"] == {"limit": 1}
    assert load_config("clip.yaml", ["losses.sds.clip=null"]).losses["sds"].options["clip"] is None


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["encoding.type=dense-grid", "encoding.levels=4"], r"encoding\.levels: unknown key; known: type, resolutions"),
        (["encoding=hashgrid"], r"encoding: no type is called 'hashgrid', did you mean 'hash-grid'\?"),
        (["encoding.type=foo"], r"encoding: no type is called 'foo'; known: hash-grid, dense-grid, integrated-positional"),
    ],
)
def test_a_mistake_in_one_of_several_types_is_told_for_that_one(overrides: list[str], said: str):
    loaded = load_with_provenance("dreamfusion", [f"geometry.{override}" for override in overrides])
    with pytest.raises(ConfigError, match=rf"geometry\.{said}"):
        compose(loaded.config, provenance=loaded.provenance)


def test_the_name_of_a_parameter_group_has_dots():
    config = load_config(
        "dreamfusion", ["optimizer.groups.geometry.means.lr=0.5", "optimizer.groups.geometry.lr={from: 0.1, to: 0}"]
    )
    assert config.optimizer.groups["geometry.means"].lr == 0.5
    assert set(config.optimizer.groups) == {"geometry.means", "geometry"}


def test_interpolation_and_its_failure():
    write("base.yaml", BASE + "seed: ${trainer.steps}\nnegative_prompt: not ${prompt}\n")
    config = load_config("base.yaml")
    assert (config.seed, config.negative_prompt) == (400, "not a red mushroom")
    write("bad.yaml", BASE + "seed: ${trainer.stepps}\n")
    assert message("bad.yaml").startswith("bad.yaml:12: seed: ")


@pytest.mark.parametrize("name", ["a/b", "../x", "", ".hidden", "-x", "a b", "a\0b", "a\n", "x" * 51, "x" * 300])
@pytest.mark.parametrize("place", ["losses", "guidances", "view_sets"])
def test_a_name_that_cannot_be_a_part_of_a_file_name_is_refused(place: str, name: str):
    write("base.yaml", BASE)
    (line,) = message(write("x.yaml", f"extends: base.yaml\n{place}: {{{json.dumps(name)}: {{type: thing}}}}\n")).splitlines()
    assert line.startswith(f"x.yaml:2: {place}: {repr(name[:50])[:-1]}")
    assert line.endswith("cannot be a name; write a letter or digit, then at most 49 letters, digits, '.', '_' and '-'")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("geometri: 3\n", "x.yaml:12: geometri: unknown key, did you mean 'geometry'?"),
        ("views: {sectors: 8}\n", "x.yaml:12: views: unknown key, did you mean 'view_sets'?"),
        ("export: {qqqqq: 3}\n", "x.yaml:12: export.qqqqq: unknown key; known: formats, resolution,"),
        ("seed: abc\n", "x.yaml:12: seed: must be a valid integer (is 'abc')"),
        ("precision: fp8\n", "x.yaml:12: precision: must be 'fp32', 'fp16' or 'bf16' (is 'fp8')"),
        ("cameras: 7\n", "x.yaml:12: cameras: must be a name, or a mapping with its type and options (is 7)"),
        ("view_sets:\n  near: 7\n", "x.yaml:13: view_sets.near: must be a name, or a mapping with its type and options (is 7)"),
        ("export: {formats: glb}\n", "x.yaml:12: export.formats: must be a list, e.g. [glb] (is 'glb')"),
        ("export: {formats: [glb, 7]}\n", "x.yaml:12: export.formats.1: must be a name, or a mapping with its type and"),
        ("view_sets:\n  cameras: random\n", "x.yaml:13: view_sets.cameras: this name stands for the training cameras"),
        ("guidance: g\nguidances: {a: g}\n", "x.yaml:13: guidances: the run has a guidance as well; write all of them under gu"),
        ("start: {}\n", "x.yaml:12: start: names nothing; write exactly one of run, stage and mesh, e.g. {run: runs/dreamf"),
        ("start: {run: a, mesh: b}\n", "x.yaml:12: start: names run and mesh; write exactly one of run, stage and mesh"),
        ("start: {mesh: a.glb, take: [geometry, renderer]}\n", "x.yaml:12: start: a mesh file holds neither a renderer nor an"),
        ("start: {run: a, take: [guidance]}\n", "x.yaml:12: start.take.0: must be 'geometry', 'renderer' or 'optimizer' (is"),
        ("optimizer: {type: lion}\n", "x.yaml:12: optimizer.type: must be 'adamw', 'adam' or 'sgd' (is 'lion')"),
        (
            "optimizer: {groups: {geometry: {momentum: 1}}}\n",
            "x.yaml:12: optimizer.groups.geometry.momentum: unknown key; known: lr,",
        ),
        ("optimizer: {groups: {geometry: {betas: [0.9, 1]}}}\n", "x.yaml:12: optimizer.groups.geometry.betas: [0.9, 1] must lie"),
        ("export:\n  level: -2\n", "x.yaml:13: export.level: must be greater than 0 (is -2)"),
        ("export: {level: thin}\n", "x.yaml:12: export.level: must be a valid number or 'auto' (is 'thin')"),
        ("optimizer:\n  lr: {from: 1, too: 2}\n", "x.yaml:13: optimizer.lr.too: unknown key, did you mean 'to'?"),
        ("optimizer:\n  lr: {from: 1}\n", "x.yaml:13: optimizer.lr.to: missing"),
        ("optimizer:\n  lr: {from: 1, to: 2, start: 1, end: 0}\n", "x.yaml:13: optimizer.lr: end (0) lies before start (1)"),
        (
            "optimizer:\n  lr: {from: 1, to: 2, end: 500, unit: step}\n",
            "x.yaml:13: optimizer.lr: ends at step 500, after the run's 400 steps",
        ),
        ("plugins: acme\n", "x.yaml:12: plugins: must be a list, e.g. [acme] (is 'acme')"),
    ],
)
def test_a_mistake_is_told_with_file_line_path_and_remedy(text: str, expected: str):
    lines = message(write("x.yaml", BASE + text)).splitlines()
    assert any(line.startswith(expected) for line in lines), lines


def test_a_value_that_may_be_two_things_is_told_once_as_what_it_was_meant_to_be():
    assert message(write("x.yaml", BASE), "optimizer.lr={from: 1}").splitlines() == [
        "override 'optimizer.lr={from: 1}': optimizer.lr.to: missing; it says: Value from `end` on."
    ]
    assert message("x.yaml", "optimizer.lr=[1]") == "override 'optimizer.lr=[1]': optimizer.lr: must be a valid number (is [1])"


def test_all_mistakes_are_told_at_once():
    lines = message(write("x.yaml", BASE + "seed: abc\nexport: {facets: 1}\n"), "trainer.steps=0").splitlines()
    assert sorted(re.split(r": ", line)[1] for line in lines) == ["export.facets", "seed", "trainer.steps"]
    assert any(line.startswith("override 'trainer.steps=0': trainer.steps: must be greater than 0 (is 0)") for line in lines)


def test_what_is_missing_is_said_with_its_meaning():
    assert message(write("x.yaml", "prompt: a\n")).splitlines()[0].startswith("x.yaml:1: geometry: missing; it says: The scene.")


def test_a_mistake_in_a_base_is_told_where_it_stands():
    write("base.yaml", BASE + "seed: abc\n")
    assert message(write("top.yaml", "extends: base.yaml\n")).startswith("base.yaml:12: seed: ")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("prompt: [a\nseed: 1\n", "x.yaml:2: not valid YAML: "),
        ("prompt: a\nprompt: b\n", "x.yaml:2: not valid YAML: found duplicate key"),
        ("", "x.yaml: must hold `key: value` lines"),
        ("- a\n- b\n", "x.yaml: must hold `key: value` lines"),
        ("a: 1\n\tb: 2\n", "x.yaml:2: not valid YAML: "),
        ("prompt: !!python/object:os.system x\n", "x.yaml:1: not valid YAML: "),
    ],
)
def test_what_is_no_configuration_at_all(text: str, expected: str):
    assert message(write("x.yaml", text)).startswith(expected)


def test_a_file_that_is_not_text(tmp_path: Path):
    Path("x.yaml").write_bytes(b"prompt: \xff\xfe")
    assert message("x.yaml").startswith("x.yaml: not UTF-8 text")


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("seed", "override 'seed': write key=value"),
        ("=3", "override '=3': write key=value"),
        ("a..b=3", "override 'a..b=3': write key=value"),
        ("extends=x.yaml", "override 'extends=x.yaml': extends works only in a file; name that file instead"),
        ("cameras.fov=[1", "override 'cameras.fov=[1': the value is not valid YAML"),
        ("sed=3", "override 'sed=3': sed: unknown key, did you mean 'seed'?"),
        ("losses.sds=null", "override 'losses.sds=null' would change nothing: mappings merge; write losses.NAME.weight=0"),
        ("losses={}", "override 'losses={}' would change nothing"),
        ("device=gpu", "override 'device=gpu': device: no device is called 'gpu'; write auto, cpu"),
        ("losses.sds.weight=high", "override 'losses.sds.weight=high': losses.sds.weight: must be a valid number (is 'high')"),
    ],
)
def test_a_mistake_in_an_override(override: str, expected: str):
    assert message(write("base.yaml", BASE), override).startswith(expected)


def test_bare_names_find_shipped_files_and_paths_stay_paths():
    assert find_config("dreamfusion") == shipped_directory() / "dreamfusion.yaml"
    assert {"dreamfusion", "dreamfusion-sd", "playground-2d"} <= set(shipped_names())
    with pytest.raises(ConfigError, match="no configuration named 'dreamfuson'; did you mean 'dreamfusion'"):
        find_config("dreamfuson")
    with pytest.raises(ConfigError, match=r"dreamfusion\.yaml: no such file"):
        find_config("dreamfusion.yaml")
    Path("folder").mkdir()
    with pytest.raises(ConfigError, match="is a directory"):
        find_config("folder/")


@pytest.mark.parametrize("written", ['prompt="a blue car"', "prompt='a blue car'", "prompt=a blue car"])
def test_quotes_around_a_whole_text_are_not_part_of_it(written: str):
    assert load_config("dreamfusion", [written]).prompt == "a blue car"


@pytest.mark.parametrize("number", [".nan", ".inf", "-.inf", "1e400"])
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("losses.sds.weight", "{}"),
        ("losses.sds.weight", "{{from: {}, to: 1}}"),
        ("losses.sds.weight", "{{from: 1, to: 0, end: {}}}"),
        ("losses.sds.guidance_scale", "{}"),
        ("optimizer.lr", "{}"),
        ("optimizer.betas", "[0.9, {}]"),
        ("optimizer.eps", "{}"),
        ("optimizer.max_grad_norm", "{}"),
        ("optimizer.groups.geometry.lr", "{}"),
        ("export.smoothing", "{}"),
        ("cameras.elevation", "[0, {}]"),
        ("geometry.radius", "{}"),
    ],
)
def test_a_number_must_be_finite(key: str, value: str, number: str):
    override = f"{key}={value.format(number)}"
    with pytest.raises(ConfigError) as caught:
        compose_stages(load_stages("dreamfusion", [override]))
    assert str(caught.value).startswith(f"override {override!r}: {key}")
    assert "must be a finite number (is " in str(caught.value)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("seed=true", "seed: must be a number, not a truth value (is True)"),
        ("trainer.steps=false", "trainer.steps: must be a number, not a truth value (is False)"),
        ("seed=on", "seed: must be a valid integer (is 'on')"),
        ("seed=1:30", "seed: must be a valid integer (is '1:30')"),
        ("seed=0x1f", "seed: must be a valid integer (is '0x1f')"),
        ("optimizer.betas=[true, 0.9]", "optimizer.betas: must be a number, not a truth value (is [True, 0.9])"),
        ("losses.sds.weight={from: true, to: 1}", "losses.sds.weight.from: must be a number, not a truth value (is True)"),
        ("losses.sds.of=true", "losses.sds.of: must be text; put it in quotes (is True)"),
        ("losses.sds.of=1e3", "losses.sds.of: must be text; put it in quotes (is 1000.0)"),
    ],
)
def test_a_word_is_not_silently_a_number(override: str, expected: str):
    assert message(write("base.yaml", BASE), override) == f"override {override!r}: {expected}"


def test_a_number_with_leading_zeros_is_what_it_says():
    assert load_config(write("base.yaml", BASE), ["seed=0123"]).seed == 123


def test_a_long_value_is_cut_in_messages():
    said = message(write("base.yaml", BASE + f"seed: {'x' * 5000}\n"), "precision=" + "y" * 5000, "z" * 3000 + "=1")
    assert len(said.splitlines()) == 3
    assert all(len(line) < 500 for line in said.splitlines())


def test_a_chain_of_files_ends():
    for number in range(40):
        write(f"c{number}.yaml", f"extends: c{number + 1}.yaml\n")
    assert message("c0.yaml") == "c0.yaml: extends: more than 20 files extend one another; merge some of them"
