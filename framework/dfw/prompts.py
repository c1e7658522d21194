"""View-dependent prompts: which words a camera's view adds, and their embeddings, looked up without leaving the device.

Legend: B views, V views with words of their own (sectors of azimuth, then overhead), L tokens, D width of an embedding.
DreamFusion (Poole et al. 2023), section 3.2; left and right told apart when `sectors` is 8.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dfw.contracts import CameraBatch, Conditioning, PromptBatch
from dfw.guards import check_conditioning
from dfw.interfaces import Guidance
from dfw.settings import ViewSettings

_RING = {
    4: ("front", "side", "back", "side"),
    8: ("front", "front left", "left side", "back left", "back", "back right", "right side", "front right"),
}
OVERHEAD = "overhead"


def view_words(settings: ViewSettings) -> tuple[str, ...]:
    """Words of the views, counter-clockwise, overhead last: 4 + 1 (side twice) or 8 + 1; an empty one for `none`."""
    return ("",) if settings.mode == "none" else (*_RING[settings.sectors], OVERHEAD)


def view_texts(prompt: str, settings: ViewSettings) -> tuple[str, ...]:
    """The prompt as written for each of `view_words`."""
    if settings.mode == "none":
        return (prompt,)
    return tuple(settings.template.replace("{prompt}", prompt).replace("{view}", word) for word in view_words(settings))


def view_index(azimuth: Tensor, elevation: Tensor, settings: ViewSettings) -> Tensor:
    """Index (B,) into `view_words` for angles (B,) in degrees, any turn of the azimuth.

    Sectors are half open: each holds its lower bound. 8 sectors are 45 degrees wide; of 4, front and back are `front` wide and
    the sides share the rest. Above the elevation `overhead`, not at it, the view is overhead.
    """
    if settings.mode == "none":
        return torch.zeros_like(azimuth, dtype=torch.long)
    if settings.sectors == 8:
        index = torch.floor(_turn(azimuth + 22.5) / 45).long()
    else:
        half = settings.front / 2
        turned = _turn(azimuth + half)
        index = (turned >= settings.front).long() + (turned >= 180) + (turned >= 180 + settings.front)
    return torch.where(elevation > settings.overhead, settings.sectors, index)


def view_mix(azimuth: Tensor, sectors: int) -> tuple[Tensor, Tensor, Tensor]:
    """The two sector centres around `azimuth` (B,), degrees: lower and upper index (B,), the upper one's share (B,) in [0, 1)."""
    place = _turn(azimuth) * (sectors / 360)
    lower = torch.floor(place)
    return lower.long() % sectors, (lower.long() + 1) % sectors, place - lower


class ViewPrompts:
    """The prompt's embeddings for all views, and the negative prompt's. Each distinct text is encoded once, at construction."""

    def __init__(self, prompt: str, negative_prompt: str, settings: ViewSettings, guidance: Guidance) -> None:
        self.settings = settings
        self.texts = view_texts(prompt, settings)
        distinct = list(dict.fromkeys([*self.texts, negative_prompt]))
        with torch.no_grad():
            encoded = guidance.encode_text(distinct)
        check_conditioning(guidance, distinct, encoded)
        rows = torch.tensor([distinct.index(text) for text in self.texts], device=encoded.embedding.device)
        self._views = _gather(encoded, rows)
        self._negative = _gather(encoded, torch.tensor([distinct.index(negative_prompt)], device=rows.device))

    def batch(self, cameras: CameraBatch) -> PromptBatch:
        """Embeddings (B, L, D) for the views of `cameras`: of the prompt, and of the negative prompt, the same for all."""
        device = self._views.embedding.device
        azimuth, elevation = cameras.azimuth.to(device), cameras.elevation.to(device)
        index = view_index(azimuth, elevation, self.settings)
        mixed = self.settings.mode == "interpolated"
        positive = self._interpolated(azimuth, index) if mixed else _gather(self._views, index)
        negative = _gather(self._negative, torch.zeros_like(index))
        return PromptBatch(_with_cameras(positive, cameras), _with_cameras(negative, cameras))

    def _interpolated(self, azimuth: Tensor, index: Tensor) -> Conditioning:
        sectors = self.settings.sectors
        lower, upper, share = view_mix(azimuth, sectors)
        overhead = index == sectors
        lower, upper = torch.where(overhead, sectors, lower), torch.where(overhead, sectors, upper)
        a, b = _gather(self._views, lower), _gather(self._views, upper)
        embedding = torch.lerp(a.embedding, b.embedding, share.to(a.embedding)[:, None, None])
        if a.pooled is None or b.pooled is None:
            return Conditioning(embedding)
        return Conditioning(embedding, torch.lerp(a.pooled, b.pooled, share.to(a.pooled)[:, None]))


def _turn(degrees: Tensor) -> Tensor:
    """Degrees in [0, 360): a tiny negative angle must not round up to a whole turn."""
    turned = torch.remainder(degrees, 360.0)
    return torch.where(turned >= 360.0, torch.zeros_like(turned), turned)


def _gather(table: Conditioning, rows: Tensor) -> Conditioning:
    pooled = None if table.pooled is None else table.pooled.index_select(0, rows)
    return Conditioning(table.embedding.index_select(0, rows), pooled)


def _with_cameras(conditioning: Conditioning, cameras: CameraBatch) -> Conditioning:
    return Conditioning(conditioning.embedding, conditioning.pooled, cameras)
