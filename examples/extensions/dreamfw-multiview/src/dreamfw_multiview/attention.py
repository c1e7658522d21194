"""Self-attention across the views of a scene: the layer of a model of single pictures, over the pixels of all views at once."""

from __future__ import annotations

from typing import Any

from diffusers.models.attention_processor import AttnProcessor2_0
from torch import Tensor


class AcrossViews:
    """An attention processor of diffusers, for self-attention: each pixel attends to those of all views of its scene.

    It changes no weight: B pictures of N pixels become B / V pictures of V N. MVDream (Shi et al. 2024), section 3.1.
    """

    def __init__(self, views: int) -> None:
        """`views`: V, how many consecutive pictures are one scene."""
        self.views = views
        self._attend = AttnProcessor2_0()  # type: ignore[no-untyped-call]

    def __call__(self, attention: Any, pixels: Tensor, *unused: Any, **others: Any) -> Tensor:
        """Maps pixels (B, N, C) to the same shape. The layer attends to the pixels themselves and reads nothing else."""
        batch, count, width = pixels.shape
        joined = pixels.reshape(batch // self.views, self.views * count, width)
        found: Tensor = self._attend(attention, joined)
        return found.reshape(batch, count, width)


def inflate(unet: Any, views: int) -> None:
    """Lets every self-attention layer of `unet` look across `views` consecutive pictures. Its weights stay as they are.

    unet: a UNet2DConditionModel.
    """
    unet.set_attn_processor(
        {
            name: AcrossViews(views) if name.endswith("attn1.processor") else processor
            for name, processor in unet.attn_processors.items()
        }
    )
