"""Shows pictures to CLIP's image encoders (Radford et al. 2021)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from dfw import ConfigError, resized

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


def squared(picture: Tensor, side: int) -> Tensor:
    """Returns a square picture (H, H, 3) as (1, 3, `side`, `side`). Raises ConfigError if it is not square."""
    height, width = picture.shape[:2]
    if height != width:
        raise ConfigError(f"image: it is {width}x{height} pixels, and the model reads squares; crop it, or write share: 0.8")
    return resized(picture, side, side).permute(2, 0, 1)[None]


def for_clip(picture: Tensor, side: int) -> Tensor:
    """Returns a picture (B, 3, H, H) as CLIP reads it: of its size and with its statistics. So does Zero-1-to-3's own code."""
    return _normalised(F.interpolate(picture, size=(side, side), mode="bicubic", align_corners=True))


def as_processed(picture: Tensor, side: int) -> Tensor:
    """Returns the same with each pixel averaged over what it covers, as CLIP's own code and transformers' processor do."""
    return _normalised(F.interpolate(picture, size=(side, side), mode="bicubic", antialias=True))


def _normalised(sized: Tensor) -> Tensor:
    mean, std = (sized.new_tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    return (sized - mean) / std
