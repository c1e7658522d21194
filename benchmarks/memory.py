"""How much memory a step of training takes outside the diffusion model: four views of the default NeRF before its first step.

    OMP_NUM_THREADS=1 python benchmarks/memory.py                      # 64x64 to 512x512, unlit and lit, about five minutes
    OMP_NUM_THREADS=1 python benchmarks/memory.py --chunk 1000000000   # without blocks; needs more than 10 GB

Each row is a process of its own, on the CPU. It renders the views and goes back to the scene. The peak is the kernel's VmHWM,
which includes the imports. Time is processor time of rendering and the way back, the least of some repeats.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
import time
from pathlib import Path

STEPS = 64  # before measuring, so that the occupancy grid has settled


def peak() -> int:
    """Returns the most memory that this process has held so far, MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) // 1000


def measure(width: int, views: int, lit: bool, chunk: int, repeats: int) -> str:
    """Returns a row of the table."""
    import torch

    from dfw import Progress
    from dfw.interfaces.poses import orbit
    from dfw_geometry.nerf import NeRF
    from dfw_renderers.volume import Volume

    generator = torch.Generator().manual_seed(0)
    field = NeRF(NeRF.Config())
    field.initialise(generator)
    shading = {"mode": "lambertian", "start": 0, "probability": 1} if lit else {}
    renderer = Volume(Volume.Config.model_validate({"chunk": chunk, "shading": shading})).train()
    for step in range(STEPS):
        renderer.begin_step(field, Progress(step, 10 * STEPS), generator)
    before, cameras, least, count = peak(), orbit(views, 15.0, 3.0, 40.0, width, width), math.inf, 0
    for _ in range(repeats):
        start = time.process_time()
        output = renderer(field, cameras, generator)
        assert output.samples is not None
        count = len(output.samples.ray)
        output.colour.square().mean().backward()
        least = min(least, time.process_time() - start)
        del output
    pixels = views * width**2
    name = f"{width}x{width}, {'lit' if lit else 'unlit'}"
    return f"| {name} | {count:,} | {before} | {peak()} | {1e6 * least / pixels:.1f} | {1e6 * least / count:.2f} |"


def main() -> None:
    """Prints one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--widths", type=int, nargs="+", default=[64, 128, 256, 512])
    parser.add_argument("--views", type=int, default=4)
    parser.add_argument("--chunk", type=int, default=2**17, help="renderer.chunk: samples computed at once")
    parser.add_argument("--row", choices=["lit", "unlit"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.row:
        (width,) = args.widths
        print(measure(width, args.views, args.row == "lit", args.chunk, max(1, min(5, 256 // width))), flush=True)
        return
    print("| views | samples | MB before | MB at the peak | us a pixel | us a sample |\n|---|---|---|---|---|---|", flush=True)
    for width in args.widths:
        for row in ("unlit", "lit"):
            options = ["--widths", width, "--views", args.views, "--chunk", args.chunk, "--row", row]
            subprocess.run([sys.executable, __file__, *map(str, options)], check=True)


if __name__ == "__main__":
    main()
