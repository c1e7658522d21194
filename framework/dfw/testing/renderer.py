"""The kit for renderers. It shows scenes whose pictures are known; one of density fields or surfaces needs nothing but `make`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from dfw.interfaces.data import CameraBatch, RaySamples, RenderOutput
from dfw.interfaces.renderer import Renderer
from dfw.testing import fields
from dfw.testing.compare import bounds, require_same
from dfw.testing.outcomes import Skip, require
from dfw.testing.renderer_any import AnyRenderer
from dfw.testing.renderer_shown import ANGLES


class RendererTests(AnyRenderer):
    """Checks of a `Renderer`: those of `AnyRenderer`, and pictures that are known before they are rendered.

    A renderer that requires neither `density-field` nor `surface` needs `geometry` besides `make`; with `empty`, `opaque` and
    `speck` its pictures of known scenes are checked, too.
    """

    centroid: ClassVar[float] = 0.25
    """Pixels by which the middle of a small blob may miss its place."""
    depth_error: ClassVar[float] = 0.03
    """Relative error of the depth of a small thin blob."""
    opacity_error: ClassVar[float] = 0.08
    """Mean absolute error of the opacity of a homogeneous ball."""
    normal_error: ClassVar[float] = 0.1
    """Mean error, as a distance of vectors, of the normals of a soft ball."""

    def test_empty_scene_is_the_background(self) -> None:
        """Where nothing is, opacity and depth are exactly 0 and the colour is the background's, whatever colour nothing has."""
        made, cameras = self.fresh(), self._cameras()
        black, red = (made(self._on_device(self.empty(colour)), cameras) for colour in ((0.0, 0.0, 0.0), (1.0, 0.0, 0.0)))
        for name, value in (("opacity", black.opacity), ("depth", black.depth)):
            seen = f"it is up to {float(value.detach().abs().max()):.3g}"
            require(not bool(value.any()), f"{name} of an empty scene is exactly 0", seen, "Sum over the samples' weights alone")
        promise = "an empty scene shows exactly the background"
        remedy = "Composite colour + (1 - opacity) * background"
        require_same({"colour": black.colour}, {"colour": red.colour}, 0, promise, remedy)

    def test_opaque_thing_has_its_colour(self) -> None:
        """An opaque thing covers the background and has its own colour, in evaluation mode without shading."""
        made, cameras = self.fresh(), self._cameras()
        for colour in ((0.9, 0.5, 0.2), (0.0, 0.25, 1.0)):
            output: RenderOutput = made(self._on_device(self.opaque(colour)), cameras)
            solid = output.opacity > 0.999
            promise = "an opaque thing in the middle covers the picture's middle"
            require(bool(solid.any()), promise, f"opacity is at most {bounds(output.opacity)[1]:.4g}", "Look at the weights")
            off = float((output.colour[solid] - output.colour.new_tensor(colour)).detach().abs().max())
            promise = "an opaque thing has its own colour"
            remedy = "Add the background times 1 - opacity, once, and shade nothing in evaluation unless asked to"
            require(off <= 2e-3, promise, f"a colour {colour} is off by up to {off:.4g}", remedy)

    def test_half_transparent_thing_is_composited(self) -> None:
        """Between nothing and opaque: colour = opacity * own colour + (1 - opacity) * background, at every pixel."""
        self._only("density-field")
        made, cameras, own = self.fresh(), self._cameras(), (0.9, 0.5, 0.2)
        output: RenderOutput = made(self._on_device(fields.Ball(1.0, colour=own)), cameras)
        behind = made(self._on_device(self.empty(own)), cameras).colour
        opacity = output.opacity[..., None]
        expected = {"colour": opacity * output.colour.new_tensor(own) + (1 - opacity) * behind}
        promise, remedy = "the background shows through by 1 - opacity", "Composite colour + (1 - opacity) * background, once"
        require_same(expected, {"colour": output.colour}, self.tolerance, promise, remedy)

    def test_opacity_of_a_ball(self) -> None:
        """A homogeneous ball has opacity 1 - exp(-density * chord): density is per world unit."""
        self._only("density-field")
        made, cameras = self.fresh(), self._cameras(dtype=torch.float32)
        rays = cameras.rays()
        nearest = torch.linalg.cross(rays.origin, rays.direction).norm(dim=-1)
        for density in (0.5, 2.0):
            chord = 2 * (0.6**2 - nearest**2).clamp(min=0).sqrt()
            found = made(self._on_device(fields.Ball(density)), cameras).opacity
            error = float((found - (1 - torch.exp(-density * chord)))[chord > 0].detach().abs().mean())
            promise = f"a ball of density {density:g} per unit has opacity 1 - exp(-{density:g} chord)"
            remedy = "Multiply densities with the samples' spacing in world units"
            require(error <= self.opacity_error, promise, f"it is off by {error:.3g} on average (opacity_error)", remedy)

    def test_camera_convention(self) -> None:
        """A known point of the world lands on the known pixel, its opacity and its colour, in training mode too.

        x right, y up, looking along -z, pixel centres at halves.
        """
        made, (height, width), point = self.fresh(), (24, 36), (0.3, -0.2, 0.25)
        geometry = self._on_device(self.speck(point, opaque=True))
        cameras = fields.views(ANGLES, height, width).to(self.device)
        output: RenderOutput = made(geometry, cameras)
        shown = {"opacity": output.opacity} | self._contrast(made, output.colour, cameras)
        shown["opacity in training"] = made.train()(geometry, cameras, self.generator()).opacity
        for view, (azimuth, elevation) in enumerate(ANGLES):
            expected = fields.seen_at(point, azimuth, elevation, 40.0, height, width)
            promise = f"{point} seen from azimuth {azimuth:g}, elevation {elevation:g} is at row {expected[0]:.2f}, "
            promise += f"column {expected[1]:.2f} of {height} x {width}"
            remedy = "Take cameras.rays(), one ray through each pixel's centre, rows from the top"
            for name, picture in shown.items():
                require(bool(picture[view].any()), promise, f"{name} shows nothing at all", remedy)
                found = _middle(picture[view])
                near = max(abs(found[0] - expected[0]), abs(found[1] - expected[1])) <= self.centroid
                require(near, promise, f"{name} shows it at row {found[0]:.2f}, column {found[1]:.2f}", remedy)

    def _contrast(self, made: Renderer, colour: Tensor, cameras: CameraBatch) -> dict[str, Tensor]:
        """Where a picture's colour is not that of an empty scene; nothing where no empty scene is to be had."""
        try:
            empty = self._on_device(self.empty((0.0, 0.0, 0.0)))
        except Skip:
            return {}
        apart = (colour - made(empty, cameras).colour).abs().sum(-1)
        return {"colour": apart * (apart > 0.05 * apart.amax((1, 2), keepdim=True))}

    def test_normals(self) -> None:
        """Normals of a soft ball point away from its middle, in world space, weighted as its colours are."""
        self._only("density-field")
        made, middle, cameras = self.fresh(), (0.1, -0.2, 0.15), self._cameras()
        ball = fields.soft_ball(middle).to(self.device)
        opacity, expected = fields.normals_seen(ball, cameras)
        outputs = [made.train(mode)(ball, cameras, self.generator()) for mode in (True, False)]
        if all(output.normal is None and (output.samples is None or output.samples.normal is None) for output in outputs):
            raise Skip("the renderer gives no normals")
        remedy = "Take -grad(density)/|grad(density)| in world axes, in [-1, 1], times the samples' weights"
        for output in outputs:
            if output.normal is not None:
                error = float((output.normal - expected)[opacity > 0.5].norm(dim=-1).detach().mean())
                promise = "normals of a picture are the weighted sum of unit normals, which point away from a ball's middle"
                require(error <= self.normal_error, promise, f"they are off by {error:.3g} on average (normal_error)", remedy)
            if output.samples is not None and output.samples.normal is not None:
                self._require_away(output.samples, cameras, middle, remedy)

    def test_normals_of_a_surface(self) -> None:
        """Normals of an octahedron look away from its middle, in world space, and have unit length where it is opaque."""
        self._only("surface")
        made, cameras = self.fresh(), self._cameras()
        output: RenderOutput = made(self._on_device(self.opaque((0.9, 0.5, 0.2))), cameras)
        if output.normal is None:
            raise Skip("the renderer gives no normals")
        normal, solid = output.normal.detach(), output.opacity > 0.999
        away = cameras.position[:, None, None] + output.depth[..., None] * cameras.rays().direction
        away = F.normalize(away, dim=-1).detach()
        promise = "normals of a surface are unit vectors, in world space, that look outwards; a triangle's own or smooth ones"
        remedy = "Take the cross product of two sides, counter-clockwise, normalised, times the opacity"
        long = float((normal.norm(dim=-1) - 1)[solid].abs().max())
        require(long <= 0.01, promise, f"in a solid place their length is off by {long:.3g}", remedy)
        least = float((normal * away).sum(-1)[solid].min())  # 0.577 at the corners for a triangle's own, 1 for smooth ones
        require(least >= 0.5, promise, f"one has a cosine of {least:.3g} with the direction away from the middle", remedy)

    def _require_away(self, samples: RaySamples, cameras: CameraBatch, middle: Sequence[float], remedy: str) -> None:
        """Requires that the normals of samples that are seen point away from `middle`."""
        points = cameras.rays().origin.reshape(-1, 3)[samples.ray] + samples.distance[:, None] * samples.direction
        away, normal = F.normalize(points - points.new_tensor(middle), dim=-1), samples.normal
        assert normal is not None
        error = float((normal - away)[samples.weight > 0.01].norm(dim=-1).detach().mean())
        promise = "samples' normals are unit vectors that point away from a ball's middle"
        require(error <= self.normal_error, promise, f"they are off by {error:.3g} on average (normal_error)", remedy)

    def test_depth_is_the_distance_along_the_ray(self) -> None:
        """The depth of a small thin thing far off the axis is its distance from the camera, not its depth along the axis."""
        made, point = self.fresh(), (0.6, 0.6, 0.6)
        geometry = self._on_device(self.speck(point, opaque=False))
        cameras = fields.views([(0.0, 0.0)], 33, 33, 70.0).to(self.device)
        output: RenderOutput = made(geometry, cameras)
        weight = output.opacity.detach().square()
        found = float((weight * output.depth).detach().sum() / weight.sum().clamp(min=1e-12))
        expected = float((torch.tensor(point) - torch.tensor([3.0, 0.0, 0.0])).norm())
        promise = "depth is the distance along the ray, world units"
        seen = f"a thing {expected:.4g} units away has depth {found:.4g}"
        remedy = "Return the weighted mean of the samples' distances along unit directions, divided by opacity"
        require(abs(found - expected) <= self.depth_error * expected, promise, seen, remedy)


def _middle(picture: Tensor) -> tuple[float, float]:
    """Row and column of a picture's (H, W) centre of mass, pixels from the upper left."""
    mass = picture.detach().double()
    rows, columns = (torch.arange(side, device=mass.device, dtype=mass.dtype) + 0.5 for side in mass.shape)
    return float((mass * rows[:, None]).sum() / mass.sum()), float((mass * columns).sum() / mass.sum())
