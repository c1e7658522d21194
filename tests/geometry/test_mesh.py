"""The user's own mesh: its triangles, its texture, and what a run makes of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from painted_box import CENTRE, HALF, SIDES, VOLUME, painted_box, write
from small_runs import PIXELS, config

import dfw
from dfw import ConfigError, Surface, SurfacePoints
from dfw.export.texture import bake_surface
from dfw.runs.mesh_source import MeshSource
from dfw.runs.runner import resume, run

MIDDLES = torch.tensor(CENTRE + HALF * np.array(list(SIDES)), dtype=torch.float32)
COLOURS = torch.tensor(list(SIDES.values())) / 255


def begun(source: Surface | dfw.Geometry, **options: object) -> dfw.Geometry:
    made = dfw.build("geometry", "mesh", **options)
    made.initialise(torch.Generator().manual_seed(0))
    with torch.no_grad():
        made.start_from(source)
    return made


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> MeshSource:
    return MeshSource(write(dfw.build("exporter", "glb"), tmp_path_factory.mktemp("box")), radius=None)


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> MeshSource:
    """The box without texture coordinates, coloured at its corners."""
    return MeshSource(write(dfw.build("exporter", "ply"), tmp_path_factory.mktemp("bare")), radius=None)


@pytest.mark.parametrize("size", [32, 64])
def test_it_begins_as_its_source(box: MeshSource, size: int) -> None:
    made = begun(box, texture={"type": "image", "size": size})
    torch.testing.assert_close(made.surface().vertices, box.surface().vertices)
    assert torch.equal(made.surface().faces, box.surface().faces)
    torch.testing.assert_close(made.material(SurfacePoints(MIDDLES)).albedo, COLOURS)
    kept, given = made.texture_coordinates(), box.texture_coordinates()
    assert kept is not None
    assert given is not None
    torch.testing.assert_close(kept.uv[kept.faces], given.uv[given.faces])
    grey = begun(box, texture={"type": "image", "size": size, "pbr": True}, colours="grey").material(SurfacePoints(MIDDLES))
    assert (grey.albedo == 0.5).all()
    assert grey.bump is not None
    assert not grey.bump.any()


def test_texture_coordinates_are_made_where_there_are_none(bare: MeshSource) -> None:
    """The corners' colours come through, between them too: they are blended over each triangle."""
    made = begun(bare, texture={"type": "image", "size": 256})
    charts = made.texture_coordinates()
    assert charts is not None
    assert charts.faces.shape == (12, 3)
    assert float(charts.uv.min()) >= 0
    assert float(charts.uv.max()) <= 1
    face = torch.arange(12)
    for place in ([0.4, 0.3, 0.3], [0.9, 0.05, 0.05], [0.05, 0.05, 0.9]):
        at = SurfacePoints(MIDDLES.new_zeros(12, 3), face, torch.tensor(place).expand(12, 3))
        found, expected = made.material(at).albedo.detach(), bare.material(at).albedo
        assert float((found - expected).abs().max()) < 4 / 255


def test_a_texel_answers_where_it_lies_and_nowhere_else(box: MeshSource) -> None:
    """One texel in the middle of a side's chart is painted; the middle of the side then shows it by the bilinear weight."""
    made = begun(box, texture={"type": "image", "size": 64}, colours="grey")
    with torch.no_grad():
        made.texels[64 - 8, 8] = torch.tensor([1.0, 0, 0])  # its centre is 8.5 from the left and 7.5 from below
    found = made.material(SurfacePoints(MIDDLES)).albedo.detach()
    expected = torch.full((6, 3), 0.5)
    expected[0] += 0.25 * torch.tensor([0.5, -0.5, -0.5])  # the middle of the first side is at (8, 8), between four texels
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_levels_add_up_and_coarser_ones_move_twice_as_fast(box: MeshSource) -> None:
    """At first the source's colours. Then a step of r in every number moves a colour by r (1 + 2 + 4)."""
    made = begun(box, texture={"type": "image", "size": 64, "levels": 3})
    assert [picture.shape[0] for picture in made.parameter_groups()["geometry.texture"]] == [64, 32, 16]
    torch.testing.assert_close(made.material(SurfacePoints(MIDDLES)).albedo, COLOURS)
    grey = begun(box, texture={"type": "image", "size": 64, "levels": 3}, colours="grey")
    with torch.no_grad():
        for picture in grey.parameters():
            picture.add_(0.01)
    found = grey.material(SurfacePoints(MIDDLES)).albedo
    torch.testing.assert_close(found, torch.full((6, 3), 0.5 + 0.07))
    found.sum().backward()
    slopes = [float(picture.grad.sum()) for picture in grey.parameters()]
    assert slopes == pytest.approx([18, 36, 72])  # 6 points and 3 channels, times 1, 2 and 4


