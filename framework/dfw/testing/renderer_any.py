"""Checks of any renderer: shapes, ranges, independence of batch and chunks, gradients. `RendererTests` adds known pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.autograd.gradcheck import GradcheckError

from dfw.contracts import CameraBatch, RenderOutput
from dfw.interfaces import Geometry, Renderer
from dfw.schedules import Progress
from dfw.testing import fields
from dfw.testing.base import ComponentTests
from dfw.testing.compare import bounds, projected, require_finite, require_same
from dfw.testing.outcomes import Skip, require
from dfw.testing.trained import GradientChecks, GroupChecks

ANGLES = ((0.0, 0.0), (90.0, 30.0), (-135.0, -20.0))
"""Azimuth and elevation, degrees, of the cameras."""


class AnyRenderer(ComponentTests[Renderer], GroupChecks[Renderer], GradientChecks[Renderer]):
    """What every renderer promises, whatever it renders; the scenes it is shown can be overridden."""

    interface: ClassVar[type[Any]] = Renderer

    def geometry(self) -> Geometry:
        """Any scene with parameters, about 1 unit large: by default two smooth blobs of density."""
        return self._field(fields.two_blobs(), "geometry")

    def empty(self, colour: Sequence[float]) -> Geometry:
        """A scene with nothing to see, whose invisible matter has `colour`."""
        return self._field(fields.Ball(0.0, colour=colour), "empty")

    def opaque(self, colour: Sequence[float]) -> Geometry:
        """An opaque thing of one `colour` in the middle of the scene, at least 0.5 units in radius."""
        return self._field(fields.Ball(1e4, colour=colour), "opaque")

    def speck(self, centre: Sequence[float], opaque: bool) -> Geometry:
        """A small thing at `centre`, at most 0.2 units in radius; nearly transparent unless `opaque`."""
        return self._field(fields.speck(centre, 20.0 if opaque else 0.5), "speck")

    def size(self) -> tuple[int, int]:
        """Height and width of a picture; not square. A renderer of `image` geometries has those of the image."""
        geometry = self._scene()
        image = getattr(geometry, "image", None)
        if "image" in type(geometry).provides(geometry.config) and callable(image):
            shape = image().shape
            return int(shape[1]), int(shape[2])
        return 8, 12

    def prepare(self, made: Renderer, generator: torch.Generator) -> None:
        """Draws the initial parameters."""
        made.initialise(generator)

    def exercise(self, made: Renderer) -> None:
        """Renders and goes backwards at the first and the last step of a run, in training mode."""
        geometry, generator = self._scene(), self.generator(1)
        made.train()
        for step in (0, 99):
            made.begin_step(geometry, Progress(step, 100), generator)
            total = made(geometry, self._cameras(), generator).colour.square().sum()
            if total.requires_grad:
                total.backward()
        made.zero_grad(set_to_none=True)
        made.eval()

    def observe(self, made: Renderer, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
        """The picture of `geometry` in evaluation mode."""
        return self._values(made(self._scene().to(dtype), self._cameras(dtype=dtype)))

    # -- any renderer --------------------------------------------------------------------------------------------------

    def test_shapes(self) -> None:
        """Every output has the shape of the contract, for one view and several, in training and in evaluation mode."""
        made, geometry = self.fresh(), self._scene()
        height, width = self.size()
        for mode in (True, False):
            for count in (1, 3):
                made.train(mode)
                output: RenderOutput = made(geometry, self._cameras(count), self.generator())
                shape = (count, height, width)
                named: dict[str, tuple[Tensor, tuple[int, ...]]] = {
                    "opacity": (output.opacity, shape),
                    "depth": (output.depth, shape),
                }
                channels = int(output.colour.shape[-1]) if output.latent else 3
                named["colour"] = (output.colour, (*shape, channels))
                if output.normal is not None:
                    named["normal"] = (output.normal, (*shape, 3))
                for name, (value, expected) in named.items():
                    promise = f"{count} views of {height} x {width} give {name} of shape {expected}"
                    seen = f"it has shape {tuple(value.shape)}"
                    require(tuple(value.shape) == expected, promise, seen, "Use cameras.height and cameras.width in this order")

    def test_ranges(self) -> None:
        """Colour (unless latent) and opacity lie in [0, 1], depth is 0 or more, and 0 where nothing is."""
        made, geometry = self.fresh(), self._scene()
        for mode in (True, False):
            output: RenderOutput = made.train(mode)(geometry, self._cameras(), self.generator())
            require_finite(self._values(output), "every pixel is a finite number", "Look for 0/0 on rays that hit nothing")
            bounded = {"opacity": output.opacity} if output.latent else {"opacity": output.opacity, "colour": output.colour}
            for name, value in bounded.items():
                low, high = bounds(value)
                seen = f"it runs from {low:.6g} to {high:.6g}"
                remedy = "Sum weights w_i = T_i (1 - exp(-sigma_i d_i)), and add the background once, times 1 - opacity"
                require(low >= -1e-5 and high <= 1 + 1e-5, f"{name} lies in [0, 1]", seen, remedy)
            require(bounds(output.depth)[0] >= 0, "depth is a distance along the ray", "one is negative", "Measure from the eye")
            stray = int(output.depth[output.opacity == 0].count_nonzero())
            promise, seen = "depth is 0 where nothing is", f"it is not at {stray} pixels"
            require(stray == 0, promise, seen, "Divide the sum of weighted distances by opacity clamped away from 0")

    def test_features_are_given(self) -> None:
        """What `provides` promises is in the output while training."""
        made = self.fresh().train()
        output: RenderOutput = made(self._scene(), self._cameras(), self.generator())
        offered = type(made).provides(made.config)
        given = {"normals": output.normal, "ray-samples": output.samples, "latents": True if output.latent else None}
        for feature, value in given.items():
            promise = f"a renderer that provides {feature} gives them in every training step"
            seen = "provides() has it, and the output does not"
            if feature in offered:
                require(value is not None, promise, seen, "Compute it, or leave the feature out")
        if "normals" in offered and output.samples is not None:
            has = output.samples.normal is not None
            promise = "a renderer with normals and ray samples gives the samples' normals"
            require(has, promise, "samples.normal is None", "Put them into RaySamples")

    def test_weights(self) -> None:
        """Samples are sorted, lie on their rays, and have weights of 0 or more that sum to the pixel's opacity, at most 1."""
        made = self.fresh()
        cameras = self._cameras()
        output: RenderOutput = made(self._scene(), cameras, self.generator())
        samples = output.samples
        if samples is None:
            raise Skip("the renderer gives no ray samples")
        rays = cameras.rays().direction.reshape(-1, 3)
        lowest = bounds(samples.weight)[0] if samples.weight.numel() else 0.0
        remedy = "w_i = T_i (1 - exp(-sigma_i d_i)) with T_i the product over the samples before"
        require(lowest >= 0, "weights are 0 or more", f"the lowest is {lowest:.3g}", remedy)
        total = samples.weight.new_zeros(len(rays)).index_add(0, samples.ray, samples.weight)
        _, highest = bounds(total)
        require(highest <= 1 + 1e-5, "the weights of a ray sum to at most 1", f"they sum to {highest:.6g}", remedy)
        promise = "the weights of a ray sum to its opacity"
        opacity = {"opacity": output.opacity.flatten()}
        require_same(opacity, {"opacity": total}, self.tolerance, promise, "Take the opacity as the sum of weights")
        ray, distance = samples.ray, samples.distance
        ordered = bool(((ray.diff() > 0) | ((ray.diff() == 0) & (distance.diff() > 0))).all())
        require(ordered, "samples are sorted by ray, then by distance", "they are not", "Sort them")
        direction = {"direction": rays[ray]}
        promise = "a sample has the unit direction of its ray"
        require_same(direction, {"direction": samples.direction}, self.tolerance, promise, "Take cameras.rays().direction[ray]")

    def test_batch_invariance(self) -> None:
        """A view of a batch looks as it does alone."""
        made, geometry, cameras = self.fresh(), self._scene(), self._cameras()
        whole = self._values(made(geometry, cameras))
        alone = [self._values(made(geometry, cameras.select(slice(k, k + 1)))) for k in range(len(cameras))]
        joined = {name: torch.cat([view[name] for view in alone]) for name in whole}
        promise = "a view of a batch looks as it does alone"
        require_same(whole, joined, self.tolerance, promise, "Use no statistics over views, and each view's own camera")

    def test_chunking_changes_nothing(self) -> None:
        """With `chunk` at 37 rays the picture is the same; for renderers whose Config has a field `chunk`."""
        made = self.fresh()
        if "chunk" not in type(made.config).model_fields:
            raise Skip("the renderer's Config has no field `chunk`")
        small: Renderer = type(made)(made.config.model_copy(update={"chunk": 37}))
        small.to(self.device).load_state_dict(made.state_dict())
        promise = "rays rendered in chunks make the same picture"
        require_same(self.observe(made), self.observe(small.eval()), self.tolerance, promise, "Look at the offsets of chunks")

    def test_evaluation_is_repeatable(self) -> None:
        """In evaluation mode nothing is drawn and nothing remembered: training steps in between change no picture."""
        made, geometry, cameras = self.fresh(), self._scene(), self._cameras()
        generator = self.generator(5)
        state = generator.get_state()
        first = self._values(made(geometry, cameras, generator))
        promise = "in evaluation mode nothing is drawn"
        drawn = not torch.equal(state, generator.get_state())
        require(not drawn, promise, "the generator moved on", "Draw only if self.training")
        require_same(first, self._values(made(geometry, cameras)), 0, promise, "Give the same picture without a generator")
        self.exercise(made)
        promise = "a picture in evaluation mode depends on geometry and cameras alone"
        require_same(first, self._values(made(geometry, cameras)), 0, promise, "Keep what training remembers out of evaluation")

    def test_training_draws_from_its_generator(self) -> None:
        """In training mode the same generator state gives the same picture."""
        made, geometry, cameras = self.fresh().train(), self._scene(), self._cameras()
        first, second = (self._values(made(geometry, cameras, self.generator(8))) for _ in range(2))
        tolerance = 0 if self.device == "cpu" else self.tolerance
        promise = "in training mode all draws come from the generator"
        require_same(first, second, tolerance, promise, "Pass generator=generator to torch.rand, randn and randint")

    def test_gradients_reach_the_scene(self) -> None:
        """A picture trains every parameter of the geometry, and of the renderer if it has some, with finite gradients."""
        made, geometry = self.fresh().train(), self._scene()
        output: RenderOutput = made(geometry, self._cameras(), self.generator())
        named = {f"geometry.{name}": p for name, p in geometry.named_parameters()}
        named |= {f"renderer.{name}": p for name, p in made.named_parameters()}
        if not named:
            raise Skip("the scene has no parameters to train")
        promise, remedy = "a picture trains the scene", "Look for a detach(), a no_grad or a threshold on the way"
        require(output.colour.requires_grad, promise, "its colour carries no graph", remedy)
        projected({"colour": output.colour}, self.generator()).backward()  # type: ignore[no-untyped-call]
        for name, parameter in named.items():
            gradient = parameter.grad
            require(gradient is not None and bool(gradient.any()), promise, f"{name} gets no gradient", remedy)
            require(bool(torch.isfinite(gradient).all()), promise, f"the gradient of {name} is not finite", remedy)  # type: ignore[arg-type]

    def test_gradcheck(self) -> None:
        """In float64, evaluation mode: gradients of colour, opacity and depth equal finite differences (torch's gradcheck)."""
        if torch.float64 not in self.dtypes:
            raise Skip("the component does not work in float64 (dtypes)")
        made, geometry = self.fresh().double(), self._scene().double()
        bridge = _Bridge(made, geometry, self._cameras(1, torch.float64))
        names = [name for name, parameter in bridge.named_parameters() if parameter.requires_grad]
        if not names:
            raise Skip("the scene has no parameters to train")
        values = tuple(dict(bridge.named_parameters())[name].detach().clone().requires_grad_() for name in names)

        def picture(*moved: Tensor) -> tuple[Tensor, ...]:
            found: tuple[Tensor, ...] = torch.func.functional_call(bridge, dict(zip(names, moved, strict=True)), ())
            return found

        try:
            torch.autograd.gradcheck(picture, values, fast_mode=True, atol=1e-6, rtol=1e-4)
        except GradcheckError as error:
            first = str(error).strip().splitlines()[0]
            raise AssertionError(
                f"gradients are the derivatives of the picture; torch.autograd.gradcheck says: {first} "
                "Look for a detach(), or a backward() of your own."
            ) from error

    # -- helpers -------------------------------------------------------------------------------------------------------

    def _requires_field(self) -> bool:
        made = self.make()
        return "density-field" in type(made).requires(made.config)

    def _only_fields(self) -> None:
        if not self._requires_field():
            raise Skip("the renderer does not require density-field")

    def _field(self, field: Geometry, name: str) -> Geometry:
        if not self._requires_field():
            raise Skip(f"the renderer does not require density-field; write `{name}` to have this checked")
        return field

    def _on_device(self, geometry: Geometry) -> Geometry:
        return geometry.to(self.device).eval()

    def _scene(self) -> Geometry:
        """The general scene with its initial parameters drawn, on the device."""
        geometry = self.geometry().to(self.device)
        geometry.initialise(self.generator(11))
        geometry.begin_step(Progress(99, 100))
        return geometry

    def _cameras(self, count: int = 3, dtype: torch.dtype = torch.float32) -> CameraBatch:
        return fields.to(fields.views(ANGLES[:count], *self.size(), dtype=dtype), self.device)

    def _values(self, output: RenderOutput) -> dict[str, Tensor]:
        values = {"colour": output.colour, "opacity": output.opacity, "depth": output.depth}
        return values if output.normal is None else values | {"normal": output.normal}


class _Bridge(nn.Module):
    """Renderer and geometry as one module, so that all their parameters can be swapped for one call."""

    def __init__(self, renderer: Renderer, geometry: Geometry, cameras: CameraBatch) -> None:
        super().__init__()
        self.renderer, self.geometry, self.cameras = renderer, geometry, cameras

    def forward(self) -> tuple[Tensor, ...]:
        """Colour, opacity and depth."""
        output: RenderOutput = self.renderer(self.geometry, self.cameras)
        return tuple(value for value in (output.colour, output.opacity, output.depth) if value.requires_grad)
