"""Times the mesh renderer, forward and backward, next to the volume renderer.

    OMP_NUM_THREADS=2 python benchmarks/mesh.py

The first table has a ball of 20,000 triangles at several sizes of the views. `painted` has a colour at each vertex, so that it
shows the renderer alone. `field` has the material of `tets` and `flexicubes`, a hash grid with a network. `volume` is the default
NeRF as a solid ball, as late in a run. The second table has the painted ball with more and fewer triangles. Each figure is a
median of wall time, with processor time, the sum of all threads, in brackets. Other programs disturb processor time less.
"""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable

import torch
from render import STEPS, Taken, median
from torch import Tensor, nn

from dfw import CameraBatch, ComponentConfig, Geometry, Material, Progress, Renderer, Surface, SurfacePoints, Triangles
from dfw.interfaces.poses import orbit
from dfw_geometry.material_field import MaterialField
from dfw_geometry.nerf import NeRF
from dfw_renderers.mesh import Mesh
from dfw_renderers.volume import Volume


def ball(triangles: int, radius: float = 0.6) -> tuple[Tensor, Tensor]:
    """Returns vertices and faces of a ball of meridians and parallels, with about as many triangles."""
    around = max(3, round(math.sqrt(triangles / 2)))
    level = around
    azimuth = torch.arange(around) * (2 * math.pi / around)
    polar = torch.arange(1, level) * (math.pi / level)
    a, p = torch.meshgrid(azimuth, polar, indexing="ij")
    rings = torch.stack([p.sin() * a.cos(), p.sin() * a.sin(), p.cos()], dim=-1).view(-1, 3)
    vertices = radius * torch.cat([rings, torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, -1.0]])])
    i, j = torch.meshgrid(torch.arange(around), torch.arange(level - 2), indexing="ij")
    here, beside = i * (level - 1) + j, (i + 1) % around * (level - 1) + j
    quads = [torch.stack(corners, -1).view(-1, 3) for corners in ((here, here + 1, beside), (beside, here + 1, beside + 1))]
    first, second = torch.arange(around) * (level - 1), (torch.arange(around) + 1) % around * (level - 1)
    top, bottom = torch.full_like(first, len(rings)), torch.full_like(first, len(rings) + 1)
    caps = [torch.stack([top, first, second], -1), torch.stack([bottom, second + level - 2, first + level - 2], -1)]
    return vertices, torch.cat([*quads, *caps])


class Painted(Surface):
    """Triangles with a colour at each vertex."""

    def __init__(self, triangles: int) -> None:
        super().__init__()
        self.config = ComponentConfig()
        vertices, self.faces = ball(triangles)
        self.vertices, self.colours = nn.Parameter(vertices), nn.Parameter(torch.full_like(vertices, 0.5))

    def surface(self) -> Triangles:
        """All triangles."""
        return Triangles(self.vertices, self.faces)

    def material(self, at: SurfacePoints) -> Material:
        """Colours between corners."""
        assert at.face is not None
        assert at.barycentric is not None
        corner = self.faces[at.face]
        mixed = [at.barycentric[:, k, None] * self.colours.index_select(0, corner[:, k]) for k in range(3)]
        return Material(mixed[0] + mixed[1] + mixed[2])


class Fielded(Painted):
    """Triangles in a material field."""

    def __init__(self, triangles: int) -> None:
        super().__init__(triangles)
        self.field = MaterialField(MaterialField.Config(), 1.0)
        self.field.initialise(torch.Generator().manual_seed(0))

    def material(self, at: SurfacePoints) -> Material:
        """What the field has there."""
        found: Material = self.field(at.position)
        return found


def solid_nerf(views: int) -> tuple[Geometry, Renderer]:
    """Returns the default NeRF as a solid ball, and the volume renderer with a grid that has settled."""
    generator = torch.Generator().manual_seed(0)
    scene, renderer = NeRF(NeRF.Config(density_scale=100)), Volume(Volume.Config()).train()
    scene.initialise(generator)
    for step in range(STEPS):
        renderer.begin_step(scene, Progress(step, 10 * STEPS), generator)
    return scene, renderer


def step_of(scene: Geometry, renderer: Renderer, cameras: CameraBatch) -> Callable[[], None]:
    """Returns rendering and the way back."""
    generator = torch.Generator().manual_seed(0)

    def once() -> None:
        torch.autograd.backward(renderer(scene, cameras, generator).colour.square().sum())

    return once


def cell(taken: Taken) -> str:
    """Returns wall and processor milliseconds."""
    return f"{taken.wall:.0f} ({taken.processor:.0f})"


def main() -> None:
    """Prints two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--views", type=int, default=4)
    parser.add_argument("--triangles", type=int, default=20000)
    parser.add_argument("--widths", type=int, nargs="+", default=[64, 256, 512])
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    mesh, repeats = Mesh(Mesh.Config()).train(), args.repeats
    scenes: dict[str, tuple[Geometry, Renderer]] = {
        "painted": (Painted(args.triangles), mesh),
        "field": (Fielded(args.triangles), mesh),
        "volume": solid_nerf(args.views),
    }
    load = os.getloadavg()[0]
    print(f"{args.views} views, {torch.get_num_threads()} threads, load {load:.1f}; milliseconds of wall (processor) time")
    print(f"| {args.triangles} triangles | {' | '.join(scenes)} | painted / volume | field / volume |\n|---|---|---|---|---|---|")
    for width in args.widths:
        cameras = orbit(args.views, 15.0, 3.0, 40.0, width, width)
        # the volume takes so long that once must do
        taken = {name: median(step_of(*scene, cameras), 1 if name == "volume" else repeats)[0] for name, scene in scenes.items()}
        ratios = [taken[name].processor / taken["volume"].processor for name in ("painted", "field")]
        cells = [*map(cell, taken.values()), *(f"{ratio:.2f}" for ratio in ratios)]
        print(f"| {width}x{width} | {' | '.join(cells)} |", flush=True)
    print(f"\n| painted | {' | '.join(f'{width}x{width}' for width in args.widths)} |\n|---{'|---' * len(args.widths)}|")
    for triangles in (200, 2000, 20000, 200000):
        scene, cells = Painted(triangles), []
        for width in args.widths:
            cameras = orbit(args.views, 15.0, 3.0, 40.0, width, width)
            cells.append(cell(median(step_of(scene, mesh, cameras), repeats)[0]))
        print(f"| {len(scene.faces)} triangles | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
