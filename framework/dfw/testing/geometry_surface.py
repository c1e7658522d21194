"""Checks of surfaces: triangles with a material at each point."""

from __future__ import annotations

import torch
from torch import Tensor

from dfw.interfaces.data import SurfacePoints
from dfw.interfaces.geometry import Surface
from dfw.interfaces.mesh import Mesh
from dfw.testing.compare import bounds, require_finite, require_same
from dfw.testing.geometry_any import AnyGeometry
from dfw.testing.outcomes import Skip, require


class SurfaceChecks(AnyGeometry):
    """For a `Surface`."""

    def test_triangles(self) -> None:
        """Corners are (V, 3) and finite; faces are (F, 3) of int64, each with three corners that there are."""
        found = self._surface().surface()
        corners, faces = found.vertices, found.faces
        promise, remedy = "surface() gives Triangles", "Give vertices (V, 3) of floats and faces (F, 3) of int64"
        seen = f"vertices are {tuple(corners.shape)} of {corners.dtype}, faces {tuple(faces.shape)} of {faces.dtype}"
        right = corners.dim() == faces.dim() == 2 and corners.shape[1] == faces.shape[1] == 3
        require(right and corners.is_floating_point() and faces.dtype == torch.int64, promise, seen, remedy)
        require(len(faces) > 0, promise, "there is no triangle", "Give the scene a shape in initialise, or in prepare")
        low, high = int(faces.min()), int(faces.max())
        seen = f"faces name corners {low} to {high} of {len(corners)}"
        require(low >= 0 and high < len(corners), promise, seen, remedy)
        require_finite({"vertices": corners}, "corners are finite", "Look for 0/0")

    def test_faces_look_outwards(self) -> None:
        """A closed surface encloses a volume above 0: its triangles run counter-clockwise, seen from outside."""
        found = self._surface().surface()
        mesh = Mesh(found.vertices.detach().cpu().numpy(), found.faces.cpu().numpy())
        if not mesh.watertight:
            raise Skip("the surface is not closed, so it has no outside")
        promise = "faces run counter-clockwise seen from outside"
        require(mesh.volume > 0, promise, f"the surface encloses a volume of {mesh.volume:.3g}", "Swap two corners of each face")

    def test_surface_material(self) -> None:
        """Colour, roughness and metallic lie in [0, 1], in the points' shape and dtype, and each point is answered by itself."""
        made = self._surface()
        points = made.surface().vertices.detach()
        found = self._material(made, SurfacePoints(points))
        for name, value in found.items():
            shape = points.shape if name in ("albedo", "bump") else points.shape[:-1]
            promise, remedy = f"material gives {name} in the points' shape", "Keep leading dimensions and dtype"
            seen = f"for {tuple(points.shape)} of {points.dtype} it gave {tuple(value.shape)} of {value.dtype}"
            require(value.shape == shape and value.dtype == points.dtype, promise, seen, remedy)
            low, high = bounds(value)
            seen = f"it runs from {low:.4g} to {high:.4g}"
            require(name == "bump" or (low >= 0 and high <= 1), f"{name} lies in [0, 1]", seen, "Use a sigmoid")
        few = range(min(len(points), 8))
        ones = [self._material(made, SurfacePoints(points[k : k + 1])) for k in few]
        alone = {name: torch.cat([one[name] for one in ones]) for name in found}
        promise = "each point is answered by itself"
        first = {name: value[: len(few)] for name, value in found.items()}
        require_same(first, alone, self.tolerance, promise, "Use no statistics over the points")

    def test_a_place_in_a_triangle_is_its_point(self) -> None:
        """The material is the same whether a point is named by its position alone, or by its triangle and place in it as well.

        Left out are points that two triangles share, and those where the surface meets itself.
        """
        made = self._surface()
        found = made.surface()
        face = torch.arange(min(len(found.faces), 64), device=found.faces.device)
        place = found.vertices.new_tensor([0.5, 0.3, 0.2]).expand(len(face), 3)
        position = torch.einsum("fk,fkx->fx", place, found.vertices.detach()[found.faces[face]])
        by_place = self._material(made, SurfacePoints(position, face, place))
        by_point = self._material(made, SurfacePoints(position))
        promise = "a point has one material, however it is named"
        require_same(by_place, by_point, 1e-3, promise, "Find the nearest point of the surface where `face` is None")

    def _material(self, made: Surface, at: SurfacePoints) -> dict[str, Tensor]:
        """What the surface says of its material, by name."""
        return {name: value.detach() for name, value in vars(made.material(at)).items() if value is not None}

    def _surface(self) -> Surface:
        made = self.fresh()
        if not isinstance(made, Surface):
            raise Skip(f"{type(made).__name__} is not a Surface")
        promise = "a Surface provides the feature surface"
        named = "surface" in type(made).provides(made.config)
        require(named, promise, f"{type(made).__name__}.provides() leaves it out", "Add 'surface' to the set")
        return made
