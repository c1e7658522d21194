"""Checks of surfaces: triangles with a colour at each point."""

from __future__ import annotations

import torch

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

    def test_surface_colours(self) -> None:
        """Colours lie in [0, 1], in the points' shape and dtype, and each point is answered by itself."""
        made = self._surface()
        points = made.surface().vertices.detach()
        colour = made.albedo(points)
        promise, remedy = "albedo gives colours (..., 3) for points (..., 3)", "Keep leading dimensions and dtype"
        seen = f"for {tuple(points.shape)} of {points.dtype} it gave {tuple(colour.shape)} of {colour.dtype}"
        require(colour.shape == points.shape and colour.dtype == points.dtype, promise, seen, remedy)
        low, high = bounds(colour)
        require(low >= 0 and high <= 1, "albedo lies in [0, 1]", f"it runs from {low:.4g} to {high:.4g}", "Use a sigmoid")
        alone = torch.cat([made.albedo(points[k : k + 1]) for k in range(min(len(points), 8))])
        promise = "each point is answered by itself"
        require_same({"albedo": colour[:8]}, {"albedo": alone}, self.tolerance, promise, "Use no statistics over the points")

    def _surface(self) -> Surface:
        made = self.fresh()
        if not isinstance(made, Surface):
            raise Skip(f"{type(made).__name__} is not a Surface")
        promise = "a Surface provides the feature surface"
        named = "surface" in type(made).provides(made.config)
        require(named, promise, f"{type(made).__name__}.provides() leaves it out", "Add 'surface' to the set")
        return made
