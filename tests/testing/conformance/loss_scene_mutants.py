"""Right losses that look at the scene, at targets, at other pictures and at source texts, and wrong ones."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
import torch.nn.functional as F
from loss_mutants import Regulariser, Twin
from torch import Tensor

from dfw import ComponentConfig, Loss, LossInputs, LossSetup


class Shrinks(Regulariser):
    """A right loss on the scene's own parameters: the mean square of them."""

    def of_scene(self, inputs: LossInputs) -> Tensor:
        assert inputs.geometry is not None
        return torch.stack([parameter.square().mean() for parameter in inputs.geometry.parameters()]).sum()

    def forward(self, inputs: LossInputs) -> Tensor:
        return self.of_scene(inputs)


class SumsTheSceneOverViews(Shrinks):
    """Counts the scene once for each view."""

    def forward(self, inputs: LossInputs) -> Tensor:
        return self.of_scene(inputs) * len(inputs.cameras)


class WritesIntoTheScene(Shrinks):
    def forward(self, inputs: LossInputs) -> Tensor:
        value = self.of_scene(inputs)
        assert inputs.geometry is not None
        for parameter in inputs.geometry.parameters():
            parameter.data.mul_(0.99)
        return value


class HalfTheSlope(Shrinks):
    def of_scene(self, inputs: LossInputs) -> Tensor:
        value = super().of_scene(inputs)
        return (value + value.detach()) / 2


class DetachedScene(Shrinks):
    def of_scene(self, inputs: LossInputs) -> Tensor:
        return super().of_scene(inputs).detach()


class Agrees(Regulariser):
    """A right loss on posed pictures: the mean square of what is inside the mask."""

    def apart(self, inputs: LossInputs) -> Tensor:
        return inputs.picture - inputs.views.targets["colour"]

    def forward(self, inputs: LossInputs) -> Tensor:
        mask = inputs.views.targets["mask"][..., None]
        return (mask * self.apart(inputs).square()).mean()


class DimsItsTargets(Agrees):
    def apart(self, inputs: LossInputs) -> Tensor:
        inputs.views.targets["colour"].mul_(0.5)
        return super().apart(inputs)


class JudgesTheFirstView(Agrees):
    """The first view's target for all."""

    def apart(self, inputs: LossInputs) -> Tensor:
        return inputs.picture - inputs.views.targets["colour"][:1]


class RemembersItsScene(Regulariser):
    """A right loss that keeps the scene as it was, and renders the copy from the step's cameras."""

    def bind(self, setup: LossSetup) -> None:
        assert setup.geometry is not None
        assert setup.renderer is not None
        self.source = deepcopy(setup.geometry).requires_grad_(False).eval()
        self.renderer = deepcopy(setup.renderer).requires_grad_(False).eval()

    def forward(self, inputs: LossInputs) -> Tensor:
        cameras = inputs.cameras
        with torch.no_grad():
            shown = self.renderer(self.source.to(cameras.camera_to_world), cameras)
        return F.mse_loss(inputs.render.colour, shown.colour)


class TrainsItsCopy(RemembersItsScene):
    """The copy asks for gradients that nothing gives it, and is in no group."""

    def bind(self, setup: LossSetup) -> None:
        super().bind(setup)
        self.source.requires_grad_(True)


class Edits(Twin):
    """A right delta of two texts: what the prompt wants more than the source text does (Hertz et al. 2023)."""

    class Config(ComponentConfig):
        """Where it looks, and from what it comes."""

        timestep: int = 500
        """The one timestep."""
        source: str = "right"
        """The source text."""

    def view_texts(self) -> tuple[str, ...]:
        return (self.config.source,)

    def residual(self, encoded: Tensor, inputs: LossInputs) -> Tensor:
        assert inputs.guidance is not None
        assert inputs.prompt is not None
        noise = self.noise(encoded, inputs)
        timestep = torch.full((len(encoded),), self.config.timestep, device=encoded.device)
        noisy = inputs.guidance.add_noise(encoded, noise, timestep)
        texts = (inputs.prompt.positive, inputs.prompt.texts[self.config.source])
        wanted, had = (inputs.guidance.predict_noise(noisy, timestep, text) for text in texts)
        return wanted - had


class AsksWhatItDidNotName(Edits):
    """A text that it does not return from `view_texts`."""

    def view_texts(self) -> tuple[str, ...]:
        return ()


_EVERY = {
    "test_scalar",
    "test_first_and_last_step",
    "test_gradient_reaches_the_scene",
    "test_linear_in_its_weight",
    "test_any_batch_size",
    "test_draws_from_its_generator",
    "test_leaves_its_inputs_alone",
    "test_same_seed_same_result",
    "test_no_global_rng",
    "test_deterministic",
    "test_outputs_are_finite",
    "test_state_dict_restores_behaviour",
    "test_float64",
    "test_other_device",
}
"""Every check that asks a loss for its value."""
MUTANTS: dict[type[Loss], set[str]] = {
    SumsTheSceneOverViews: {"test_any_batch_size"},
    WritesIntoTheScene: {"test_leaves_its_inputs_alone", "test_other_device"},
    HalfTheSlope: {"test_gradient_matches_differences"},
    DetachedScene: (_EVERY - {"test_scalar", "test_first_and_last_step"}) | {"test_gradient_matches_differences"},
    DimsItsTargets: {"test_leaves_its_inputs_alone", "test_gradient_matches_differences"},
    JudgesTheFirstView: {"test_any_batch_size"},
    TrainsItsCopy: {"test_parameter_groups_hold_each_parameter_once", "test_gradient_matches_differences"},
    AsksWhatItDidNotName: _EVERY,
}
"""As its neighbour's."""
RIGHT: tuple[type[Any], ...] = (Shrinks, Agrees, RemembersItsScene, Edits)
