"""A picture that is smooth except for its edges: total variation."""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor

from dfw import ComponentConfig, Loss, LossInputs


class TV(Loss):
    """Mean over pairs of neighbouring pixels of O_p O_q sum_c |x_p - x_q|^power, x the picture that the loss looks at (`of`).

    Rudin, Osher and Fatemi (1992), anisotropic. An absolute difference, unlike a squared one, lets an edge stay sharp.
    O is the opacity, without gradient. So a pair counts only where matter is, and the loss neither makes nor removes matter: the
    colour of the background and the silhouette change nothing. For `of: opacity` and in latent space O is 1.
    """

    class Config(ComponentConfig):
        """How differences count; the weight and the picture, `of`, belong to the run."""

        power: Literal[1, 2] = 1
        """1: edges stay sharp. 2: they are rounded, which suits normals."""

    config: Config

    @classmethod
    def requires(cls, config: Any) -> frozenset[str]:
        """The opacity of each pixel."""
        return frozenset({"opacity"})

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config

    def forward(self, inputs: LossInputs) -> Tensor:
        """A scalar >= 0, 0 for a picture of one value and for one of 1 x 1 pixels."""
        picture, matter = inputs.picture, inputs.render.opacity.detach()
        if inputs.of == "opacity" or inputs.latent:
            matter = matter.new_ones(picture.shape[:3])
        total, pairs = picture.new_zeros(()), 0
        for axis in (1, 2):
            count = picture.shape[axis] - 1
            near, far = picture.narrow(axis, 0, count), picture.narrow(axis, 1, count)
            both = matter.narrow(axis, 0, count) * matter.narrow(axis, 1, count)
            total, pairs = total + (both * (near - far).abs().pow(self.config.power).sum(-1)).sum(), pairs + both.numel()
        return total / max(pairs, 1)
