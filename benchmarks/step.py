"""Where one step's time goes, and how it compares with the guidance's own network.

    python benchmarks/step.py                     # the default config, embedded prior
    python benchmarks/step.py --sd                # a U-Net of Stable Diffusion 2.1's size, random weights; needs a CUDA device

Trains a while first, so that the occupancy grid is as in a real run; then takes the median over the steps. The network's own
time is measured in the same process on the same shapes: VAE encoder forward and backward, and one U-Net call for both
halves of classifier-free guidance.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import random_sd
import torch

from dfw.build import compose
from dfw.cameras import sample_cameras
from dfw.config import load_config
from dfw.contracts import PromptBatch
from dfw.interfaces import Guidance
from dfw.registry import registry
from dfw.runner import make_trainer
from dfw.schedules import Progress
from dfw.trainer import StepRecord, Trainer

ROOT = Path(__file__).parents[1]


def network_seconds(guidance: Guidance, prompt: PromptBatch, batch: int, device: torch.device, repeats: int) -> float:
    """Median seconds of what SDS asks of the model in one step: encode with gradients, predict both halves, go back."""
    generator = torch.Generator(device).manual_seed(0)
    side = guidance.resolution
    image = torch.rand(batch, 3, side, side, device=device, generator=generator).requires_grad_()
    timestep = torch.full((batch,), len(guidance.schedule) // 2, device=device)

    def once() -> None:
        encoded = guidance.encode_image(image)
        with torch.no_grad():
            noise = torch.randn(encoded.shape, device=device, generator=generator)
            noisy = guidance.add_noise(encoded, noise, timestep)
            predicted = guidance.predict_noise_guided(noisy, timestep, prompt.positive, prompt.negative, 10.0)
        torch.autograd.grad((encoded * predicted).sum(), image)

    return median_seconds(once, device, repeats)


def median_seconds(call: Callable[[], None], device: torch.device, repeats: int) -> float:
    """Median wall time of `call`, the device idle before and after each."""
    taken = []
    for _ in range(repeats + 2):
        if device.type == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken[2:])


def measure(trainer: Trainer, warmup: int, repeats: int) -> tuple[dict[str, float], float]:
    """Median seconds per part of a step, and per step."""
    records: list[StepRecord] = []
    trainer.train(lambda: trainer.step >= warmup, records.append)
    records.clear()
    start = time.perf_counter()
    trainer.train(lambda: trainer.step >= warmup + repeats, records.append)
    wall = (time.perf_counter() - start) / repeats
    parts = {part: statistics.median(r.seconds[part] for r in records) for part in records[0].seconds}
    return parts, wall


def main() -> None:
    """Prints one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default=str(ROOT / "configs" / "dreamfusion.yaml"))
    parser.add_argument("--warmup", type=int, default=150)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--sd", action="store_true", help="a U-Net of Stable Diffusion 2.1's size; needs a CUDA device")
    parser.add_argument("overrides", nargs="*")
    args = parser.parse_args()
    if args.sd and not torch.cuda.is_available():
        print("skipped: a U-Net of Stable Diffusion's size needs a CUDA device, and there is none here")
        return
    with tempfile.TemporaryDirectory() as folder:
        size = [f"guidance.model={random_sd.write(Path(folder))}", "device=cuda"] if args.sd else []
        compare(args, [*args.overrides, *size])


def compare(args: argparse.Namespace, overrides: list[str]) -> None:
    """Measures a run's step against its network alone, and prints the table."""
    config = load_config(args.config, [*overrides, f"trainer.steps={args.warmup + args.repeats}"])
    trainer = make_trainer(config, compose(config, registry()).build())
    parts, wall = measure(trainer, args.warmup, args.repeats)
    assert trainer.guidance is not None
    assert trainer.prompts is not None
    cameras = sample_cameras(config.cameras, Progress(trainer.step - 1, trainer.step), trainer.streams["cameras"])
    network = network_seconds(
        trainer.guidance, trainer.prompts.batch(cameras), config.cameras.batch_size, trainer.device, args.repeats
    )
    size = f"{config.cameras.batch_size} views of {cameras.width}x{cameras.height}"
    print(f"{size}, {trainer.device}, {torch.get_num_threads()} threads")
    print("| part | ms |\n|---|---|")
    for part, seconds in parts.items():
        print(f"| {part} | {1000 * seconds:.1f} |")
    print(f"| step (wall) | {1000 * wall:.1f} |")
    print(f"| guidance network alone (encode, U-Net, encoder's backward) | {1000 * network:.1f} |")
    print(f"step / network = {wall / network:.2f}")


if __name__ == "__main__":
    main()
