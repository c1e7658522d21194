"""What the trainings that go on from the shipped prior have in common: options, views to render, plan."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from rounds import main as render_rounds
from unet import UnetPlan

SHIPPED = Path(__file__).parents[2] / "plugins" / "guidance" / "dfw_guidance" / "embedded"


def options(about: str | None, **defaults: Any) -> argparse.ArgumentParser:
    """Makes the parser of a training that ``about`` describes. ``defaults`` are those in which the trainings differ."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for data, checkpoints and the network")
    parser.add_argument("--data", type=Path, help="folder of rendered rounds (default: OUT/rounds)")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--rounds", type=int, default=8, help="rounds of rendered views (0: use those that are there)")
    parser.add_argument("--views", type=int, default=80, help="views per kind and round")
    parser.add_argument("--stack-views", type=int, default=24, help="views per pair of solids and round")
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--minutes", type=float, default=120, help="time limit; the rate follows it")
    parser.add_argument("--rate", type=float, default=6e-4, help="largest learning rate")
    parser.add_argument("--batch", type=int, help="pictures a step")
    parser.add_argument("--pool", type=int, default=16384, help="latents kept in memory")
    parser.add_argument("--resume", action="store_true", help="continue from OUT/checkpoint.pt")
    parser.set_defaults(**defaults)
    return parser


def rendered(args: argparse.Namespace, *more: str) -> Path:
    """Renders the rounds that are missing, and returns their folder."""
    data: Path = args.data or args.out / "rounds"
    args.out.mkdir(parents=True, exist_ok=True)
    if args.rounds:
        counts = ["--rounds", str(args.rounds), "--views", str(args.views), "--stack-views", str(args.stack_views)]
        render_rounds(["--out", str(data), "--seed", str(args.seed), *counts, *more])
    return data


def plan_of(args: argparse.Namespace, **more: Any) -> UnetPlan:
    """Returns the plan. All kinds are drawn from the beginning, because the shipped prior knows them."""
    sizes = {name: getattr(args, name) for name in ("steps", "minutes", "rate", "batch", "pool")}
    return UnetPlan(**sizes, curriculum=(), **more)
