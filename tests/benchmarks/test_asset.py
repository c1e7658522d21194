"""The figures of assets, on shapes whose answer is known: a ball, a box, and copies of them that are wrong in one thing."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from dfw import to_gltf
from dfw_geometry.sdf_scene import SdfScene

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
from asset import Seen, cameras, compare, crossings, edges, measure_asset, seen_mesh, seen_truth

RED = (255, 0, 0)


def as_read(shape: trimesh.Trimesh, normals: np.ndarray, colour: tuple[int, int, int] = RED) -> trimesh.Trimesh:
    """The shape as trimesh gives a GLB: glTF's axes, a texture of one colour."""
    image = Image.new("RGB", (4, 4), colour)
    material = trimesh.visual.material.PBRMaterial(baseColorTexture=image)
    visual = trimesh.visual.TextureVisuals(uv=np.full((len(shape.vertices), 2), 0.5), material=material)
    turned = to_gltf(np.asarray(shape.vertices))
    return trimesh.Trimesh(turned, shape.faces, vertex_normals=to_gltf(normals), visual=visual, process=False)


def ball(radius: float, colour: tuple[int, int, int] = RED) -> trimesh.Trimesh:
    shape = trimesh.creation.icosphere(5, radius)
    return as_read(shape, np.asarray(shape.vertices) / radius, colour)


def box(side: float) -> trimesh.Trimesh:
    shape = trimesh.creation.box((side,) * 3)
    shape.unmerge_vertices()
    return as_read(shape, np.repeat(shape.face_normals, 3, axis=0))


def test_a_ball_of_triangles_is_lit_by_the_camera_and_has_the_normals_of_a_ball() -> None:
    views = cameras(64)
    seen = seen_mesh(ball(0.5), views)
    rays = views.rays()
    along = -(rays.origin * rays.direction).sum(-1)
    miss = (rays.origin + along[..., None] * rays.direction).norm(dim=-1)
    assert torch.equal(seen.hit[(miss - 0.5).abs() > 0.01], (miss < 0.5)[(miss - 0.5).abs() > 0.01])
    inside = (miss < 0.49) & seen.hit
    place = rays.origin + (along - (0.25 - miss.square()).clamp(min=0).sqrt())[..., None] * rays.direction
    torch.testing.assert_close(seen.normal[inside], (place / 0.5)[inside], atol=0.01, rtol=0)
    cosine = -(place * rays.direction).sum(-1) / 0.5
    torch.testing.assert_close(seen.picture[inside][:, 0], (0.3 + 0.7 * cosine)[inside], atol=0.01, rtol=0)
    assert torch.equal(seen.picture[~seen.hit], torch.ones_like(seen.picture[~seen.hit]))


def test_the_true_object_is_its_own_best_copy_and_a_smaller_or_greener_one_is_worse() -> None:
    views = cameras(64)
    good = seen_mesh(ball(0.5), views)
    psnr, ssim, angle, _, _ = compare(good, good)
    assert (psnr, ssim) == (120.0, 1.0)
    assert angle < 0.1
    smaller, greener = compare(seen_mesh(ball(0.45), views), good), compare(seen_mesh(ball(0.5, (0, 255, 0)), views), good)
    covered = float(good.hit.float().mean())
    light = good.picture[good.hit][:, 0].square().mean()
    assert greener[0] == pytest.approx(-10 * np.log10(float(covered * 2 * light / 3)), abs=0.05)
    assert smaller[0] < 25
    assert greener[2] < 0.1


def test_a_box_has_edges_and_a_ball_has_none() -> None:
    views = cameras()
    sharp, round_ = seen_mesh(box(0.8), views), seen_mesh(ball(0.5), views)
    assert edges(sharp).sum() > 1000
    assert edges(round_).sum() < 50  # at the rim, where four pixels are a long way
    assert compare(sharp, sharp)[3:] == (1.0, 0.0)
    assert compare(round_, sharp)[3] < 0.02


def test_sphere_tracing_finds_the_box_that_triangles_show() -> None:
    views = cameras(96)
    truth = SdfScene(SdfScene.Config(shape="a red cube"))
    low, high = (float(edge) for edge in _extent(truth))
    shape = trimesh.creation.box((high - low,) * 3)
    shape.apply_translation([(low + high) / 2] * 3)
    shape.unmerge_vertices()
    made, true = seen_mesh(as_read(shape, np.repeat(shape.face_normals, 3, axis=0)), views), seen_truth(truth, views)
    assert (made.hit ^ true.hit).float().mean() < 0.01  # of an outline some 200 pixels long
    assert compare(made, true)[2] < 3.0  # the true cube is rounded a little along its edges


def _extent(truth: SdfScene) -> tuple[torch.Tensor, torch.Tensor]:
    """Where the x axis enters and leaves the cube."""
    x = torch.linspace(-1, 1, 20001)
    inside = x[truth.distance(torch.stack([x, 0 * x, 0 * x], -1)) < 0]
    return inside[0], inside[-1]


def test_a_file_is_read_as_any_reader_would(tmp_path: Path) -> None:
    """Two balls are two pieces, and a ball with a hole is not closed."""
    one, other = ball(0.3), ball(0.2)
    other.apply_translation([0, 0, 0.6])
    both = trimesh.util.concatenate([one, other])
    both.export(tmp_path / "two.glb")
    truth = SdfScene(SdfScene.Config(shape="a red ball"))
    found = measure_asset(tmp_path / "two.glb", truth)
    assert (found.watertight, found.pieces) == (True, 2)
    true = seen_truth(truth, cameras(64)).albedo.amax((0, 1, 2))
    assert found.colour == pytest.approx(float((torch.tensor([1.0, 0, 0]) - true).abs().mean()), abs=0.005)
    one.update_faces(np.arange(len(one.faces)) > 0)
    one.export(tmp_path / "open.glb")
    assert not measure_asset(tmp_path / "open.glb", truth).watertight


def test_triangles_that_pass_through_each_other_are_counted() -> None:
    pytest.importorskip("igl", reason="libigl counts them")
    one, other = trimesh.creation.box((1, 1, 1)), trimesh.creation.box((1, 1, 1))
    other.apply_translation([3, 0, 0])
    assert crossings(trimesh.util.concatenate([one, other])) == 0
    sheets = trimesh.Trimesh(
        [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0.2, 0.2, -1], [0.2, 0.2, 1], [0.2, 5, 0.5]], [[0, 1, 2], [3, 4, 5]]
    )
    assert crossings(sheets) == 1


def test_what_is_seen_by_nobody_has_no_angle() -> None:
    nothing = Seen(torch.zeros(1, 16, 16, dtype=torch.bool), *(torch.full((1, 16, 16, 3), shade) for shade in (0.0, 1.0, 0.0)))
    assert np.isnan(compare(nothing, nothing)[2:]).all()
