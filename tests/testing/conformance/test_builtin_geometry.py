"""The kit over the built-in geometries."""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from dfw import Geometry
from dfw.testing import GeometryTests
from dfw_geometry.flexicubes import FlexiCubes
from dfw_geometry.image import Image
from dfw_geometry.latent_nerf import LatentNeRF
from dfw_geometry.mesh import Mesh
from dfw_geometry.nerf import NeRF
from dfw_geometry.sdf import SDF
from dfw_geometry.sdf_scene import SdfScene
from dfw_geometry.tet_field import TetField
from dfw_geometry.tets import Tets

SMALL = {"density_network": {"width": 8}, "colour_network": {"width": 8}}


class OfNeRF(GeometryTests):
    """A field whose features have grown: at the start a hash grid's are too small to be seen beside the blob."""

    component = NeRF

    def prepare(self, made: Geometry, generator: torch.Generator) -> None:
        super().prepare(made, generator)
        with torch.no_grad():
            for parameter in made.parameters():
                drawn = torch.randn(parameter.shape, generator=generator, device=generator.device)
                parameter.add_(0.1 * drawn.to(parameter))


class TestNeRFAsInstalled(GeometryTests):
    """With its defaults, as `dfw plugins check nerf`: its first features are so small that a step meets the ReLUs' kinks."""

    component = NeRF


class TestHashGrid(OfNeRF):
    options: ClassVar[dict[str, Any]] = {
        "encoding": {"type": "hash-grid", "levels": 4, "log2_size": 10, "base": 4, "finest": 16},
        **SMALL,
    }


class TestHashGridDifferences(OfNeRF):
    options: ClassVar[dict[str, Any]] = {**TestHashGrid.options, "normals": "finite-difference", "normal_step": 1e-3}


class TestCoarseToFine(OfNeRF):
    options: ClassVar[dict[str, Any]] = {**TestHashGrid.options, "coarse_to_fine": {"start_levels": 1}, "radius": 1.5}


class TestLatentNeRF(OfNeRF):
    component = LatentNeRF
    options: ClassVar[dict[str, Any]] = TestHashGrid.options


class TestDenseGrid(OfNeRF):
    options: ClassVar[dict[str, Any]] = {"encoding": {"type": "dense-grid", "resolutions": [4, 9], "features": 4}, **SMALL}


class TestIntegratedPositional(OfNeRF):
    options: ClassVar[dict[str, Any]] = {
        "encoding": {"type": "integrated-positional", "levels": 3, "blocks": 1, "width": 16},
        **SMALL,
    }


class TestExponentialNeRF(OfNeRF):
    options: ClassVar[dict[str, Any]] = {
        **TestDenseGrid.options,
        "activation": "exp",
        "blob": {"form": "gaussian", "placement": "after"},
    }


class TestVolSDF(OfNeRF):
    """Soft enough that its density has a slope all over the cube."""

    component = SDF
    options: ClassVar[dict[str, Any]] = {
        "encoding": {"type": "hash-grid", "levels": 4, "log2_size": 10, "base": 4, "finest": 16},
        "distance_network": {"width": 8},
        "colour_network": {"width": 8},
        "sharpness": 5,
    }


class TestNeuS(OfNeRF):
    component = SDF
    options: ClassVar[dict[str, Any]] = {
        "encoding": {"type": "dense-grid", "resolutions": [4, 9], "features": 4},
        "distance_network": {"width": 8},
        "colour_network": {"width": 8},
        "density": "neus",
        "sharpness": 5,
        "coarse_to_fine": {"start_levels": 1},
    }


class TestSDFAsInstalled(GeometryTests):
    component = SDF


class TestSdfScene(GeometryTests):
    component = SdfScene
    options: ClassVar[dict[str, Any]] = {"shape": "a red mushroom"}


class TestImage(GeometryTests):
    component = Image
    options: ClassVar[dict[str, Any]] = {"width": 6, "height": 4}


class TestLatents(GeometryTests):
    component = Image
    options: ClassVar[dict[str, Any]] = {"width": 6, "height": 4, "space": "latent", "count": 2}


FIELD = {"encoding": {"levels": 2, "log2_size": 8, "base": 4, "finest": 8}, "network": {"width": 8}}


class TestTets(OfNeRF):
    """With noise on distances and places, so that surfaces of all kinds are met."""

    component = Tets
    steps = 12
    options: ClassVar[dict[str, Any]] = {"resolution": 6, "material": FIELD, "radius": 0.8}


class TestFlexiCubes(OfNeRF):
    component = FlexiCubes
    steps = 12
    options: ClassVar[dict[str, Any]] = {"resolution": 6, "material": FIELD, "start_axes": [0.5, 0.4, 0.5]}


class TestTetField(OfNeRF):
    component = TetField
    options: ClassVar[dict[str, Any]] = {
        "resolution": 6,
        "material": FIELD,
        "start_axes": [0.5, 0.4, 0.5],
        "encoding": FIELD["encoding"],
        "network": {"width": 8},
    }


class TestTetsThatSubdivide(OfNeRF):
    component = Tets
    steps = 12
    options: ClassVar[dict[str, Any]] = {
        "resolution": 4,
        "start_axes": [0.4, 0.3, 0.4],
        "subdivide": [0.4],
        "material": {**FIELD, "pbr": True},
    }


class TestMesh(GeometryTests):
    component = Mesh
    options: ClassVar[dict[str, Any]] = {"texture": {"type": "image", "size": 32}}


class TestFreeMesh(GeometryTests):
    component = Mesh
    options: ClassVar[dict[str, Any]] = {"texture": {"type": "image", "size": 32, "pbr": True}, "vertices": "free"}


class TestMeshWithAField(GeometryTests):
    component = Mesh
    options: ClassVar[dict[str, Any]] = {
        "texture": {"type": "field", "pbr": True, "encoding": {"type": "dense-grid", "resolutions": [4, 9], "features": 4}},
        "colours": "grey",  # the kit makes many, and each would be fitted to its source's colours
    }
