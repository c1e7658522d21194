"""The kit over the built-in renderers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch

from dfw import Geometry
from dfw.testing import RendererTests
from dfw_geometry.image import Image
from dfw_renderers.mesh import Mesh
from dfw_renderers.plane import Plane
from dfw_renderers.volume import Volume


class TestVolume(RendererTests):
    component = Volume
    options: ClassVar[dict[str, Any]] = {"occupancy": {"resolution": 16}}


class TestVolumeWithoutGrid(RendererTests):
    component = Volume
    options: ClassVar[dict[str, Any]] = {
        "samples": 64,
        "occupancy": {"enabled": False},
        "shading": {"normals": "always"},
        "background": {"type": "solid", "colour": [0.2, 0.4, 0.6]},
    }


class TestVolumeWithLearnedBackground(RendererTests):
    component = Volume
    options: ClassVar[dict[str, Any]] = {
        "occupancy": {"resolution": 16},
        "shading": {"mode": "lambertian", "start": 0},
        "background": {"type": "learned", "width": 8, "layers": 1},
    }


class TestMesh(RendererTests):
    component = Mesh


class TestMeshWithLights(RendererTests):
    component = Mesh
    options: ClassVar[dict[str, Any]] = {
        "shading": {"mode": "pbr", "start": 0},
        "background": {"type": "learned", "width": 8, "layers": 1},
    }


class TestPlane(RendererTests):
    component = Plane

    def geometry(self) -> Geometry:
        return Image(Image.Config(width=6, height=4))

    def opaque(self, colour: Sequence[float]) -> Geometry:
        image = Image(Image.Config(width=6, height=4))
        with torch.no_grad():
            image.values.copy_(torch.tensor(colour).expand_as(image.values))
        return image


class TestPlaneOfParticles(RendererTests):
    component = Plane
    expected_failures: ClassVar[dict[str, str]] = {
        "test_batch_invariance": "view k shows particle k, so that one alone is the first"
    }

    def geometry(self) -> Geometry:
        return Image(Image.Config(width=6, height=4, count=3, space="latent"))
