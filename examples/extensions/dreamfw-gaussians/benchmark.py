"""Milliseconds of a picture, forward and backward, by the kernels and by the plain torch they replace.

    python benchmark.py [--gaussians 10000] [--widths 64 128] [--device cpu]

The Gaussians fill a ball, of many sizes and opacities. The best of several repetitions, of the plain form one; on a CPU in
processor time, which a busy machine does not change much. The plain form takes all Gaussians at every pixel.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from unittest.mock import patch

import torch
from dreamfw_gaussians import renderer as renderer_module
from dreamfw_gaussians.compositing import composite as plain
from dreamfw_gaussians.geometry import Gaussians
from dreamfw_gaussians.renderer import Splatting
from torch import Tensor

from dfw import CameraBatch

DISTANCE, FOV = 3.0, 40.0


def camera(width: int, device: str) -> CameraBatch:
    """One camera on +x that looks at the origin."""
    pose = torch.tensor([[[0.0, 0, 1, DISTANCE], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]]], device=device)
    one = torch.ones(1, device=device)
    return CameraBatch(pose, FOV * one, 0 * one, 0 * one, DISTANCE * one, width, width)


def scene(count: int, device: str) -> Gaussians:
    """`count` Gaussians of many sizes and opacities."""
    geometry = Gaussians(Gaussians.Config(capacity=count, initial=count)).to(device)
    generator = torch.Generator(device).manual_seed(0)
    geometry.initialise(generator)
    with torch.no_grad():
        geometry.scales += 0.3 * torch.randn(count, 3, generator=generator, device=device) + math.log(0.5)
        geometry.opacities += 2.5 + 1.5 * torch.randn(count, generator=generator, device=device)
    return geometry


def milliseconds(work: Callable[[], object], device: str, repetitions: int) -> float:
    """The shortest of several times: processor time on a CPU, wall time on a GPU."""
    clock = time.perf_counter if device.startswith("cuda") else time.process_time
    best = math.inf
    for _ in range(repetitions):
        started = clock()
        work()
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        best = min(best, clock() - started)
    return 1e3 * best


def main() -> None:
    """Prints one line per picture width."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gaussians", type=int, default=10_000)
    parser.add_argument("--widths", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--chunk", type=int, default=256, help="pixels the plain form composites at once")
    options = parser.parse_args()
    geometry, splatting = scene(options.gaussians, options.device), Splatting(Splatting.Config()).eval()
    print(f"{options.gaussians} Gaussians, {torch.get_num_threads()} threads, {options.device}")
    for width in options.widths:
        cameras = camera(width, options.device)

        def step(cameras: CameraBatch = cameras) -> None:
            output = splatting(geometry, cameras)
            (output.colour.square().mean() + output.opacity.mean()).backward()

        def in_chunks(splat: Tensor, depth: Tensor, visible: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
            return plain(splat, depth, visible, height, width, options.chunk)

        step()  # compiles the kernels, and is not counted
        fast = milliseconds(step, options.device, options.repetitions)
        with patch.object(renderer_module, "composite", in_chunks):
            slow = milliseconds(step, options.device, 1)
        print(f"{width:>4} x {width:<4} kernels {fast:8.1f} ms   plain torch {slow:9.1f} ms   ratio {slow / fast:6.1f}")


if __name__ == "__main__":
    main()
