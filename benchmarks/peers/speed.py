"""Measures the NeRF of other frameworks next to ours: the same work, in one process, in alternating turns. It fetches nothing.

    OMP_NUM_THREADS=1 python benchmarks/peers/speed.py --stable-dreamfusion FOLDER --threestudio FOLDER

The folders are checkouts, and one of them is enough. It prints two tables in Markdown.

- A picture: render a view with Lambertian shading, and go back to the parameters. Of stable-dreamfusion this is the backbone
  `vanilla`, which needs no compiled code. It has no occupancy grid on a CPU, so its time does not depend on the scene.
- A sample: density, albedo, normal and shade at points in the cube, and back. Of threestudio this is `implicit-volume` with its
  frequency encoding and analytic normals, and `diffuse-with-point-light-material`.

Their hash grids and ray marchers need CUDA, and are not measured. Packages that their modules import and that this work does not
need are left empty. Times are processor seconds of the process. A ratio is theirs over ours, by turn: median and quartiles.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

import dfw

ABSENT = ("cv2", "imageio", "jaxtyping", "mcubes", "meshutils", "nvdiffrast", "pytorch_lightning", "raymarching", "tensorboardX",
          "tinycudann", "torch_ema", "torchmetrics", "torchvision", "trimesh", "typeguard", "lightning", "igl")  # fmt: skip
"""Top-level packages that the authors' modules import, and that their NeRF does not use."""
CONFIG = "dreamfusion"
STATE = 120  # steps of the run before the measurement: the occupancy grid has found the object
SAMPLES = 16384
SEED = 0

Work = Callable[[], None]


def top(name: str) -> str:
    """Returns the package that a module belongs to."""
    return name.partition(".")[0]


class Anything(ModuleType):
    """A module that has every name; each is a class that takes any subscript and any call."""

    __path__: ClassVar[list[str]] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        subscript, call = classmethod(lambda cls, item: Any), lambda self, *args, **named: None
        made = type(name, (), {"__class_getitem__": subscript, "__init__": call})
        setattr(self, name, made)
        return made


class Absent:
    """Finds an empty module for each name in ABSENT and below it."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Returns a spec for the packages that are left empty."""
        return ModuleSpec(name, self, is_package=True) if top(name) in ABSENT else None  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Returns an empty module."""
        return Anything(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Does nothing: there is no code."""


@contextmanager
def importing(folder: Path, *packages: str) -> Iterator[None]:
    """Imports from `folder`. Packages in ABSENT are empty meanwhile, and of `packages` the `__init__` is not run."""
    before, absent = dict(sys.modules), Absent()
    for name in [name for name in sys.modules if top(name) in ABSENT]:
        del sys.modules[name]
    for name in packages:
        module: Any = ModuleType(name)
        module.__path__ = [str(folder.joinpath(*name.split(".")))]
        module.register = lambda name: lambda kind: kind
        module.debug = module.info = module.warn = lambda *args: None
        sys.modules[name] = module
    sys.path.insert(0, str(folder))
    sys.meta_path.insert(0, absent)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # theirs, about deprecated names of torch
            yield
    finally:
        sys.meta_path.remove(absent)
        sys.path.remove(str(folder))
        for name in [name for name in sys.modules if top(name) in ABSENT]:
            del sys.modules[name]
        sys.modules.update({name: module for name, module in before.items() if top(name) in ABSENT})


def views(side: int, count: int) -> dfw.CameraBatch:
    """`count` cameras around the object."""
    return dfw.orbit(count, 15.0, 3.0, 40.0, side, side)


def dreamfusion_vanilla(folder: Path) -> Any:
    """stable-dreamfusion's NeRF, with the defaults of its command line and `--backbone vanilla`."""
    with importing(folder):
        from nerf.network import NeRFNetwork  # type: ignore[import-not-found]
    defaults = {
        "bound": 1, "dmtet": False, "cuda_ray": False, "taichi_ray": False, "min_near": 0.01, "density_thresh": 10,
        "num_steps": 64, "upsample_steps": 32, "bg_radius": 1.4, "blob_density": 5, "blob_radius": 0.2,
        "density_activation": "exp",
        "lambda_orient": 0.01, "lambda_3d_normal_smooth": 0, "lambda_2d_normal_smooth": 0, "lambda_normal": 0,
    }  # fmt: skip
    return NeRFNetwork(SimpleNamespace(**defaults)).train()


