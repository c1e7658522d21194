"""Starting from another run: what is taken over, when, and that the source may go afterwards."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import trimesh
import yaml
from small_runs import PIXELS, SCENE, config

import dfw
from dfw import ComponentConfig, Geometry, Material, Surface, SurfacePoints, Triangles, shape_of
from dfw.cli.main import main
from dfw.compose import compose
from dfw.config.load import load_config
from dfw.errors import CheckpointError, ConfigError
from dfw.plugins.registry import registry
from dfw.runs.checkpoint_folder import newest_checkpoint
from dfw.runs.directory import RunDirectory
from dfw.runs.runner import export, render, resume, run
from dfw.runs.start import find_start, make_trainer


class Copy(Surface):
    """A geometry that takes over any surface."""

    class Config(ComponentConfig):
        """Nothing."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.vertices = torch.nn.Parameter(torch.zeros(0, 3))

    @classmethod
    def provides(cls, config: Config) -> frozenset[str]:
        return frozenset({"surface"})

    def start_from(self, source: Geometry) -> None:
        if not isinstance(source, Surface):
            raise ConfigError("only a surface")
        found = source.surface()
        self.vertices.data, self.faces = found.vertices.clone(), found.faces
        self.colour = source.material(SurfacePoints(found.vertices)).albedo

    def surface(self) -> Triangles:
        return Triangles(self.vertices, self.faces)

    def material(self, at: SurfacePoints) -> Material:
        return Material(torch.zeros_like(at.position))


class Taken(Copy):
    """A geometry that takes the surface of any density."""

    @classmethod
    def provides(cls, config: ComponentConfig) -> frozenset[str]:
        return frozenset({"surface"})

    def start_from(self, source: Geometry) -> None:
        mesh = shape_of(source, 24).mesh
        self.vertices.data, self.faces = torch.from_numpy(mesh.vertices).float(), torch.from_numpy(mesh.faces)


@pytest.fixture(autouse=True)
def copies():
    dfw.register("geometry", "copy", Copy)
    dfw.register("geometry", "taken", Taken)
    yield
    registry()._entries = [entry for entry in registry().entries() if entry.distribution != "local"]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    return run(config(SCENE, folder), listeners=[]).directory


def parameters(directory: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(newest_checkpoint(directory / "checkpoints") / "geometry.safetensors")


def test_a_run_begins_where_the_other_ended(source: Path, tmp_path: Path):
    made = config(SCENE, tmp_path, start={"run": str(source)}, prompt="a blue square", optimizer={"lr": 0})
    result = run(made, listeners=[])
    ours, theirs = parameters(result.directory), parameters(source)
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())
    start = json.loads((result.directory / "manifest.json").read_text())["start"]
    assert start["source"] == str(source)
    assert start["checkpoint"] == "step-000004"
    assert start["digest"].startswith("sha256:")


def test_the_source_may_be_deleted_afterwards(source: Path, tmp_path: Path):
    copy = Path(shutil.copytree(source, tmp_path / "copy"))
    result = run(config(SCENE, tmp_path, start={"run": str(copy)}), listeners=[])
    shutil.rmtree(copy)
    assert export(result.directory)["ply"].is_file()
    assert render(result.directory, frames=1).is_file()
    longer = resume(result.directory, ["trainer.steps=6"], listeners=[])
    assert longer.status == "finished"
    assert RunDirectory.open(result.directory).read_metrics()[-1]["step"] == 5


def test_the_optimizers_state_is_taken_over(source: Path, tmp_path: Path):
    """Two steps after two steps, with the state, are bit for bit what the state and the same gradients give."""
    made = config(SCENE, tmp_path, start={"run": str(source), "take": ["geometry", "optimizer"]})
    trainer = make_trainer(made, compose(made).build(), find_start(compose(made), {}))
    steps = {float(state["step"]) for state in trainer.optimizer.state.values()}
    assert steps == {4.0}
    plain = config(SCENE, tmp_path, start={"run": str(source)})
    assert make_trainer(plain, compose(plain).build(), find_start(compose(plain), {})).optimizer.state == {}


