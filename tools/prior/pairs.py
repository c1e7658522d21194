"""Draws pictures of a thing with other views of the same thing, as image-to-3D models see them.

All views of a form show one shape, so any two views of it are a pair.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from cameras import eye_frame
from compose import lit
from data import RGB, World
from PIL import Image
from torch import Tensor

SHARES = (0.5, 0.8)
"""Share of a picture's side that the object's larger side takes, least and most."""
ZOOMS = (0.65, 1.4)
"""How much larger than in the world's own pictures the object is, least and most."""
AS_IT_IS = 0.2
"""Share of the pictures that are framed like the world's own."""
DEGRADED = 0.5
"""Share of the pictures that look like photographs: `degraded`."""
LOWEST, HIGHEST = -12.0, 60.0
"""Elevations of the cameras of pictures, degrees. The other views have any."""


@dataclass(frozen=True)
class Scenes:
    """``S`` pictures with ``T`` other views each."""

    shown: Tensor
    """Pictures ``[S, 3, H, W]`` in [0, 1]."""
    images: Tensor
    """The other views ``[S T, 3, H, W]`` in [0, 1]."""
    own: Tensor
    """Azimuth and elevation of the pictures' cameras ``[S, 2]``, degrees."""
    angles: Tensor
    """The same of the other views ``[S T, 2]``."""
    form: Tensor
    """Numbers of the forms ``[S]``."""
    colours: Tensor
    """Numbers of both colours ``[S, 2]``."""


class Views:
    """Finds views by their form."""

    def __init__(self, form: Tensor, kept: Tensor) -> None:
        """``form`` ``[N]`` numbers each view's form. ``kept`` ``[N]`` says which views may be drawn."""
        rows = torch.nonzero(kept).squeeze(1)
        self.rows = rows[form[rows].argsort(stable=True)]
        self.counts = form[rows].bincount(minlength=int(form.max()) + 1)
        self.starts = self.counts.cumsum(0) - self.counts

    def draw(self, form: Tensor, generator: torch.Generator) -> Tensor:
        """Draws a view of each ``form`` ``[B]``. Returns their rows ``[B]``."""
        place = (torch.rand(len(form), generator=generator) * self.counts[form]).long()
        return self.rows[self.starts[form] + place]


