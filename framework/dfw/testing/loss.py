"""The kit for losses: a scalar with the right gradient, on any batch, from the generator it is given."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from dfw.cameras import orbit
from dfw.contracts import CameraBatch, Conditioning, PromptBatch, RaySamples, RenderOutput
from dfw.interfaces import Guidance, Loss, LossInputs
from dfw.schedules import Progress
from dfw.testing.base import ComponentTests
from dfw.testing.compare import require_derivative, require_same
from dfw.testing.gaussian import GaussianScore
from dfw.testing.outcomes import Skip, require
from dfw.testing.randomness import changed, global_states, kept_states

_SAMPLES = 4
"""Samples per ray of the rendering that losses see."""


class LossTests(ComponentTests[Loss]):
    """Checks of a `Loss`. Write `make`; and `expected_gradient`, if the loss has a formula."""

    interface: ClassVar[type[Any]] = Loss
    side: ClassVar[int] = 4
    """Pixels of a view, and of the guidance's images."""
    copies: ClassVar[int] = 4096
    """Draws over which a gradient with noise in it is averaged."""
    gradient_of: ClassVar[str] = "encoded"
    """What `expected_gradient` is the gradient of: `encoded`, or one of the render's tensors (`colour`, `opacity` ...)."""

    def guidance(self) -> Guidance | None:
        """The score model that the loss asks: one in closed form. Return None for a loss that asks none."""
        return GaussianScore(self.side)

    def prompt(self) -> tuple[str, str]:
        """The prompt and the negative one; the guidance knows them."""
        return "left", ""

    def expected_gradient(self, inputs: LossInputs) -> Tensor | None:
        """The gradient of the loss with respect to `gradient_of`, by its formula; None if it has none of its own.

        `inputs.generator` is in the state that the loss will find: draw from it what the loss draws, in the same order.
        """
        return None

    def prepare(self, made: Loss, generator: torch.Generator) -> None:
        """Binds it to the guidance, as a run does before its first step."""
        guidance = self.guidance()
        made.bind(None if guidance is None else guidance.to(self.device), generator)

    def exercise(self, made: Loss) -> None:
        """Some steps backwards, each ended, in training mode."""
        made.train()
        for seed in (0, 1):
            inputs = self.inputs(seed=seed)
            made(inputs).sum().backward()
            made.end_step(inputs)
        made.zero_grad(set_to_none=True)
        made.eval()

    def observe(self, made: Loss, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
        """The value, and the gradient with respect to everything rendered."""
        inputs = self.inputs(dtype=dtype)
        value = made(inputs)
        gradients = self._gradients(value, inputs.render)
        return {"value": value.detach()} | {name: g for name, g in gradients.items() if g is not None}

    def inputs(self, views: int = 3, copies: int = 1, seed: int = 0, dtype: torch.dtype = torch.float32) -> LossInputs:
        """What a step shows the loss: `views` different random renders, each `copies` times, all of whose tensors are leaves."""
        rows = torch.arange(views, device=self.device).repeat_interleave(copies)
        return self._inputs(rows, seed, dtype)

    def draws(self, made: Loss) -> bool:
        """Whether the loss takes random numbers from its generator."""
        inputs = self.inputs()
        before = inputs.generator.get_state()
        made(inputs)
        return not torch.equal(before, inputs.generator.get_state())

    # -- checks --------------------------------------------------------------------------------------------------------

    def test_scalar(self) -> None:
        """The loss is one finite number per step, with a graph."""
        for views in (1, 3):
            value = self.fresh()(self.inputs(views))
            seen = f"{views} views gave shape {tuple(value.shape)}, value {value.detach().flatten()[:3].tolist()}"
            remedy = "Average over views and rays (or sum over elements), and return the scalar"
            require(value.shape == () and bool(torch.isfinite(value)), "a loss is one finite number", seen, remedy)

    def test_gradient_reaches_the_render(self) -> None:
        """Something that is rendered gets a finite gradient that is not 0."""
        inputs, promise, remedy = self.inputs(), "a loss trains the scene", "Compute it from the render without detach()"
        found = {name: g for name, g in self._gradients(self.fresh()(inputs), inputs.render).items() if g is not None}
        require(any(bool(g.any()) for g in found.values()), promise, "no rendered tensor gets a gradient", remedy)
        for name, gradient in found.items():
            require(bool(torch.isfinite(gradient).all()), promise, f"the gradient of {name} is not finite", remedy)

    def test_gradient_is_the_stated_formula(self) -> None:
        """The gradient is what `expected_gradient` says, on a score model whose every answer is known in closed form."""
        expected = self.expected_gradient(self.inputs(dtype=torch.float64))
        if expected is None:
            raise Skip("the loss states no formula (expected_gradient)")
        inputs = self.inputs(dtype=torch.float64)
        value = self._double()(inputs)
        target = inputs.encoded if self.gradient_of == "encoded" else self._leaves(inputs.render)[self.gradient_of]
        (found,) = torch.autograd.grad(value.sum(), target, allow_unused=True)
        promise, remedy = "the gradient is the stated formula", "Compare sign, weight, 1/B and the order of the draws"
        require(found is not None, promise, f"{self.gradient_of} gets no gradient", remedy)
        assert found is not None
        same = {self.gradient_of: expected}
        require_same(same, {self.gradient_of: found}, self.tolerance * min(1.0, float(expected.abs().max())), promise, remedy)

    def test_gradient_matches_differences(self) -> None:
        """The gradient is the derivative of the value; not asked of losses that ask a guidance, whose gradient is given."""
        if "noise-prediction" in self._requires():
            raise Skip("a distillation loss gives its gradient; its value is no potential of it")
        made, inputs = self._double(), self.inputs(dtype=torch.float64)
        leaves = self._leaves(inputs.render)
        found = self._gradients(made(inputs), inputs.render)
        moved = {name: g for name, g in found.items() if g is not None and bool(g.any())}

        def again() -> Tensor:
            return self._call(made, replace(inputs, generator=self.generator()))

        remedy = "Look for a detach() or a wrong backward(); where it is meant, name this check in expected_failures"
        require_derivative(again, [leaves[name] for name in moved], list(moved.values()), self.generator(6), remedy)

    def test_linear_in_its_weight(self) -> None:
        """The gradient of 2.5 times the loss is 2.5 times the gradient: the weight of a configuration works."""
        made = self.fresh()
        plain, scaled = self.inputs(), self.inputs()
        once = self._gradients(made(plain), plain.render)
        weighted = self._gradients(2.5 * made(scaled), scaled.render)
        expected = {name: 2.5 * g for name, g in once.items() if g is not None}
        found = {name: g for name, g in weighted.items() if g is not None}
        promise = "the gradient grows with the loss's weight"
        remedy = "In a backward() of your own multiply with the incoming gradient, and leave no gradient by hand in .grad"
        require_same(expected, found, self._fine(expected), promise, remedy)

    def test_any_batch_size(self) -> None:
        """A view in a batch of B gets 1/B of the gradient it gets alone: batch size does not change a weight's meaning.

        Of a loss that draws noise the mean over many draws is compared.
        """
        made, views = self.fresh(), 2
        copies = self.copies if self.draws(made) else 1
        alone = [self._mean_gradients(made, torch.full((copies,), row, device=self.device)) for row in range(views)]
        rows = torch.arange(views, device=self.device).repeat_interleave(copies)
        together = self._mean_gradients(made, rows)
        for name, whole in together.items():
            single = torch.cat([part[name] for part in alone])
            halves = whole * views
            apart = float((single - halves).norm() / single.norm().clamp(min=1e-12))
            allowed = 0.25 if copies > 1 else 1e-3
            promise = "the gradient of a view in a batch of B is 1/B of its gradient alone"
            seen = f"of {name} it is off by {100 * apart:.0f} % (B = {views}: a sum over views is off by {100 * (views - 1)} %)"
            remedy = "Average over views: divide by the batch's size, or take the mean over rays"
            require(apart <= allowed, promise, seen, remedy)

    def test_draws_from_its_generator(self) -> None:
        """All randomness comes from `inputs.generator`: the same state gives the same gradient, no global state is touched."""
        made = self.fresh()
        with kept_states():
            before = global_states()
            first = self.observe(made)
            touched = changed(before, global_states())
            torch.manual_seed(77)
            second = self.observe(made)
        promise = "a loss draws from inputs.generator alone"
        remedy = "Pass generator=inputs.generator to torch.rand, randn and randint"
        require(not touched, promise, f"the state of {' and '.join(touched)} changed", remedy)
        tolerance = 0 if self.device == "cpu" else self.tolerance
        require_same(first, second, tolerance, promise, remedy)

    def test_leaves_its_inputs_alone(self) -> None:
        """No tensor of the render or of the guidance is changed, and no gradient is left behind in them."""
        made, inputs = self.fresh(), self.inputs()
        shown = self._leaves(inputs.render)
        frozen = dict(inputs.guidance.named_parameters()) if inputs.guidance is not None else {}
        before = {name: tensor.detach().clone() for name, tensor in (shown | frozen).items()}
        made(inputs).sum().backward()
        made.end_step(inputs)
        for name, tensor in (shown | frozen).items():
            promise, remedy = "a loss only looks", "Use no operations in place (those that end in _)"
            require(torch.equal(tensor.detach(), before[name]), promise, f"it changed {name}", remedy)
        touched = [name for name, parameter in frozen.items() if parameter.grad is not None]
        require(not touched, "the guidance stays frozen", f"{', '.join(touched)} got a gradient", "Call it under no_grad")

    # -- helpers -------------------------------------------------------------------------------------------------------

    def _requires(self) -> frozenset[str]:
        made = self.make()
        return type(made).requires(made.config)

    def _double(self) -> Loss:
        if torch.float64 not in self.dtypes:
            raise Skip("the component does not work in float64 (dtypes)")
        return self.fresh().double()

    def _call(self, made: Loss, inputs: LossInputs) -> Tensor:
        value: Tensor = made(inputs)
        return value

    def _mean_gradients(self, made: Loss, rows: Tensor) -> dict[str, Tensor]:
        """The gradient of each distinct view of `rows`, summed over its copies."""
        inputs = self._inputs(rows, 1, torch.float32)
        kinds = torch.unique(rows)
        per_view = {name: g for name, g in self._gradients(made(inputs), inputs.render).items() if g is not None}
        samples = {name: g.reshape(len(rows), -1) for name, g in per_view.items()}
        return {name: torch.stack([g[rows == kind].sum(0) for kind in kinds]) for name, g in samples.items()}

    def _fine(self, values: dict[str, Tensor]) -> float:
        """`tolerance` relative to the largest of `values`, which may be far below 1."""
        return self.tolerance * min(1.0, max((float(v.abs().max()) for v in values.values()), default=1.0))

    def _leaves(self, render: RenderOutput) -> dict[str, Tensor]:
        leaves = {"colour": render.colour, "opacity": render.opacity, "depth": render.depth}
        assert render.normal is not None
        assert render.samples is not None
        assert render.samples.normal is not None
        leaves |= {"normal": render.normal, "sample weight": render.samples.weight}
        return leaves | {"sample normal": render.samples.normal}

    def _gradients(self, value: Tensor, render: RenderOutput) -> dict[str, Tensor | None]:
        leaves = self._leaves(render)
        remedy = "Compute it from the render without detach(); a given gradient needs a surrogate that autograd sees"
        require(value.requires_grad, "a loss trains the scene", "its value carries no graph", remedy)
        return dict(zip(leaves, torch.autograd.grad(value.sum(), list(leaves.values()), allow_unused=True), strict=True))

    def _inputs(self, rows: Tensor, seed: int, dtype: torch.dtype) -> LossInputs:
        """Views `rows` (B,) of an endless row of random renders."""
        kinds, side = int(rows.max()) + 1, self.side
        guidance = self.guidance()
        guidance = None if guidance is None else guidance.to(self.device)

        def leaf(*shape: int, seed: int) -> Tensor:
            return torch.cat([self.draw(1, *shape, seed=100 * seed + k, dtype=dtype) for k in range(kinds)])[rows]

        colour, opacity = leaf(side, side, 3, seed=1), 0.05 + 0.9 * leaf(side, side, seed=2)
        depth, normal = 2 + leaf(side, side, seed=3), leaf(side, side, 3, seed=4) - 0.5
        render = RenderOutput(
            colour.requires_grad_(),
            opacity.requires_grad_(),
            depth.requires_grad_(),
            F.normalize(normal, dim=-1).requires_grad_(),
            self._samples(leaf(side * side * _SAMPLES, seed=5), leaf(side * side * _SAMPLES, 3, seed=6)),
        )
        cameras = self._cameras(rows, dtype)
        text = None
        if guidance is not None:
            with torch.no_grad():
                positive, negative = self.prompt()
                asked = {wish: self._text(guidance, wish.replace("{prompt}", positive), cameras) for wish in self.make().texts()}
                text = PromptBatch(self._text(guidance, positive, cameras), self._text(guidance, negative, cameras), texts=asked)
        return LossInputs(render, cameras, text, guidance, Progress(10, 100), self.generator(seed))

    def _text(self, guidance: Guidance, words: str, cameras: CameraBatch) -> Conditioning:
        return replace(guidance.encode_text([words] * len(cameras)), cameras=cameras)

    def _samples(self, weight: Tensor, normal: Tensor) -> RaySamples:
        """`_SAMPLES` samples on each ray, that look along -z."""
        count = weight.numel()
        ray = torch.arange(count // _SAMPLES, device=weight.device).repeat_interleave(_SAMPLES)
        distance = (2 + torch.linspace(0, 1, _SAMPLES, device=weight.device, dtype=weight.dtype)).repeat(count // _SAMPLES)
        direction = weight.new_tensor([0.0, 0.0, -1.0]).expand(count, 3)
        unit = F.normalize(normal.reshape(-1, 3) - 0.5, dim=-1)
        return RaySamples((weight.flatten() / _SAMPLES).requires_grad_(), ray, distance, direction, unit.requires_grad_())

    def _cameras(self, rows: Tensor, dtype: torch.dtype) -> CameraBatch:
        """One of eight cameras around the scene for each view."""
        found = orbit(8, 15.0, 3.0, 40.0, self.side, self.side, self.device).select(rows % 8)
        parts = ("camera_to_world", "fov_y", "azimuth", "elevation", "distance")
        return replace(found, **{name: getattr(found, name).to(dtype) for name in parts})