def test_another_class_or_other_options_cannot_be_taken_over(source: Path, tmp_path: Path):
    other = SCENE["geometry"] | {"density_network": {"width": 16}}
    with pytest.raises(ConfigError, match=r"geometry \(dreamfw/nerf.* cannot start from geometry .*: their options differ"):
        run(config(SCENE, tmp_path, start={"run": str(source)}, geometry=other), listeners=[])
    with pytest.raises(ConfigError, match=r"geometry \(dreamfw/image.* cannot start from the geometry \(dreamfw/nerf, .*/source"):
        run(config(PIXELS, tmp_path, start={"run": str(source)}), listeners=[])
    assert not list((tmp_path / "runs").rglob("resolved.yaml"))


@pytest.mark.parametrize(
    ("stages", "said"),
    [
        ({"": PIXELS | {"start": {"run": "SOURCE"}}}, r"start.run: geometry (dreamfw/image, dreamfw 0"),
        (
            {"": SCENE | {"start": {"mesh": "box.ply"}}},
            "start.mesh: geometry (dreamfw/nerf, dreamfw 0.1.0) cannot start from a mesh file; c",
        ),
        ({"a": PIXELS, "b": SCENE | {"start": {"stage": "a"}}}, "stages.b.start.stage: geometry (dreamfw/nerf, "),
        ({"a": PIXELS, "b": SCENE | {"geometry": {"type": "sdf"}, "start": {"stage": "a"}}}, "geometry (dreamfw/sdf, "),
        ({"a": SCENE, "b": SCENE | {"geometry": {"type": "sdf"}, "start": {"stage": "a"}}}, ""),
        ({"": SCENE | {"geometry": {"type": "copy"}, "renderer": {"type": "mesh"}, "start": {"mesh": "box.ply"}}}, ""),
    ],
)
def test_a_start_from_another_class_is_refused_before_anything_is_built(
    stages: dict[str, Any],
    said: str,
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.chdir(tmp_path)
    trimesh.creation.box().export("box.ply")
    tree = stages.get("", {"stages": stages})
    Path("run.yaml").write_text(yaml.safe_dump(json.loads(json.dumps(tree).replace("SOURCE", str(source)))))
    code, err = main(["run", "run.yaml", "--dry-run"]), capsys.readouterr().err
    assert code == (2 if said else 0), err
    assert said in err


@pytest.mark.parametrize("take", ["optimizer", "renderer"])
def test_what_does_not_fit_is_said(take: str, source: Path, tmp_path: Path):
    learned = SCENE["renderer"] | {"background": {"type": "learned", "layers": 1, "width": 4}}
    with pytest.raises(ConfigError, match=r"start\.take"):
        run(config(SCENE, tmp_path, start={"run": str(source), "take": ["geometry", take]}, renderer=learned), listeners=[])


def test_a_source_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(ConfigError, match=r"start\.run: .*nowhere: not a run directory"):
        run(config(SCENE, tmp_path, start={"run": str(tmp_path / "nowhere")}), listeners=[])
    with pytest.raises(ConfigError, match=r"start\.mesh: there is no file .*teapot\.glb"):
        run(config(SCENE, tmp_path, start={"mesh": "teapot.glb"}), listeners=[])
    for wrong in ("{}", "{run: a, mesh: b}"):
        assert main(["run", "dreamfusion", f"start={wrong}", "--dry-run"]) == 2
        assert "write exactly one of run, stage and mesh" in capsys.readouterr().err


def test_the_surface_of_a_density_is_as_smooth_as_its_own_export(tmp_path: Path):
    """The start itself may say another deviation of the Gaussian."""
    smooth = run(config(SCENE, tmp_path, export={"formats": [], "smoothing": 0.15}), listeners=[]).directory

    def taken(**own: float) -> torch.Tensor:
        parts = {"geometry": {"type": "taken"}, "renderer": {"type": "mesh"}, "losses": {"opacity": {}}}
        made = config(SCENE, tmp_path, start={"run": str(smooth), **own}, **parts)
        return make_trainer(made, compose(made).build(), find_start(compose(made), {})).geometry.vertices.detach()

    assert torch.equal(taken(), taken(smoothing=0.15))
    assert not torch.equal(taken(), taken(smoothing=0))


def test_a_mesh_that_cannot_be_read_is_said_before_anything_loads(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "text.glb").write_text("hello")
    assert main(["run", "paint", f"start.mesh={tmp_path / 'text.glb'}", "prompt=a pink mug", "--dry-run"]) == 2
    assert "text.glb: cannot be read as a mesh" in capsys.readouterr().err


def test_smoothing_is_a_densitys(tmp_path: Path):
    with pytest.raises(ValueError, match="smoothing is for a run's density field, and this starts from a mesh file"):
        config(SCENE, tmp_path, start={"mesh": "a.stl", "smoothing": 0.1})


def test_axes_and_radius_are_a_mesh_files(tmp_path: Path):
    for option in ({"up": "z"}, {"front": "x"}, {"radius": None}):
        with pytest.raises(ValueError, match=f"{next(iter(option))} is for a mesh file, and this starts from a run's scene"):
            config(SCENE, tmp_path, start={"run": "somewhere", **option})
    assert config(SCENE, tmp_path, start={"mesh": "a.stl", "up": "y", "front": "-x", "radius": None}).start is not None


def test_a_mesh_file_is_a_surface_in_our_axes(tmp_path: Path):
    """A box twice as long in the file's z (glTF's front) is twice as long in our x."""
    box = trimesh.creation.box((0.2, 0.4, 0.8))
    box.visual.vertex_colors = [255, 0, 0, 255]
    box.export(tmp_path / "box.glb")
    made = config(
        SCENE, tmp_path, start={"mesh": str(tmp_path / "box.glb")}, geometry={"type": "copy"}, renderer={"type": "mesh"}
    )
    start = find_start(compose(made), {})
    assert start is not None
    geometry = Copy(Copy.Config())
    from dfw.runs.mesh_source import MeshSource

    geometry.start_from(MeshSource(start.source))
    extent = geometry.vertices.detach().amax(0) - geometry.vertices.detach().amin(0)
    torch.testing.assert_close(extent, torch.tensor([0.8, 0.2, 0.4]))
    torch.testing.assert_close(geometry.colour, torch.tensor([1.0, 0, 0]).expand(len(geometry.colour), 3))


def test_a_finished_run_is_made_longer_and_what_changed_is_written_down(source: Path, tmp_path: Path):
    copy = Path(shutil.copytree(source, tmp_path / "copy"))
    with pytest.raises(CheckpointError, match=r"already finished its 4 steps; make it longer with `dfw run --resume .*steps=8`"):
        resume(copy, listeners=[])
    assert main(["run", "--resume", str(copy), "trainer.steps=7", "prompt=a blue square"]) == 0
    directory = RunDirectory.open(copy)
    assert [row["step"] for row in directory.read_metrics()] == list(range(7))
    (change,) = directory.read_json("manifest.json")["changes"]
    assert change == {"step": 4, "overrides": ["trainer.steps=7", "prompt=a blue square"], "before": "resolved-before.yaml"}
    assert load_config(directory.resolved).trainer.steps == 7
    assert load_config(copy / "resolved-before.yaml").prompt == "a red square"


def test_a_longer_run_has_the_bits_of_one_that_was_that_long_from_the_start(source: Path, tmp_path: Path):
    """With rates that do not depend on the length of the run."""
    copy = Path(shutil.copytree(source, tmp_path / "copy"))
    resume(copy, ["trainer.steps=6"], listeners=[])
    whole = run(config(SCENE, tmp_path, trainer={"steps": 6}), listeners=[])
    ours, theirs = parameters(copy), parameters(whole.directory)
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())


def test_resume_takes_overrides_and_nothing_else(source: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["run", "--resume", str(source), "dreamfusion"]) == 2
    assert "'dreamfusion' is not an override" in capsys.readouterr().err
    assert main(["run", "--resume", str(source), "trainer.stepps=9"]) == 2
    assert "override 'trainer.stepps=9': trainer.stepps: unknown key" in capsys.readouterr().err
