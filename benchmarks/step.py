"""Measures where a step's time goes, and compares it with the guidance's own network.

    python benchmarks/step.py                     # the default config, embedded prior
    python benchmarks/step.py --sd                # a U-Net of Stable Diffusion 2.1's size, random weights; needs a CUDA device

It goes through the configured run in fewer steps, so that the occupancy grid, the lights and the size of the views are as in a
real run. It measures the last steps at each size. Right after them, in the same process, it measures the network alone: the VAE
encoder forward and backward, and one U-Net call for both halves of classifier-free guidance, on the same shapes. Small views are
enlarged before the encoder, so the network costs the same at every size. The headline is the largest size. The average of the
whole run weighs each size by its share of the configured steps. On a busy machine processor time, the sum of all threads, is more
reliable than wall time.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import random_sd
import torch

from dfw.compose import Composition, compose
from dfw.config.load import load_config
from dfw.config.schedules import Progress
from dfw.interfaces.data import PromptBatch
from dfw.interfaces.guidance import Guidance
from dfw.plugins.registry import registry
from dfw.runs.runner import make_trainer
from dfw.runs.trainer import StepRecord, Trainer

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Cost:
    """Seconds of wall time, and of processor time in all threads."""

    wall: float
    processor: float


@dataclass(frozen=True)
class Phase:
    """The steps of a run whose views have the same width."""

    views: int
    """Views a step."""
    width: int
    """Pixels of a view."""
    share: float
    """Share of the run's steps."""
    parts: dict[str, float]
    """Part of a step -> median seconds."""
    step: Cost
    """Mean cost of a step."""
    network: Cost
    """Median cost of the network alone."""


def network_cost(guidance: Guidance, prompt: PromptBatch, batch: int, device: torch.device, repeats: int) -> Cost:
    """Returns the median cost of the model in a step of SDS: encode with gradients, predict both halves, go back."""
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

    return median_cost(once, device, repeats)


def median_cost(call: Callable[[], None], device: torch.device, repeats: int) -> Cost:
    """Returns the median cost of `call`. The device is idle before and after each call."""
    taken = []
    for _ in range(repeats + 2):
        if device.type == "cuda":
            torch.cuda.synchronize()
        start, busy = time.perf_counter(), time.process_time()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize()
        taken.append((time.perf_counter() - start, time.process_time() - busy))
    return Cost(*(statistics.median(values) for values in zip(*taken[2:], strict=True)))


def widths_of(composition: Composition) -> list[int]:
    """Returns the width of the views at each step of the run, as its cameras give them."""
    cameras, generator, steps = composition.cameras()["cameras"], torch.Generator(), composition.config.trainer.steps
    return [cameras.sample(Progress(step, steps), generator).cameras.width for step in range(steps)]


def measure(trainer: Trainer, end: int, repeats: int) -> tuple[dict[str, float], Cost]:
    """Returns the median seconds of each part, and the mean cost of a step, over the last `repeats` steps before `end`."""
    records: list[StepRecord] = []
    trainer.train(lambda: trainer.step >= end - repeats, records.append)
    records.clear()
    start, busy = time.perf_counter(), time.process_time()
    trainer.train(lambda: trainer.step >= end, records.append)
    cost = Cost((time.perf_counter() - start) / len(records), (time.process_time() - busy) / len(records))
    parts = {part: statistics.median(r.seconds[part] for r in records) for part in records[0].seconds}
    return parts, cost


def main() -> None:
    """Prints one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default=str(ROOT / "configs" / "dreamfusion.yaml"))
    parser.add_argument("--steps", type=int, default=180, help="steps that stand for the whole run")
    parser.add_argument("--repeats", type=int, default=30, help="steps that are measured at each size of the views")
    parser.add_argument("--sd", action="store_true", help="a U-Net of Stable Diffusion 2.1's size; needs a CUDA device")
    parser.add_argument("overrides", nargs="*")
    args = parser.parse_args()
    if args.sd and not torch.cuda.is_available():
        print("skipped: a U-Net of Stable Diffusion's size needs a CUDA device, and there is none here")
        return
    with tempfile.TemporaryDirectory() as folder:
        size = [f"guidance.model={random_sd.write(Path(folder))}", "device=cuda"] if args.sd else []
        overrides = [*args.overrides, *size]
        shares = Counter(widths_of(compose(load_config(args.config, overrides), registry())))
        config = load_config(args.config, [*overrides, f"trainer.steps={args.steps}"])
        composition = compose(config, registry())
        trainer, widths = make_trainer(config, composition.build()), widths_of(composition)
        phases = [
            measure_phase(trainer, widths, width, shares[width] / shares.total(), args.repeats) for width in dict.fromkeys(widths)
        ]
    print_table(trainer, phases)


def measure_phase(trainer: Trainer, widths: list[int], width: int, share: float, repeats: int) -> Phase:
    """Trains to the last step with views of `width` pixels. Measures the last `repeats` steps, and the network alone."""
    end = len(widths) - widths[::-1].index(width)
    parts, step = measure(trainer, end, min(repeats, widths.count(width)))
    (name,) = trainer.guidances
    cameras = trainer.sample("cameras", Progress(end - 1, len(widths))).cameras
    prompt = trainer.prompts[name].batch(cameras)
    network = network_cost(trainer.guidances[name], prompt, len(cameras), trainer.device, repeats)
    return Phase(len(cameras), width, share, parts, step, network)


def print_table(trainer: Trainer, phases: list[Phase]) -> None:
    """Prints one column for each size, then the ratios of each size and of the whole run."""

    def row(name: str, values: Iterable[float]) -> None:
        print(f"| {name} | " + " | ".join(f"{1000 * value:.1f}" for value in values) + " |")

    print(f"{phases[-1].views} views a step, {trainer.device}, {torch.get_num_threads()} threads; milliseconds")
    print("| part | " + " | ".join(f"{p.width}x{p.width}, {p.share:.0%} of the steps" for p in phases) + " |")
    print("|---" * (len(phases) + 1) + "|")
    for part in phases[0].parts:
        row(part, (p.parts[part] for p in phases))
    row("step, wall time", (p.step.wall for p in phases))
    row("guidance network alone (encode, U-Net, encoder's backward), wall time", (p.network.wall for p in phases))
    row("step, processor time", (p.step.processor for p in phases))
    row("network alone, processor time", (p.network.processor for p in phases))
    largest = max(phases, key=lambda p: p.width)
    for phase in sorted(phases, key=lambda p: -p.width):
        headline = " (headline)" if phase is largest else ""
        print(f"{phase.width}x{phase.width}: step / network = {ratio([phase])}{headline}")
    print(f"whole run, each size by its share of the steps: step / network = {ratio(phases)}")


def ratio(phases: list[Phase]) -> str:
    """Returns step over network, averaged over the phases by their share of the run, in wall and processor time."""

    def of(cost: Callable[[Cost], float]) -> float:
        return sum(p.share * cost(p.step) for p in phases) / sum(p.share * cost(p.network) for p in phases)

    return f"{of(lambda c: c.wall):.2f} (processor time {of(lambda c: c.processor):.2f})"


if __name__ == "__main__":
    main()
