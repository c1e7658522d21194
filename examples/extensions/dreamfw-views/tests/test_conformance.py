"""dfw's own promises of a guidance, by its conformance kit."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from dreamfw_views.guidance import Views
from PIL import Image

from dfw.testing import GuidanceTests


@cache
def pictures() -> TemporaryDirectory[str]:
    """Three small pictures and their cameras, until the end of the process."""
    folder = TemporaryDirectory()
    drawn = torch.rand(3, 8, 8, 3, generator=torch.Generator().manual_seed(0))
    for index, image in enumerate((255 * drawn).byte().numpy()):
        Image.fromarray(image).save(Path(folder.name) / f"{index}.png")
    views = [{"file": f"{index}.png", "azimuth": 120 * index, "elevation": 10} for index in range(3)]
    (Path(folder.name) / "cameras.json").write_text(json.dumps({"views": views}))
    return folder


class TestViews(GuidanceTests):
    """On three small pictures."""

    def make(self) -> Views:
        """A new one, of the same pictures."""
        return Views(Views.Config(folder=pictures().name, resolution=8))
