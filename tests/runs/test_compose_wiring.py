"""What each loss looks at, whom it asks and what stands inside a component: all of it is fitted together before a model loads."""

from __future__ import annotations

from pathlib import Path

import pytest
from toy_components import TOY, Box, Seer, Shine, built

from dfw.compose import Composition, compose
from dfw.config.load import load_config, load_with_provenance, to_yaml
from dfw.errors import ConfigError, PluginError

TEXT = """\
geometry: {type: box}
renderer:
  type: tracer
  shading: {normals: none}
losses:
  shine: {}
guidance:
  type: seer
"""
TWO = TEXT.replace("guidance:\n  type: seer\n", "guidances:\n  left: seer\n  right: {type: seer, reads: true}\n")


@pytest.fixture(autouse=True)
def nothing_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    built.clear()


def composed(*overrides: str, text: str = TEXT) -> Composition:
    Path("toy.yaml").write_text(text, encoding="utf-8")
    loaded = load_with_provenance("toy.yaml", overrides)
    return compose(loaded.config, TOY, loaded.provenance)


def refused(*overrides: str, text: str = TEXT, error: type[Exception] = ConfigError) -> str:
    with pytest.raises(error) as caught:
        composed(*overrides, text=text)
    assert built == []
    return str(caught.value)


def test_a_loss_asks_the_only_guidance():
    parts = composed().build()
    assert list(parts.guidances) == ["guidance"]
    assert built == ["box", "tracer", "shine", "seer"]
    assert composed().config.guidance_of("shine") == "guidance"


def test_a_loss_names_one_of_several_guidances():
    composition = composed("losses.shine.guidance=left", "prompt=a cup", text=TWO)
    assert composition.config.guidance_of("shine") == "left"
    assert list(composition.guidances()) == ["left"]
    assert composition.unasked == [("guidances", "right")]
    assert isinstance(composition.guidance("right"), Seer)
    built.clear()
    assert refused("prompt=a cup", text=TWO) == (
        "toy.yaml:6: losses.shine.guidance: missing; the run has several guidances, choose one of left, right"
    )
    assert refused("losses.shine.guidance=middle", text=TWO) == (
        "override 'losses.shine.guidance=middle': losses.shine.guidance: no guidance is called 'middle'; there are left, right"
    )


def test_a_loss_that_asks_no_guidance_needs_none_of_several():
    composed("losses.shine.weight=0", "losses.bend={needs: colour}", "prompt=a cup", text=TWO)


def test_a_prompt_is_needed_only_where_a_guidance_reads_text():
    composed()
    said = refused("guidance.reads=true")
    assert said == 'toy.yaml:1: prompt: missing; say what to make, e.g. prompt="a red mushroom"'
    composition = composed("guidance.reads=true", "prompt=a cup")
    assert composition.prompter() is not None
    assert composed().prompter() is None


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (
            ["losses.shine.of=normal"],
            "losses.shine.of: acme/shine 0.3 needs normals; renderer acme/tracer 0.3 provides them when renderer."
            "shading.normals is 'analytic'",
        ),
        (
            ["losses.shine.of=camera-normal"],
            "losses.shine.of: acme/shine 0.3 needs normals; renderer acme/tracer 0.3 provides them",
        ),
        (["losses.shine.of=depth"], "losses.shine.of: acme/shine 0.3 needs depth; renderer acme/tracer 0.3 does not provide it"),
        (["losses.shine.of=metal"], "losses.shine.of: acme/shine 0.3 needs metal; no other part of this run provides it"),
        (
            ["losses.shine.views=near"],
            "losses.shine.views: no set of views is called 'near'; there are cameras",
        ),
        (
            ["view_sets.near=orthogonal", "losses.shine.views=nera"],
            "losses.shine.views: no set of views is called 'nera'; there are cameras, near",
        ),
    ],
)
def test_what_a_loss_looks_at_must_be_there(overrides: list[str], expected: str):
    assert refused(*overrides).startswith(f"override '{overrides[-1]}': {expected}")


