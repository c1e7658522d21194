"""What each fast path of the built-in plugins gains over its twin, on a CPU.

    OMP_NUM_THREADS=1 python benchmarks/fast_paths.py                 # about six minutes

Trains the default run for four fifths of its steps, to lit views of 48x48 pixels. Then it takes the same 16 steps again and
again, with the fast path and with its twin in turn; 16 steps hold one update of the occupancy grid. The rest of a step is the
step without the diffusion model, whose share is measured within the same steps. Alone is the path itself, on a step's points or
rays.

Prints medians of the ratios of neighbours, twin over fast path, and their quartiles. All times are processor time, which other
programs on the machine disturb less than the clock on the wall.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

import dfw
from dfw import Guidance, Progress, Trainer
from dfw_geometry.fast import field, hash_grid, hash_grid_vectors, networks
from dfw_geometry.nerf import NeRF
from dfw_renderers import marching
from dfw_renderers.fast import marching as fast_marching
from dfw_renderers.volume import Volume

CONFIG = Path(__file__).parents[1] / "configs" / "dreamfusion.yaml"
STEPS = 16  # `occupancy.update_every`: so many steps hold one update of the grid
PATHS: dict[str, list[Any]] = {
    "the hash grid's Warp kernels": [hash_grid],
    "the hash grid on vector registers": [hash_grid_vectors],
    "networks with one hidden layer": [networks],
    "hash grid and networks in one": [field],
    "marching ray by ray": [fast_marching],
    "all together": [hash_grid, networks, field, fast_marching],
}


class Model:
    """Sums up the processor time that the guidance's model takes: encoding, prediction, and the way back through the encoder."""

    def __init__(self, guidance: Guidance) -> None:
        self.seconds, self._depth, self._began = 0.0, 0, 0.0
        self._encode_image = guidance.encode_image
        replaced = {name: self._timed(getattr(guidance, name)) for name in ("predict_noise", "predict_noise_guided")}
        for name, call in {"encode_image": self._encode, **replaced}.items():
            setattr(guidance, name, call)

    def _timed(self, call: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def timed(*arguments: Any, **named: Any) -> Tensor:
            self._begin()
            out = call(*arguments, **named)
            self._end()
            return out

        return timed

    def _encode(self, image: Tensor) -> Tensor:
        image = image.view_as(image)  # a tensor of its own, whose gradient comes when the encoder is done
        out = self._timed(self._encode_image)(image)
        out.register_hook(lambda _: self._begin())
        image.register_hook(lambda _: self._end())
        return out

    def _begin(self) -> None:
        self._began = self._began if self._depth else time.process_time()
        self._depth += 1

    def _end(self) -> None:
        self._depth -= 1
        self.seconds += 0.0 if self._depth else time.process_time() - self._began


@contextmanager
def twins(modules: Sequence[ModuleType]) -> Iterator[None]:
    """Uses the twins of these fast paths."""
    for module in modules:
        module.enabled = False  # type: ignore[attr-defined]
    try:
        yield
    finally:
        for module in modules:
            module.enabled = True  # type: ignore[attr-defined]


def steps(trainer: Trainer, model: Model, checkpoint: Path) -> list[float]:
    """Takes the steps after the checkpoint; seconds of the rest of a step, and of the whole."""
    trainer.restore(checkpoint)
    model.seconds, start = 0.0, time.process_time()
    for _ in range(STEPS):
        trainer.take_step()
    trainer.flush(lambda record: None)
    whole = time.process_time() - start
    return [(whole - model.seconds) / STEPS, whole / STEPS]


def alone(trainer: Trainer) -> dict[ModuleType, Callable[[], object]]:
    """What a step asks of the hash grid, of the field and of marching, with the way back."""
    geometry, renderer = trainer.geometry, trainer.renderer
    assert isinstance(geometry, NeRF)
    assert isinstance(renderer, Volume)
    cameras = trainer.sample("cameras", Progress(trainer.step, trainer.config.trainer.steps)).cameras
    rays = cameras.rays()
    origin, direction = rays.origin.reshape(-1, 3), rays.direction.reshape(-1, 3)
    length, stop = renderer.step_length(geometry), renderer.config.early_stop
    occupancy = renderer.grid.occupancy(geometry.radius)

    def march() -> marching.Samples:
        call = fast_marching.march if fast_marching.serves(origin) else marching.march
        return call(origin, direction, occupancy, length, 0.5, stop)

    found = march()
    points = (origin[found.ray] + found.distance[:, None] * direction[found.ray] + geometry.radius) / (2 * geometry.radius)
    upstream = torch.randn(len(points), geometry.encoding.width, generator=torch.Generator().manual_seed(0))
    print(f"{len(cameras)} views of {cameras.width}x{cameras.height}, {len(points)} points, {torch.get_num_threads()} threads\n")

    def encode() -> None:
        values, slope = geometry.encoding(points), geometry.encoding.pullback(points, upstream)
        torch.autograd.grad((values * upstream).sum() + slope.square().sum(), geometry.encoding.grid_parameters())

    def ask() -> None:
        found = geometry.sample(2 * geometry.radius * points - geometry.radius, normals=True)
        assert found.normal is not None
        torch.autograd.grad(found.density.sum() + found.albedo.sum() + found.normal.square().sum(), list(geometry.parameters()))

    return {hash_grid: encode, hash_grid_vectors: ask, networks: ask, field: ask, fast_marching: march}


def seconds(call: Callable[[], object]) -> list[float]:
    """Of one call, as a list of one."""
    start = time.process_time()
    call()
    return [time.process_time() - start]


def ratios(measure: Callable[[], list[float]], modules: Sequence[ModuleType], repeats: int) -> list[str]:
    """Of each figure: the median of twin over fast path, and the quartiles. The order changes with each pair."""
    found: list[list[float]] = []
    for turn in range(repeats + 1):
        pair: dict[bool, list[float]] = {}
        for fast in (True, False) if turn % 2 else (False, True):
            with twins([] if fast else modules):
                pair[fast] = measure()
        found.append([slow / quick for slow, quick in zip(pair[False], pair[True], strict=True)])
    columns = zip(*found[1:], strict=True)  # the first pair compiles kernels and fills caches
    return ["{1:.2f} ({0:.2f} to {2:.2f})".format(*statistics.quantiles(column, n=4)) for column in columns]


def main() -> None:
    """Prints one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9, help="pairs of the same 16 steps")
    parser.add_argument("overrides", nargs="*", help="config overrides, as for dfw run")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, dfw.trainer(CONFIG, *args.overrides) as trainer:
        trainer.train(lambda: trainer.step >= trainer.config.trainer.steps * 4 // 5, lambda record: None)
        model = Model(*trainer.guidances.values())
        checkpoint = trainer.save(Path(folder))
        calls = alone(trainer)
        print("| fast path | alone | rest of a step | whole step |\n|---|---|---|---|")
        for name, modules in PATHS.items():
            asked = [] if len(modules) > 1 else [calls[modules[0]]]
            own = [ratios(lambda call=call: seconds(call), modules, 3 * args.repeats)[0] for call in asked] or [""]
            cells = own + ratios(lambda: steps(trainer, model, checkpoint), modules, args.repeats)
            print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
