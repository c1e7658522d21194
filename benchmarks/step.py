"""Measures where a step's time goes, and compares it with the guidance's own network.

    python benchmarks/step.py                     # the default config, embedded prior
    python benchmarks/step.py --sd                # a U-Net of Stable Diffusion 2.1's size, random weights; needs a CUDA device

It goes through the configured run in fewer steps, so that the occupancy grid, the lights and the size of the views are as in a
real run. It measures the last steps at each size. After each of these steps, in the same process, it measures the network
alone: the VAE encoder forward and backward, and one U-Net call for both halves of classifier-free guidance, on the same shapes.
If the network is not in fp32, it measures the network in fp32 as well, the price of a step before `guidance.precision: auto`
took bf16. Small views are enlarged before the encoder, so the network costs the same at every size. The headline is the largest
size. The average of the whole run weighs each size by its share of the configured steps. On a busy machine processor time, the
sum of all threads, is more reliable than wall time.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import random_sd
import torch

from dfw.compose import Composition, compose
from dfw.config.load import load_config
from dfw.config.schedules import Progress
from dfw.interfaces.data import PromptBatch
from dfw.interfaces.guidance import Guidance
from dfw.plugins.registry import registry
from dfw.runs.start import make_trainer
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
    steps: list[Cost]
    """Each measured step."""
    networks: dict[str, list[Cost]]
    """Precision -> the cost of the network alone, after each measured step. The step's own precision comes first."""

    @property
    def step(self) -> Cost:
        """Mean cost of a step."""
        return Cost(statistics.mean(one.wall for one in self.steps), statistics.mean(one.processor for one in self.steps))

    def network(self, name: str) -> Cost:
        """Median cost of the network alone."""
        costs = self.networks[name]
        return Cost(statistics.median(one.wall for one in costs), statistics.median(one.processor for one in costs))


def network_call(guidance: Guidance, prompt: PromptBatch, batch: int, device: torch.device) -> Callable[[], None]:
    """Returns the model's part of a step of SDS: encode with gradients, predict both halves, go back."""
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

    return once


def cost_of(call: Callable[[], object], device: torch.device) -> Cost:
    """Returns what `call` costs. The device is idle before and after it."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    start, busy = time.perf_counter(), time.process_time()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return Cost(time.perf_counter() - start, time.process_time() - busy)


def widths_of(composition: Composition) -> list[int]:
    """Returns the width of the views at each step of the run, as its cameras give them."""
    cameras, generator, steps = composition.cameras()["cameras"], torch.Generator(), composition.config.trainer.steps
    return [cameras.sample(Progress(step, steps), generator).cameras.width for step in range(steps)]


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
        models = models_of(trainer, args.config, overrides)
        phases = [
            measure_phase(trainer, models, widths, width, shares[width] / shares.total(), args.repeats)
            for width in dict.fromkeys(widths)
        ]
    print_table(trainer, phases)


def models_of(trainer: Trainer, config: str, overrides: list[str]) -> dict[str, Guidance]:
    """Returns the run's guidance by its precision and, on a CPU where that is not fp32, the same in fp32."""
    (guidance,) = trainer.guidances.values()
    own = str(guidance.facts().get("precision", "as it is"))
    if trainer.device.type != "cpu" or own in ("fp32", "as it is"):
        return {own: guidance}
    (plain,) = compose(load_config(config, [*overrides, "guidance.precision=fp32"]), registry()).guidances().values()
    return {own: guidance, "fp32": plain}


def measure_phase(
    trainer: Trainer, models: dict[str, Guidance], widths: list[int], width: int, share: float, repeats: int
) -> Phase:
    """Trains to the last step with views of `width` pixels. Measures the last `repeats` steps, and the networks after each."""
    end, repeats = len(widths) - widths[::-1].index(width), min(repeats, widths.count(width))
    trainer.train(lambda: trainer.step >= end - repeats, lambda record: None)
    (prompts,) = trainer.prompts.values()
    cameras = trainer.sample("cameras", Progress(end - 1, len(widths))).cameras
    prompt = prompts.batch(cameras)
    calls = {name: network_call(model, prompt, len(cameras), trainer.device) for name, model in models.items()}
    for call in (*calls.values(), *calls.values()):
        call()
    records: list[StepRecord] = []
    steps: list[Cost] = []
    networks: dict[str, list[Cost]] = {name: [] for name in calls}
    for number in range(end - repeats + 1, end + 1):
        steps.append(cost_of(partial(trainer.train, partial(reached, trainer, number), records.append), trainer.device))
        for name, call in calls.items():
            networks[name].append(cost_of(call, trainer.device))
    parts = {part: statistics.median(r.seconds[part] for r in records) for part in records[0].seconds}
    return Phase(len(cameras), width, share, parts, steps, networks)


def reached(trainer: Trainer, step: int) -> bool:
    """Returns whether the run has taken `step` steps."""
    return trainer.step >= step


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
    row("step, processor time", (p.step.processor for p in phases))
    for name in phases[0].networks:
        row(f"network alone in {name} (encode, U-Net, encoder's backward), wall time", (p.network(name).wall for p in phases))
        row(f"network alone in {name}, processor time", (p.network(name).processor for p in phases))
    largest = max(phases, key=lambda p: p.width)
    for name in phases[0].networks:
        for phase in sorted(phases, key=lambda p: -p.width):
            headline = " (headline)" if phase is largest else ""
            print(
                f"{phase.width}x{phase.width}: step / network in {name} = {ratio([phase], name)}; {pairs(phase, name)}{headline}"
            )
        print(f"whole run, each size by its share of the steps: step / network in {name} = {ratio(phases, name)}")
    print(f"load of the machine at the end: {os.getloadavg()[0]:.1f}")


def ratio(phases: list[Phase], name: str) -> str:
    """Returns step over network, averaged over the phases by their share of the run, in wall and processor time."""

    def of(cost: Callable[[Cost], float]) -> float:
        return sum(p.share * cost(p.step) for p in phases) / sum(p.share * cost(p.network(name)) for p in phases)

    return f"{of(lambda c: c.wall):.2f} (processor time {of(lambda c: c.processor):.2f})"


def pairs(phase: Phase, name: str) -> str:
    """Returns median and quartiles of step over network in processor time, each step with the network right after it."""
    ratios = [one.processor / two.processor for one, two in zip(phase.steps, phase.networks[name], strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return f"pairs {middle:.2f} ({low:.2f} to {high:.2f})"


if __name__ == "__main__":
    main()
