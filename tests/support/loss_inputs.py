"""LossInputs around an image or a rendering, for tests of losses."""

from __future__ import annotations

import torch
from torch import Tensor

from dfw import CameraBatch, Guidance, LossInputs, Progress, PromptBatch, RaySamples, RenderOutput, Views


def cameras(batch: int, side: int) -> CameraBatch:
    """Cameras that no test looks at."""
    zero = torch.zeros(batch)
    return CameraBatch(torch.eye(4).expand(batch, 4, 4), zero + 40, zero, zero, zero + 3, side, side)


def of_image(
    image: Tensor, guidance: Guidance, prompt: str, negative: str = "", seed: int = 0, progress: Progress | None = None
) -> LossInputs:
    """Inputs whose render is `image` (B, 3, H, W), judged by `guidance` for one prompt."""
    batch = len(image)
    colour = image.permute(0, 2, 3, 1)
    render = RenderOutput(colour, torch.ones_like(colour[..., 0]), torch.ones_like(colour[..., 0]))
    text = PromptBatch(guidance.encode_text([prompt] * batch), guidance.encode_text([negative] * batch))
    generator = torch.Generator().manual_seed(seed)
    seen = Views(cameras(batch, image.shape[-1]))
    return LossInputs(render, seen, text, guidance, progress or Progress(0, 100), generator)


def of_opacity(opacity: Tensor, samples: RaySamples | None = None) -> LossInputs:
    """Inputs without guidance, whose render has this `opacity` (B, H, W) and these samples."""
    render = RenderOutput(opacity[..., None].expand(*opacity.shape, 3), opacity, opacity, samples=samples)
    seen = Views(cameras(len(opacity), opacity.shape[-1]))
    return LossInputs(render, seen, None, None, Progress(0, 100), torch.Generator())
