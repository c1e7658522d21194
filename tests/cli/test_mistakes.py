"""Mistakes in a run's configuration, as a user makes them: one clear sentence with its place, the exit code, and no run."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import fresh_plugins, run_dfw
from hostile_site import one_error
from PIL import Image

from dfw.studies.plan import Planned, write_plan

TWO = """\
extends: dreamfusion
guidance: null
guidances:
  left: {type: stable-diffusion, model: embedded}
  right: {type: gaussian, means: {red: [1, 0, 0]}}
losses:
  sds: {guidance: left}
  shape:
    type: sds
"""
STAGED = """\
stages:
  coarse: {extends: dreamfusion}
  refine: {extends: coarse}
  last:
    extends: refine
    geometry: {radus: 2}
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    fresh_plugins()


def said(*arguments: str, code: int, capsys: pytest.CaptureFixture[str]) -> str:
    ended, out, err = run_dfw("run", *arguments, "--dry-run", capsys=capsys)
    text = one_error(err).removeprefix("error: ")
    assert (ended, out) == (code, ""), text
    assert err.count("\n") == 1
    assert not Path("runs").exists()
    return text


@pytest.mark.parametrize(
    ("override", "code", "expected"),
    [
        ("losses.sds.of=normal", 2, "provides them when renderer.shading.normals is 'always'"),
        ("losses.sds.noise=fixd", 3, "no noise named 'fixd' (losses.sds.noise.type). Did you mean 'fixed'?"),
        ("losses.sds.noise.type=fixd", 3, "no noise named 'fixd' (losses.sds.noise.type). Did you mean 'fixed'?"),
        ("losses.sds.noise.seed=3", 2, "losses.sds.noise.seed: unknown key; known: none (dreamfw/gaussian "),
        ("renderer.background=learnd", 3, "no background named 'learnd' (renderer.background.type). Did you mean 'learned'?"),
        ("view_sets.near.widht=64", 2, "view_sets.near.widht: unknown key, did you mean 'width'? (dreamfw/random "),
        ("view_set.near=random", 2, "view_set: unknown key, did you mean 'view_sets'?"),
        ("losses.sds.views=near", 2, "losses.sds.views: no set of views is called 'near'; there are cameras"),
        ("losses.sds.guidance=left", 2, "losses.sds.guidance: no guidance is called 'left'; there are guidance"),
        ("cameras=orthogonl", 3, "no cameras named 'orthogonl' (cameras.type). Did you mean 'orthogonal'?"),
        ("cameras={type: orthogonal, count: 3}", 2, "cameras.batch_size: 4 is not a multiple of count, 3"),
        ("export.formats=[glb,foo]", 3, "no exporter named 'foo' (export.formats.1.type). Known: glb, obj, ply,"),
        ("export.formats=glb", 2, "export.formats: must be a list, e.g. [glb] (is 'glb')"),
        ("prompt=", 2, 'prompt: missing; say what to make, e.g. prompt="a red mushroom"'),
        (
            "start.run=nowhere",
            2,
            "start.run: nowhere: not a run directory (no resolved.yaml); give the folder that `dfw run` pri",
        ),
        ("start.mesh=teapot.glb", 2, "start.mesh: there is no file teapot.glb; give an OBJ, GLB or PLY file"),
        ("start.stage=coarse", 2, "start.stage: no stage before this one is called 'coarse'; there are none"),
        (
            "optimizer.groups.geometry.rates=1",
            2,
            "optimizer.groups.geometry.rates: unknown key; known: lr, betas, eps, weight_decay",
        ),
    ],
)
def test_a_wrong_override(override: str, code: int, expected: str, capsys: pytest.CaptureFixture[str]):
    text = said("dreamfusion", override, code=code, capsys=capsys)
    assert text.startswith(f"override {override!r}: ")
    assert expected in text


def test_a_loss_that_names_none_of_two_guidances(capsys: pytest.CaptureFixture[str]):
    Path("two.yaml").write_text(TWO)
    assert said("two.yaml", code=2, capsys=capsys) == (
        "two.yaml:8: losses.shape.guidance: missing; the run has several guidances, choose one of left, right"
    )


def test_guidances_next_to_an_inherited_guidance(capsys: pytest.CaptureFixture[str]):
    Path("two.yaml").write_text(TWO.replace("guidance: null\n", ""))
    assert said("two.yaml", code=2, capsys=capsys) == (
        "two.yaml:2: guidances: the run has a guidance as well; write all of them under guidances, and guidance: null over an "
        "inherited one"
    )


def test_other_cameras_leave_the_options_of_the_old_ones_behind(capsys: pytest.CaptureFixture[str]):
    """dreamfusion has options that `orthogonal` does not know in this form, such as a ramp of its width."""
    code, out, err = run_dfw("run", "dreamfusion", "cameras.type=orthogonal", "--dry-run", capsys=capsys)
    assert (code, err) == (0, "")
    assert "  type: dreamfw/orthogonal\n  count: 4\n  batch_size: 4.0\n  width: 64.0\n" in out


