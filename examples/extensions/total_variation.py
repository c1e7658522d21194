"""A loss in a single file: surfaces that are smooth but for their edges, by the total variation of the rendered normals.

dfw run examples/extensions/total_variation.yaml --plugin examples/extensions/total_variation.py
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from dfw import ComponentConfig, ConfigError, Loss, LossInputs, register


class TotalVariation(Loss):
    """The mean over pairs of neighbouring pixels of O_p O_q |n_p - n_q|_1, n the rendered normal and O the opacity.

    Rudin, Osher and Fatemi (1992): an absolute difference, unlike a squared one, lets an edge stay as sharp as it is. Anisotropic
    and summed over channels. The opacities enter without gradient, so that the loss bends surfaces and neither makes nor removes
    matter; a pair across the silhouette, where one pixel is empty, counts nothing.
    """

    class Config(ComponentConfig):
        """Nothing to choose; the weight belongs to the run."""

    @classmethod
    def requires(cls, config: Any) -> frozenset[str]:
        """The normal and the opacity of each pixel."""
        return frozenset({"normals", "opacity"})

    def __init__(self, config: ComponentConfig) -> None:
        super().__init__()
        self.config = config

    def forward(self, inputs: LossInputs) -> Tensor:
        """A scalar >= 0; 0 for a plane seen from anywhere. Needs images of at least 2 x 2 pixels."""
        normal, opacity = inputs.render.normal, inputs.render.opacity.detach()
        if normal is None:
            raise ConfigError("the loss 'total-variation' needs normals, and the renderer gave none; turn its normals on")
        down = (opacity[:, 1:] * opacity[:, :-1])[..., None] * (normal[:, 1:] - normal[:, :-1]).abs()
        across = (opacity[:, :, 1:] * opacity[:, :, :-1])[..., None] * (normal[:, :, 1:] - normal[:, :, :-1]).abs()
        pairs = opacity[:, 1:].numel() + opacity[:, :, 1:].numel()
        return (down.sum() + across.sum()) / pairs


register("loss", "total-variation", TotalVariation)
