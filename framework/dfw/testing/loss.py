"""The kit for losses: a scalar with the right gradient, on any batch, from the generator it is given."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor

from dfw.config.schedules import Progress
from dfw.interfaces.data import PromptBatch
from dfw.interfaces.loss import Loss, LossInputs
from dfw.runs.global_random import changed, global_states, kept_states
from dfw.testing.compare import difference, require_derivative, require_finite, require_same
from dfw.testing.loss_shown import ShownToLoss
from dfw.testing.outcomes import Skip, require
from dfw.testing.untouched import left_alone


class LossTests(ShownToLoss):
    """Checks of a `Loss`. Write `make`; and `expected_gradient`, if the loss has a formula."""

    copies: ClassVar[int] = 4096
    """Draws over which a gradient with noise in it is averaged."""
    gradient_of: ClassVar[str] = "encoded"
    """What `expected_gradient` is the gradient of: `encoded`, a tensor of the render (`colour`, `opacity` ...), or a parameter of
    the scene (`geometry.centre`)."""

    def expected_gradient(self, inputs: LossInputs) -> Tensor | None:
        """The gradient of the loss with respect to `gradient_of`, by its formula; None if it has none of its own.

        `inputs.generator` is in the state that the loss will find: draw from it what the loss draws, in the same order.
        """
        return None

    # -- checks --------------------------------------------------------------------------------------------------------

    def test_scalar(self) -> None:
        """The loss is one finite number per step, with a graph."""
        for views in (1, 3):
            value = self.fresh()(self.inputs(views))
            seen = f"{views} views gave shape {tuple(value.shape)}, value {value.detach().flatten()[:3].tolist()}"
            remedy = "Average over views and rays (or sum over elements), and return the scalar"
            require(value.shape == () and bool(torch.isfinite(value)), "a loss is one finite number", seen, remedy)

    def test_first_and_last_step(self) -> None:
        """Value and gradients are finite at the first step of a run, at its last, and in a run of one step."""
        promise, remedy = "a loss is finite at every step", "Look for a division by progress.step, or by what is left of the run"
        for progress in (Progress(0, 100), Progress(99, 100), Progress(0, 1)):
            inputs = replace(self.inputs(), progress=progress)
            value: Tensor = self.fresh()(inputs)
            found = self._gradients(value, inputs) if value.requires_grad else {}
            shown = {"value": value} | {f"gradient of {name}": g for name, g in found.items() if g is not None}
            require_finite(shown, f"{promise}, here {progress.step} of {progress.total}", remedy)

    def test_reads_the_prompt(self) -> None:
        """A loss that requires `text` has another gradient when everything but the negative prompt says something else."""
        prompt = self.inputs().prompt
        if "text" not in self._requires() or prompt is None:
            raise Skip("the loss does not require text")
        other, apart = prompt.negative, 0.0
        if difference(prompt.positive.embedding, other.embedding) == 0:
            raise Skip("`prompt` gives one text twice")
        found = []
        for words in (prompt, PromptBatch(other, other, texts=dict.fromkeys(prompt.texts, other))):
            inputs = replace(self.inputs(), prompt=words)
            found.append(self._gradients(self.fresh()(inputs), inputs))
        for one, two in zip(found[0].values(), found[1].values(), strict=True):
            if one is not None and two is not None:
                apart = max(apart, difference(one, two) / max(float(one.abs().max()), 1e-30))
        promise, remedy = "a loss that requires text reads the prompt", "Ask about inputs.prompt, or leave text out of requires()"
        require(apart > 1e-6, promise, "its gradient is the same for another prompt", remedy)

    def test_gradient_reaches_the_scene(self) -> None:
        """Something that is rendered, or a parameter of the scene, gets a finite gradient that is not 0."""
        inputs, promise = self.inputs(), "a loss trains the scene"
        remedy = "Compute it from the render, or from inputs.geometry, without detach()"
        found = {name: g for name, g in self._gradients(self.fresh()(inputs), inputs).items() if g is not None}
        require(
            any(bool(g.any()) for g in found.values()),
            promise,
            "no rendered tensor and no parameter gets one",
            remedy,
        )
        for name, gradient in found.items():
            require(bool(torch.isfinite(gradient).all()), promise, f"the gradient of {name} is not finite", remedy)

    def test_gradient_is_the_stated_formula(self) -> None:
        """The gradient is what `expected_gradient` says, on a score model whose every answer is known in closed form."""
        expected = self.expected_gradient(self.inputs(dtype=torch.float64))
        if expected is None:
            raise Skip("the loss states no formula (expected_gradient)")
        inputs = self.inputs(dtype=torch.float64)
        value = self._double()(inputs)
        target = inputs.encoded if self.gradient_of == "encoded" else self._leaves(inputs)[self.gradient_of]
        (found,) = torch.autograd.grad(value.sum(), target, allow_unused=True)
        promise, remedy = "the gradient is the stated formula", "Compare sign, weight, 1/B and the order of the draws"
        require(found is not None, promise, f"{self.gradient_of} gets no gradient", remedy)
        assert found is not None
        same = {self.gradient_of: expected}
        require_same(same, {self.gradient_of: found}, self.tolerance * min(1.0, float(expected.abs().max())), promise, remedy)

    def test_gradient_matches_differences(self) -> None:
        """The gradient is the derivative of the value, for the render and for parameters of the loss's own.

        Not asked of losses that ask a guidance, whose gradient is given.
        """
        if "noise-prediction" in self._requires():
            raise Skip("a distillation loss gives its gradient; its value is no potential of it")
        made, inputs = self._double(), self.inputs(dtype=torch.float64)
        elsewhere = {id(parameter) for parameter in self.trained_elsewhere(made)}
        shown = list(self._leaves(inputs).values())
        own = [p for p in made.parameters() if p.requires_grad and id(p) not in elsewhere]
        value: Tensor = made(inputs)
        require(value.requires_grad, "a loss trains the scene", "its value carries no graph", "Compute it without detach()")
        found = torch.autograd.grad(value.sum(), [*shown, *own], allow_unused=True)
        pairs = [(x, g) for x, g in zip(shown, found, strict=False) if g is not None and bool(g.any())]
        pairs_own = list(zip(own, found[len(shown) :], strict=True))

        def again() -> Tensor:
            moved: Tensor = made(replace(inputs, generator=self.generator()))
            return moved

        moved = [x for x, _ in pairs] + [x for x, _ in pairs_own]
        gradients = [g for _, g in pairs] + [g for _, g in pairs_own]
        remedy = "Look for a detach() or a wrong backward(); where it is meant, name this check in expected_failures"
        require_derivative(again, moved, gradients, self.generator(6), remedy)

    def test_linear_in_its_weight(self) -> None:
        """The gradient of 2.5 times the loss is 2.5 times the gradient: the weight of a configuration works."""
        made = self.fresh()
        plain, scaled = self.inputs(), self.inputs()
        once = self._gradients(made(plain), plain)
        weighted = self._gradients(2.5 * made(scaled), scaled)
        expected = {name: 2.5 * g for name, g in once.items() if g is not None}
        found = {name: g for name, g in weighted.items() if g is not None}
        promise = "the gradient grows with the loss's weight"
        remedy = "In a backward() of your own multiply with the incoming gradient, and leave no gradient by hand in .grad"
        require_same(expected, found, self._fine(expected), promise, remedy)

    def test_any_batch_size(self) -> None:
        """A view in a batch of B gets 1/B of the gradient it gets alone: batch size does not change a weight's meaning.

        The scene's own parameters get the mean of what each view alone gives them. Of a loss that draws noise the mean over many
        draws is compared.
        """
        made, views = self.fresh(), 2
        copies = self.copies if self.draws(made) else 1
        alone = [self._mean_gradients(made, torch.full((copies,), row, device=self.device)) for row in range(views)]
        rows = torch.arange(views, device=self.device).repeat_interleave(copies)
        together = self._mean_gradients(made, rows)
        for name, whole in together.items():
            parts = [part[name] for part in alone]
            single = sum(parts, torch.zeros_like(whole)) if name.startswith("geometry.") else torch.cat(parts)
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
        """No tensor of the inputs is changed: render, views, prompt, scene, guidance; and the guidance gets no gradient."""
        made, inputs = self.fresh(), self.inputs()
        encoded = None if inputs.guidance is None else inputs.encoded
        with left_alone("a loss only looks", {"inputs": inputs, "inputs.encoded": encoded}):
            made(inputs).sum().backward()
            made.end_step(inputs)
        frozen = () if inputs.guidance is None else inputs.guidance.named_parameters()
        touched = [name for name, parameter in frozen if parameter.grad is not None]
        require(not touched, "the guidance stays frozen", f"{', '.join(touched)} got a gradient", "Call it under no_grad")

    # -- helpers -------------------------------------------------------------------------------------------------------

    def _double(self) -> Loss:
        if torch.float64 not in self.dtypes:
            raise Skip("the component does not work in float64 (dtypes)")
        return self.fresh().double()

    def _mean_gradients(self, made: Loss, rows: Tensor) -> dict[str, Tensor]:
        """The gradient of each distinct view of `rows`, summed over its copies; of a parameter of the scene as it is."""
        inputs = self._inputs(rows, 1, torch.float32)
        kinds = torch.unique(rows)
        found = {name: g for name, g in self._gradients(made(inputs), inputs).items() if g is not None}
        views = {name: g.reshape(len(rows), -1) for name, g in found.items() if not name.startswith("geometry.")}
        summed = {name: torch.stack([g[rows == kind].sum(0) for kind in kinds]) for name, g in views.items()}
        return summed | {name: g for name, g in found.items() if name.startswith("geometry.")}

    def _fine(self, values: dict[str, Tensor]) -> float:
        """`tolerance` relative to the largest of `values`, which may be far below 1."""
        return self.tolerance * min(1.0, max((float(v.abs().max()) for v in values.values()), default=1.0))
