"""The view's words at the end of the prompt: front, side, back, overhead. DreamFusion (Poole et al. 2023), section 3.2.

Legend: B views, V texts: sectors of azimuth at each height, low ones first. Where heights have no words these are the sectors and
then overhead. Left and right have words of their own when `sectors` is 8, heights when `angles` is 4.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field, NonNegativeFloat, field_validator, model_validator
from torch import Tensor

from dfw import CameraBatch, ComponentConfig, Prompter, Wording, cameras_at

LOW_ANGLE, MEDIUM_ANGLE = 12.0, 36.0
"""Highest elevations, in degrees, of a low and of a medium angle."""

_RING = {
    4: ("front", "side", "back", "side"),
    8: ("front", "front left", "left side", "back left", "back", "back right", "right side", "front right"),
}
_OVERHEAD = "overhead"
_HEIGHTS = {1: ("",), 4: (", low angle", ", medium angle", ", high angle", ", overhead angle")}

_FRONT_SIDE = (4.0, 0.5, -2.426)  # a, b, c of a exp(-b r) + c, which is 0 at r = 1
_SIDE_BACK = (1.0, 0.5, -0.606)
_FRONT_BACK = (1.0, 0.5, 0.967)


class Directional(Prompter):
    """The words of the nearest view, or of the nearest two views mixed; with Perp-Neg also what each view is pushed away from."""

    class Config(ComponentConfig):
        """Which views have words, and how these join the prompt."""

        mode: Literal["discrete", "interpolated"] = "discrete"
        """`discrete`: the nearest view's words; `interpolated`: the nearest two views mixed."""
        sectors: Literal[4, 8] = 4
        """4: front, side, back as in the paper. 8: left and right have words of their own, as the embedded prior has learned."""
        angles: Literal[1, 4] = 1
        """4: the elevation is named after the sector, low angle up to 12 degrees, medium to 36, high, overhead, as the embedded
        prior has learned."""
        overhead: float = Field(default=60.0, ge=0, le=90)
        """Elevation in degrees above which a view is called overhead; with 4 angles more than 36."""
        front: Annotated[float, Field(gt=0, lt=180)] = 90.0
        """Width in degrees of the front sector, and of the back one, with 4 sectors."""
        template: str = "{prompt}, {view} view"
        """How prompt and view words join; has both {prompt} and {view}."""
        perp_neg: NonNegativeFloat = 0.0
        """Perp-Neg (Armandpour et al. 2023): factor of its weights, 1 as in the paper, 0 for off. It pushes each view away from
        the words of other views, and of its own sector's edge. The paper mixes the views' words: mode interpolated."""

        @field_validator("template")
        @classmethod
        def _fields(cls, value: str) -> str:
            if "{prompt}" not in value or "{view}" not in value:
                raise ValueError(f"{value!r} must hold {{prompt}} and {{view}}, e.g. '{{prompt}}, {{view}} view'")
            return value

        @model_validator(mode="after")
        def _views(self) -> Directional.Config:
            if self.angles == 4 and self.overhead <= MEDIUM_ANGLE:
                limit = f"{MEDIUM_ANGLE:g}, where the high angle begins"
                raise ValueError(f"overhead: {self.overhead:g} is not above {limit}; write e.g. 60, or angles: 1")
            return self

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config

    def texts(self, prompt: str) -> tuple[str, ...]:
        """The prompt with each view's words; the words of a height come last."""
        return view_texts(prompt, self.config)

    def choose(self, cameras: CameraBatch) -> Wording:
        """Which words describe each view, mixed for `interpolated`; with `perp_neg` also two views it is pushed away from."""
        azimuth, elevation, config = cameras.azimuth, cameras.elevation, self.config
        index = view_index(azimuth, elevation, config)
        if config.mode == "discrete":
            rows, weights = index[:, None], torch.ones_like(azimuth)[:, None]
        else:
            lower, upper, share = view_mix(azimuth, config.sectors)
            overhead, first = _nameless(elevation, config), _lowest(elevation, config)
            lower, upper = torch.where(overhead, index, lower + first), torch.where(overhead, index, upper + first)
            rows, weights = torch.stack([lower, upper], 1), torch.stack([1 - share, share], 1)
        if not config.perp_neg:
            return Wording(rows, weights)
        return Wording(rows, weights, *perp_neg_views(azimuth, elevation, config))

    def views(self) -> CameraBatch:
        """One camera in the middle of each view that has words of its own."""
        sectors = self.config.sectors
        number = torch.arange(len(view_words(self.config)))
        azimuth = number % sectors * (360.0 / sectors)
        elevation = torch.tensor(view_heights(self.config))[number // sectors]
        ones = torch.ones_like(elevation)
        return cameras_at(azimuth, elevation, 3 * ones, 40 * ones, 64, 64)


def view_words(settings: Directional.Config) -> tuple[str, ...]:
    """Words of the views, counter-clockwise: at each height where `angles` names them, else once with overhead at the end."""
    words = tuple(word + height for height in _HEIGHTS[settings.angles] for word in _RING[settings.sectors])
    return (*words, _OVERHEAD) if settings.angles == 1 else words


def view_texts(prompt: str, settings: Directional.Config) -> tuple[str, ...]:
    """The prompt as written for each of `view_words`; the words of a height come last."""
    split = (word.partition(",") for word in view_words(settings))
    views = ((settings.template.replace("{view}", word), comma + height) for word, comma, height in split)
    return tuple(text.replace("{prompt}", prompt) + height for text, height in views)  # the prompt last: it may hold {view} too


def view_index(azimuth: Tensor, elevation: Tensor, settings: Directional.Config) -> Tensor:
    """Index (B,) into `view_words` for angles (B,) in degrees, any turn of the azimuth.

    Sectors are half open: each holds its lower bound. 8 sectors are 45 degrees wide; of 4, front and back are `front` wide and
    the sides share the rest. Above the elevation `overhead`, not at it, the view, or the height where it is named, is overhead.
    """
    if settings.sectors == 8:
        index = torch.floor(_turn(azimuth + 22.5) / 45).long()
    else:
        half = settings.front / 2
        turned = _turn(azimuth + half)
        index = (turned >= settings.front).long() + (turned >= 180) + (turned >= 180 + settings.front)
    return torch.where(_nameless(elevation, settings), settings.sectors, index + _lowest(elevation, settings))


def view_heights(settings: Directional.Config) -> tuple[float, ...]:
    """Elevations, degrees, in the middle of each ring of sectors in `view_words`, and of an overhead view without sectors."""
    over = (settings.overhead + 90) / 2
    if settings.angles == 1:
        return (15.0, over)
    return (0.0, (LOW_ANGLE + MEDIUM_ANGLE) / 2, (MEDIUM_ANGLE + settings.overhead) / 2, over)


def _nameless(elevation: Tensor, settings: Directional.Config) -> Tensor:
    """Whether (B,) a view is only called overhead, without a side."""
    return (elevation > settings.overhead) & (settings.angles == 1)


def _lowest(elevation: Tensor, settings: Directional.Config) -> Tensor:
    """Index (B,) of the first sector at the height of each elevation (B,)."""
    if settings.angles == 1:
        return torch.zeros_like(elevation, dtype=torch.long)
    return ((elevation > LOW_ANGLE).long() + (elevation > MEDIUM_ANGLE) + (elevation > settings.overhead)) * settings.sectors


def view_mix(azimuth: Tensor, sectors: int) -> tuple[Tensor, Tensor, Tensor]:
    """The two sector centres around `azimuth` (B,), degrees: lower and upper index (B,), the upper one's share (B,) in [0, 1)."""
    place = _turn(azimuth) * (sectors / 360)
    lower = torch.floor(place)
    return lower.long() % sectors, (lower.long() + 1) % sectors, place - lower


def perp_neg_views(azimuth: Tensor, elevation: Tensor, settings: Directional.Config) -> tuple[Tensor, Tensor]:
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


def _turn(degrees: Tensor) -> Tensor:
    """Degrees in [0, 360): a tiny negative angle must not round up to a whole turn."""
    turned = torch.remainder(degrees, 360.0)
    return torch.where(turned >= 360.0, torch.zeros_like(turned), turned)