def test_normals_are_there_when_they_are_asked_for():
    composed("losses.shine.of=normal", "renderer.shading.normals=analytic")


def test_a_component_around_another_of_its_kind_speaks_for_both(monkeypatch: pytest.MonkeyPatch):
    """What the inner renderer requires is not asked of the run, and what it provides only where the outer one says so."""
    around = "renderer={type: around, inner: {type: tracer, shading: {normals: analytic}}}"
    assert refused(around).endswith(
        "renderer: acme/around 0.3 needs moving; geometry acme/box 0.3 does not provide it, choose another geometry"
    )
    monkeypatch.setattr(Box, "provides", classmethod(lambda cls, config: frozenset({"moving"})))
    assert refused(around, "losses.shine.of=normal").startswith(
        "override 'losses.shine.of=normal': losses.shine.of: acme/shine 0.3 needs normals; renderer acme/around 0.3 does not"
    )
    made = composed(around)
    assert [one.key for one in made.chosen[("renderer",)].all()] == ["renderer", "renderer.inner"]


def test_a_set_of_views_is_built_where_a_loss_looks_at_it():
    views = ["view_sets.near={type: orthogonal, batch_size: 8}", "view_sets.far=random"]
    assert list(composed(*views).cameras()) == ["cameras"]
    made = composed(*views, "losses.shine.views=near").cameras()
    assert list(made) == ["cameras", "near"]
    assert made["near"].config.batch_size == 8


def test_a_guidance_sees_as_many_views_as_the_cameras_show_together():
    """The default cameras show each view alone, and a ring of `orthogonal` has four views."""
    assert refused("guidance.views=4") == (
        "toy.yaml:1: cameras: acme/seer 0.3 sees 4 views of one scene at once, and these cameras give 1; make the two "
        "equal, e.g. cameras: {type: orthogonal, count: 4, batch_size: 4}"
    )
    composed("guidance.views=4", "cameras=orthogonal")
    composed("cameras=orthogonal")  # a model that sees one view takes each as it comes
    near = ["guidance.views=4", "view_sets.near={type: orthogonal, count: 2}", "losses.shine.views=near"]
    assert refused(*near).startswith(
        "override 'view_sets.near={type: orthogonal, count: 2}': view_sets.near: acme/seer 0.3 sees 4"
    )


def test_a_number_of_views_that_is_none(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Seer, "sees", classmethod(lambda cls, config: "four"))
    assert refused(error=PluginError) == (
        "guidance (acme/seer, acme 0.3) cannot say how many views it sees: TypeError: it gave 'four', not a whole number of 1 or "
        "more"
    )


@pytest.mark.parametrize(
    ("override", "error", "expected"),
    [
        ("losses.shine.noise=fixd", PluginError, "no noise named 'fixd' (losses.shine.noise.type). Did you mean 'fixed'?"),
        ("losses.shine.noise.type=fixd", PluginError, "no noise named 'fixd' (losses.shine.noise.type). Did you mean 'fixed'?"),
        ("losses.shine.more.far=fixd", PluginError, "no noise named 'fixd' (losses.shine.more.far.type). Did you mean 'fixed'?"),
        ("losses.shine.noise.sigma=2", ConfigError, "losses.shine.noise.sigma: unknown key; known: none (dreamfw/gaussian 0.1"),
        (
            "losses.shine.more={far: {type: fixed, a: 1}}",
            ConfigError,
            "losses.shine.more.far.a: unknown key; known: none (dreamfw/fi",
        ),
        (
            "losses.shine.noise=7",
            ConfigError,
            "losses.shine.noise: must be a name, or a mapping with its type and options (is 7)",
        ),
    ],
)
def test_a_mistake_in_a_part_inside_a_component(override: str, error: type[Exception], expected: str):
    assert refused(override, error=error).startswith(f"override {override!r}: {expected}")


