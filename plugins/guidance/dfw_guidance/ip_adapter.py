"""Stable Diffusion with a picture next to the prompt: an image prompt, through IP-Adapter.

Legend: B images; C = 4 channels of side h of the latent space.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from pydantic import NonNegativeFloat, field_validator
from torch import Tensor

from dfw import Conditioning, LocalPath, Model, over, path_or_name, read_picture
from dfw_guidance.additions import pipeline_of
from dfw_guidance.aliases import FAMILIES, candidates, settled
from dfw_guidance.checksums import digest
from dfw_guidance.files import Files
from dfw_guidance.hub import find_file, find_model, model_facts
from dfw_guidance.image_prompt import PICTURE, ImagePrompt
from dfw_guidance.known import models_of
from dfw_guidance.layouts import IP_ADAPTER, STABLE_DIFFUSION
from dfw_guidance.precision import dtype_of
from dfw_guidance.pretrained import loading
from dfw_guidance.stable_diffusion import StableDiffusion


class IPAdapter(ImagePrompt):
    """Stable Diffusion that is shown what to make (IP-Adapter, Ye et al. 2023): a second attention looks at a picture.

    The picture goes with every text except the empty one and the negative prompt. So classifier-free guidance moves towards words
    and picture. The image encoder is not kept in memory.
    """

    class Config(StableDiffusion.Config):
        """Which model, which adapter, and the picture."""

        model: str = "sd15"
        """`sd15`, or the model that the adapter was trained for: a hub id, or a folder in diffusers' layout."""
        image: LocalPath
        """What to make: a PNG, JPEG or WebP file. Transparent pixels are white. CLIP sees the square in its middle."""
        image_scale: NonNegativeFloat = 0.6
        """Factor of the attention to the picture; 0 gives the plain model. 1 leaves the words little to say."""
        adapter: str = "ip-adapter"
        """`ip-adapter`, or a hub id or a folder in the layout of h94/IP-Adapter, which holds models/image_encoder."""
        adapter_file: str = "models/ip-adapter_sd15.safetensors"
        """The adapter's weights in `adapter`, such as models/ip-adapter-plus_sd15.safetensors."""

        def check_files(self) -> None:
            """Reads the picture."""
            read_picture(Path(self.image), "image")

        @field_validator("adapter", mode="before")
        @classmethod
        def _path_of_adapter(cls, value: object) -> object:
            return path_or_name(value, FAMILIES["ip-adapter"])

        @field_validator("adapter")
        @classmethod
        def _adapter(cls, value: str) -> str:
            return settled(value, "ip-adapter")

    one_file = False
    config: IPAdapter.Config
    seen: Tensor
    unseen: Tensor

    def _open(self) -> Files:
        shown = read_picture(Path(self.config.image), "image")  # before anything is downloaded
        pixels = (255 * over(shown, shown[..., 3], (1, 1, 1))).round().byte().numpy()
        self._picture = Image.fromarray(np.ascontiguousarray(pixels))
        return super()._open()

    @classmethod
    def models(cls) -> tuple[Model, ...]:
        """Returns the default model and the adapter."""
        (adapter,) = models_of("ip-adapter", IP_ADAPTER)
        file = str(cls.Config.model_fields["adapter_file"].default)
        return (*models_of("stable-diffusion", STABLE_DIFFUSION, "sd15"), replace(adapter, files=(*adapter.files, file)))

    def _load(self, files: Files) -> None:
        from transformers import CLIPVisionModelWithProjection

        super()._load(files)
        name = self.config.adapter
        folder = find_model(name, IP_ADAPTER, family="ip-adapter", field="guidance.adapter")
        self.adapter_files, self.adapter_path = Files(folder, None), folder / self.config.adapter_file
        if not self.adapter_path.is_file():
            place = f"{candidates(name, 'ip-adapter')[0]}/{self.config.adapter_file}"
            self.adapter_path = find_file(place, (), "guidance.adapter_file")
        with loading(f"guidance.adapter: {name!r} ({self.adapter_path})"):
            encoder = self.adapter_files.network(CLIPVisionModelWithProjection, "models/image_encoder").eval()
            parts = {"unet": self.unet, "vae": self.vae, "text_encoder": self.text_encoder, "tokenizer": self.tokenizer}
            pipeline = pipeline_of(self.pipeline, parts | {"image_encoder": encoder})
            pipeline.load_ip_adapter(
                str(self.adapter_path.parent), subfolder="", weight_name=self.adapter_path.name, local_files_only=True
            )
            pipeline.set_ip_adapter_scale(self.config.image_scale)
            with torch.no_grad():
                (both,) = pipeline.prepare_ip_adapter_image_embeds(self._picture, None, torch.device("cpu"), 1, True)
        self.register_buffer("unseen", both[:1].float(), persistent=False)
        self.register_buffer("seen", both[1:].float(), persistent=False)

    def facts(self) -> dict[str, Any]:
        """Returns the picture, and the same of the adapter next to what it returns of the model."""
        config = self.config
        weights = {**self.adapter_files.weights(IP_ADAPTER), config.adapter_file: self.adapter_path}
        adapter = model_facts(config.adapter, self.adapter_files.folder, weights, None)
        return {**super().facts(), "adapter": adapter, "image": {"path": config.image, "sha256": digest(Path(config.image))}}

    def predict(self, noisy: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        """Returns the U-Net's output (B, C, h, h) in `noisy`'s dtype, for the words and the picture."""
        share = conditioning.extras[PICTURE].view(-1, *[1] * (self.seen.dim() - 1))
        picture = torch.lerp(self.unseen.expand(len(noisy), *self.unseen.shape[1:]), self.seen, share.to(self.seen))
        return self._ask(
            noisy, timestep, conditioning.embedding, added_cond_kwargs={"image_embeds": [picture.to(dtype_of(self.unet))]}
        )
