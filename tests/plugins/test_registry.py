"""Names to components: real dist-info directories on the import path, no mocks."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from fake_packages import LOSS, on_path, write_package

from dfw import ComponentConfig, Loss
from dfw.errors import PluginError
from dfw.plugins.registry import Registry, rediscover, register, registry


@pytest.fixture(autouse=True)
def fresh_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DFW_BLOCK_PLUGINS", raising=False)
    monkeypatch.delenv("DFW_NO_PLUGINS", raising=False)


def discovered(folder: Path) -> Registry:
    with on_path(folder):
        return Registry.discover()


def names(found: Registry, kind: str) -> set[str]:
    return {entry.qualified for entry in found.entries(kind)}


def load(known: Registry, name: str) -> type[Any]:
    return known.load(known.resolve("loss", name))


def test_the_built_in_components_are_found_by_metadata():
    assert {"dreamfw/nerf", "dreamfw/sdf-scene", "dreamfw/image"} <= names(Registry.discover(), "geometry")
    assert "dreamfw/sds" in names(Registry.discover(), "loss")


def test_a_third_party_component_is_found_imported_on_load_and_not_before(tmp_path: Path):
    write_package(tmp_path, "dreamfw-acme", "0.3", "[dfw.loss]\nglow = acme_a:Glow\n", {"acme_a": LOSS.format(name="Glow")})
    with on_path(tmp_path):
        found = Registry.discover()
        entry = found.resolve("loss", "glow")
        assert (entry.distribution, entry.version, entry.target) == ("dreamfw-acme", "0.3", "acme_a:Glow")
        assert "acme_a" not in sys.modules
        assert found.resolve("loss", "dreamfw-acme/glow") == entry
        assert found.resolve("loss", "Dreamfw_ACME/glow") == entry
        assert found.load(entry).__name__ == "Glow"


def test_a_shared_name_is_an_error_only_for_those_who_use_it_bare(tmp_path: Path):
    write_package(tmp_path, "acme", "1.2", "[dfw.loss]\nsds = acme_b:Mine\n", {"acme_b": LOSS.format(name="Mine")})
    found = discovered(tmp_path)
    assert found.resolve("loss", "acme/sds").version == "1.2"
    assert found.resolve("loss", "dreamfw/sds").distribution == "dreamfw"
    assert found.resolve("loss", "opacity").distribution == "dreamfw"
    with pytest.raises(PluginError, match=r"loss 'sds' \(losses\.a\.type\) is provided by several distributions") as caught:
        found.resolve("loss", "sds", "losses.a.type")
    assert "acme/sds (acme 1.2)" in str(caught.value)
    assert "dreamfw/sds (dreamfw " in str(caught.value)


def test_an_unknown_name_gets_the_nearest_one_and_the_known_ones():
    with pytest.raises(PluginError) as caught:
        Registry.discover().resolve("geometry", "nerv")
    text = str(caught.value)
    assert text.startswith("no geometry named 'nerv' (geometry.type). Did you mean 'nerf'? Known: ")
    assert "sdf-scene" in text


def test_a_name_of_a_distribution_that_is_not_installed_says_how_to_install_it():
    with pytest.raises(PluginError, match=r'pip install "dreamfw-acme"'):
        Registry.discover().resolve("geometry", "dreamfw-acme/nerf")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("raise ImportError('no such GPU')", "ImportError: no such GPU"),
        ("import sys; sys.exit(7)", "SystemExit: 7"),
        ("raise RuntimeError('boom')", "RuntimeError: boom"),
        ("def f(:", "SyntaxError"),
        ("x = 1", "AttributeError"),
        ("class Odd(BaseException): pass\nraise Odd('odd')", "Odd: odd"),
    ],
)
def test_a_component_that_cannot_be_imported_names_its_distribution_version_and_target(tmp_path: Path, source: str, reason: str):
    write_package(tmp_path, "acme-broken", "0.1", "[dfw.loss]\nbad = acme_broken:Bad\n", {"acme_broken": source})
    with on_path(tmp_path):
        found = Registry.discover()
        with pytest.raises(PluginError) as caught:
            found.load(found.resolve("loss", "bad"))
        text = str(caught.value)
        assert "loss 'bad' of acme-broken 0.1 failed to load from acme_broken:Bad" in text
        assert reason in text
        with pytest.raises(PluginError, match=r"cannot be used: acme-broken 0\.1: loss 'bad'"):
            found.resolve("loss", "bat")


PRESSED = "import signal; signal.raise_signal(signal.SIGINT)"


def test_ctrl_c_during_an_import_stays_ctrl_c(tmp_path: Path):
    write_package(tmp_path, "acme-slow", "0.1", "[dfw.loss]\nslow = acme_slow:Slow\n", {"acme_slow": PRESSED})
    with on_path(tmp_path), pytest.raises(KeyboardInterrupt) as caught:
        load(Registry.discover(), "slow")
    assert caught.value.__notes__ == ["while waiting for loss 'slow' of acme-slow 0.1"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("def Thing(): pass", "is a function, not a subclass of dfw.Loss"),
        ("class Thing: pass", "is the class acme_kind.Thing, not a subclass of dfw.Loss"),
        ("from dfw import Renderer as Base\nclass Thing(Base):\n  def forward(self): ...", "not a subclass of dfw.Loss"),
        ("from dfw import Loss\nclass Thing(Loss): pass", "does not implement forward"),
        ("from dfw import Loss\nclass Thing(Loss):\n  Config = None\n  def forward(self, i): ...", "has no Config"),
        (
            "from dfw import Loss, ComponentConfig\nclass Thing(Loss):\n  class Config(ComponentConfig):\n    weight: float = 1\n"
            "  def forward(self, i): ...",
            "has a Config field named 'weight'",
        ),
    ],
)
def test_what_is_not_a_component_of_the_kind_is_refused(tmp_path: Path, body: str, reason: str):
    write_package(tmp_path, "acme-kind", "2.0", "[dfw.loss]\nthing = acme_kind:Thing\n", {"acme_kind": body})
    with on_path(tmp_path):
        with pytest.raises(PluginError) as caught:
            load(Registry.discover(), "thing")
        assert reason in str(caught.value)
        assert "acme-kind 2.0" in str(caught.value)


@pytest.mark.parametrize(
    ("entry_points", "reason"),
    [
        ("[dfw.loss]\nthis is no entry point\n", "entry_points.txt"),
        ("[dfw.loss]\nodd = not a target!\n", 'not of the form "module:name"'),
        ("[dfw.losses]\nodd = a:B\n", "no such kind; there are geometry, renderer, guidance, loss"),
        ("[dfw2.loss]\nodd = a:B\n", "speaks plugin interface 2, this dfw speaks 1"),
        ("[dfw.loss]\na/b = a:B\n", "use letters"),
    ],
)
def test_broken_metadata_breaks_only_its_own_package(tmp_path: Path, entry_points: str, reason: str):
    write_package(tmp_path, "acme-odd", "0.9", entry_points)
    found = discovered(tmp_path)
    assert "dreamfw/sds" in names(found, "loss")
    assert any(reason in str(problem) and "acme-odd 0.9" in str(problem) for problem in found.problems), found.problems


def test_metadata_without_a_name_breaks_only_its_own_package(tmp_path: Path):
    write_package(tmp_path, "acme-nameless", "0.9", "[dfw.loss]\na = a:B\n", metadata="Metadata-Version: 2.1\n")
    found = discovered(tmp_path)
    assert "dreamfw/sds" in names(found, "loss")
    assert any("metadata" in str(problem) for problem in found.problems)


def test_the_first_copy_on_the_path_counts(tmp_path: Path):
    write_package(tmp_path / "new", "acme", "2.0", "[dfw.loss]\nglow = acme_new:Glow\n")
    write_package(tmp_path / "old", "acme", "1.0", "[dfw.loss]\nglow = acme_old:Glow\nfade = acme_old:Fade\n")
    with on_path(tmp_path / "new", tmp_path / "old"):
        found = Registry.discover()
    assert found.resolve("loss", "glow").version == "2.0"
    assert "acme/fade" not in names(found, "loss")
    assert not found.problems


def test_a_newer_copy_without_plugins_hides_the_older_one(tmp_path: Path):
    write_package(tmp_path / "new", "acme", "2.0", "")
    write_package(tmp_path / "old", "acme", "1.0", "[dfw.loss]\nfade = acme_old:Fade\n")
    with on_path(tmp_path / "new", tmp_path / "old"):
        assert "acme/fade" not in names(Registry.discover(), "loss")


def test_block_and_no_plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_package(tmp_path, "dreamfw_Acme", "0.3", "[dfw.loss]\nglow = acme_c:Glow\n")
    assert "dreamfw-acme/glow" in names(discovered(tmp_path), "loss")
    for variable, value in (("DFW_BLOCK_PLUGINS", "other, dreamfw.acme"), ("DFW_NO_PLUGINS", "1")):
        with monkeypatch.context() as patch:
            patch.setenv(variable, value)
            found = discovered(tmp_path)
            assert "dreamfw-acme/glow" not in names(found, "loss")
            assert "dreamfw/sds" in names(found, "loss")
            with pytest.raises(PluginError, match=r"dreamfw-acme 0\.3 provides it and is blocked"):
                found.resolve("loss", "glow")


def test_the_built_in_distribution_cannot_be_blocked(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DFW_BLOCK_PLUGINS", "dreamfw")
    with pytest.raises(PluginError, match="cannot be blocked"):
        Registry.discover()


def test_a_name_that_was_registered_by_hand_in_another_process_says_how_to_bring_it_back():
    with pytest.raises(PluginError, match=r"give the file that does so with --plugin FILE\.py"):
        Registry.discover().resolve("loss", "local/glow")


class Mine(Loss):
    """A loss written in a notebook."""

    class Config(ComponentConfig):
        """No options."""

    def __init__(self, config):
        super().__init__()
        self.config = config

    def forward(self, inputs):
        return inputs.render.colour.mean()


def test_registering_by_hand_and_again():
    register("loss", "mine", Mine)
    try:
        assert load(registry(), "mine") is Mine
        assert registry().resolve("loss", "local/mine").qualified == "local/mine"
        other = type("Mine", (Mine,), {})
        register("loss", "mine", other)
        assert load(registry(), "mine") is other
        assert load(rediscover(), "mine") is other
    finally:
        registry()._entries = [entry for entry in registry().entries() if entry.distribution != "local"]


@pytest.mark.parametrize(
    ("kind", "name", "component", "reason"),
    [
        ("losses", "mine", Mine, "no kind of component named 'losses'"),
        ("loss", "a/b", Mine, "cannot name a loss"),
        ("geometry", "mine", Mine, "not a subclass of dfw.Geometry"),
        ("loss", "mine", 3, "is a int"),
    ],
)
def test_registering_what_does_not_fit_is_refused(kind: str, name: str, component: object, reason: str):
    with pytest.raises(PluginError, match=reason):
        Registry().register(kind, name, component)