def their_picture(model: Any, side: int) -> Work:
    """One lit view of `side` pixels, and back."""
    rays = views(side, 1).rays()
    origin, direction = (part.reshape(1, -1, 3) for part in (rays.origin, rays.direction))
    wanted = torch.rand(1, side * side, 3, generator=torch.Generator().manual_seed(SEED))

    def work() -> None:
        model.zero_grad()
        seen = model.run(origin.clone(), direction.clone(), ambient_ratio=0.1, shading="lambertian", perturb=True)
        ((seen["image"] * wanted).sum() + 0.01 * seen["loss_orient"]).backward()

    return work


def our_picture(trainer: dfw.Trainer, side: int, count: int) -> Work:
    """`count` lit views of `side` pixels, and back."""
    cameras = views(side, count)
    wanted = torch.rand(count, side, side, 3, generator=torch.Generator().manual_seed(SEED))

    def work() -> None:
        trainer.geometry.zero_grad()
        seen = trainer.renderer(trainer.geometry, cameras, torch.Generator().manual_seed(SEED))
        assert seen.normal is not None  # it is lit
        (seen.colour * wanted).sum().backward()

    return work


def threestudio_field(folder: Path) -> tuple[Any, Any]:
    """threestudio's geometry and material, with the encoding that runs without CUDA."""
    packages = ("threestudio", "threestudio.models", "threestudio.models.geometry", "threestudio.models.materials")
    with importing(folder, *packages):
        from threestudio.utils import base  # type: ignore[import-not-found]

        base.get_device = lambda: torch.device("cpu")
        from threestudio.models.geometry.implicit_volume import ImplicitVolume  # type: ignore[import-not-found]
        from threestudio.models.materials.diffuse_with_point_light_material import (  # type: ignore[import-not-found]
            DiffuseWithPointLightMaterial,
        )

        encoding = {"otype": "ProgressiveBandFrequency", "n_frequencies": 12}
        geometry = ImplicitVolume({"pos_encoding_config": encoding, "normal_type": "analytic"})
        material = DiffuseWithPointLightMaterial({})
    return geometry, material


def drawn_points() -> tuple[Tensor, Tensor]:
    """Points in the cube, and a gradient for their density and colour."""
    generator = torch.Generator().manual_seed(SEED)
    return 2 * torch.rand(SAMPLES, 3, generator=generator) - 1, torch.rand(SAMPLES, 4, generator=generator)


LIGHT = torch.tensor([3.0, 0.0, 1.0])


def their_samples(geometry: Any, material: Any) -> Work:
    """Density, albedo, normal and shade at the points, and back."""
    points, wanted = drawn_points()
    light = LIGHT.expand_as(points)

    def work() -> None:
        geometry.zero_grad()
        at = points.clone()
        found = geometry(at, output_normal=True)
        colour = material(found["features"], at, found["shading_normal"], light, shading="diffuse")
        (torch.cat([found["density"], colour], -1) * wanted).sum().backward()

    return work


def our_samples(trainer: dfw.Trainer) -> Work:
    """The same of ours. The shade is eq. 7 of DreamFusion, as in theirs."""
    field = trainer.geometry
    assert isinstance(field, dfw.DensityField)
    points, wanted = drawn_points()
    towards = functional.normalize(LIGHT - points, dim=-1)

    def work() -> None:
        field.zero_grad()
        found = field.sample(points, normals=True)
        assert found.normal is not None
        shade = 0.1 + 0.9 * (found.normal * towards).sum(-1, keepdim=True).clamp(min=0)
        (torch.cat([found.density[:, None], found.albedo * shade], -1) * wanted).sum().backward()

    return work


