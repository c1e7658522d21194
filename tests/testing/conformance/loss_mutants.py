"""A right distillation loss and a right regulariser, and wrong ones: each differs in one thing."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dfw import ComponentConfig, Loss, LossInputs


class Twin(Loss):
    """Score distillation with weight 1: (eps_hat - eps) / B at the encoded views, as the gradient of a surrogate."""

    class Config(ComponentConfig):
        """Where it looks."""

        timestep: int = 500
        """The one timestep."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config

    @classmethod
    def requires(cls, config: Any) -> frozenset[str]:
        return frozenset({"noise-prediction"})

    def noise(self, like: Tensor, inputs: LossInputs) -> Tensor:
        return torch.randn(like.shape, generator=inputs.generator, device=like.device, dtype=like.dtype)

    def residual(self, encoded: Tensor, inputs: LossInputs) -> Tensor:
        assert inputs.guidance is not None
        assert inputs.prompt is not None
        noise = self.noise(encoded, inputs)
        timestep = torch.full((len(encoded),), self.config.timestep, device=encoded.device)
        noisy = inputs.guidance.add_noise(encoded, noise, timestep)
        return inputs.guidance.predict_noise(noisy, timestep, inputs.prompt.positive) - noise

    def surrogate(self, encoded: Tensor, gradient: Tensor) -> Tensor:
        return (encoded * gradient).sum() / len(encoded)

    def forward(self, inputs: LossInputs) -> Tensor:
        encoded = inputs.encoded
        with torch.no_grad():
            gradient = self.residual(encoded.detach(), inputs)
        return self.surrogate(encoded, gradient)


class SumsOverViews(Twin):
    def surrogate(self, encoded: Tensor, gradient: Tensor) -> Tensor:
        return (encoded * gradient).sum()


class AveragesElements(Twin):
    """The mean over elements, not only over views: another meaning of the weight."""

    def surrogate(self, encoded: Tensor, gradient: Tensor) -> Tensor:
        return (encoded * gradient).mean()


class WrongSign(Twin):
    def residual(self, encoded: Tensor, inputs: LossInputs) -> Tensor:
        return -super().residual(encoded, inputs)


class ForgetsTheNoise(Twin):
    """eps_hat alone: the same mean, a larger variance, another formula."""

    def residual(self, encoded: Tensor, inputs: LossInputs) -> Tensor:
        state = inputs.generator.get_state()
        residual = super().residual(encoded, inputs)
        again = torch.Generator(device=encoded.device)
        again.set_state(state)
        return residual + torch.randn(encoded.shape, generator=again, device=encoded.device, dtype=encoded.dtype)


class DrawsGlobally(Twin):
    def noise(self, like: Tensor, inputs: LossInputs) -> Tensor:
        return torch.randn_like(like)


class DrawsOnTheCpu(Twin):
    """Draws on the CPU and moves, with a generator that is on the device."""

    def noise(self, like: Tensor, inputs: LossInputs) -> Tensor:
        return torch.randn(like.shape, generator=inputs.generator, dtype=like.dtype).to(like)


class Cut(Twin):
    """Its gradient ends before the render: all checks that look at a gradient say so."""

    def surrogate(self, encoded: Tensor, gradient: Tensor) -> Tensor:
        return super().surrogate(encoded.detach(), gradient)


class OneNumberPerView(Twin):
    def surrogate(self, encoded: Tensor, gradient: Tensor) -> Tensor:
        return (encoded * gradient).sum((1, 2, 3)) / len(encoded)


class _Deaf(torch.autograd.Function):
    """Hands out a gradient of its own, whatever comes in."""

    @staticmethod
    def forward(ctx: Any, encoded: Tensor, gradient: Tensor) -> Tensor:
        ctx.save_for_backward(gradient)
        return encoded.new_ones(())

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Any:
        (gradient,) = ctx.saved_tensors
        return gradient / len(gradient), None


class DeafToItsWeight(Twin):
    def surrogate(self, encoded: Tensor, gradient: Tensor) -> Tensor:
        value: Tensor = _Deaf.apply(encoded, gradient)
        return value


class WritesIntoTheRender(Twin):
    def forward(self, inputs: LossInputs) -> Tensor:
        value = super().forward(inputs)
        inputs.render.opacity.data.clamp_(0.2, 0.8)
        return value


class Regulariser(Loss):
    """The mean of O (1 - O) over rays: 0 for opacities of 0 and 1."""

    class Config(ComponentConfig):
        """Nothing to choose."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config

    @classmethod
    def requires(cls, config: Any) -> frozenset[str]:
        return frozenset({"opacity"})

    def forward(self, inputs: LossInputs) -> Tensor:
        opacity = inputs.render.opacity
        return (opacity * (1 - opacity)).mean()


class HalfDetached(Regulariser):
    def forward(self, inputs: LossInputs) -> Tensor:
        opacity = inputs.render.opacity
        return (opacity.detach() * (1 - opacity)).mean()


class MixesViews(Regulariser):
    """Judges each view by the batch's mean."""

    def forward(self, inputs: LossInputs) -> Tensor:
        opacity = inputs.render.opacity
        return (opacity - opacity.mean()).square().mean()


MUTANTS: dict[type[Loss], set[str]] = {
    SumsOverViews: {"test_gradient_is_the_stated_formula", "test_any_batch_size"},
    AveragesElements: {"test_gradient_is_the_stated_formula"},
    WrongSign: {"test_gradient_is_the_stated_formula"},
    ForgetsTheNoise: {"test_gradient_is_the_stated_formula"},
    DrawsGlobally: {
        "test_gradient_is_the_stated_formula",
        "test_draws_from_its_generator",
        "test_no_global_rng",
        "test_same_seed_same_result",
        "test_deterministic",
        "test_state_dict_restores_behaviour",
        "test_linear_in_its_weight",
        "test_any_batch_size",
        "test_float64",
        "test_other_device",
    },
    DrawsOnTheCpu: {"test_other_device"},
    OneNumberPerView: {"test_scalar"},
    DeafToItsWeight: {"test_linear_in_its_weight"},
    WritesIntoTheRender: {"test_leaves_its_inputs_alone"},
    HalfDetached: {"test_gradient_matches_differences"},
    MixesViews: {"test_any_batch_size"},
    Cut: {
        "test_gradient_reaches_the_scene",
        "test_gradient_is_the_stated_formula",
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
    },
}
"""Wrong loss -> the checks that catch it, and no other."""
