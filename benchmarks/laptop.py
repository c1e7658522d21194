"""How long `dreamfusion-laptop` takes on this CPU, and how much memory, with random weights of exactly the models' sizes.

    python benchmarks/laptop.py                               # BK-SDM Tiny, Small, Base, Stable Diffusion 1.5, SD-Turbo
    python benchmarks/laptop.py --models bk-tiny --vae        # with the VAE in place of the small autoencoder

Each model is a process of its own. It takes a few steps of the configured run at each size of its views, and multiplies. Random
weights take as long as trained ones; what the scene looks like means nothing. The peak is the kernel's VmHWM, with the imports.
On a busy machine processor time, the sum of all threads, is more reliable than wall time.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from functools import partial
from pathlib import Path

import torch
from memory import peak
from random_sd import SMALL, write_small
from step import cost_of, network_call, reached, widths_of

from dfw.compose import compose
from dfw.config.load import load_config
from dfw.config.schedules import Progress
from dfw.runs.start import make_trainer

CONFIG = "dreamfusion-laptop"


def measure(name: str, vae: bool, repeats: int) -> str:
    """Returns a row of the table."""
    with tempfile.TemporaryDirectory() as place:
        folder = write_small(Path(place), name)
        autoencoder = "null" if vae else str(folder / "autoencoder")
        scale = ["losses.sds.guidance_scale=1"] if name == "sd-turbo" else []
        overrides = [f"guidance.model={folder}", f"guidance.autoencoder={autoencoder}", "device=cpu", *scale]
        whole = compose(load_config(CONFIG, overrides))
        shares, steps = Counter(widths_of(whole)), whole.config.trainer.steps
        short = load_config(CONFIG, [*overrides, f"trainer.steps={5 * repeats}"])
        composition = compose(short)
        trainer, widths = make_trainer(short, composition.build()), widths_of(composition)
    (guidance,) = trainer.guidances.values()
    (prompts,) = trainer.prompts.values()
    prompt = prompts.batch(trainer.sample("cameras", Progress(0, len(widths))).cameras)
    call = network_call(guidance, prompt, 1, trainer.device)
    call()
    network = [cost_of(call, trainer.device) for _ in range(repeats)]
    wall = processor = 0.0
    for width in dict.fromkeys(widths):
        end = len(widths) - widths[::-1].index(width)
        trainer.train(partial(reached, trainer, end - min(repeats, widths.count(width))), lambda record: None)
        costs = [
            cost_of(partial(trainer.train, partial(reached, trainer, number), lambda record: None), trainer.device)
            for number in range(trainer.step + 1, end + 1)
        ]
        wall += shares[width] * statistics.mean(one.wall for one in costs)
        processor += shares[width] * statistics.mean(one.processor for one in costs)
    weights = sum(parameter.numel() for parameter in guidance.unet.parameters()) / 1e6
    row = (
        name,
        f"{weights:.0f} M",
        f"{statistics.median(one.wall for one in network):.2f} ({statistics.median(one.processor for one in network):.2f})",
        f"{wall / steps:.2f} ({processor / steps:.2f})",
        f"{peak() / 1000:.1f} GB",
        f"{wall / 60:.0f} min ({processor / 60:.0f})",
    )
    return f"| {' | '.join(row)} |"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=list(SMALL), default=list(SMALL))
    parser.add_argument("--vae", action="store_true", help="the VAE in place of the small autoencoder")
    parser.add_argument("--repeats", type=int, default=5, help="steps that are measured at each size of the views")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.alone:
        print(measure(asked.models[0], asked.vae, asked.repeats))
        return
    encoder = "VAE" if asked.vae else "small autoencoder"
    print(f"{torch.get_num_threads()} threads; seconds, and in brackets processor time; {encoder}")
    print("| model | weights of its U-Net | model alone | step | peak memory | the run's steps |\n|---|---|---|---|---|---|")
    for name in asked.models:
        own = [sys.executable, __file__, "--alone", "--models", name, "--repeats", str(asked.repeats), *["--vae"] * asked.vae]
        print(subprocess.run(own, check=True, capture_output=True, text=True).stdout.strip().splitlines()[-1], flush=True)
    print(f"load of the machine at the end: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
