"""ImageDream: MVDream with a picture of the object next to the prompt.

Legend: B views, V of them a scene, S = B / V scenes; C = 4 channels of side h of the latent space; N patches of a picture, of
width D in CLIP.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from dfw import CameraBatch, Conditioning, PictureConfig, over, read_reference
from dfw_guidance.across_views import inflate, poses
from dfw_guidance.checksums import digest
from dfw_guidance.clip_vision import as_processed, squared
from dfw_guidance.files import Files
from dfw_guidance.image_prompt import PICTURE, ImagePrompt
from dfw_guidance.imagedream_weights import load_prompted_unet
from dfw_guidance.layouts import IMAGEDREAM
from dfw_guidance.mvdream import MVDream
from dfw_guidance.precision import dtype_of


class ImageDream(ImagePrompt, MVDream):
    """A multi-view diffusion model that sees a picture of the object (Wang and Shi 2023).

    Each layer attends to tokens that a small network makes of the picture's CLIP features, in keys and values of their own. With
    `pixels` the picture's latents are also a further view of each scene, without noise and without a pose. The picture goes with
    every text except the empty one and the negative prompt; there its features and latents are 0. It is encoded once, and CLIP is
    not kept in memory.
    """

    class Config(MVDream.Config, PictureConfig):
        """Which model, which picture, and from which side the picture was taken."""

        family: ClassVar[str] = "imagedream"

        model: str = "imagedream"
        """`imagedream`, a hub id, or a folder in diffusers' layout. `python -m dfw_guidance.convert` makes such a folder of the
        authors' checkpoint."""
        share: float | None = Field(default=0.8, gt=0, le=1)
        """Share of a square's side that the object's larger side takes: the picture is cropped or widened to that square, with
        the object in its middle. None: the picture as it is."""
        azimuth: float = 0.0
        """Of the picture's camera, degrees; 0 sees the object's front. The model's cameras are relative to it. It was trained on
        pictures from the elevation of the views, so it is not told the picture's own."""
        pixels: bool = True
        """Whether the picture is a further view: ImageDream-P. False for the authors' checkpoint whose name ends with local."""
        autoencoder: None = None
        """None: the model reads the picture's latents as its own VAE makes them."""

    layout = IMAGEDREAM
    config: ImageDream.Config
    features: Tensor
    latents: Tensor

    def _open(self) -> Files:
        self._picture = read_reference(self.config)  # before anything is downloaded
        return super()._open()

    def _load_unet(self, files: Files) -> Any:
        unet = load_prompted_unet(files)
        inflate(unet, self.config.views + self.config.pixels)
        return unet

    @torch.no_grad()
    def _load(self, files: Files) -> None:
        from transformers import CLIPVisionModel

        super()._load(files)
        encoder = files.network(CLIPVisionModel, "image_encoder").eval()
        reads = self.unet.encoder_hid_proj.image_projection_layers[0].proj_in.in_features
        if encoder.config.hidden_size != reads:
            raise ValueError(
                f"its U-Net reads features of width {reads}, and its image_encoder has {encoder.config.hidden_size}: "
                "two models are mixed"
            )
        shown = squared(over(self._picture, self._picture[..., 3], self.config.background), self.resolution)
        seen = encoder(as_processed(shown, encoder.config.image_size), output_hidden_states=True)
        self.register_buffer("features", seen.hidden_states[-2], persistent=False)  # one layer from the end, as in training
        self.register_buffer("latents", self.encode_image(shown), persistent=False)

    def facts(self) -> dict[str, Any]:
        """Returns the picture and its checksum next to what it returns of every model."""
        return {**super().facts(), "image": {"path": self.config.image, "sha256": digest(Path(self.config.image))}}

    def poses(self, cameras: CameraBatch) -> Tensor:
        """Returns the cameras' poses as the network reads them, (B, 16): as MVDream's, with the picture's camera at azimuth 0."""
        angle = torch.deg2rad(torch.as_tensor(-self.config.azimuth))
        turn = torch.eye(4)
        turn[:2, :2] = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()]).view(2, 2)
        return (turn.to(cameras.camera_to_world) @ poses(cameras).view(-1, 4, 4)).flatten(1)

    def predict(self, noisy: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        """Returns the U-Net's output (B, C, h, w) in `noisy`'s dtype. B is a multiple of `views`. Raises GuidanceError."""
        pose, known = self.poses(self._cameras(noisy, conditioning)), conditioning.extras[PICTURE]
        text = conditioning.embedding
        if self.config.pixels:
            last = slice(self.config.views - 1, None, self.config.views)  # of each scene: the further view has its words and time
            picture = known[last].view(-1, 1, 1, 1).to(noisy) * self.latents.to(noisy)
            noisy, pose = self._with(noisy, picture), self._with(pose, torch.zeros_like(pose[last]))
            timestep, text, known = (self._with(rows, rows[last]) for rows in (timestep, text, known))
        dtype = dtype_of(self.unet)
        features = (known.view(-1, 1, 1, 1) * self.features[None]).to(dtype)  # (B, 1, N, D): one picture for each view
        more = {"class_labels": pose.to(dtype), "added_cond_kwargs": {"image_embeds": [features]}}
        output = self._ask(noisy, timestep, text, **more)
        if not self.config.pixels:
            return output
        return output.view(-1, self.config.views + 1, *output.shape[1:])[:, :-1].flatten(0, 1)

    def _with(self, views: Tensor, further: Tensor) -> Tensor:
        """Returns rows of views (B, ...) with one of `further` (S, ...) after those of each scene."""
        return torch.cat([views.view(-1, self.config.views, *views.shape[1:]), further[:, None]], 1).flatten(0, 1)