def test_more_levels_than_the_picture_has_are_refused() -> None:
    with pytest.raises(ConfigError, match="the coarsest of 6 has 2 texels of a side; write fewer, or a larger size"):
        dfw.build("geometry", "mesh", texture={"type": "image", "size": 64, "levels": 6})


def test_a_texel_out_of_range_shows_the_border_and_can_come_back(box: MeshSource) -> None:
    made = begun(box, texture={"type": "image", "size": 16, "pbr": True})
    with torch.no_grad():
        made.texels.fill_(-0.3)
    found = made.material(SurfacePoints(MIDDLES))
    assert (found.albedo == 0).all()
    assert found.roughness is not None
    assert found.roughness.tolist() == pytest.approx([0.08] * 6)
    found.albedo.sum().backward()
    gradient = made.texels.grad
    assert gradient is not None
    assert float(gradient[..., :3].sum()) == pytest.approx(18)  # the weights of each lookup sum to 1, for 6 points and 3 channels


def test_gradients_reach_vertices_positions_and_texels(box: MeshSource) -> None:
    """Autograd's are those of finite differences, in float64, through the nearest point too."""
    made = begun(box, texture={"type": "image", "size": 16}, vertices="free").double()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        made.texels.copy_(0.3 + 0.4 * torch.rand(made.texels.shape, generator=generator, dtype=torch.float64))
    points = (MIDDLES.double() * 1.02 + 0.03 * torch.rand(6, 3, generator=generator)).requires_grad_()

    def shown(at: torch.Tensor, vertices: torch.Tensor, texels: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            made.vertices.copy_(vertices), made.texels.copy_(texels)
        state = {"vertices": vertices, "texels": texels}
        return torch.func.functional_call(_Albedo(made), {f"made.{k}": v for k, v in state.items()}, (at,))

    inputs = (points, made.vertices.detach().clone().requires_grad_(), made.texels.detach().clone().requires_grad_())
    assert torch.autograd.gradcheck(shown, inputs, eps=1e-6, atol=1e-5, fast_mode=True)
    assert set(made.parameter_groups()) == {"geometry.texture", "geometry.vertices"}


class _Albedo(torch.nn.Module):
    def __init__(self, made: dfw.Geometry) -> None:
        super().__init__()
        self.made = made

    def forward(self, at: torch.Tensor) -> torch.Tensor:
        albedo: torch.Tensor = self.made.material(SurfacePoints(at)).albedo
        return albedo


def test_the_own_mesh_comes_back_as_it_was(box: MeshSource) -> None:
    """Vertices, coordinates and every texel that a lookup on the box can read, to the byte."""
    made = begun(box, texture={"type": "image", "size": 64})
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        made.texels.copy_((torch.rand(made.texels.shape, generator=generator) * 255).round() / 255)
    found = bake_surface(made, 128)
    assert found.texture.shape == (64, 64, 3)  # its own size
    given = painted_box()
    assert np.abs(found.vertices[found.faces] - given.vertices[given.faces]).max() < 1e-6
    assert np.abs(found.uv[found.faces] - given.uv[given.faces]).max() < 1e-6
    assert len(found.source) == 24
    assert found.mesh.volume == pytest.approx(VOLUME)
    wanted = (made.texels.detach().numpy() * 255).round().astype(np.uint8)
    read = np.zeros((64, 64), bool)
    read[32:, :] = True  # the box's cells of 16 texels, from the lower left, each with 14 texels of a chart in its middle
    read[32:48, 32:] = False
    assert np.array_equal(found.texture[read], wanted[read])
    assert np.array_equal(found.texture[:32, 5], np.broadcast_to(wanted[32, 5], (32, 3)))  # they repeat the chart


def test_a_field_takes_over_the_colours(bare: MeshSource, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dfw_geometry.fitting.BATCH", 512)  # a small field needs no more
    encoding = {"type": "dense-grid", "resolutions": [4, 12], "features": 4}
    made = begun(bare, texture={"type": "field", "encoding": encoding})
    points = bare.surface().vertices[bare.surface().faces].mean(1)
    error = made.material(SurfacePoints(points)).albedo.detach() - bare.material(SurfacePoints(points)).albedo
    assert float(error.abs().mean()) < 0.03
    assert set(made.parameter_groups()) == {"geometry.encoding", "geometry.network"}


def test_a_field_that_is_too_small_is_said(bare: MeshSource, caplog: pytest.LogCaptureFixture) -> None:
    begun(bare, texture={"type": "field", "radius": 0.5, "encoding": {"type": "dense-grid", "resolutions": [4]}}, colours="grey")
    assert "geometry.texture.radius: the mesh reaches to 0.7, and the field only to 0.5" in caplog.text


def test_a_density_field_gives_its_surface_and_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dfw_geometry.mesh._CELLS", 20)
    source = dfw.build("geometry", "sdf-scene", shape="a red ball")
    made = begun(source, texture={"type": "image", "size": 128})
    corners = made.surface().vertices
    distance = source.distance(corners)
    assert float(distance.abs().max()) < 0.05  # the density is soft: its silhouettes lie outside of the distance 0
    albedo = made.material(SurfacePoints(corners[::50])).albedo
    assert float((albedo.detach() - source.scene.colour(corners[::50])).abs().mean()) < 0.05


def test_what_has_no_surface_is_refused() -> None:
    with pytest.raises(ConfigError, match="only those have a shape to start from"):
        begun(dfw.build("geometry", "image"))


# -- runs ----------------------------------------------------------------------------------------------------------------


def test_a_run_without_a_start_is_said_before_anything_loads(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"geometry: dreamfw/mesh \S+ needs a scene to start from; write start\.mesh="):
        run(config(PIXELS, tmp_path, geometry="mesh", renderer={"type": "mesh", "background": "solid"}), listeners=[])
    assert not (tmp_path / "runs").exists()


def test_the_file_may_go_and_the_run_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    path = write(dfw.build("exporter", "glb"), tmp_path)

    def made(steps: int, folder: str) -> dfw.RunConfig:
        return config(
            PIXELS,
            tmp_path / folder,
            geometry={"type": "mesh", "texture": {"type": "image", "size": 32}},
            renderer={"type": "mesh", "background": "solid"},
            start={"mesh": str(path), "radius": None},
            trainer={"steps": steps},
            export={"formats": ["glb"], "texture": 64},
        )

    first = run(made(3, "short"), listeners=[]).directory
    whole = run(made(6, "long"), listeners=[]).directory
    path.unlink()
    resume(first, ["trainer.steps=6"], listeners=[])
    states = [_state(folder) for folder in (first, whole)]
    assert all(torch.equal(states[0][name], value) for name, value in states[1].items())
    back = MeshSource(first / "export" / "object-2.glb", radius=None)
    torch.testing.assert_close(back.surface().vertices.amax(0), torch.tensor(CENTRE + HALF).float())
    charts = back.texture_coordinates()
    assert charts is not None
    torch.testing.assert_close(charts.uv[charts.faces].double(), torch.tensor(painted_box().uv)[painted_box().faces])


def _state(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    from dfw.runs.checkpoint_folder import newest_checkpoint

    return load_file(newest_checkpoint(folder / "checkpoints") / "geometry.safetensors")
