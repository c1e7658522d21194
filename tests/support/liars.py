"""Components that load, and break their contract when they work: the module of the package `acme-liars`."""

import math
import sys
from dataclasses import replace

import torch
from torch import nn

from dfw import (
    Conditioning,
    DensityField,
    FieldSample,
    Guidance,
    Loss,
    NoiseSchedule,
    Renderer,
    RenderOutput,
)


class Plane(Renderer):
    @classmethod
    def requires(cls, config):
        return frozenset({"image"})

    @classmethod
    def provides(cls, config):
        return frozenset({"colour", "opacity", "depth"})

    def __init__(self, config):
        super().__init__()
        self.config = config

    def forward(self, geometry, cameras, generator=None):
        colour = geometry.image(len(cameras))
        ones = torch.ones(colour.shape[:3])
        return self.spoil(RenderOutput(colour, ones, 0 * ones))

    def spoil(self, render):
        return render


class RenderShape(Plane):
    def spoil(self, render):
        return replace(render, opacity=render.opacity[..., None])


class RenderBatch(Plane):
    def spoil(self, render):
        return RenderOutput(render.colour[:1], render.opacity[:1], render.depth[:1])


class RenderNan(Plane):
    def spoil(self, render):
        return replace(render, colour=render.colour * math.nan)


class RenderDetached(Plane):
    def spoil(self, render):
        return replace(render, colour=render.colour.detach())


class RenderDouble(Plane):
    def spoil(self, render):
        return replace(render, colour=render.colour.double())


class RenderDict(Plane):
    def spoil(self, render):
        return {"comp_rgb": render.colour}


class RenderSamples(Plane):
    def spoil(self, render):
        return replace(render, samples={"weight": render.colour})


class RenderCrash(Plane):
    def spoil(self, render):
        return helper(render)


def helper(render):
    raise ValueError("two\nlines")


class RenderExit(Plane):
    def spoil(self, render):
        sys.exit(0)


class Backwards(torch.autograd.Function):
    @staticmethod
    def forward(ctx, colour):
        return colour.clone()

    @staticmethod
    def backward(ctx, gradient):
        raise RuntimeError("no backward kernel")


class RenderBackward(Plane):
    def spoil(self, render):
        return replace(render, colour=Backwards.apply(render.colour))


class Ball(DensityField):
    radius = 1.0

    @classmethod
    def provides(cls, config):
        return frozenset({"density-field"})

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.size = nn.Parameter(torch.tensor(0.5))

    def density(self, points):
        return self.sample(points).density

    def sample(self, points, normals=False):
        density = 10 * torch.sigmoid((self.size - points.norm(dim=-1)) / 0.1)
        return self.spoil(FieldSample(density, torch.ones_like(points) / 2))

    def spoil(self, found):
        return found


class FieldShape(Ball):
    def spoil(self, found):
        return replace(found, density=found.density[..., None])


class FieldNan(Ball):
    def spoil(self, found):
        return replace(found, density=found.density / 0 * 0)


class FieldDetached(Ball):
    def spoil(self, found):
        return replace(found, density=found.density.detach())


class FieldDouble(Ball):
    def spoil(self, found):
        return replace(found, albedo=found.albedo.double())


class FieldNegative(Ball):
    def spoil(self, found):
        return replace(found, density=found.density - 20)


class FieldRadius(Ball):
    radius = torch.ones(())


class FieldGroups(Ball):
    def parameter_groups(self):
        return list(self.parameters())


class FieldNothing(Ball):
    def parameter_groups(self):
        return {"size": None}


class FieldMembers(Ball):
    def parameter_groups(self):
        return {"size": [self.size.detach()]}


class FieldFrozen(Ball):
    def __init__(self, config):
        super().__init__(config)
        self.requires_grad_(False)


class Grey(Guidance):
    """Pictures are N(0.5, 1): eps = sigma (z - alpha 0.5)."""

    @classmethod
    def provides(cls, config):
        return frozenset({"noise-prediction", "text"})

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.schedule = NoiseSchedule.from_alphas_cumprod(torch.linspace(0.99, 0.01, 10))
        self.space, self.resolution, self.latent_resolution, self.channels = "pixel", 8, 8, 3

    def encode_text(self, texts):
        return Conditioning(torch.zeros(len(texts), 1, 1))

    def encode_image(self, image):
        return image * 1

    def decode_image(self, encoded):
        return encoded

    def predict(self, noisy, timestep, conditioning):
        alpha, sigma = self.schedule.at(timestep, noisy)
        return sigma * (noisy - 0.5 * alpha)


class GuidanceShape(Grey):
    def predict(self, noisy, timestep, conditioning):
        return super().predict(noisy, timestep, conditioning).mean(1, keepdim=True)


class GuidanceNan(Grey):
    def predict(self, noisy, timestep, conditioning):
        return noisy * math.inf * 0


class GuidanceDetached(Grey):
    def encode_image(self, image):
        return image.detach()


class GuidanceDouble(Grey):
    def predict(self, noisy, timestep, conditioning):
        return super().predict(noisy, timestep, conditioning).double()


class GuidanceText(Grey):
    def encode_text(self, texts):
        return Conditioning(torch.zeros(1, 1, 1))


class GuidanceList(Grey):
    def encode_text(self, texts):
        return Conditioning([[[0.0]]] * len(texts))


class GuidanceWords(Grey):
    def __init__(self, config):
        super().__init__(config)
        self.resolution = "8"


class GuidanceSilent(Grey):
    def __init__(self, config):
        super().__init__(config)
        del self.channels


class GuidanceCrash(Grey):
    def predict(self, noisy, timestep, conditioning):
        return noisy @ torch.zeros(3, 3)


class Mean(Loss):
    def __init__(self, config):
        super().__init__()
        self.config = config

    def forward(self, inputs):
        return self.spoil(inputs.render.colour.square().mean(), inputs)

    def spoil(self, value, inputs):
        return value


class LossShape(Mean):
    def spoil(self, value, inputs):
        return inputs.render.colour.square()


class LossFloat(Mean):
    def spoil(self, value, inputs):
        return value.item()


class LossDetached(Mean):
    def spoil(self, value, inputs):
        return value.detach()


class LossInteger(Mean):
    def spoil(self, value, inputs):
        return value.long()


class LossNan(Mean):
    def spoil(self, value, inputs):
        return value * math.nan


class LossLateNan(Mean):
    def spoil(self, value, inputs):
        return value * (math.nan if inputs.progress.step == 2 else 1)


class LossCrash(Mean):
    def spoil(self, value, inputs):
        return inputs.render.normal.mean()