def framed(cover: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    """Returns zoom ``[B]`` and centre ``[B, 2]`` (right and down, half sides) of squares in which objects take ``share`` ``[B]``.

    ``cover`` ``[B, 1, H, H]`` says where the objects are.
    """
    solid, side = cover[:, 0] >= 0.5, cover.shape[-1]
    index = torch.arange(side)
    ends = []
    for line in (solid.any(1), solid.any(2)):
        ends.append((torch.where(line, index, side).amin(1), torch.where(line, index + 1, 0).amax(1)))
    (left, right), (top, bottom) = ends
    centre = torch.stack((left + right, top + bottom), 1) / side - 1.0
    largest = torch.maximum(right - left, bottom - top).clamp_min(1) / side
    return share / largest, centre


def moved(layers: Tensor, zoom: Tensor, centre: Tensor) -> Tensor:
    """Cuts squares around ``centre`` ``[B, 2]`` out of ``layers`` ``[B, C, H, H]``, magnified by ``zoom`` ``[B]``; 0 outside."""
    place = torch.cat((torch.eye(2) / zoom[:, None, None], centre[..., None]), 2)
    grid = F.affine_grid(place, list(layers.shape), align_corners=False)
    return F.grid_sample(layers, grid, align_corners=False)


def seen_centre(centre: Tensor, own: Tensor, angles: Tensor) -> Tensor:
    """Returns where a point in the plane of the picture's camera, at ``centre`` ``[B, 2]``, is in the other views ``[B, 2]``.

    ``own`` and ``angles`` ``[B, 2]`` are azimuth and elevation of both cameras. Perspective is left out: the shift is small.
    """
    one = torch.ones(len(own))
    (_, here), (_, there) = eye_frame(*own.T, one), eye_frame(*angles.T, one)
    point = centre[:, :1] * here[..., 0] - centre[:, 1:] * here[..., 1]
    return torch.stack(((point * there[..., 0]).sum(1), -(point * there[..., 1]).sum(1)), 1)


def degraded(images: Tensor, generator: torch.Generator) -> Tensor:
    """Makes ``images`` ``[B, 3, H, W]`` look like photographs: other exposure and cast, blur, noise, and JPEG's blocks."""
    count = len(images)

    def uniform(low: float, high: float, width: int = 1) -> Tensor:
        return (low + (high - low) * torch.rand(count, width, generator=generator))[..., None, None]

    exposed = (images * uniform(0.75, 1.2) * uniform(0.93, 1.07, 3)).clamp(0, 1) ** uniform(-0.3, 0.3).exp()
    soft = F.avg_pool2d(F.pad(exposed, (1, 1, 1, 1), mode="replicate"), 3, 1)
    noisy = torch.lerp(exposed, soft, uniform(0.0, 0.8))
    noisy = noisy + uniform(0.0, 0.06) * torch.randn(images.shape, generator=generator)
    quality = torch.randint(25, 90, (count,), generator=generator).tolist()
    found = []
    for picture, level in zip((noisy.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy(), quality, strict=True):
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "JPEG", quality=level)
        found.append(torch.from_numpy(np.array(Image.open(file))))
    return torch.stack(found).permute(0, 3, 1, 2).float() / 255


def plain_backgrounds(count: int, generator: torch.Generator) -> Tensor:
    """Draws plain backgrounds ``[B, 3, 1, 1]``: white (45 %), grey (25 %), or any colour."""
    pick = torch.rand(count, 1, generator=generator)
    colour = torch.rand(count, 3, generator=generator)
    return torch.where(pick < 0.45, 1.0, torch.where(pick < 0.7, 0.5, colour))[..., None, None]


class Pairs:
    """The world of pictures with other views. A generator decides everything."""

    def __init__(self, world: World, targets: int) -> None:
        """``targets`` is T, the number of other views of each picture."""
        self.world, self.targets = world, targets
        form, elevation = world.data["form"], world.data["elevation"]
        self.seen = Views(form, (elevation >= LOWEST) & (elevation <= HIGHEST))
        self.others = Views(form, torch.ones(len(form), dtype=torch.bool))

    def draw(self, count: int, generator: torch.Generator) -> Scenes:
        """Draws ``count`` pictures with their other views. Each has a light of its own: with one, backs would be dark."""
        world, together = self.world, 1 + self.targets
        form = world.data["form"][world.indices(count, generator)]
        others = self.others.draw(form.repeat_interleave(self.targets), generator).view(count, self.targets)
        index = torch.cat((self.seen.draw(form, generator)[:, None], others), 1).flatten()
        colours = torch.tensor([world.colours(number, generator) for number in form.tolist()])
        jitter = (torch.rand(2, count, 3, generator=generator) - 0.5) * 0.1
        first, second = (RGB[colours.T] + jitter).clamp(0, 1).repeat_interleave(together, 1)
        cameras = {k: world.data[k][index] for k in ("azimuth", "elevation", "fovy", "distance")}
        layers = torch.cat(lit(world.data["buffers"][index], cameras, first, second, generator), 1)
        angles = torch.stack((cameras["azimuth"], cameras["elevation"]), 1)
        own = angles[::together].repeat_interleave(together, 0)

        low, high = SHARES
        zoom, centre = framed(layers[::together, 3:], low + (high - low) * torch.rand(count, generator=generator))
        native = torch.rand(count, generator=generator) < AS_IT_IS
        zoom, centre = torch.where(native, 1.0, zoom.clamp(*ZOOMS)), torch.where(native[:, None], 0.0, centre)
        zoom, centre = zoom.repeat_interleave(together), centre.repeat_interleave(together, 0)
        layers = moved(layers, zoom, seen_centre(centre, own, angles)).view(count, together, 4, *layers.shape[2:])

        behind = plain_backgrounds(count, generator)
        images = (layers[:, :, :3] + (1 - layers[:, :, 3:]) * behind[:, None]).clamp(0, 1)
        shown, cover = images[:, 0], layers[:, 0, 3:]
        rough = torch.nonzero(torch.rand(count, generator=generator) < DEGRADED).squeeze(1)
        if len(rough):
            # a mask made by a tool ends a little inside or outside of the object
            end = 0.25 + 0.5 * torch.rand(len(rough), 1, 1, 1, generator=generator)
            mask = ((cover[rough] - end) * 3 + 0.5).clamp(0, 1)
            rows = mask * degraded(shown[rough], generator) + (1 - mask) * behind[rough]
            shown = shown.index_copy(0, rough, rows)
        turned = angles.view(count, together, 2)
        return Scenes(shown, images[:, 1:].flatten(0, 1), turned[:, 0], turned[:, 1:].flatten(0, 1), form, colours)