def test_a_mistake_in_the_third_stage(capsys: pytest.CaptureFixture[str]):
    Path("staged.yaml").write_text(STAGED)
    assert said("staged.yaml", code=2, capsys=capsys).startswith(
        "staged.yaml:6: stages.last.geometry.radus: unknown key, did you mean 'radius'? (dreamfw/nerf "
    )
    fixed = ["stages.last.geometry={type: image}", "stages.last.renderer={type: plane}", "stages.last.start.run=nowhere"]
    text = said("staged.yaml", *fixed, code=2, capsys=capsys)
    assert text.startswith("override 'stages.last.start.run=nowhere': stages.last.start.run: nowhere: not a run directory")


def test_a_stage_that_starts_from_a_later_one(capsys: pytest.CaptureFixture[str]):
    Path("staged.yaml").write_text(STAGED.replace("radus", "radius"))
    assert said("staged.yaml", "stages.refine.start.stage=last", code=2, capsys=capsys) == (
        "override 'stages.refine.start.stage=last': stages.refine.start.stage: no stage before this one is called 'last'; "
        "there are coarse"
    )


@pytest.mark.parametrize("more", [["--dry-run"], []], ids=["dry", "run"])
def test_a_place_that_cannot_be_written_is_refused_before_a_model_loads(more: list[str], capsys: pytest.CaptureFixture[str]):
    """Nobody may write below /proc, not even root."""
    code, _, err = run_dfw("run", "dreamfusion", "prompt=a red cube", "output=/proc/runs", *more, capsys=capsys)
    assert (code, "loading" in err.replace("loading torch", "")) == (2, False)
    assert "cannot write output=/proc/runs: no such file or directory; name a folder that you may write to" in err


@pytest.mark.parametrize(
    "words",
    [["sample", "gaussian-2d"], ["guidance", "check", "gaussian-2d"], ["evaluate", "."], ["export", "."], ["render", "."]],
    ids=lambda words: words[0],
)
def test_the_same_holds_for_out(words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr("dfw.compose.Composition.guidance", lambda *_: pytest.fail("a model was loaded"))
    assert run_dfw(*words, "--out", "/proc/none/a.csv", capsys=capsys)[::2] == (
        2,
        "error: cannot write --out /proc/none/a.csv: no such file or directory; choose another "
        f"{'file' if words[0] == 'evaluate' else 'output folder'}\n",
    )


def test_a_shipped_configuration_by_a_path_that_is_not_here(capsys: pytest.CaptureFixture[str]):
    text = said("configs/dreamfusion.yaml", code=2, capsys=capsys)
    assert text == "configs/dreamfusion.yaml: no such file; did you mean 'dreamfusion', which ships with dfw?"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--device", "gpu"], "error: --device: no device is called 'gpu'; write auto, cpu, cuda, cuda:0 ... or mps"),
        (["judge.views=3"], "an option of a scorer follows --set: --set judge.views=3"),
    ],
)
def test_words_of_evaluate(words: list[str], expected: str, capsys: pytest.CaptureFixture[str]):
    Path("run").mkdir()
    Path("run/resolved.yaml").write_text("name: good\n")
    code, _, err = run_dfw("evaluate", "run", *words, capsys=capsys)
    assert (code, expected in err) == (2, True)


def test_a_sweep_is_not_made_in_a_run(capsys: pytest.CaptureFixture[str]):
    Path("run").mkdir()
    Path("run/resolved.yaml").write_text("name: good\n")
    Path("run/status.json").touch()
    for out, what in (("run", "is a run, in which"), ("run/checkpoints/x", f"is in the run {Path('run').absolute()}, where")):
        for more in (["--dry-run"], []):
            code, _, err = run_dfw("sweep", "gaussian-2d", "seed=0..1", "--out", out, *more, capsys=capsys)
            assert (code, err.startswith(f"error: {out}: {what} the runs of a sweep would not be found")) == (2, True)
    code, _, err = run_dfw("run", "gaussian-2d", "output=run/export", capsys=capsys)
    assert (code, err.splitlines()[-1].startswith("error: output=")) == (2, True)
    assert f"run/export: is in the run {Path('run').absolute()}, where a run would not be found" in err
    assert sorted(path.name for path in Path("run").iterdir()) == ["resolved.yaml", "status.json"]


def test_a_folder_with_a_configuration_of_stages_is_no_run(capsys: pytest.CaptureFixture[str]):
    Path("stages.yaml").write_text("stages: {a: {extends: gaussian-2d}}\n")
    for words in (("run", "stages.yaml"), ("run", "gaussian-2d"), ("sweep", "gaussian-2d", "seed=0..1", "--out", "study")):
        code, _, err = run_dfw(*words, "--dry-run", capsys=capsys)
        assert code == 0, err


