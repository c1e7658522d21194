"""Checks of any renderer: shapes, ranges, independence of batch and chunks. `RendererTests` adds known pictures."""

from __future__ import annotations

import torch
from torch import Tensor

from dfw.interfaces.data import RaySamples, RenderOutput
from dfw.interfaces.draws import Share, sharing
from dfw.interfaces.geometry import ImagePlanes
from dfw.interfaces.renderer import Renderer
from dfw.testing.compare import bounds, require_finite, require_same
from dfw.testing.outcomes import Skip, require
from dfw.testing.renderer_gradients import PictureGradients
from dfw.testing.untouched import left_alone


class AnyRenderer(PictureGradients):
    """What every renderer promises, whatever it renders."""

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
        given = {"normals": output.normal, "ray-samples": output.samples}
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

    def test_pictures_are_the_sums_of_their_samples(self) -> None:
        """Depth is the weighted mean of the samples' distances, where there is something; normals the weighted sum of theirs."""
        output: RenderOutput = self.fresh()(self._scene(), self._cameras(), self.generator())
        samples, seen = output.samples, output.opacity.flatten() > 0.01
        if samples is None:
            raise Skip("the renderer gives no ray samples")
        mean = self._per_ray(samples, samples.distance, len(seen))[seen] / output.opacity.flatten()[seen]
        promise, remedy = "depth is sum(weight * distance) / opacity", "Give samples.distance along the ray, in world units"
        require_same({"depth": output.depth.flatten()[seen]}, {"depth": mean}, self.tolerance, promise, remedy)
        if output.normal is not None and samples.normal is not None:
            total = self._per_ray(samples, samples.normal, len(seen))
            promise, remedy = "normals of a picture are sum(weight * normal)", "Sum the samples' unit normals by their weights"
            require_same({"normal": output.normal.reshape(-1, 3)}, {"normal": total}, self.tolerance, promise, remedy)

    def _per_ray(self, samples: RaySamples, values: Tensor, rays: int) -> Tensor:
        """Sums of `values` (N, ...) over each ray's samples, by their weights."""
        weighted = samples.weight.view(-1, *[1] * (values.dim() - 1)) * values
        return weighted.new_zeros(rays, *values.shape[1:]).index_add(0, samples.ray, weighted)

    def test_leaves_its_inputs_alone(self) -> None:
        """No tensor of the cameras is changed, and none of the geometry: in evaluation mode no buffer of it either."""
        made, geometry, cameras = self.fresh(), self._scene(), self._cameras()
        for mode, shown in ((True, dict(geometry.named_parameters())), (False, geometry)):
            with left_alone("a renderer only looks", {"cameras": cameras, "geometry": shown}):
                made.train(mode)(geometry, cameras, self.generator())

    def test_batch_invariance(self) -> None:
        """A view of a batch looks as it does alone."""
        made, geometry, cameras = self.fresh(), self._scene(), self._cameras()
        whole = self._values(made(geometry, cameras))
        alone = [self._values(made(geometry, cameras.select(slice(k, k + 1)))) for k in range(len(cameras))]
        joined = {name: torch.cat([view[name] for view in alone]) for name in whole}
        promise = "a view of a batch looks as it does alone"
        require_same(whole, joined, self.tolerance, promise, "Use no statistics over views, and each view's own camera")

    def test_views_are_shared_out(self) -> None:
        """Several devices that render some of a step's views each see what one device sees, drawn numbers and all."""
        made, geometry, cameras = self.fresh().train(), self._scene(), self._cameras(3)
        if isinstance(geometry, ImagePlanes):
            raise Skip("every device shows all pictures that are optimised themselves")
        whole = self._values(made(geometry, cameras, self.generator()))
        for first, count in ((0, 1), (1, 2)):
            share = Share(self.generator(), first, count, len(cameras))
            rows = slice(first, first + count)
            with sharing(share):
                part = self._values(made(geometry, cameras.select(rows), share.generator))
            if share.foreign:
                raise Skip("the renderer draws without draw_views, so that every device would render all views")
            promise = "a device's views look as they do among all views of the step"
            remedy = "Give draw_views the axis that counts views, or None for numbers that all views share"
            require_same({name: value[rows] for name, value in whole.items()}, part, self.tolerance, promise, remedy)

    def test_chunking_changes_nothing(self) -> None:
        """With `chunk` at 37 the picture is the same; for renderers whose Config has a field `chunk`."""
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
