"""Checks that cost too much for every step. Those for NaN and infinity are made in the first one and at every preview.

A NaN in the first step cannot come from training, so the error names the component that produced it. In all other steps the
watchdog checks the step's numbers.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from dfw.errors import DivergedError, PluginError
from dfw.interfaces.checks import broken, check_field
from dfw.interfaces.component import Component, name_of
from dfw.interfaces.data import RenderOutput
from dfw.interfaces.geometry import DensityField, Geometry
from dfw.interfaces.guidance import Guidance
from dfw.interfaces.loss import LossInputs
from dfw.plugins.fence import end_copy
from dfw.plugins.interrupts import Interrupts
from dfw.plugins.surroundings import kept
from dfw.runs.global_random import changed, global_states

log = logging.getLogger("dfw.runs")

_UNTOUCHED = "before the first update, so training did not cause it; check its options and its code, not the learning rate"


@contextmanager
def first_look(component: Component) -> Iterator[None]:
    """Watches what `component` does to the process in the first step, and puts it back.

    Raises PluginError for a change of torch's settings: the next component would work with it, and a resumed run without. Warns
    of other changes, and of draws from the global random streams.
    """
    who, process, changes, before = name_of(component), os.getpid(), list[str](), global_states()
    interrupts = Interrupts()
    with kept(changes.append), interrupts:
        try:
            yield
        finally:
            end_copy(process, who)
    for change in (*changes, *interrupts.changed):
        if "torch" in change:
            raise PluginError(f"{who} changed {change}; change it for its own work only, in a `with` block that puts it back")
        log.warning("%s changed %s; put back", who, change)
    drawn = changed(before, global_states())
    if drawn:
        log.warning(
            "%s draws from the global random numbers of %s, which no checkpoint holds: a resumed run will have other bits; "
            "draw from the generator that it is given",
            who,
            " and ".join(drawn),
        )


def look_at_geometry(geometry: Geometry, device: torch.device) -> None:
    """Checks a density field at a few points: shapes, gradients, finite values, no negative density. Other geometries pass.

    Raises ContractError, and DivergedError if a value is not finite.
    """
    if not isinstance(geometry, DensityField):
        return
    radius: object = geometry.radius
    if not isinstance(radius, int | float) or not 0 < radius < math.inf:
        raise broken(geometry, f"radius is {radius!r}, not a number of world units above 0")
    steps = torch.linspace(-0.5, 0.5, 6, device=device).reshape(2, 3, 1) * float(radius)
    points = steps * torch.tensor([1.0, -0.5, 0.25], device=device)
    found = geometry.sample(points)
    check_field(geometry, points, found)
    _finite(geometry, {"density": found.density, "albedo": found.albedo})
    lowest = float(found.density.detach().min())
    if lowest < 0:
        raise broken(geometry, f"density is {lowest:g} somewhere; it must be 0 or more everywhere")


def look_at_render(renderer: Component, render: RenderOutput, step: int) -> None:
    """Raises DivergedError if pixels of a picture made at `step` are not finite."""
    _finite(renderer, {"colour": render.colour, "opacity": render.opacity, "depth": render.depth}, step)


def look_at_losses(losses: Mapping[str, tuple[Component, Tensor, LossInputs]]) -> None:
    """Raises DivergedError if a loss is not finite. Names the guidance if the numbers came from it."""
    for loss, value, inputs in losses.values():
        if not bool(torch.isfinite(value.detach())):
            if inputs.guidance is not None:
                _look_at_guidance(inputs.guidance, inputs)
            _finite(loss, {"the loss": value})


def _look_at_guidance(guidance: Guidance, inputs: LossInputs) -> None:
    with torch.no_grad():
        encoded = inputs.encoded.detach()
        if not inputs.latent:
            _finite(guidance, {"encode_image's result": encoded})
        if inputs.prompt is None:
            return
        for timestep in range(0, len(guidance.schedule), max(1, len(guidance.schedule) // 4)):
            at = torch.full((len(encoded),), timestep, device=encoded.device)
            noisy = guidance.add_noise(encoded, torch.ones_like(encoded), at)
            _finite(guidance, {"predict's result": guidance.predict(noisy, at, inputs.prompt.positive)})


def _finite(component: Component, tensors: Mapping[str, Tensor], step: int = 0) -> None:
    for what, tensor in tensors.items():
        values = tensor.detach()
        wrong = int((~torch.isfinite(values)).sum())
        if wrong:
            share = "" if values.dim() == 0 else f" in {wrong} of {values.numel()} places"
            shown = values.flatten()[~torch.isfinite(values.flatten())][0].item()
            when = f"at step {step}; try a lower optimizer.lr, or an earlier checkpoint" if step else _UNTOUCHED
            raise DivergedError(f"{name_of(component)}: {what} is {shown}{share} {when}")
