"""What makes a U-Net of single pictures one of scenes: self-attention across the views of a scene, and the cameras' poses.

MVDream (Shi et al. 2024), section 3.1.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from dfw import CameraBatch

POSE = 16
"""Numbers of a camera_to_world matrix, which the network reads."""


class AcrossViews:
    """An attention processor of diffusers, for self-attention: each pixel attends to those of all views of its scene.

    It changes no weight: B pictures of N pixels become B / V pictures of V N.
    """

    def __init__(self, views: int, attend: Any) -> None:
        """`views`: V, how many consecutive pictures are one scene. `attend`: the layer's processor for pictures."""
        self.views, self.attend = views, attend

    def __call__(self, attention: Any, pixels: Tensor, *unused: Any, **others: Any) -> Tensor:
        """Maps pixels (B, N, C) to the same shape. The layer attends to the pixels themselves and reads nothing else."""
        batch, count, width = pixels.shape
        found: Tensor = self.attend(attention, pixels.reshape(batch // self.views, self.views * count, width))
        return found.reshape(batch, count, width)


def inflate(unet: Any, views: int) -> None:
    """Lets every self-attention layer of `unet` look across `views` consecutive pictures. Its weights stay as they are.

    unet: a UNet2DConditionModel. One that is inflated already changes its number of views.
    """

    def inflated(processor: Any) -> AcrossViews:
        return AcrossViews(views, processor.attend if isinstance(processor, AcrossViews) else processor)

    processors = unet.attn_processors
    unet.set_attn_processor({name: inflated(p) if name.endswith("attn1.processor") else p for name, p in processors.items()})


def poses(cameras: CameraBatch) -> Tensor:
    """Returns the cameras' poses as the network reads them, (B, 16): camera to world, at distance 1 from the centre.

    MVDream's cameras differ in size and distance from run to run, so only the direction is kept.
    """
    pose = cameras.camera_to_world.clone()
    pose[:, :3, 3] = F.normalize(cameras.position, dim=-1)
    return pose.flatten(1)
