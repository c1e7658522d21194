"""Every run that the shipped configurations describe: those of one run, and each stage of those with several."""

from __future__ import annotations

from dfw.config.load import load_stages, shipped_names
from dfw.config.settings import RunConfig

TEAPOT = ["start.mesh=teapot.glb", "prompt=a pink teapot"]
SKETCH = ["losses.shape.mesh=boxes.glb"]
NEEDS = {
    **dict.fromkeys(("paint", "paint-controlnet", "paint-sd"), TEAPOT),
    **dict.fromkeys(("sketch-shape", "sketch-shape-sd"), SKETCH),
    "sketch": ["losses.sketch.mesh=boxes.glb"],
    "sketch-controlnet": ["stages.shape.losses.sketch.mesh=boxes.glb"],
    "zero123": ["image=teddy.png"],
    "zero123-sd": ["image=teddy.png"],
    "magic123": ["image=teddy.png", "prompt=a yellow duck"],
    "magic123-sd": ["image=teddy.png", "prompt=a teddy bear"],
    "dreamcraft3d": ["image=teddy.png", "prompt=a yellow duck"],
    "dreamcraft3d-sd": ["image=teddy.png", "view_sets.reference.depth=teddy-depth.png", "prompt=a teddy bear"],
    "imagedream-sd": ["image=teddy.png"],
}
"""What a configuration needs next to itself."""
READS = ("wonder3d-sd",)
"""Configurations that read a folder of pictures before they are composed; `test_wonder3d` makes one."""


def shipped_runs() -> dict[str, RunConfig]:
    """Returns name, or name and stage -> configuration."""
    found = {}
    for name in (one for one in shipped_names() if one not in READS):
        for stage, loaded in load_stages(name, NEEDS.get(name, ())).items():
            found[f"{name}-{stage}" if stage else name] = loaded.config
    return found
