"""View-dependent prompts: which words a camera's view adds, and their embeddings, looked up without leaving the device.

Legend: B views, V views with words of their own (sectors of azimuth at each height, low ones first; where heights have no words,
sectors and then overhead), L tokens, D width of an embedding. DreamFusion (Poole et al. 2023), section 3.2; left and right apart
when `sectors` is 8, heights when `angles` is 4.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dfw.config.camera_settings import LOW_ANGLE, MEDIUM_ANGLE, ViewSettings
from dfw.interfaces.checks import check_conditioning
from dfw.interfaces.data import CameraBatch, Conditioning, PromptBatch
from dfw.interfaces.kinds import Guidance

_RING = {
    4: ("front", "side", "back", "side"),
    8: ("front", "front left", "left side", "back left", "back", "back right", "right side", "front right"),
}
_OVERHEAD = "overhead"
_HEIGHTS = {1: ("",), 4: (", low angle", ", medium angle", ", high angle", ", overhead angle")}

_FRONT_SIDE = (4.0, 0.5, -2.426)  # a, b, c of a exp(-b r) + c, which is 0 at r = 1
_SIDE_BACK = (1.0, 0.5, -0.606)
_FRONT_BACK = (1.0, 0.5, 0.967)


def view_words(settings: ViewSettings) -> tuple[str, ...]:
    """Words of the views, counter-clockwise: at each height where `angles` names them, else once with overhead at the end; an
    empty one for `none`.
    """
    if settings.mode == "none":
        return ("",)
    words = tuple(word + height for height in _HEIGHTS[settings.angles] for word in _RING[settings.sectors])
    return (*words, _OVERHEAD) if settings.angles == 1 else words


def view_texts(prompt: str, settings: ViewSettings) -> tuple[str, ...]:
    """The prompt as written for each of `view_words`; the words of a height come last."""
    if settings.mode == "none":
        return (prompt,)
    split = (word.partition(",") for word in view_words(settings))
    template = settings.template.replace("{prompt}", prompt)
    return tuple(template.replace("{view}", word) + comma + height for word, comma, height in split)


def view_index(azimuth: Tensor, elevation: Tensor, settings: ViewSettings) -> Tensor:
    """Index (B,) into `view_words` for angles (B,) in degrees, any turn of the azimuth.

    Sectors are half open: each holds its lower bound. 8 sectors are 45 degrees wide; of 4, front and back are `front` wide and
    the sides share the rest. Above the elevation `overhead`, not at it, the view, or the height where it is named, is overhead.
    """
    if settings.mode == "none":
        return torch.zeros_like(azimuth, dtype=torch.long)
    if settings.sectors == 8:
        index = torch.floor(_turn(azimuth + 22.5) / 45).long()
    else:
        half = settings.front / 2
        turned = _turn(azimuth + half)
        index = (turned >= settings.front).long() + (turned >= 180) + (turned >= 180 + settings.front)
    return torch.where(_nameless(elevation, settings), settings.sectors, index + _lowest(elevation, settings))


def view_heights(settings: ViewSettings) -> tuple[float, ...]:
    """Elevations, degrees, in the middle of each ring of sectors in `view_words`, and of an overhead view without sectors."""
    over = (settings.overhead + 90) / 2
    if settings.angles == 1:
        return (15.0, over)
    return (0.0, (LOW_ANGLE + MEDIUM_ANGLE) / 2, (MEDIUM_ANGLE + settings.overhead) / 2, over)


def _nameless(elevation: Tensor, settings: ViewSettings) -> Tensor:
    """Whether (B,) a view is only called overhead, without a side."""
    return (elevation > settings.overhead) & (settings.angles == 1)


def _lowest(elevation: Tensor, settings: ViewSettings) -> Tensor:
    """Index (B,) of the first sector at the height of each elevation (B,)."""
    if settings.angles == 1:
        return torch.zeros_like(elevation, dtype=torch.long)
    return ((elevation > LOW_ANGLE).long() + (elevation > MEDIUM_ANGLE) + (elevation > settings.overhead)) * settings.sectors


def view_mix(azimuth: Tensor, sectors: int) -> tuple[Tensor, Tensor, Tensor]:
    """The two sector centres around `azimuth` (B,), degrees: lower and upper index (B,), the upper one's share (B,) in [0, 1)."""
    place = _turn(azimuth) * (sectors / 360)
    lower = torch.floor(place)
    return lower.long() % sectors, (lower.long() + 1) % sectors, place - lower


