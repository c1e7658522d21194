"""What the numbers of metrics.jsonl are called in a report. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

LOSSES, STEP, SCHEDULES, COMPONENTS = "Losses", "The step", "Schedules", "Numbers of components"
GROUPS = (LOSSES, STEP, SCHEDULES, COMPONENTS)
"""Headings of the charts, in order."""
SCHEDULE = "schedules."
"""Prefix of values that a ramp in the configuration gave."""


@dataclass(frozen=True)
class Meaning:
    """How a number is shown."""

    title: str
    """Heading of its chart."""
    axis: str
    """Title of the vertical axis: the unit, or what is counted."""
    note: str = ""
    """What the number means, in a sentence."""


KNOWN = {
    "loss": Meaning("Loss", "weighted sum", "The sum of all losses, each times its weight, in this step."),
    "opacity": Meaning(
        "Opacity", "share of light, 0 to 1", "How much of the views the object covers, in the mean over all pixels."
    ),
    "grad_norm": Meaning("Gradient norm", "length", "The length of the gradient of all parameters together, before clipping."),
    "peak_memory": Meaning(
        "Peak memory", "MB", "The largest memory so far: of tensors on a CUDA device, else of the process; 1 MB is 10^6 bytes."
    ),
    "network_calls": Meaning(
        "Network calls", "pictures", "How many pictures the networks of the guidance were given in this step."
    ),
    "lr": Meaning("Learning rate", "step size", "The learning rate of the parameters that have none of their own."),
}


def group_of(name: str) -> str:
    """Returns the heading under which the number `name` stands."""
    if name.startswith(SCHEDULE):
        return SCHEDULES
    if name in KNOWN:
        return LOSSES if name == "loss" else STEP
    return LOSSES if name.startswith("losses.") and name.count(".") == 1 else COMPONENTS


def meaning_of(name: str) -> Meaning:
    """Returns how the number `name` is shown. A number that a component logged keeps its name, which says where it comes from."""
    if name in KNOWN:
        return KNOWN[name]
    if name.startswith(SCHEDULE):
        return Meaning(name.removeprefix(SCHEDULE), "value", "")
    if group_of(name) == LOSSES:
        return Meaning(f"Loss {name.removeprefix('losses.')}", "before its weight")
    return Meaning(name, "value")
