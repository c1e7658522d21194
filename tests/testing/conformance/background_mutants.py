"""A right background, and wrong ones: each differs in one thing."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from dfw import Background, ComponentConfig


class Twin(Background):
    """From one trainable colour below to another above; while training some views are grey."""

    class Config(ComponentConfig):
        """How often a view is grey."""

        grey: float = 0.5
        """Share of the training views."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self.below, self.above = nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(3))

    def initialise(self, generator: torch.Generator) -> None:
        with torch.no_grad():
            for colour in (self.below, self.above):
                colour.copy_(torch.randn(3, generator=generator, device=generator.device))

    def raw(self, direction: Tensor) -> Tensor:
        share = (direction[..., 2:] + 1) / 2
        return torch.lerp(self.below.to(direction), self.above.to(direction), share)

    def colour(self, direction: Tensor) -> Tensor:
        return torch.sigmoid(self.raw(direction))

    def greyed(self, colour: Tensor, generator: torch.Generator | None) -> Tensor:
        if not self.training:
            return colour
        drawn = torch.rand(len(colour), 1, 1, 1, generator=generator, device=colour.device).to(colour)
        return torch.where(drawn < self.config.grey, torch.full_like(colour, 0.5), colour)

    def forward(self, direction: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return self.greyed(self.colour(direction), generator)


class RawColour(Twin):
    def colour(self, direction: Tensor) -> Tensor:
        return 3 * self.raw(direction)


class OneBrightness(Twin):
    """(B, H, W, 1), in place of three channels."""

    def forward(self, direction: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return super().forward(direction, generator).mean(-1, keepdim=True)


class ColourOfTheFirstView(Twin):
    """One view's colours for all of them."""

    def raw(self, direction: Tensor) -> Tensor:
        return super().raw(direction[:1]).expand_as(direction)


class BrightensTheTopRow(Twin):
    """By the place in the picture, not by the direction."""

    def raw(self, direction: Tensor) -> Tensor:
        row = torch.arange(direction.shape[1], device=direction.device) == 0
        return super().raw(direction) + 0.2 * row[:, None, None].to(direction)


class DrawsInEvaluation(Twin):
    def greyed(self, colour: Tensor, generator: torch.Generator | None) -> Tensor:
        if generator is None:
            return colour
        drawn = torch.rand(len(colour), 1, 1, 1, generator=generator, device=colour.device).to(colour)
        return torch.where(drawn < self.config.grey, torch.full_like(colour, 0.5), colour)


class RemembersTheLastGrey(Twin):
    """Training leaves a trace in evaluation, and no buffer holds it."""

    dim = 1.0

    def greyed(self, colour: Tensor, generator: torch.Generator | None) -> Tensor:
        if self.training:
            self.dim = 0.9
        return super().greyed(colour, generator) * (1.0 if self.training else self.dim)


class CountsItsTraining(Twin):
    """Darker after the third training step, as it counts them: a restored one begins anew."""

    trained = 0

    def forward(self, direction: Tensor, generator: torch.Generator | None = None) -> Tensor:
        self.trained += self.training
        return super().forward(direction, generator) * (0.5 if self.trained > 3 else 1.0)


class DrawsItsOwn(Twin):
    """From a stream of its own, which goes on."""

    def greyed(self, colour: Tensor, generator: torch.Generator | None) -> Tensor:
        if generator is not None and "mine" not in vars(self):
            self.mine = torch.Generator(colour.device).manual_seed(0)
        return super().greyed(colour, vars(self).get("mine"))


class DrawsGlobally(Twin):
    def greyed(self, colour: Tensor, generator: torch.Generator | None) -> Tensor:
        return super().greyed(colour, None)


class LearnsOneColour(Twin):
    def raw(self, direction: Tensor) -> Tensor:
        share = (direction[..., 2:] + 1) / 2
        return torch.lerp(self.below.detach().to(direction), self.above.to(direction), share)


class WrongSlope(Twin):
    """The gradient of the upper colour is doubled, its value is not."""

    def raw(self, direction: Tensor) -> Tensor:
        share, above = (direction[..., 2:] + 1) / 2, 2 * self.above - self.above.detach()
        return torch.lerp(self.below.to(direction), above.to(direction), share)


class FlipsTheDirections(Twin):
    def raw(self, direction: Tensor) -> Tensor:
        found = super().raw(direction)
        direction.abs_()
        return found


MUTANTS: dict[type[Twin], set[str]] = {
    RawColour: {"test_is_a_colour"},
    OneBrightness: {"test_shapes"},
    ColourOfTheFirstView: {"test_batch_invariance"},
    BrightensTheTopRow: {"test_batch_invariance"},
    DrawsInEvaluation: {"test_draws_only_while_training"},
    RemembersTheLastGrey: {"test_draws_only_while_training", "test_state_dict_restores_behaviour"},
    CountsItsTraining: {"test_state_dict_restores_behaviour"},
    DrawsItsOwn: {"test_training_draws_from_its_generator"},
    DrawsGlobally: {"test_no_global_rng", "test_training_draws_from_its_generator"},
    LearnsOneColour: {"test_every_parameter_gets_a_gradient", "test_gradients_match_differences"},
    WrongSlope: {"test_gradients_match_differences"},
    FlipsTheDirections: {
        "test_leaves_its_inputs_alone",
        "test_draws_only_while_training",
        "test_training_draws_from_its_generator",
        "test_batch_invariance",
    },  # the next call gets what it left
}
"""Wrong background -> the checks that catch it, and no other."""