def alternate(theirs: Work, ours: Work, turns: int) -> tuple[list[float], list[float]]:
    """Processor seconds of each, `turns` times; the order changes with every turn, and the first turn is not counted."""
    taken: dict[Work, list[float]] = {theirs: [], ours: []}
    for turn in range(turns + 1):
        for work in (theirs, ours) if turn % 2 else (ours, theirs):
            start = time.process_time()
            work()
            taken[work].append(time.process_time() - start)
    return taken[theirs][1:], taken[ours][1:]


def row(label: str, theirs: list[float], ours: list[float], parts: tuple[int, int], unit: str) -> str:
    """A table row. parts: pixels or samples that one piece of work of each has."""
    scale = {"us": 1e6, "ms": 1e3}[unit]
    a, b = [t / parts[0] * scale for t in theirs], [t / parts[1] * scale for t in ours]
    low, middle, high = statistics.quantiles([x / y for x, y in zip(a, b, strict=True)], n=4)
    return (
        f"| {label} | {statistics.median(a):.3g} {unit} | {statistics.median(b):.3g} {unit} | "
        f"**{middle:.3g}** ({low:.3g} to {high:.3g}) | {len(a)} |"
    )


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stable-dreamfusion", type=Path, help="a checkout of ashawkey/stable-dreamfusion")
    parser.add_argument("--threestudio", type=Path, help="a checkout of threestudio-project/threestudio")
    parser.add_argument("--turns", type=int, default=9, help="pairs of each measurement")
    parser.add_argument("--sides", default="32,64", help="pixels of a view's side")
    parser.add_argument("--steps", type=int, default=STATE, help="steps of our run before the measurement")
    args = parser.parse_args()
    for option, folder, inside in (
        ("--stable-dreamfusion", args.stable_dreamfusion, "nerf/network.py"),
        ("--threestudio", args.threestudio, "threestudio/models/networks.py"),
    ):
        if folder is not None and not (folder / inside).is_file():
            parser.error(f"{option}: {folder} has no {inside}; give the folder of a checkout")
    if args.turns < 2 or not all(side.isdigit() and int(side) >= 8 for side in args.sides.split(",")):
        parser.error("--turns must be 2 or more, and --sides numbers of 8 or more, as in 32,64")
    if args.stable_dreamfusion is None and args.threestudio is None:
        parser.error("give --stable-dreamfusion FOLDER, --threestudio FOLDER, or both")
    warnings.filterwarnings("ignore", category=FutureWarning)  # theirs, about deprecated names of torch
    torch.manual_seed(SEED)  # their constructors take no generator
    lit = {"shading": {"mode": "lambertian", "start": 0, "probability": 1}}
    with dfw.trainer(CONFIG, device="cpu", cameras={"width": 32}, renderer=lit, trainer={"steps": args.steps}) as trainer:
        for _ in trainer:
            pass
        print(f"{torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f} of {os.cpu_count()} cores\n")
        head = "theirs | ours | theirs / ours | turns |\n|---|---|---|---|---|"
        if args.stable_dreamfusion is not None:
            model = dreamfusion_vanilla(args.stable_dreamfusion)
            print(f"| a pixel, lit, and back: stable-dreamfusion `vanilla` | {head}", flush=True)
            for side in map(int, args.sides.split(",")):
                taken = alternate(their_picture(model, side), our_picture(trainer, side, 4), args.turns)
                print(row(f"{side}x{side}; theirs 1 view, ours 4", *taken, (side * side, 4 * side * side), "us"), flush=True)
        if args.threestudio is not None:
            theirs = their_samples(*threestudio_field(args.threestudio))
            taken = alternate(theirs, our_samples(trainer), 3 * args.turns)
            print(f"\n| a sample, lit, and back: threestudio `implicit-volume` | {head}")
            print(row(f"{SAMPLES} points in the cube", *taken, (SAMPLES, SAMPLES), "us"))
        print(f"\nload {os.getloadavg()[0]:.1f} at the end")


if __name__ == "__main__":
    main()