def test_parts_inside_a_component_are_written_down_and_come_back():
    composition = composed("losses.shine.noise=fixed", "losses.shine.more={far: gaussian}")
    keys = ["losses.shine", "losses.shine.noise", "losses.shine.more.far"]
    assert [part.key for part in composition.parts() if part.path[0] == "losses"] == keys
    assert composition.origins()["losses.shine.noise"].qualified == "dreamfw/fixed"
    loss = composition.losses()["shine"]
    assert isinstance(loss, Shine)
    assert loss.noise.dfw_name.startswith("losses.shine.noise (dreamfw/fixed, dreamfw ")
    resolved = composition.resolved()
    assert resolved.losses["shine"].options == {"noise": {"type": "dreamfw/fixed"}, "more": {"far": {"type": "dreamfw/gaussian"}}}
    Path("resolved.yaml").write_text(to_yaml(resolved), encoding="utf-8")
    assert compose(load_config("resolved.yaml"), TOY).resolved() == resolved


def test_a_component_inside_keeps_its_type_where_only_its_options_are_written():
    assert Shine.Config.model_validate({"noise": {"sigma": 2}}).noise.type == "dreamfw/gaussian"
    with pytest.raises(ValueError, match=r"more\.far\.type"):  # a mapping of components has no default
        Shine.Config.model_validate({"more": {"far": {"sigma": 2}}})


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("cameras.widht=3", "cameras.widht: unknown key, did you mean 'width'? (dreamfw/random "),
        ("cameras.qqqqq=3", "cameras.qqqqq: unknown key; known: width, height, batch_size,"),
        ("cameras.fov=[50, 40]", "cameras.fov: [50, 40] runs backwards; write [low, high]"),
        ("cameras.fov=[0, 40]", "cameras.fov: [0, 40] must lie inside (0, 180) degrees"),
        ("cameras.fov=[40, 180]", "cameras.fov: [40, 180] must lie inside (0, 180) degrees"),
        ("cameras.elevation=[-91, 0]", "cameras.elevation: [-91, 0] must lie inside [-90, 90] degrees"),
        ("cameras.distance=[0, 2]", "cameras.distance: [0, 2] must lie above 0"),
        ("cameras.width=0", "cameras.width: 0 is too small; write 1 or more"),
        ("cameras.width={from: 0, to: 64}", "cameras.width: 0 is too small"),
        ("cameras.batch_size=0", "cameras.batch_size: 0 is too small"),
        ("cameras.width={from: 32, to: 64, end: 900, unit: step}", "cameras.width: ends at step 900, after the run's 600 steps"),
        ("prompter.sectors=6", "prompter.sectors: must be 4 or 8 (is 6)"),
        ("prompter.template='{prompt} only'", "prompter.template: '{prompt} only' must hold {prompt} and {view}"),
        ("prompter.front=180", "prompter.front: must be less than 180 (is 180)"),
        ("prompter={type: plain, sectors: 8}", "prompter.sectors: unknown key; known: none (dreamfw/plain "),
        ("view_sets.near={type: orthogonal, count: 3}", "view_sets.near.batch_size: 4 is not a multiple of count, 3"),
        ("export.formats=[{type: glb, a: 1}]", "export.formats.0.a: unknown key; known: roughness (dreamfw/glb "),
    ],
)
def test_options_of_the_smaller_kinds_are_checked(override: str, expected: str):
    assert refused(override).startswith(f"override {override!r}: {expected}")


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("cameras=randm", "no cameras named 'randm' (cameras.type). Did you mean 'random'?"),
        ("prompter=direct", "no prompter named 'direct' (prompter.type). Did you mean 'directional'? Known: directional, plain."),
        (
            "view_sets.near.type=ring",
            "no cameras named 'ring' (view_sets.near.type). Known: dataset, orthogonal, picture, random.",
        ),
        ("export.formats=[glb, foo]", "no exporter named 'foo' (export.formats.1.type). Known: glb, obj, ply,"),
    ],
)
def test_names_of_the_smaller_kinds_are_checked(override: str, expected: str):
    assert refused(override, error=PluginError).startswith(f"override {override!r}: {expected}")
