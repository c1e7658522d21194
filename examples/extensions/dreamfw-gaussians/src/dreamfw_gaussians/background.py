"""What is seen where no Gaussian is: one colour, or random colours while training. Legend: B views."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from dfw import ComponentConfig

Share = Annotated[float, Field(ge=0, le=1)]


class SolidBackground(ComponentConfig):
    """One colour in all views."""

    type: Literal["solid"] = "solid"
    colour: tuple[Share, Share, Share] = (1.0, 1.0, 1.0)
    """Display-referred RGB in [0, 1]."""


class RandomBackground(ComponentConfig):
    """While training, a new random colour for some views, so that no Gaussian can pass for the background."""

    type: Literal["random"] = "random"
    probability: Share = 0.7
    """Share of the training views with a colour drawn uniformly from the RGB cube."""
    colour: tuple[Share, Share, Share] = (1.0, 1.0, 1.0)
    """Colour of all other views, those of evaluation among them."""


BackgroundConfig = Annotated[SolidBackground | RandomBackground, Field(discriminator="type")]


def background(config: SolidBackground | RandomBackground, like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Colours (B, 1, 1, 3) of B views, in the dtype and on the device of `like` (B, ...); draws only from a given `generator`."""
    colour = torch.stack([like.new_full((), value) for value in config.colour]).expand(len(like), 1, 1, 3)
    if generator is None or config.type == "solid":
        return colour
    drawn = torch.rand(len(like), 4, generator=generator, device=generator.device).to(like)[:, None, None]
    return torch.where(drawn[..., 3:] < config.probability, drawn[..., :3], colour)
