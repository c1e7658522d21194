"""Protocols: which views of a scene a benchmark shows, and how it makes one number of the views' scores. Declared data.

Sources: T3Bench (He et al. 2023, arXiv 2310.02977, and its render/meshrender.py and run_eval_quality.py); GPTEval3D (Wu et al.
2024, arXiv 2401.04092, and its data format), whose views are threestudio's test views.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import torch
import trimesh
from torch import Tensor

from dfw.interfaces.data import CameraBatch, Orbit
from dfw.interfaces.poses import angles_of, look_at, z_up

Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Ring:
    """Cameras at equal angles around the scene, the first at the front, counter-clockwise from above."""

    count: int
    """Cameras."""
    elevation: float
    """Degrees above the horizon."""

    def directions(self) -> Tensor:
        """Returns where the cameras stand: unit vectors (count, 3), float64."""
        azimuth = torch.arange(self.count, dtype=torch.float64) * (2 * torch.pi / self.count)
        up = torch.deg2rad(torch.full_like(azimuth, self.elevation))
        return torch.stack([up.cos() * azimuth.cos(), up.cos() * azimuth.sin(), up.sin()], dim=-1)

    def neighbours(self) -> list[list[int]]:
        """Returns the two cameras beside each one."""
        return [[(index - 1) % self.count, (index + 1) % self.count] for index in range(self.count)]


@dataclass(frozen=True)
class Icosphere:
    """Cameras at the vertices of an icosahedron whose faces were divided into four `subdivisions` times."""

    subdivisions: int
    """0: 12 cameras, 1: 42, 2: 162."""

    def directions(self) -> Tensor:
        """Returns where the cameras stand: unit vectors (count, 3), float64, in trimesh's order."""
        return torch.from_numpy(_icosphere(self.subdivisions).vertices.copy())

    def neighbours(self) -> list[list[int]]:
        """Returns the cameras that an edge joins to each one: five or six."""
        return [[int(one) for one in near] for near in _icosphere(self.subdivisions).vertex_neighbors]


@cache
def _icosphere(subdivisions: int) -> Any:
    return trimesh.creation.icosphere(subdivisions=subdivisions)


@dataclass(frozen=True)
class Protocol:
    """One way to look at what a run made."""

    name: str
    """What `--protocol` and the records call it."""
    summary: str
    """One sentence: what it is for, and its source."""
    stations: Ring | Icosphere
    """Where the cameras stand."""
    distance: float | None
    """World units to the centre; None: as in the run's previews."""
    fovs: tuple[float, ...] | None
    """Vertical fields of view, degrees: one picture for each, at every station. None: one, as in the run's previews."""
    width: int
    """Pixels of a side."""
    background: Colour | None
    """What is behind the scene; None: the run's own."""
    keeps: tuple[Literal["rgb", "normal"], ...]
    """Pictures that stay next to the run."""
    layout: str
    """Their files: `{of}` is the picture, `{station}` and `{zoom}` count from 0."""
    pool: Literal["mean", "sphere"]
    """How scores of views become one: a key of POOLS."""

    def __len__(self) -> int:
        return len(self.stations.directions()) * len(self.fovs or (0.0,))

    def cameras(self, look: Orbit, width: int | None = None) -> CameraBatch:
        """Returns the cameras, all zooms of a station one after the other. `look`: the run's own; `width`: instead of `width`."""
        fovs = torch.tensor(self.fovs or (look.fov,), dtype=torch.float64)
        stations = self.stations.directions()
        direction = stations.repeat_interleave(len(fovs), dim=0)
        position = direction * (look.distance if self.distance is None else self.distance)
        up = z_up(position)
        up[direction[:, 2].abs() >= POLE] = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)
        pose = look_at(position, torch.zeros_like(position), up)
        azimuth, elevation, distance = (value.float() for value in angles_of(position))
        side = width or self.width
        return CameraBatch(pose.float(), fovs.repeat(len(stations)).float(), azimuth, elevation, distance, side, side)

    def file(self, of: str, view: int) -> str:
        """Returns the file of a view's picture, relative to the protocol's folder."""
        station, zoom = divmod(view, len(self.fovs or (0.0,)))
        return self.layout.format(of=of, station=station, zoom=zoom)

    def pooled(self, per_view: Sequence[float]) -> float:
        """Makes one score of those of the views."""
        return POOLS[self.pool](self, torch.tensor(per_view, dtype=torch.float64))


POLE = 0.99
"""Height on the unit sphere from which on +y is up in the picture in place of +z, as in T3Bench."""
PASSES = 3
"""How often T3Bench averages over neighbours."""


def mean(protocol: Protocol, scores: Tensor) -> float:
    """Returns the mean of scores (B,)."""
    return float(scores.mean())


def sphere(protocol: Protocol, scores: Tensor) -> float:
    """Returns T3Bench's score of scores (B,).

    The best zoom of a station counts. Three times each station gets the mean of itself and its neighbours. Then the best station
    counts. So one lucky view does not decide, and a good side of the object does.
    """
    best = scores.view(-1, len(protocol.fovs or (0.0,))).amax(dim=1)
    groups = [[index, *near] for index, near in enumerate(protocol.stations.neighbours())]
    mixing = torch.zeros(len(best), len(best), dtype=best.dtype)
    for index, group in enumerate(groups):
        mixing[index, group] = 1 / len(group)
    for _ in range(PASSES):
        best = mixing @ best
    return float(best.max())


POOLS: dict[str, Callable[[Protocol, Tensor], float]] = {"mean": mean, "sphere": sphere}
"""Name -> what makes one score of those of the views."""

PROTOCOLS = {
    one.name: one
    for one in (
        Protocol(
            "views16",
            "16 views around the scene, 22.5 degrees apart and 15 above the horizon, as the run's own previews look at it.",
            Ring(16, 15.0),
            distance=None,
            fovs=None,
            width=256,
            background=None,
            keeps=("rgb",),
            layout="{of}/{station:03d}.png",
            pool="mean",
        ),
        Protocol(
            "t3bench",
            "T3Bench's quality: 162 vertices of an icosphere and 5 zooms each, before black (He et al. 2023).",
            Icosphere(2),
            distance=2.2,
            fovs=(60.0, 45.0, 36.0, 30.0, 24.0),
            width=512,
            background=(0.0, 0.0, 0.0),
            keeps=(),
            layout="{station:03d}_{zoom}.png",
            pool="sphere",
        ),
        Protocol(
            "gpteval3d",
            "GPTEval3D's 120 views of a turntable in colours and normals, named for its tournament (Wu et al. 2024).",
            Ring(120, 15.0),
            distance=1.5,
            fovs=(70.0,),
            width=512,
            background=None,
            keeps=("rgb", "normal"),
            layout="{of}_{station}.png",
            pool="mean",
        ),
    )
}
"""Name -> protocol."""
