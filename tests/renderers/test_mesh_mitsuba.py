"""Pictures and their gradients against Mitsuba 3 (Jakob et al. 2022), a renderer that shares no code and no method with ours."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import mitsuba_picture
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from surfaces import Painted, alike, sphere, traced
from torch import Tensor

from dfw import CameraBatch
from dfw.testing.fields import views
from dfw_renderers.mesh import Mesh

pytestmark = pytest.mark.skipif(find_spec("mitsuba") is None, reason="mitsuba is not installed")


def reference(
    folder: Path, vertices: Tensor, faces: Tensor, cameras: CameraBatch, weight: Tensor, lit: bool
) -> tuple[Tensor, Tensor]:
    """Mitsuba's picture (H, W), and the gradient (V, 3) of its weighted sum."""
    given, made = folder / "given.npz", folder / "made.npz"
    eye = cameras.position[0].numpy()
    numbers = {"fov": float(cameras.fov_y[0]), "lit": lit, "eye": eye, "weight": weight.numpy()}
    np.savez(given, vertices=vertices.detach().numpy(), faces=faces.int().numpy().astype(np.uint32), **numbers)
    done = subprocess.run([sys.executable, mitsuba_picture.__file__, given, made], capture_output=True, text=True, check=False)
    if done.returncode == mitsuba_picture.NO_LLVM or "LLVM ERROR" in done.stderr:
        pytest.skip(f"mitsuba has no LLVM here that serves it: {done.stderr.splitlines()[0]}")
    assert done.returncode == 0, done.stderr
    found = np.load(made)
    return torch.tensor(found["image"]), torch.tensor(found["gradient"])


def test_silhouettes_have_its_coverage_and_its_gradients(tmp_path: Path) -> None:
    """Opacity agrees within 1/255 away from edges and 0.04 on average on them; gradients of the corners within 6 %."""
    vertices, faces = sphere(0.6, 1)
    cameras = views([(25.0, 35.0)], 48, 64)
    rows, columns = torch.meshgrid(torch.arange(48) / 9, torch.arange(64) / 7, indexing="ij")
    weight = 0.5 + 0.3 * rows.sin() + 0.2 * columns.cos()
    surface = Painted(vertices, faces)
    opacity = Mesh(Mesh.Config()).eval()(surface, cameras).opacity[0]
    (opacity * weight).sum().backward()
    image, gradient = reference(tmp_path, vertices, faces, cameras, weight, lit=False)
    off, edge = (opacity.detach() - image).abs(), (image > 0) & (image < 1)
    assert off[~edge].max() < 1 / 255
    assert off[edge].mean() < 0.04
    assert surface.vertices.grad is not None
    assert float((surface.vertices.grad - gradient).norm() / gradient.norm()) < 0.06


def test_flat_shading_is_its_picture_and_has_its_gradients(tmp_path: Path) -> None:
    """Triangles with corners of their own have flat normals. Grey, under one light from the camera's direction: 0.5 cos."""
    vertices, faces = sphere(0.6, 1)
    corners, alone = vertices[faces.flatten()], torch.arange(3 * len(faces)).view(-1, 3)
    cameras = views([(25.0, 35.0)], 96, 96)
    surface = Painted(corners, alone)
    face = traced(surface, cameras)["face"]
    solid = (alike(face) & (face >= 0))[0]
    assert int(solid.sum()) > 100
    output = Mesh(Mesh.Config()).eval()(surface, cameras)
    colour = 0.5 * output.normal[0] @ F.normalize(cameras.position[0], dim=0)
    (colour * solid).sum().backward()
    image, gradient = reference(tmp_path, corners, alone, cameras, solid.float(), lit=True)
    assert (colour - image)[solid].abs().max() < 1 / 255
    assert surface.vertices.grad is not None
    assert float((surface.vertices.grad - gradient).norm() / gradient.norm()) < 1e-3
