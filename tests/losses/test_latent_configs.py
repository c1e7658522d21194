"""The shipped configurations of latents, sketches and paint: tiny runs of all their stages, and the numbers of their recipes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import trimesh
from PIL import Image

from dfw.cli.main import main as dfw
from dfw.compose import compose
from dfw.config.load import load_stages

SHORT = (
    "device=cpu", "precision=fp32", "trainer.steps=2", "trainer.preview_every=2", "trainer.preview_width=16",
    "trainer.checkpoint_every=2", "cameras.width=16", "cameras.batch_size=1", "export.formats=[glb]",
    "export.texture=64", "export.resolution=16",
    "export.faces=300", "export.level=1", "export.turntable_frames=1", "export.turntable_width=16", "renderer.chunk=65536",
)  # fmt: skip
FIELD = ("geometry.encoding={type: hash-grid, levels: 2, features: 2, log2_size: 10, base: 4, finest: 8}", "renderer.samples=16")


@pytest.fixture(scope="module")
def boxes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sketch") / "boxes.ply"
    both = [trimesh.creation.box((1.5, 0.6, 0.4)), trimesh.creation.box((0.7, 0.5, 0.9))]
    trimesh.util.concatenate(both).export(path)  # type: ignore[no-untyped-call]
    return path


@pytest.mark.parametrize("name", ["latent-nerf", "sketch-shape", "paint", "paint-controlnet"])
def test_every_stage_runs_and_shows_colours(tmp_path: Path, boxes: Path, name: str) -> None:
    given = {"latent-nerf": (), "sketch-shape": (f"losses.shape.mesh={boxes}",)}.get(name, (f"start.mesh={boxes}",))
    field = () if name.startswith("paint") else FIELD
    short = [text for text in SHORT if field or not text.startswith(("renderer.", "export.level"))]
    call = (*short, *field, *given, f"output={tmp_path / 'runs'}", "prompt=a red mushroom")
    assert dfw(("run", name, *call)) == 0
    last = sorted(path.parent for path in (tmp_path / "runs").glob("**/status.json"))[-1]
    assert (last / "export" / "object.glb").is_file()
    with Image.open(last / "images" / "step-000002.png") as picture:
        assert picture.mode == "RGB"
        assert picture.height == 16


def test_a_coarse_mesh_becomes_an_object_whose_colours_see_its_depth(tmp_path: Path, boxes: Path) -> None:
    """The field is held to the mesh; the control network is asked about the triangles alone."""
    first = [text for text in (*SHORT, *FIELD) if not text.startswith("export.")]
    second = [text for text in SHORT if text.startswith(("trainer.", "cameras.", "export."))]
    call = [f"stages.shape.{text}" for text in first if not text.startswith(("device", "precision"))]
    call += [f"stages.colours.{text}" for text in second if not text.startswith("export.level")]
    call += ["stages.shape.export.resolution=16", f"stages.shape.losses.sketch.mesh={boxes}", "device=cpu", "precision=fp32"]
    assert dfw(("run", "sketch-controlnet", *call, f"output={tmp_path / 'runs'}", "prompt=a blue car")) == 0
    (run,) = (tmp_path / "runs" / "sketch-controlnet").iterdir()
    facts = [json.loads((run / stage / "manifest.json").read_text())["components"] for stage in ("1-shape", "2-colours")]
    assert ["controlnet" in one["guidance"].get("facts", one["guidance"]) for one in facts] == [False, True]
    assert ["losses.sketch" in one for one in facts] == [True, False]
    assert (run / "2-colours" / "export" / "object.glb").is_file()


def test_latent_nerf_sd_has_the_numbers_of_its_recipe() -> None:
    """The authors' configuration classes, in our words."""
    stages = load_stages("latent-nerf-sd")
    assert list(stages) == ["latent", "colour"]
    for stage, of in (("latent", "latents"), ("colour", "colour")):
        config = stages[stage].config
        made = compose(config)
        sds: Any
        geometry: Any
        cameras: Any
        sds, geometry, cameras = (made.chosen[path].config for path in (("losses", "sds"), ("geometry",), ("cameras",)))
        assert config.losses["sds"].of == of
        assert (sds.guidance_scale, sds.t_min, sds.t_max, sds.weighting) == (100, 0.02, 0.98, "alpha-sigma2")
        assert (config.losses["entropy"].weight, config.trainer.steps) == (5e-4, 5000)
        assert (cameras.distance, cameras.fov, cameras.elevation, cameras.elevation_mix) == ((1.0, 1.5), (40, 70), (-60, 90), 1)
        assert [row[0] * 2 for row in geometry.colours[:4]] == pytest.approx([0.298, 0.187, -0.158, -0.184])
        assert (geometry.blob.scale, geometry.blob.width, geometry.blob.placement) == (5, 0.2, "before")


def test_sketch_shape_is_latent_nerf_with_a_mesh() -> None:
    plain, sketch = (load_stages(name, overrides) for name, overrides in (
        ("latent-nerf", ()), ("sketch-shape", ("losses.shape.mesh=boxes.glb",)),
    ))  # fmt: skip
    for stage, loaded in sketch.items():
        other = plain[stage].config
        assert set(loaded.config.losses) == {*other.losses, "shape"}
        assert loaded.config.geometry == other.geometry