@pytest.mark.parametrize("verb", ["evaluate", "view"])
def test_a_sweep_that_has_not_begun_is_told_from_a_folder_without_runs(verb: str, capsys: pytest.CaptureFixture[str]):
    for folder, count in (("sweep", 2), ("empty", 0)):
        write_plan(Path(folder), [Planned(f"{n}", "gaussian-2d", (f"seed={n}",), ".") for n in range(count)])
        code, _, err = run_dfw(verb, folder, capsys=capsys)
        what = (
            f"none of the {count} runs of this sweep has begun; `dfw sweep --resume {folder}` makes them"
            if count
            else "holds no run"
        )
        assert (code, f"{folder}: {what}" in err) == (2, True)


def test_a_sweep_of_no_configuration(capsys: pytest.CaptureFixture[str]):
    code, _, err = run_dfw("sweep", ",", capsys=capsys)
    assert (code, err) == (2, "error: ',' names no configuration; write e.g. dreamfusion,sjc\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["render", "run", "--out", "x" * 300 + ".mp4"], "cannot be a path: [Errno 36] File name too long"),
        (["evaluate", "run", "--out", "x" * 300 + ".csv"], "cannot be a path: [Errno 36] File name too long"),
        (["compare", "circle/run"], "cannot be a path: [Errno 40] Too many levels of symbolic links"),
        (["render", "run", "--elevation", "nan"], "nan is not a finite number"),
        (["sample", "gaussian-2d", "--scale", "nan"], "nan is not a finite number"),
        (["guidance", "check", "gaussian-2d", "--scale", "inf"], "inf is not a finite number"),
    ],
)
def test_what_cannot_be_a_path_or_a_number(words: list[str], said: str, capsys: pytest.CaptureFixture[str]):
    Path("circle").symlink_to("circle")
    code, _, err = run_dfw(*words, capsys=capsys)
    assert (code, said in " ".join(err.split())) == (2, True)


def test_a_name_that_no_folder_can_have(capsys: pytest.CaptureFixture[str]):
    code, _, err = run_dfw("run", "gaussian-2d", f"name={'x' * 300}", "--dry-run", capsys=capsys)
    assert (code, "name: string should have at most 100 characters" in err) == (2, True)


def test_a_guidance_that_no_loss_asks_is_not_loaded_and_one_warning_says_so(capsys: pytest.CaptureFixture[str]):
    """A dry run says the same. The configuration that is written keeps it, and what reads the prompt does not see the prompt."""
    never = "guidances={a: {type: gaussian, means: {a coin: [1, 0, 0]}}, b: {type: flow, model: /nowhere}}"
    words = ["gaussian-2d", "prompt=a coin", "guidance=null", never, "losses.sds.guidance=a", "trainer.steps=1"]
    for more in (["--dry-run"], []):
        code, _, err = run_dfw("run", *words, *more, capsys=capsys)
        assert code == 0, err
        (warned,) = [line for line in err.splitlines() if "guidance" in line]
        assert warned.endswith(
            "guidances.b: no loss asks this guidance, so it is not loaded; leave it out, or give it a loss, e.g. sds"
        )
    (resolved,) = Path("runs").rglob("resolved.yaml")
    assert "model: /nowhere" in resolved.read_text()
    assert "guidances.b" not in (resolved.parent / "manifest.json").read_text()


def test_pictures_that_parts_of_a_run_and_its_stages_name_are_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """A missing one, one that is none, one without background, and one of a small object, wherever they are named."""
    Path("text.png").write_text("no picture")
    Image.new("RGB", (64, 64)).save("full.png")
    for name, side in {"small.png": 20, "good.png": 40}.items():
        picture = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
        picture.paste((255, 0, 0, 255), (4, 4, 4 + side, 4 + side))
        picture.save(name)
    good, path = "image=good.png", "guidance.image"
    assert run_dfw("run", "zero123", good, "--dry-run", capsys=capsys)[0] == 0
    text = said("zero123", good, f"{path}=no.png", code=2, capsys=capsys)
    assert text == f"override '{path}=no.png': {path}: there is no file {tmp_path / 'no.png'}; give the path of a picture"
    text = said("zero123", good, "view_sets.reference.image=text.png", code=2, capsys=capsys)
    assert "guidance.image: " in text  # which follows the reference's
    assert "text.png cannot be read as a picture" in text
    assert "full.png shows no background" in said("zero123", "image=full.png", code=2, capsys=capsys)
    assert "small.png: the object is only 20 pixels large" in said("zero123", good, f"{path}=small.png", code=2, capsys=capsys)
    text = said("dreamfusion", "prompt=x", "guidance={type: ip-adapter, image: text.png}", code=2, capsys=capsys)
    assert "text.png cannot be read as a picture" in text
    text = said("dreamfusion", "prompt=a red cube", "losses.sketch={mesh: no.obj}", code=2, capsys=capsys)
    assert "no.obj" in text
    Path("staged.yaml").write_text("extends: zero123\nimage: good.png\nstages:\n  one: {}\n  two: {guidance: {image: no.png}}\n")
    assert "staged.yaml:5: stages.two.guidance.image: there is no file" in said("staged.yaml", code=2, capsys=capsys)


def test_a_picture_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    told = said("zero123", "image=nope.png", code=2, capsys=capsys)
    assert told == f"override 'image=nope.png': image: there is no file {tmp_path / 'nope.png'}; give the path of a picture"
