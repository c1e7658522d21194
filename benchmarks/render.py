"""Times each part of rendering the default NeRF, forward and backward.

    python benchmarks/render.py                          # 4 views of 64x64, the default scene before its first step
    python benchmarks/render.py --density-scale 100      # a solid ball, as late in a run

It prints medians of wall time and processor time over the repeats, and how many samples were evaluated. Processor time is the sum
of all threads; other programs on the machine disturb it less.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch

from dfw import Progress
from dfw.interfaces.poses import orbit
from dfw_geometry.nerf import NeRF
from dfw_renderers import compositing
from dfw_renderers.fast import marching
from dfw_renderers.volume import Volume

Result = TypeVar("Result")
STEPS = 64  # before measuring, so that the occupancy grid has settled


@dataclass(frozen=True)
class Taken:
    """Milliseconds of wall time and of processor time."""

    wall: float
    processor: float


def median(call: Callable[[], Result], repeats: int, share: float = 1.0) -> tuple[Taken, Result]:
    """Returns the median milliseconds of `call`, times `share`, and its last result."""
    wall, processor = [], []
    for _ in range(repeats + 1):
        start, busy = time.perf_counter(), time.process_time()
        result = call()
        wall.append(1000 * share * (time.perf_counter() - start))
        processor.append(1000 * share * (time.process_time() - busy))
    return Taken(statistics.median(wall[1:]), statistics.median(processor[1:])), result


def measure(views: int, width: int, samples: int, density_scale: float, repeats: int) -> tuple[dict[str, Taken], int, int]:
    """Returns part -> milliseconds, the number of rays, and the number of samples evaluated."""
    generator = torch.Generator().manual_seed(0)
    field = NeRF(NeRF.Config(density_scale=density_scale))
    renderer = Volume(Volume.Config(samples=samples)).train()
    field.initialise(generator)
    for step in range(STEPS):
        renderer.begin_step(field, Progress(step, 10 * STEPS), generator)
    parts: dict[str, Taken] = {}
    every = renderer.config.occupancy.update_every
    update = median(lambda: renderer.begin_step(field, Progress(STEPS, 10 * STEPS), generator), repeats, 1 / every)
    parts[f"grid update, a step's share of {every}"] = update[0]
    cameras = orbit(views, 15.0, 3.0, 40.0, width, width)
    rays = cameras.rays()
    origin, direction = rays.origin.reshape(-1, 3), rays.direction.reshape(-1, 3)
    offset = torch.rand(len(origin), generator=generator)
    step_length = renderer.step_length(field)
    occupancy = renderer.grid.occupancy(field.radius)
    stop = renderer.config.early_stop
    parts["march"], found = median(lambda: marching.march(origin, direction, occupancy, step_length, offset, stop), repeats)
    points = origin[found.ray] + found.distance[:, None] * direction[found.ray]
    parts["field"], value = median(lambda: field.sample(points), repeats)

    def composite() -> torch.Tensor:
        weight = compositing.weights(value.density, found)
        opacity = compositing.sum_per_ray(weight, found.ray, len(origin))
        total = compositing.sum_per_ray(weight * found.distance, found.ray, len(opacity))
        compositing.expected_distance(total, opacity)
        return compositing.sum_per_ray(weight[:, None] * value.albedo, found.ray, len(origin))

    parts["composite"], colour = median(composite, repeats)
    parts["backward"], _ = median(lambda: torch.autograd.backward(colour.square().sum(), retain_graph=True), repeats)
    parts["forward, whole"], output = median(lambda: renderer(field, cameras, generator), repeats)
    parts["forward and backward"], _ = median(
        lambda: torch.autograd.backward(renderer(field, cameras, generator).colour.square().sum()), repeats
    )
    return parts, len(origin), len(output.samples.ray)


def main() -> None:
    """Prints one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--views", type=int, default=4)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--samples", type=int, default=96)
    parser.add_argument("--density-scale", type=float, default=10.0)
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args()
    parts, rays, kept = measure(args.views, args.width, args.samples, args.density_scale, args.repeats)
    print(f"{args.views} views of {args.width}x{args.width}, {torch.get_num_threads()} threads")
    print(f"{kept} samples on {rays} rays, {kept / rays:.1f} of at most {args.samples} a ray")
    print("| part | wall ms | processor ms |\n|---|---|---|")
    for part, taken in parts.items():
        print(f"| {part} | {taken.wall:.1f} | {taken.processor:.1f} |")


if __name__ == "__main__":
    main()
