"""Measures how well `dreamfw-views` rebuilds a scene from pictures: IoU of the mesh with the true shape, unaligned.

    pip install -e examples/extensions/dreamfw-views
    python benchmarks/views.py --out results/views                       # one symmetric shape, two that are not
    python benchmarks/views.py --out results/views "a red mushroom" --count 36

It prints a table. The runs stay under --out.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from dreamfw_views.render_targets import cameras_of, render, save
from quality import ROOT, iou

from dfw.config.load import load_config
from dfw.runs.runner import run
from dfw_geometry.sdf_scene import SdfScene

SHAPES = ("a red mushroom", "a blue car", "a pink teapot")
CONFIG = ROOT / "examples" / "extensions" / "dreamfw-views" / "views.yaml"


def main() -> None:
    """Renders pictures, rebuilds the scene and compares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shapes", nargs="*", default=list(SHAPES), help="a colour and a kind each")
    parser.add_argument("--out", type=Path, required=True, help="folder for pictures and runs")
    parser.add_argument("--count", type=int, default=24, help="cameras on each ring")
    parser.add_argument("--rings", type=float, nargs="+", default=[-5.0, 10.0, 25.0, 40.0], help="elevations, degrees")
    parser.add_argument("--set", nargs="*", default=[], dest="overrides", help="config overrides, as for dfw run")
    args = parser.parse_args()
    print("| pictures of | views | IoU | seconds | run |\n|---|---|---|---|---|")
    for shape in args.shapes:
        targets = args.out / f"{shape.replace(' ', '-')}-{args.count}"
        cameras = cameras_of(args.rings, args.count, 3.0, 40.0, 64)
        save(targets, cameras, render(shape, cameras))
        given = [f"prompt={shape}", f"guidance.folder={targets}", f"output={args.out / 'runs'}", *args.overrides]
        started = time.monotonic()
        made = run(load_config(CONFIG, given), listeners=[])
        score = iou(made.artifacts["glb"], SdfScene(SdfScene.Config(shape=shape)))
        print(f"| {shape} | {len(cameras)} | {score:.2f} | {time.monotonic() - started:.0f} | {made.directory} |", flush=True)


if __name__ == "__main__":
    main()
