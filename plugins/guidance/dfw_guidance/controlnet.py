"""Stable Diffusion that sees the rendered shape: its depth or its normals, through a ControlNet."""

from __future__ import annotations

from typing import Any, Literal, Self

import torch.nn.functional as F
from pydantic import NonNegativeFloat, field_validator, model_validator
from torch import Tensor

from dfw import CameraBatch, Conditioning, ConfigError, Model, RenderOutput, path_or_name
from dfw_guidance.aliases import FAMILIES, settled
from dfw_guidance.files import Files
from dfw_guidance.hub import find_model, model_facts
from dfw_guidance.known import models_of
from dfw_guidance.layouts import CONTROLNET, STABLE_DIFFUSION
from dfw_guidance.precision import dtype_of
from dfw_guidance.pretrained import loading
from dfw_guidance.stable_diffusion import StableDiffusion


class ControlNet(StableDiffusion):
    """Stable Diffusion with a ControlNet (Zhang et al. 2023): it predicts noise for the rendered shape.

    Without a control picture, for example when sampling in 2D, the prediction is the plain model's.
    """

    class Config(StableDiffusion.Config):
        """Which model and control network, and what they see of the render."""

        model: str = "sd15"
        """`sd15`, `embedded` (ships with dfw), or another one that the control network was trained on: a hub id, or a folder in
        diffusers' layout."""
        control: Literal["depth", "normals"] = "depth"
        """What the control network sees: `depth` as disparity with near white, or `normals` as seen from the camera."""
        controlnet: str | None = None
        """Control network: `embedded` (ships with dfw, sees depth), a hub id or a folder. The default is `embedded` for the model
        of that name, else ControlNet 1.1's for SD 1.5 and `control`."""
        control_scale: NonNegativeFloat = 1.0
        """Factor of the control network's contribution to the U-Net; 0 gives the plain model."""

        @field_validator("controlnet", mode="before")
        @classmethod
        def _path(cls, value: object) -> object:
            return path_or_name(value, FAMILIES["controlnet"])

        @field_validator("controlnet")
        @classmethod
        def _network(cls, value: str | None) -> str | None:
            return None if value is None else settled(value, "controlnet")

        @model_validator(mode="after")
        def _sees(self) -> Self:
            if self.network == "embedded" and self.control != "depth":
                raise ValueError(f"the embedded control network sees depth, not {self.control}; write control: depth")
            return self

        @property
        def network(self) -> str:
            """The control network that `controlnet`, `model` and `control` choose."""
            return self.controlnet or ("embedded" if self.model == "embedded" else self.control)

    config: ControlNet.Config
    controlnet: Any

    @classmethod
    def models(cls) -> tuple[Model, ...]:
        """Returns the models that there are control networks for, and these networks."""
        return (*models_of("stable-diffusion", STABLE_DIFFUSION, "embedded", "sd15"), *models_of("controlnet", CONTROLNET))

    @classmethod
    def model_names(cls, config: ControlNet.Config) -> tuple[str, ...]:
        """Returns the model, the control network and the autoencoder. `control: depth` is also the name of a network."""
        return (config.model, config.network, config.autoencoder or "")

    @classmethod
    def requires(cls, config: ControlNet.Config) -> frozenset[str]:
        """Requires the render's depth or normals, and its opacity."""
        return frozenset({config.control, "opacity"})

    def _load(self, files: Files) -> None:
        from diffusers import ControlNetModel

        super()._load(files)
        config, name = self.config, self.config.network
        folder = find_model(name, CONTROLNET, None, config.variant, "controlnet", "guidance.controlnet")
        self.control_files = Files(folder, config.variant)
        with loading(f"guidance.controlnet: {name!r} ({folder})"):
            self.controlnet = self.control_files.network(ControlNetModel, "")
        own, theirs = self.unet.config.cross_attention_dim, self.controlnet.config.cross_attention_dim
        if own != theirs:
            raise ValueError(
                f"its U-Net reads texts of width {own}, and the control network {name!r} reads {theirs}: "
                "it was made for another model"
            )

    def facts(self) -> dict[str, Any]:
        """Returns the same of the control network next to what it returns of the model."""
        config = self.config
        weights = self.control_files.weights(CONTROLNET)
        control = model_facts(config.network, self.control_files.folder, weights, config.variant)
        return {**super().facts(), "controlnet": control}

    def control_image(self, render: RenderOutput, cameras: CameraBatch) -> Tensor:
        """Returns the depth or normal picture (B, 3, H, W) of the render, at the model's resolution."""
        if self.config.control == "normals" and render.normal is None:
            raise ConfigError("guidance.control: the render has no normals; write renderer.shading.normals: always")
        of = "depth" if self.config.control == "depth" else "camera-normal"
        picture = render.picture(of, cameras).permute(0, 3, 1, 2)
        side = (self.resolution, self.resolution)
        return F.interpolate(picture, size=side, mode="bilinear", align_corners=False, antialias=picture.shape[-1] > side[1])

    def predict(self, noisy: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        """Returns the U-Net's output (B, C, h, w) in `noisy`'s dtype, for the shape in `conditioning.control` if there is one."""
        if conditioning.control is None:
            return super().predict(noisy, timestep, conditioning)
        dtype = dtype_of(self.unet)
        text = conditioning.embedding.to(dtype)
        with self._own_precision():
            down, middle = self.controlnet(
                noisy.to(dtype),
                timestep,
                encoder_hidden_states=text,
                controlnet_cond=conditioning.control.to(dtype),
                conditioning_scale=self.config.control_scale,
                return_dict=False,
            )
        return self._ask(noisy, timestep, text, down_block_additional_residuals=down, mid_block_additional_residual=middle)
