"""dfw's own promises of a guidance, by its conformance kit."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from dreamfw_two_priors.novel_view import NovelView
from dreamfw_two_priors.random_model import make
from PIL import Image

from dfw.testing import GuidanceTests


@cache
def files() -> TemporaryDirectory[str]:
    """A model and a picture, until the end of the process; a kit's `make` takes no fixture."""
    folder = TemporaryDirectory()
    make(Path(folder.name) / "model")
    drawn = torch.rand(32, 32, 4, generator=torch.Generator().manual_seed(0))
    Image.fromarray((255 * drawn).byte().numpy(), "RGBA").save(Path(folder.name) / "image.png")
    return folder


class TestNovelView(GuidanceTests):
    """With random weights."""

    trained = False
    round_trip = 0.08  # the embedded prior's autoencoder, on smooth images

    def make(self) -> NovelView:
        """A new one, from the same files."""
        folder = Path(files().name)
        return NovelView(NovelView.Config(model=str(folder / "model"), image=str(folder / "image.png"), elevation=10))
