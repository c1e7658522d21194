"""dfw's own promises of losses and guidance, by its conformance kit."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from dreamfw_two_priors.losses import Mask, Picture
from dreamfw_two_priors.novel_view import NovelView
from dreamfw_two_priors.random_model import make
from PIL import Image
from torch import Tensor

from dfw import ComponentConfig, LossInputs
from dfw.testing import GuidanceTests, LossTests


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


class TestPicture(LossTests):
    """The mean of (M (I - I'))^2 has the gradient 2 M^2 (I - I') / (3 B H W)."""

    gradient_of = "colour"

    def guidance(self) -> None:
        """It asks none."""

    def make(self) -> Picture:
        """A new one."""
        return Picture(ComponentConfig())

    def expected_gradient(self, inputs: LossInputs) -> Tensor:
        """By the formula, pixel by pixel."""
        mask, colour = inputs.views.targets["mask"][..., None], inputs.render.colour.detach()
        return 2 * mask * mask * (colour - inputs.views.targets["colour"]) / colour.numel()


class TestMask(LossTests):
    """The mean of (O - M)^2 has the gradient 2 (O - M) / (B H W)."""

    gradient_of = "opacity"

    def guidance(self) -> None:
        """It asks none."""

    def make(self) -> Mask:
        """A new one."""
        return Mask(ComponentConfig())

    def expected_gradient(self, inputs: LossInputs) -> Tensor:
        """By the formula, pixel by pixel."""
        opacity = inputs.render.opacity.detach()
        return 2 * (opacity - inputs.views.targets["mask"]) / opacity.numel()