class ViewPrompts:
    """The embeddings of a run's texts: the prompt's for all views, the negative prompt's, and those that losses ask for.

    Each distinct text is encoded once, at construction. `texts`: as `Loss.texts` gives them.
    """

    def __init__(
        self, prompt: str, negative_prompt: str, settings: ViewSettings, guidance: Guidance, texts: Sequence[str] = ()
    ) -> None:
        self.settings = settings
        self.texts = view_texts(prompt, settings)
        written = {text: _written(text, prompt, settings) for text in dict.fromkeys(texts)}
        distinct = list(dict.fromkeys([*self.texts, negative_prompt, *(text for rows in written.values() for text in rows)]))
        with torch.no_grad():
            encoded = guidance.encode_text(distinct)
        check_conditioning(guidance, distinct, encoded)

        def table(rows: Sequence[str]) -> Conditioning:
            return _gather(encoded, torch.tensor([distinct.index(row) for row in rows], device=encoded.embedding.device))

        self._views = table(self.texts)
        self._negative = table([negative_prompt])
        self._others = {text: table(rows) for text, rows in written.items()}

    def batch(self, cameras: CameraBatch) -> PromptBatch:
        """Embeddings (B, L, D) for the views of `cameras`: of the prompt, of the negative prompt (the same for all), and of the
        other texts; with Perp-Neg also the two views that each is pushed away from, and how strongly.
        """
        device = self._views.embedding.device
        azimuth, elevation = cameras.azimuth.to(device), cameras.elevation.to(device)
        index = view_index(azimuth, elevation, self.settings)

        def seen(table: Conditioning) -> Conditioning:
            if len(table) == 1:
                found = _gather(table, torch.zeros_like(index))
            elif self.settings.mode == "interpolated":
                found = self._interpolated(table, azimuth, elevation, index)
            else:
                found = _gather(table, index)
            return _with_cameras(found, cameras)

        others = {text: seen(table) for text, table in self._others.items()}
        positive, negative = seen(self._views), seen(self._negative)
        if not self.settings.perp_neg:
            return PromptBatch(positive, negative, texts=others)
        rows, weights = perp_neg_views(azimuth, elevation, self.settings)
        away = tuple(_with_cameras(_gather(self._views, rows[:, i]), cameras) for i in range(rows.shape[1]))
        return PromptBatch(positive, negative, away, weights, others)

    def _interpolated(self, table: Conditioning, azimuth: Tensor, elevation: Tensor, index: Tensor) -> Conditioning:
        lower, upper, share = view_mix(azimuth, self.settings.sectors)
        overhead, first = _nameless(elevation, self.settings), _lowest(elevation, self.settings)
        lower, upper = torch.where(overhead, index, lower + first), torch.where(overhead, index, upper + first)
        a, b = _gather(table, lower), _gather(table, upper)
        embedding = torch.lerp(a.embedding, b.embedding, share.to(a.embedding)[:, None, None])
        if a.pooled is None or b.pooled is None:
            return Conditioning(embedding)
        return Conditioning(embedding, torch.lerp(a.pooled, b.pooled, share.to(a.pooled)[:, None]))


def perp_neg_views(azimuth: Tensor, elevation: Tensor, settings: ViewSettings) -> tuple[Tensor, Tensor]:
    """Which two views (B, 2), as rows of `view_words`, each camera is pushed away from, and how strongly (B, 2), >= 0.

    f(r) = a exp(-b r) + c. Between front (r = 1) and side (r = 0): away from the front by f(r), from the side by f(1 - r).
    Between side (r = 1) and back (r = 0): away from the side by g(r), from the front by h(r). Overhead views: from nothing.
    Perp-Neg (Armandpour et al. 2023), section 4 with the constants of its reference code.
    """
    turned = _turn(azimuth)
    away = torch.where(turned > 180, 360 - turned, turned)  # 0 at the front, 180 at the back
    quarter = settings.sectors // 4
    side = torch.where(turned <= 180, quarter, 3 * quarter)
    front = torch.zeros_like(side)
    facing = away < 90
    r = torch.where(facing, 1 - away / 90, 2 - away / 90)
    rows = torch.stack([torch.where(facing, front, side), torch.where(facing, side, front)], 1)
    rows = rows + _lowest(elevation, settings)[:, None]
    first = torch.where(facing, _decay(r, *_FRONT_SIDE), _decay(r, *_SIDE_BACK))
    second = torch.where(facing, _decay(1 - r, *_FRONT_SIDE), _decay(r, *_FRONT_BACK))
    weights = settings.perp_neg * torch.stack([first, second], 1).clamp_min(0)
    return rows, torch.where((elevation > settings.overhead)[:, None], torch.zeros_like(weights), weights)


def _decay(r: Tensor, a: float, b: float, c: float) -> Tensor:
    return a * torch.exp(-b * r) + c


def _written(text: str, prompt: str, settings: ViewSettings) -> tuple[str, ...]:
    """A loss's text as written for each view, or once when it does not name the prompt."""
    return view_texts(text.replace("{prompt}", prompt), settings) if "{prompt}" in text else (text,)


def _turn(degrees: Tensor) -> Tensor:
    """Degrees in [0, 360): a tiny negative angle must not round up to a whole turn."""
    turned = torch.remainder(degrees, 360.0)
    return torch.where(turned >= 360.0, torch.zeros_like(turned), turned)


def _gather(table: Conditioning, rows: Tensor) -> Conditioning:
    pooled = None if table.pooled is None else table.pooled.index_select(0, rows)
    return Conditioning(table.embedding.index_select(0, rows), pooled)


def _with_cameras(conditioning: Conditioning, cameras: CameraBatch) -> Conditioning:
    return Conditioning(conditioning.embedding, conditioning.pooled, cameras)
