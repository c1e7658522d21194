"""Volume renderers to try, new and trained."""

import torch

from dfw import Progress
from dfw_renderers.volume import Volume


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def volume(training: bool = False, **options) -> Volume:
    options = {"background": {"type": "solid", "colour": (0.0, 0.0, 1.0)}} | options
    renderer = Volume(Volume.Config.model_validate(options))
    renderer.initialise(generator())
    return renderer.train(training)


def trained(field, steps: int = 20, **options) -> Volume:
    renderer, g = volume(True, **options), generator(5)
    for step in range(steps):
        renderer.begin_step(field, Progress(step, 100), g)
    return renderer
