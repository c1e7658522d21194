"""nvdiffrast finds the triangles that the Warp kernels find. A stand-in with its conventions takes its place: it needs a GPU."""

from __future__ import annotations

import sys
from types import ModuleType

import nvdiffrast_conventions
import pytest
import torch
from surfaces import soup

import dfw
from dfw import ConfigError
from dfw.testing.fields import views
from dfw_renderers import rasteriser
from dfw_renderers.fast import nvdiffrast_cuda
from dfw_renderers.rasteriser import NEAR

ANGLES = ((0.0, 0.0), (90.0, 30.0), (-135.0, -20.0))


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    package = ModuleType("nvdiffrast")
    package.torch = nvdiffrast_conventions
    monkeypatch.setitem(sys.modules, "nvdiffrast", package)
    monkeypatch.setitem(sys.modules, "nvdiffrast.torch", nvdiffrast_conventions)


def test_the_stand_in_keeps_its_conventions() -> None:
    """A triangle over the lower left corner of the screen lies in row 0, and its first corner has u = 1."""
    corners = torch.tensor([[[-1.0, -1.0, 0.0, 1.0], [0.0, -1.0, 0.0, 1.0], [-1.0, 0.0, 0.0, 1.0]]])
    context = nvdiffrast_conventions.RasterizeCudaContext()
    found, _ = nvdiffrast_conventions.rasterize(context, corners, torch.tensor([[0, 1, 2]], dtype=torch.int32), [8, 8])
    assert found[0, :, :, 3].sum(1).tolist() == [4.0, 3.0, 2.0, 1.0, 0.0, 0.0, 0.0, 0.0]
    torch.testing.assert_close(found[0, 0, 0, :2], torch.tensor([0.75, 0.125]))


@pytest.mark.parametrize("size", [1.0, 4.0])  # 4: the cameras are among the triangles, and many reach behind them
def test_it_shows_what_the_kernels_show(size: float, installed: None) -> None:
    vertices, faces = soup(60, size, 5, torch.float64)
    points = rasteriser.to_pixels(vertices, views(ANGLES, 22, 31, dtype=torch.float64))
    face, depth = nvdiffrast_cuda.nearest(points, faces, 22, 31, NEAR)
    expected, far = rasteriser.nearest(points, faces, 22, 31)
    assert (expected >= 0).double().mean() > 0.3
    same = face == expected
    assert same.double().mean() > 0.998  # where edges pass through a pixel's centre, float32 decides
    torch.testing.assert_close(depth[same], far[same], rtol=1e-4, atol=0)


def test_an_empty_scene_shows_nothing(installed: None) -> None:
    points = rasteriser.to_pixels(torch.zeros(3, 3), views(ANGLES, 8, 8))
    face, depth = nvdiffrast_cuda.nearest(points, torch.zeros(0, 3, dtype=torch.long), 8, 8, NEAR)
    assert (face == -1).all()
    assert depth.isinf().all()
    assert face.shape == depth.shape == (3, 8, 8)


def test_without_it_one_sentence_says_what_to_write() -> None:
    renderer = dfw.build("renderer", "mesh", rasteriser="nvdiffrast")
    with pytest.raises(
        ConfigError, match=r"renderer.rasteriser: nvdiffrast needs .* CUDA device; .* on cpu.*; install it, or write warp"
    ):
        renderer.initialise(torch.Generator())
