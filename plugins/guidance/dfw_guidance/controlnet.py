"""Stable Diffusion that is shown the rendered shape: its depth or its normals, through a ControlNet."""

from __future__ import annotations

from typing import Any, Literal

import torch.nn.functional as F
from diffusers import ControlNetModel
from pydantic import NonNegativeFloat, field_validator
from torch import Tensor

from dfw import CameraBatch, Conditioning, ConfigError, RenderOutput
from dfw_guidance.aliases import candidates
from dfw_guidance.hub import find_model
from dfw_guidance.layouts import CONTROLNET
from dfw_guidance.pretrained import Files
from dfw_guidance.stable_diffusion import StableDiffusion


class ControlNet(StableDiffusion):
    """Stable Diffusion with a ControlNet (Zhang et al. 2023): its noise is predicted for the shape that is there.

    A prediction for a conditioning without a control picture, as when sampling in 2D, is the plain model's.
    """

    class Config(StableDiffusion.Config):
        """Which model and control network, and what of the render they are shown."""

        model: str = "sd15"
        """`sd15`, or what else the control network was trained on: a hub id or a folder in diffusers' layout."""
        control: Literal["depth", "normals"] = "depth"
        """What of the render is shown: `depth` as disparity, near white; `normals` as seen from the camera."""
        controlnet: str | None = None
        """Control network: a hub id or a folder; by default ControlNet 1.1's for SD 1.5 and `control`."""
        control_scale: NonNegativeFloat = 1.0
        """Factor of what the control network adds to the U-Net; 0 is the plain model."""

        @field_validator("controlnet")
        @classmethod
        def _network(cls, value: str | None) -> str | None:
            if value is not None:
                candidates(value, "controlnet")
            return value

    config: ControlNet.Config
    controlnet: Any

    @classmethod
    def requires(cls, config: ControlNet.Config) -> frozenset[str]:
        """The render's depth or normals, and its opacity."""
        return frozenset({config.control, "opacity"})

    def _load(self, files: Files) -> None:
        super()._load(files)
        config = self.config
        name = config.controlnet or config.control
        folder = find_model(name, CONTROLNET, None, config.variant, "controlnet", "guidance.controlnet")
        self.controlnet = Files(folder, config.variant).network(ControlNetModel, "")
        own, theirs = self.unet.config.cross_attention_dim, self.controlnet.config.cross_attention_dim
        if own != theirs:
            raise ValueError(
                f"its U-Net reads texts of width {own}, the control network {name!r} of {theirs}: not for this model"
            )

    def control_image(self, render: RenderOutput, cameras: CameraBatch) -> Tensor:
        """The depth or normal picture (B, 3, H, W) of the render, at the model's resolution."""
        if self.config.control == "normals" and render.normal is None:
            raise ConfigError("guidance.control: normals, and the render has none; write renderer.shading.normals: always")
        of = "depth" if self.config.control == "depth" else "camera-normal"
        picture = render.picture(of, cameras).permute(0, 3, 1, 2)
        side = (self.resolution, self.resolution)
        return F.interpolate(picture, size=side, mode="bilinear", align_corners=False, antialias=picture.shape[-1] > side[1])

    def predict(self, noisy: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        """The U-Net's output (B, C, h, w) in `noisy`'s dtype, for the shape in `conditioning.control` where there is one."""
        if conditioning.control is None:
            return super().predict(noisy, timestep, conditioning)
        dtype, text = self.unet.dtype, conditioning.embedding.to(self.unet.dtype)
        with self._own_precision():
            down, middle = self.controlnet(
                noisy.to(dtype),
                timestep,
                encoder_hidden_states=text,
                controlnet_cond=conditioning.control.to(dtype),
                conditioning_scale=self.config.control_scale,
                return_dict=False,
            )
            output: Tensor = self.unet(
                noisy.to(dtype),
                timestep,
                encoder_hidden_states=text,
                down_block_additional_residuals=down,
                mid_block_additional_residual=middle,
            ).sample
        return output.to(noisy.dtype)
