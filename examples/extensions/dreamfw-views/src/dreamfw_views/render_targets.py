"""Renders target views of one of dfw's exact procedural scenes, to try the guidance without pictures of your own.

python -m dreamfw_views.render_targets "a red mushroom" --out targets
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dfw import CameraBatch
from dfw_geometry.sdf_scene import SdfScene
from dfw_renderers.volume import Volume


def cameras_of(rings: list[float], count: int, distance: float, fov: float, side: int) -> CameraBatch:
    """`count` cameras on each ring of one elevation, every other ring turned by half a gap; angles in degrees."""
    elevation = torch.tensor(rings).repeat_interleave(count)
    turned = 0.5 * (torch.arange(len(rings)) % 2).repeat_interleave(count)
    azimuth = (torch.arange(count).repeat(len(rings)) + turned) * (360 / count)
    full = torch.ones_like(azimuth)
    pose = _poses(torch.deg2rad(azimuth), torch.deg2rad(elevation), distance)
    return CameraBatch(pose, full * fov, azimuth, elevation, full * distance, side, side)


def _poses(azimuth: Tensor, elevation: Tensor, distance: float) -> Tensor:
    """Camera to world (B, 4, 4), looking at the origin with z up; columns right, up, back and place. Angles in radians."""
    nought = torch.zeros_like(azimuth)
    back = torch.stack([elevation.cos() * azimuth.cos(), elevation.cos() * azimuth.sin(), elevation.sin()], -1)
    right = torch.stack([-azimuth.sin(), azimuth.cos(), nought], -1)
    pose = torch.eye(4).repeat(len(azimuth), 1, 1)
    pose[:, :3] = torch.stack([right, torch.linalg.cross(back, right), back, distance * back], -1)
    return pose


def render(shape: str, cameras: CameraBatch) -> Tensor:
    """RGBA (B, H, W, 4) in [0, 1], not premultiplied, of the scene that `shape` names. Raises DfwError for an unknown one."""
    settings = Volume.Config.model_validate({"samples": 256, "background": {"type": "solid", "colour": (0, 0, 0)}})
    with torch.no_grad():
        made = Volume(settings).eval()(SdfScene(SdfScene.Config(shape=shape)), cameras)
    opacity = made.opacity[..., None]
    return torch.cat([made.colour / opacity.clamp_min(1e-3), opacity], -1).clamp(0, 1)


def save(folder: Path, cameras: CameraBatch, images: Tensor) -> None:
    """Writes the pictures (B, H, W, 4) and `cameras.json` into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    views = []
    for index, image in enumerate(images):
        name = f"view-{index:03d}.png"
        Image.fromarray((255 * image).round().byte().numpy().astype(np.uint8), "RGBA").save(folder / name)
        views.append({"file": name, "azimuth": float(cameras.azimuth[index]), "elevation": float(cameras.elevation[index])})
    (folder / "cameras.json").write_text(json.dumps({"views": views}, indent=1), encoding="utf-8")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shape", help='a colour and a kind, e.g. "a blue car"')
    parser.add_argument("--out", type=Path, default=Path("targets"), help="folder to write into")
    parser.add_argument("--count", type=int, default=24, help="cameras on each ring")
    parser.add_argument(
        "--rings", type=float, nargs="+", default=[-5.0, 10.0, 25.0, 40.0], help="elevations of the rings, degrees"
    )
    parser.add_argument("--distance", type=float, default=3.0, help="of the cameras, world units")
    parser.add_argument("--fov", type=float, default=40.0, help="vertical field of view, degrees")
    parser.add_argument("--side", type=int, default=64, help="pixels")
    args = parser.parse_args()
    cameras = cameras_of(args.rings, args.count, args.distance, args.fov, args.side)
    save(args.out, cameras, render(args.shape, cameras))
    print(f"{len(cameras)} views of {args.shape} in {args.out}")


if __name__ == "__main__":
    main()
