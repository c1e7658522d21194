"""More wrong losses: parameters of their own, the ends of a run, the prompt, and their inputs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from loss_mutants import Regulariser, Twin
from torch import Tensor, nn

from dfw import Loss, LossInputs


class Learned(Regulariser):
    """A right regulariser with a parameter of its own: how opaque is opaque."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.full = nn.Parameter(torch.tensor(1.0))

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        return {"loss": [self.full]}

    def forward(self, inputs: LossInputs) -> Tensor:
        opacity = inputs.render.opacity
        return (opacity * (self.full - opacity)).square().mean()


class Critic(Regulariser):
    """A right loss with a critic that it trains itself, and that its value sends no gradient to."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.scale = nn.Parameter(torch.tensor(0.7))
        self.own = torch.optim.SGD([self.scale], lr=0.1)

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {"critic": self.own}

    def forward(self, inputs: LossInputs) -> Tensor:
        return super().forward(inputs) * self.scale.detach()


class LosesAParameter(Learned):
    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        return {}


class GroupsAsAList(Learned):
    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        return [self.full]  # type: ignore[return-value]


class LearnsNothing(Learned):
    """A parameter that asks for training and gets no gradient."""

    def forward(self, inputs: LossInputs) -> Tensor:
        opacity = inputs.render.opacity
        return (opacity * (self.full.detach() - opacity)).square().mean()


class DividesByTheStep(Regulariser):
    def forward(self, inputs: LossInputs) -> Tensor:
        return super().forward(inputs) / inputs.progress.step


class DividesByTheRest(Regulariser):
    """By the number of steps after this one."""

    def forward(self, inputs: LossInputs) -> Tensor:
        return super().forward(inputs) / (inputs.progress.total - 1 - inputs.progress.step)


class Reads(Twin):
    """A right loss that requires text."""

    @classmethod
    def requires(cls, config: Any) -> frozenset[str]:
        return frozenset({"noise-prediction", "text"})


class ReadsTheNegativeOnly(Reads):
    def forward(self, inputs: LossInputs) -> Tensor:
        assert inputs.prompt is not None
        return super().forward(replace(inputs, prompt=replace(inputs.prompt, positive=inputs.prompt.negative)))


class WritesIntoTheSamples(Twin):
    def forward(self, inputs: LossInputs) -> Tensor:
        assert inputs.render.samples is not None
        inputs.render.samples.distance.mul_(2)
        return super().forward(inputs)


class WritesIntoTheCameras(Twin):
    def forward(self, inputs: LossInputs) -> Tensor:
        inputs.cameras.camera_to_world.mul_(2)
        return super().forward(inputs)


class WritesIntoThePrompt(Twin):
    def forward(self, inputs: LossInputs) -> Tensor:
        value = super().forward(inputs)
        assert inputs.prompt is not None
        inputs.prompt.positive.embedding.mul_(0.5)
        return value


class WritesIntoTheEncoded(Twin):
    """What all other losses of the step read."""

    def forward(self, inputs: LossInputs) -> Tensor:
        value = super().forward(inputs)
        inputs.encoded.data.clamp_(-0.5, 0.5)
        return value


MUTANTS: dict[type[Loss], set[str]] = {
    LosesAParameter: {"test_parameter_groups_hold_each_parameter_once"},
    GroupsAsAList: {"test_parameter_groups_hold_each_parameter_once"},
    LearnsNothing: {"test_gradient_matches_differences"},
    DividesByTheStep: {"test_first_and_last_step"},
    DividesByTheRest: {"test_first_and_last_step"},
    ReadsTheNegativeOnly: {"test_reads_the_prompt", "test_gradient_is_the_stated_formula"},
    WritesIntoTheSamples: {"test_leaves_its_inputs_alone"},
    WritesIntoTheCameras: {"test_leaves_its_inputs_alone"},
    WritesIntoThePrompt: {"test_leaves_its_inputs_alone"},
    WritesIntoTheEncoded: {"test_leaves_its_inputs_alone"},
}
"""As its neighbour's."""
