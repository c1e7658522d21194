"""Checks of density fields: what they say at points of space."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from dfw.interfaces.geometry import DensityField, LatentField, SignedDistance
from dfw.testing.compare import bounds, projected, require_finite, require_same
from dfw.testing.geometry_any import AnyGeometry
from dfw.testing.outcomes import Skip, require

_LEADING = ((5,), (), (2, 3), (0,), (4, 1, 2), (2, 0, 3))
"""Leading dimensions of points that every field is asked with."""


class FieldChecks(AnyGeometry):
    """For a `DensityField`."""

    points: ClassVar[int] = 2048
    """Random points a field is looked at."""
    normal_degrees: ClassVar[float] = 5.0
    """Angle within which normals agree with finite differences of the density, at nine of ten points."""

    def test_shapes(self) -> None:
        """Points of any leading dimensions, empty ones too, give outputs of the same leading dimensions and dtype."""
        field = self._field()
        for leading in _LEADING:
            points = (2 * self.draw(*leading, 3) - 1) * field.radius
            density, found = field.density(points), field.sample(points, normals=True)
            shapes = {"density()": (density, leading), "sample().density": (found.density, leading)}
            shapes |= {"sample().albedo": (found.albedo, (*leading, 3))}
            require(found.normal is not None, "sample(points, normals=True) gives normals", "it gave None", "Compute them")
            assert found.normal is not None
            shapes["sample().normal"] = (found.normal, (*leading, 3))
            for name, (value, shape) in shapes.items():
                promise = f"points {(*leading, 3)} give {name} of shape {shape} in the points' dtype"
                seen = f"it has shape {tuple(value.shape)} and {value.dtype}"
                remedy = "Flatten with points.reshape(-1, 3) and give back the leading dimensions at the end"
                require(tuple(value.shape) == shape and value.dtype == points.dtype, promise, seen, remedy)

    def test_finite(self) -> None:
        """Density, albedo, normals and the gradients of the first two are finite: at the centre, on faces, far outside."""
        field = self._field()
        points = self._special(field).requires_grad_()
        values = self._look(field, points, normals=True)
        require_finite(values, "a field is finite everywhere", "Look at the centre, the faces and far outside for 0/0 and log 0")
        shown = values["density"].sum() + values["albedo"].sum()
        if not shown.requires_grad:
            return
        parameters = [p for p in field.parameters() if p.requires_grad]
        gradients = torch.autograd.grad(shown, [points, *parameters], allow_unused=True)
        named = {f"gradient {index}": g for index, g in enumerate(gradients) if g is not None}
        require_finite(named, "gradients are finite everywhere", "Write (x.square().sum(-1) + 1e-12).sqrt() in place of norm()")

    def test_density_is_not_negative(self) -> None:
        """Density is 0 or more."""
        lowest, _ = bounds(self._everywhere()["density"])
        remedy = "Put softplus, exp or relu on the raw value"
        require(lowest >= 0, "density is an amount of matter per length, never negative", f"the lowest is {lowest:.4g}", remedy)

    def test_albedo_is_a_colour(self) -> None:
        """Albedo lies in [0, 1]."""
        low, high = bounds(self._everywhere()["albedo"])
        seen = f"it runs from {low:.4g} to {high:.4g}"
        require(low >= 0 and high <= 1, "albedo is a colour in [0, 1]", seen, "Put a sigmoid on the raw colour")

    def test_nothing_outside(self) -> None:
        """Beyond the cube |x|_inf <= radius density is exactly 0, in both calls."""
        field = self._field()
        radius: object = field.radius
        right = isinstance(radius, int | float) and 0 < radius < math.inf
        require(right, "radius is the half-width of the scene's cube, a number", f"it is {radius!r}", "Return a float above 0")
        corners = F.normalize(self.draw(512, 3, seed=2) - 0.5, dim=-1, p=math.inf) * field.radius
        outside = torch.cat([corners * 1.001, corners * 1.5, corners * 30])
        for name, density in (("density()", field.density(outside)), ("sample()", field.sample(outside).density)):
            seen = f"{name} gives up to {float(density.detach().abs().max()):.4g} there"
            remedy = "Multiply with points.abs().amax(-1) <= radius"
            require(not bool(density.any()), "outside the cube |x| <= radius there is nothing", seen, remedy)

    def test_sample_agrees_with_density(self) -> None:
        """`sample(points).density` is `density(points)`, with normals and without, and normals come only when asked for."""
        field = self._field()
        points = self._inside(field, self.points)
        density = {"density": field.density(points)}
        plain, with_normals = field.sample(points), field.sample(points, normals=True)
        promise = "density() and sample() speak of one field"
        for found in (plain, with_normals):
            require_same(density, {"density": found.density}, self.tolerance, promise, "Compute both by one function")
        albedo = {"albedo": plain.albedo}
        require_same(albedo, {"albedo": with_normals.albedo}, self.tolerance, promise, "Normals must not change the albedo")
        with torch.no_grad():
            silent = self._look(field, points, normals=True)
        shown = {name: value.detach() for name, value in self._look(field, points, normals=True).items()}
        require_same(shown, silent, self.tolerance, "a field is the same under no_grad", "Use torch.enable_grad for normals")

    def test_chunking_changes_nothing(self) -> None:
        """Points asked in pieces, or in another order, give the same answers: none depends on its neighbours."""
        field = self._field()
        points = self._inside(field, 257)
        whole = self._look(field, points, normals=True)
        parts = [self._look(field, part, normals=True) for part in torch.split(points, 37)]
        joined = {name: torch.cat([part[name] for part in parts]) for name in whole}
        promise = "each point is answered by itself"
        require_same(whole, joined, self.tolerance, promise, "Use no statistics over the batch of points (BatchNorm, mean, max)")
        order = torch.randperm(len(points), generator=torch.Generator().manual_seed(0)).to(points.device)
        shuffled = {name: value[order] for name, value in whole.items()}
        moved = self._look(field, points[order], normals=True)
        require_same(shuffled, moved, self.tolerance, promise, "Use no index of a point within the batch")

    def test_normals_are_unit(self) -> None:
        """Where the density has a slope, normals have length 1; elsewhere at most that."""
        points, slope, normal = self._slopes()
        length = normal.norm(dim=-1)
        steep = slope.norm(dim=-1) > 0
        off = float((length - 1).abs()[steep].max()) if bool(steep.any()) else 0.0
        require(
            off <= 1e-3, "normals have length 1", f"one of {len(points)} is off by {off:.3g}", "Divide by the gradient's norm"
        )
        longest = float(length.max())
        require(longest <= 1 + 1e-3, "no normal is longer than 1", f"the longest is {longest:.4g}", "Normalise them")

    def test_normals_match_density(self) -> None:
        """Normals point down the density: -grad/|grad|, as central differences find it."""
        _, slope, normal = self._slopes()
        cosine = -(F.normalize(slope, dim=-1) * F.normalize(normal.to(slope), dim=-1)).sum(-1)
        angle = torch.rad2deg(torch.arccos(cosine.clamp(-1, 1)))
        worst = float(angle.quantile(0.9))
        seen = f"at one point in ten they are {worst:.1f} degrees or more away from finite differences"
        remedy = "Return -grad/|grad| of the density in world units (signs, axes and per-axis scales)"
        require(worst <= self.normal_degrees, "normals are -grad(density)/|grad(density)|", seen, remedy)

    def test_normals_train_the_geometry(self) -> None:
        """Gradients reach the parameters through the normals."""
        field = self._field().train()
        if not list(field.parameters()):
            raise Skip("the geometry has no parameters to train")
        normal = field.sample(self._inside(field, 64), normals=True).normal
        assert normal is not None
        total = projected({"normal": normal}, self.generator())
        remedy = "Take the gradient with create_graph=True when grad mode is on"
        promise = "a loss on normals trains the geometry"
        require(total.requires_grad, promise, "normals carry no graph", remedy)
        total.backward()  # type: ignore[no-untyped-call]
        reached = any(p.grad is not None and bool(p.grad.any()) for p in field.parameters())
        require(reached, promise, "no parameter gets a gradient from them", remedy)

    def test_rays_meet_what_is_there(self) -> None:
        """`segment` has the shapes, colours and normals of `sample`; no ray meets matter where `density` is 0."""
        field = self._field()
        inside = self._inside(field, 24).view(2, 3, 4, 3)
        for points in (inside, 2 * inside):
            directions = self._directions(points)
            length = torch.full_like(points[..., 0], 0.01 * field.radius)
            found, known = field.segment(points, directions, length, normals=True), field.sample(points, normals=True)
            promise, remedy = (
                "segment() shows what sample() shows, except for the density",
                "Ask sample() for all but the density",
            )
            require(found.density.shape == known.density.shape, promise, f"the density is {tuple(found.density.shape)}", remedy)
            require(found.normal is not None and known.normal is not None, promise, "it gave no normals", remedy)
            assert found.normal is not None
            assert known.normal is not None
            same = {"albedo": known.albedo, "normal": known.normal}
            require_same(same, {"albedo": found.albedo, "normal": found.normal}, self.tolerance, promise, remedy)
            require_finite({"density": found.density}, "a ray meets finite densities", "Look for a difference of infinities")
            lowest, empty = float(found.density.detach().min()), found.density[field.density(points) == 0]
            remedy = "Give 0 wherever density() is 0, outside the cube too"
            require(lowest >= 0, "a ray meets densities of 0 or more", f"the lowest is {lowest:.4g}", "Clamp it at 0")
            require(not bool(empty.any()), "a ray meets no matter where there is none", "it does", remedy)

    def test_segments_add_up(self) -> None:
        """Two short segments of a ray, one after the other, are as thick together as the one that they are parts of."""
        wide = torch.float64 if torch.float64 in self.dtypes else torch.float32
        field = self._field().to(wide)
        points = self._inside(field, self.points, dtype=wide)
        directions = self._directions(points)
        whole = torch.full_like(points[..., 0], (1e-4 if wide == torch.float64 else 1e-2) * field.radius)
        with torch.no_grad():
            ends = [field.segment(points + sign * whole[:, None] / 4 * directions, directions, whole / 2) for sign in (-1, 1)]
            found, parts = field.segment(points, directions, whole).density, (ends[0].density + ends[1].density) / 2
        off = float((found - parts).abs().sum() / found.abs().sum().clamp(min=1e-30))
        seen = f"cutting short segments in two changes their optical thickness by {100 * off:.0f} %"
        remedy = "Divide the optical thickness by the segment's length, world units"
        require(off <= 0.05, "segment() gives the mean density over each segment", seen, remedy)

    def test_the_distance_makes_the_field(self) -> None:
        """Of a `SignedDistance`: what is deeper is not less dense, and `gradient` is as long as differences of the distance."""
        wide = torch.float64 if torch.float64 in self.dtypes else torch.float32
        field = self._field().to(wide)
        if not isinstance(field, SignedDistance):
            raise Skip(f"{type(field).__name__} is not a SignedDistance")
        offered = "signed-distance" in type(field).provides(field.config)
        promise, remedy = "a SignedDistance provides the feature signed-distance", "Add 'signed-distance' to the set"
        require(offered, promise, f"{type(field).__name__}.provides() leaves it out", remedy)
        points = self._inside(field, self.points, dtype=wide)
        step = field.radius * (1e-6 if wide == torch.float64 else 1e-3)
        with torch.no_grad():
            distance, found = field.distance(points), field.sample(points, normals=True)
            offset = step * torch.eye(3, device=points.device, dtype=wide)
            rise = (field.distance(points[:, None] + offset) - field.distance(points[:, None] - offset)) / (2 * step)
        promise, remedy = "distance(points) has the points' leading dimensions", "Flatten with points.reshape(-1, 3)"
        require(distance.shape == points.shape[:-1], promise, f"it has shape {tuple(distance.shape)}", remedy)
        outwards = found.density[distance.argsort()]
        climb = float((outwards[1:] - outwards[:-1]).max() / outwards.max())
        seen = f"it rises by {100 * climb:.3g} % of its largest value from one point to the next further out"
        require(climb <= 1e-3, "density falls as the distance grows", seen, "Distances are negative inside")
        gradient = found.extras.get("gradient")
        promise, remedy = "samples with normals have the gradient's length (..., 1) in extras", "Give extras={'gradient': ...}"
        given = "nothing" if gradient is None else f"shape {tuple(gradient.shape)}"
        require(gradient is not None and gradient.shape == (*points.shape[:-1], 1), promise, f"there is {given}", remedy)
        assert gradient is not None
        off = float((gradient[:, 0] - rise.norm(dim=-1)).abs().quantile(0.9))
        seen = f"at one point in ten it is off by {off:.3g} or more"
        require(off <= 0.02, "extras' gradient is the length of the distance's gradient", seen, "Take it in world units")

    def test_latents_come_with_samples(self) -> None:
        """Of a `LatentField`: samples have `latents` in extras, as many as an even picture of one colour has."""
        field = self._field()
        if not isinstance(field, LatentField):
            raise Skip(f"{type(field).__name__} is not a LatentField")
        promise, remedy = "a LatentField provides the feature latents", "Add 'latents' to the set"
        require("latents" in type(field).provides(field.config), promise, "provides() leaves it out", remedy)
        points = self._inside(field, 6).view(2, 3, 3)
        found, even = field.sample(points).extras.get("latents"), field.latents_of(torch.full_like(points, 0.5))
        promise = "samples have their latents (..., C) in extras, and latents_of gives as many"
        seen = f"they are {None if found is None else tuple(found.shape)} and {tuple(even.shape)}"
        require(found is not None and found.shape == even.shape == (2, 3, even.shape[-1]), promise, seen, "Give both C channels")
        require_finite({"latents_of": even}, "latents of a colour are finite", "Look for a singular inverse")

    # -- helpers -------------------------------------------------------------------------------------------------------

    def _directions(self, points: Tensor) -> Tensor:
        """A unit direction for each of `points`."""
        return F.normalize(self.draw(*points.shape, seed=5, dtype=points.dtype) - 0.5, dim=-1)

    def _field(self) -> DensityField:
        made = self.fresh()
        if not isinstance(made, DensityField):
            raise Skip(f"{type(made).__name__} is not a DensityField")
        require(
            "density-field" in type(made).provides(made.config),
            "a DensityField provides the feature density-field",
            f"{type(made).__name__}.provides() leaves it out",
            "Add 'density-field' to the set",
        )
        return made

    def _special(self, field: DensityField) -> Tensor:
        """The centre, corners, centres of faces and edges of the cube, points of the axes, random ones inside and far outside."""
        steps = torch.tensor([-1.0, 0.0, 1.0], device=self.device)
        lattice = torch.cartesian_prod(steps, steps, steps) * field.radius
        return torch.cat([lattice, lattice / 2, lattice * 1e-6, lattice * 1e3, self._inside(field, 64)])

    def _everywhere(self) -> dict[str, Tensor]:
        field = self._field()
        points = torch.cat([self._special(field), self._inside(field, self.points)])
        return self._look(field, points, normals=False)

    def _slopes(self) -> tuple[Tensor, Tensor, Tensor]:
        """Points (K, 3) where the density is steep, its gradient there by central differences (K, 3), and normals (K, 3).

        Differences are taken in the widest dtype, normals in float32 as in a run.
        """
        field = self._field()
        wide = torch.float64 if torch.float64 in self.dtypes else torch.float32
        points = self._inside(field, self.points, seed=3)
        step = field.radius * (1e-6 if wide == torch.float64 else 1e-3)
        offset = step * torch.eye(3, device=points.device, dtype=wide)
        precise = self._field().to(wide)
        with torch.no_grad():
            ahead, behind = (precise.density(points.to(wide)[:, None] + sign * offset) for sign in (1, -1))
        slope = (ahead - behind) / (2 * step)
        noise = 100 * torch.finfo(wide).eps * float(ahead.max()) / (2 * step)
        size = slope.norm(dim=-1)
        steep = (size > max(noise, 0.05 * float(size.max()))).nonzero()[:, 0]
        if len(steep) < 8:
            raise Skip("the density has no slope to compare normals with; let `prepare` give the geometry a shape")
        normal = field.sample(points[steep], normals=True).normal
        require(normal is not None, "sample(points, normals=True) gives normals", "it gave None", "Compute them")
        assert normal is not None
        return points[steep], slope[steep], normal.detach()
