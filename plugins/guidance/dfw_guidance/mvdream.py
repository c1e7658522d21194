"""MVDream: a Stable Diffusion whose U-Net sees several views of a scene at once, and their cameras."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field
from torch import Tensor

from dfw import CameraBatch, Conditioning, GuidanceError
from dfw_guidance.across_views import inflate, poses
from dfw_guidance.files import Files
from dfw_guidance.layouts import MVDREAM
from dfw_guidance.mvdream_weights import load_scene_unet
from dfw_guidance.precision import dtype_of
from dfw_guidance.stable_diffusion import StableDiffusion


class MVDream(StableDiffusion):
    """A multi-view diffusion model (Shi et al. 2024). Self-attention runs over the pixels of all views of a scene.

    The views' cameras are read as poses (`across_views.poses`), and added to the embedding of the timestep. The model knows
    the front of things: azimuth 0 shows it.
    """

    class Config(StableDiffusion.Config):
        """Which model, and how many views are one scene."""

        family: ClassVar[str] = "mvdream"

        model: str = "embedded"
        """`embedded` (ships with dfw), `mvdream-sd21`, a hub id, or a folder in diffusers' layout. `python -m
        dfw_guidance.convert` makes such a folder of the authors' checkpoint."""
        views: int = Field(default=4, ge=2)
        """V, how many consecutive views are one scene. Published models saw four."""

    one_file = False
    layout = MVDREAM
    config: MVDream.Config

    @classmethod
    def provides(cls, config: Any) -> frozenset[str]:
        """Provides noise prediction and text."""
        return super().provides(config) - {"adapter"}

    @classmethod
    def sees(cls, config: Any) -> int:
        """The views of a scene."""
        return int(config.views)

    def _load_unet(self, files: Files) -> Any:
        unet = load_scene_unet(files)
        inflate(unet, self.config.views)
        return unet

    def predict(self, noisy: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        """Returns the U-Net's output (B, C, h, w) in `noisy`'s dtype. B is a multiple of `views`. Raises GuidanceError."""
        pose = poses(self._cameras(noisy, conditioning)).to(dtype_of(self.unet))
        return self._ask(noisy, timestep, conditioning.embedding, class_labels=pose)

    def _cameras(self, noisy: Tensor, conditioning: Conditioning) -> CameraBatch:
        """Returns the views' cameras. Raises GuidanceError if there are none, or if the pictures are not whole scenes."""
        name, views = self.config.family, self.config.views
        if len(noisy) % views:
            raise GuidanceError(f"guidance.views: {len(noisy)} pictures are not whole scenes of {views} views")
        if conditioning.cameras is None:
            raise GuidanceError(f"{name} needs the cameras of the views, and the conditioning has none")
        return conditioning.cameras
