"""Which exporter a file's name means, what formats a run may have, and what an exporter that fails leaves behind."""

from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar

import pytest
from painted_box import painted_box

import dfw
from dfw import ComponentConfig, Exporter
from dfw.compose import Composition, compose
from dfw.config.settings import RunConfig
from dfw.errors import ConfigError, ExportError
from dfw.export.files import write_files
from dfw.export.formats import exporter_for, is_file
from dfw.interfaces.exporter import Exporter as Interface
from dfw.plugins.registry import Registry, registry


class Lines(Exporter):
    """Counts the triangles in a text file."""

    class Config(ComponentConfig):
        """A word to begin with."""

        word: str = "triangles"
        fail: str = ""

    suffixes: ClassVar[tuple[str, ...]] = (".count", ".txt")

    def __init__(self, config: Config) -> None:
        self.config = config

    def files(self, mesh, stem, title):
        if self.config.fail == "raises":
            raise ExportError("no ink left; buy some")
        text = f"{self.config.word} {len(mesh.faces)} of {title}".encode()
        return {".txt": text} if self.config.fail == "forgets" else {".count": text, ".txt": text}


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dfw.plugins.registry._default", [Registry(registry().entries())])
    dfw.register("exporter", "lines", Lines)


def composed(*formats: object) -> Composition:
    return compose(
        RunConfig.model_validate(
            {
                "geometry": {"type": "sdf-scene", "shape": "a red cube"},
                "renderer": "volume",
                "losses": {"opacity": {}},
                "export": {"formats": formats},
            }
        )
    )


def test_formats_are_names_or_mappings_with_options() -> None:
    glb, lines = composed({"type": "glb", "roughness": 0.5}, "lines").exporters()
    assert glb.config.roughness == 0.5
    assert (type(lines), lines.config.word) == (Lines, "triangles")
    assert composed().exporters() == []


@pytest.mark.parametrize(
    ("formats", "words"),
    [
        (["gbl"], "no exporter named 'gbl' (export.formats.0.type). Did you mean 'glb'? Known: glb, lines, obj, ply, stl, usdz."),
        (["glb", {"type": "obj", "rough": 1}], "export.formats.1.rough: unknown key, did you mean 'roughness'?"),
        (["glb", "dreamfw/glb"], f"export.formats.1: dreamfw/glb {dfw.__version__} writes .glb files, as export.formats.0 does"),
    ],
)
def test_wrong_formats_are_refused_with_their_place(formats: list[object], words: str) -> None:
    with pytest.raises(dfw.DfwError, match=re.escape(words)):
        composed(*formats)


def test_two_formats_may_not_share_a_second_ending() -> None:
    class Clash(Lines):
        suffixes: ClassVar[tuple[str, ...]] = (".clash", ".png")

    dfw.register("exporter", "clash", Clash)
    with pytest.raises(ConfigError, match=r"export\.formats\.1: local/clash .* writes \.png files, as export\.formats\.0 does"):
        composed("obj", "clash")


@pytest.mark.parametrize("endings", [(), ".abc", ("abc",), None])
def test_an_exporter_that_does_not_say_what_it_writes_is_refused(endings: object) -> None:
    class Mute(Lines):
        suffixes = endings

    dfw.register("exporter", "mute", Mute)
    assert exporter_for(Path("a.stl"), composed()).suffixes == (".stl",)
    with pytest.raises(ConfigError, match=r"export\.formats\.0: local/mute .* does not say what it writes, e\.g\. suffixes ="):
        composed("mute")


def test_the_endings_exporter_is_the_configured_one_before_an_installed_one() -> None:
    composition = composed({"type": "glb", "roughness": 0.5}, {"type": "lines", "word": "faces"})
    assert exporter_for(Path("a/b.GLB"), composition).config.roughness == 0.5
    assert exporter_for(Path("b.count"), composition).config.word == "faces"
    assert exporter_for(Path("b.count"), composed()).config.word == "triangles"
    assert exporter_for(Path("b.stl"), composition).suffixes == (".stl",)


def test_an_unknown_ending_lists_the_endings_there_are() -> None:
    with pytest.raises(ExportError) as raised:
        exporter_for(Path("a.fbx"), composed())
    assert (
        str(raised.value) == "a.fbx: no exporter writes .fbx, only .count, .glb, .obj, .ply, .stl, .usdz; a folder has no ending"
    )
    with pytest.raises(ExportError, match=r"no exporter writes \.mtl"):  # it comes with an OBJ, and alone is no mesh
        exporter_for(Path("a.mtl"), composed())


def test_an_ending_of_two_packages_is_a_question() -> None:
    class Other(Lines):
        suffixes: ClassVar[tuple[str, ...]] = (".glb",)

    dfw.register("exporter", "other", Other)
    with pytest.raises(ExportError, match=r"dreamfw/glb and local/other both write \.glb; choose with --formats"):
        exporter_for(Path("a.glb"), composed())
    assert exporter_for(Path("a.glb"), composed("other")).suffixes == (".glb",)


def test_a_broken_exporter_of_another_package_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    from dfw.plugins.registry import Entry

    registry()._entries.append(Entry("exporter", "gone", "acme", "0.3", "acme_gone:Gone"))
    assert exporter_for(Path("a.stl"), composed()).suffixes == (".stl",)
    assert "acme 0.3" in caplog.text


def test_a_file_has_an_ending_and_a_folder_has_none(tmp_path: Path) -> None:
    (tmp_path / "v1.2").mkdir()
    assert [is_file(path) for path in (Path("a.glb"), Path("a"), tmp_path / "v1.2", tmp_path / "v1.3")] == [
        True,
        False,
        False,
        True,
    ]


def test_files_share_a_free_name(tmp_path: Path) -> None:
    (tmp_path / "thing.txt").write_text("mine")
    paths = write_files(painted_box(), tmp_path, [dfw.build("exporter", "lines"), dfw.build("exporter", "stl")], "a box", "thing")
    assert paths == {"count": tmp_path / "thing-2.count", "stl": tmp_path / "thing-2.stl"}
    assert paths["count"].read_text() == "triangles 12 of a box"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["thing-2.count", "thing-2.stl", "thing-2.txt", "thing.txt"]
    assert (tmp_path / "thing.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("fail", "words"), [("raises", "no ink left; buy some"), ("forgets", r"files\(\) gave \.txt, not bytes for \.count")]
)
def test_an_exporter_that_fails_leaves_the_others_files_and_none_of_its_own(tmp_path: Path, fail: str, words: str) -> None:
    failing: Interface = dfw.build("exporter", "lines", fail=fail)
    with pytest.raises(dfw.DfwError, match=words):
        write_files(painted_box(), tmp_path, [dfw.build("exporter", "stl"), failing, dfw.build("exporter", "ply")], "a box")
    assert [path.name for path in tmp_path.iterdir()] == ["object.stl"]
