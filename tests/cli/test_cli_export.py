"""`dfw export` and `dfw render`: what --out decides, what is refused, and what a run refuses before its first step."""

from __future__ import annotations

import sys
from pathlib import Path

import av
import pytest
from command_line import fresh_plugins, run_dfw
from painted_box import by_assimp
from PIL import Image

import dfw

TINY = {
    "name": "box",
    "device": "cpu",
    "geometry": {"type": "sdf-scene", "shape": "a red cube"},
    "renderer": {"type": "volume", "samples": 32, "background": {"type": "learned", "width": 4, "layers": 1}},
    "losses": {"opacity": {}},
    "cameras": {"width": 8, "batch_size": 1},
    "trainer": {"steps": 1, "preview_width": 8},
    "export": {
        "resolution": 24,
        "faces": 500,
        "texture": 64,
        "turntable": "gif",
        "turntable_frames": 3,
        "turntable_width": 16,
        "formats": [{"type": "glb", "roughness": 0.25}],
    },
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    fresh_plugins()
    return dfw.run(TINY, f"output={tmp_path_factory.mktemp('runs')}", listeners=[]).directory


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    fresh_plugins()


def said(err: str) -> str:
    return " ".join(err.replace("│", " ").split())


def test_a_run_ends_with_its_formats_and_its_turntable(run: Path) -> None:
    assert sorted(path.name for path in (run / "export").iterdir()) == ["object.glb", "turntable.gif"]
    with Image.open(run / "export" / "turntable.gif") as image:
        assert (image.format, image.n_frames, image.size) == ("GIF", 3, (16, 16))


@pytest.mark.parametrize(("name", "files"), [("thing.glb", 1), ("new/thing.STL", 1), ("thing.obj", 3), ("thing.ply", 1)])
def test_the_ending_of_out_decides_the_format(run: Path, name: str, files: int, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run_dfw("export", str(run), "--out", name, "--faces", "100", capsys=capsys)
    assert (code, err) == (0, "")
    path = Path(name).with_suffix(Path(name).suffix.lower())
    assert out.split() == [path.suffix[1:], str(path)]
    assert len(list(path.parent.iterdir())) == files
    found, _ = by_assimp(path)
    assert 50 < len(found.points) <= 100
    code, out, _ = run_dfw("export", str(run), "--out", name, "--faces", "100", capsys=capsys)
    assert out.split()[1] == str(path.with_stem("thing-2"))


def test_the_ending_takes_the_runs_options_for_that_format(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_dfw("export", str(run), "--out", "a.glb", capsys=capsys)
    assert b'"roughnessFactor":0.25' in Path("a.glb").read_bytes()


def test_formats_takes_any_exporter_with_its_options(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    formats = "stl, {type: usdz, roughness: 0.5}"
    code, out, err = run_dfw("export", str(run), "--formats", formats, "--out", "folder", capsys=capsys)
    assert (code, err) == (0, "")
    assert out.split() == ["stl", "folder/object.stl", "usdz", "folder/object.usdz"]
    assert sorted(path.name for path in Path("folder").iterdir()) == ["object.stl", "object.usdz"]


@pytest.mark.parametrize(
    ("arguments", "exit_code", "words"),
    [
        (
            "export RUN --out a.fbx",
            2,
            "error: a.fbx: no exporter writes .fbx, only .glb, .obj, .ply, .stl, .usdz; a folder has no",
        ),
        ("export RUN --out a.glb --formats obj", 2, "the ending of --out a.glb decides the format; leave out --formats, or"),
        ("export RUN --formats fbx", 3, "no exporter named 'fbx' (export.formats.0.type)"),
        ("export RUN --formats ,", 2, "error: "),
        ("export RUN --formats=", 2, "export.formats is empty, so there is nothing to write; name a format, e.g. --formats glb"),
        ("render RUN --out a.avi", 2, "error: a.avi: a turntable ends in .webp, .gif or .mp4; a name without an ending is a"),
        ("render RUN --out a.png", 2, "error: a.png: a turntable ends in .webp, .gif or .mp4"),
    ],
)
def test_what_cannot_be_written_is_one_sentence(
    run: Path, arguments: str, exit_code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run_dfw(*(str(run) if word == "RUN" else word for word in arguments.split()), capsys=capsys)
    assert (code, out) == (exit_code, "")
    assert words in said(err)
    assert not list(Path().iterdir())


def test_render_writes_what_the_ending_says(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ["--frames", "4", "--width", "12"]
    for name, made in (("a.webp", "a.webp"), ("a.gif", "a.gif"), ("a.GIF", "a.GIF"), ("a.gif", "a-2.gif")):
        code, out, err = run_dfw("render", str(run), "--out", name, *sizes, capsys=capsys)
        assert (code, out, err) == (0, f"{made}\n", "")
        with Image.open(made) as image:
            assert (image.n_frames, image.size, image.info["loop"]) == (4, (12, 12), 0)
    assert run_dfw("render", str(run), "--out", "a.mp4", *sizes, capsys=capsys)[0] == 0
    with av.open("a.mp4") as container:
        assert len(list(container.decode(video=0))) == 4


def test_render_writes_frames_into_a_folder(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("there").mkdir()
    for name, made in (("frames/", "frames"), ("frames", "frames-2"), ("there/", "there"), ("there", "there-2")):
        code, out, err = run_dfw("render", str(run), "--out", name, "--frames", "2", "--width", "8", capsys=capsys)
        assert (code, out, err) == (0, f"{made}\n", "")
        assert sorted(path.name for path in Path(made).iterdir()) == ["frame-000.png", "frame-001.png"]


def test_render_takes_the_runs_own_format(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run_dfw("render", str(run), "--frames", "2", "--width", "8", capsys=capsys)
    assert Path(out.strip()) == run / "export" / "turntable-2.gif"


@pytest.mark.parametrize(
    ("package", "override", "words"),
    [
        (
            "pxr",
            "export.formats=[usdz]",
            "the exporter usdz needs the library usd-core; install it with: pip install usd-core",
        ),
        ("av", "export.turntable=mp4", "an MP4 needs the library av; install it with: pip install av"),
    ],
)
def test_a_missing_library_is_said_before_the_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, override: str, words: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # what Python makes of a package that cannot be imported
    with pytest.raises(dfw.ExportError) as raised:
        dfw.run(TINY, f"output={tmp_path}", override, listeners=[])
    assert words in str(raised.value)
    assert not list(tmp_path.iterdir())


def test_a_run_without_a_turntable_needs_no_library_for_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    changes = ["export.turntable=mp4", "export.turntable_frames=0", "export.formats=[]"]
    run = dfw.run(TINY, f"output={tmp_path}", *changes, listeners=[])
    assert list(run.artifacts) == ["report"]


def test_python_exports_a_file_too(run: Path) -> None:
    assert dfw.open(run).export("a.stl", faces=100) == {"stl": Path("a.stl")}
