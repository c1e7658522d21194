"""What models share that are shown a picture next to the words: which texts the picture goes with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from dfw import Conditioning
from dfw_guidance.stable_diffusion import StableDiffusion

PICTURE = "picture"
"""Name in `Conditioning.extras`: 1 for rows that see the picture, 0 for the others, (B,)."""


class ImagePrompt(StableDiffusion):
    """Base of models whose picture goes with every text except the empty one and the negative prompt."""

    def encode_negative(self, text: str) -> Conditioning:
        """Returns the text without the picture."""
        found = self.encode_text([text])
        return replace(found, extras={PICTURE: torch.zeros_like(found.extras[PICTURE])})

    def _embed(self, texts: Sequence[str]) -> Conditioning:
        found = super()._embed(texts)
        known = torch.tensor([float(bool(text)) for text in texts], device=found.embedding.device)
        return replace(found, extras={PICTURE: known})
