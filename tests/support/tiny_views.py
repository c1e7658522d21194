"""Two tiny priors of random weights: one sees several views of a scene at once, one knows a picture and no text.

Legend: B images, V views of one scene, S = B / V scenes, P pixels of an image, D = 16 the network's width.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dfw import CameraBatch, ComponentConfig, Conditioning, Guidance, GuidanceError, NoiseSchedule

WIDTH = 16


class _Tiny(Guidance):
    """Pixels of side 8, one attention over groups of views, DDPM's schedule (Ho et al. 2020)."""

    def __init__(self, config: Any, inputs: dict[str, int]) -> None:
        super().__init__()
        self.config = config
        beta = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
        self.schedule = NoiseSchedule.from_alphas_cumprod((1 - beta).cumprod(0))
        self.space: Literal["pixel", "latent"] = "pixel"
        self.resolution = self.latent_resolution = 8
        self.channels = 3
        stream = torch.Generator().manual_seed(0)
        sizes = {"pixel": 3, "time": WIDTH, "place": 2, **inputs, "query": WIDTH, "key": WIDTH, "value": WIDTH, "out": WIDTH}
        self.weights = nn.ParameterDict(
            {
                name: nn.Parameter(torch.randn(3 if name == "out" else WIDTH, size, generator=stream) / size**0.5)
                for name, size in sizes.items()
            }
        )
        self.requires_grad_(False)

    def encode_image(self, image: Tensor) -> Tensor:
        return 2 * image - 1

    def decode_image(self, encoded: Tensor) -> Tensor:
        return (encoded / 2 + 0.5).clamp(0, 1)

    def cameras(self, cameras: CameraBatch | None) -> CameraBatch:
        if cameras is None:
            raise GuidanceError("this model needs the cameras of its views")
        return cameras

    def tokens(self, noisy: Tensor, timestep: Tensor) -> Tensor:
        """(B, P, D): each pixel's colour, its place in the image, and the timestep."""
        frequency = torch.exp(torch.linspace(0, -4, WIDTH // 2, device=noisy.device, dtype=noisy.dtype))
        phase = timestep.to(noisy)[:, None] * frequency
        time = torch.cat([phase.sin(), phase.cos()], 1)
        line = torch.linspace(-1, 1, noisy.shape[-1], device=noisy.device, dtype=noisy.dtype)
        place = torch.cartesian_prod(line, line)
        return self.read("pixel", noisy.flatten(2).transpose(1, 2)) + self.read("time", time)[:, None] + self.read("place", place)

    def read(self, name: str, value: Tensor) -> Tensor:
        return F.linear(value, self.weights[name].to(value))

    def attend(self, tokens: Tensor, views: int) -> Tensor:
        """Each pixel of V consecutive views looks at all pixels of all of them; (B, P, D) -> (B, P, D)."""
        grouped = tokens.reshape(-1, views * tokens.shape[1], tokens.shape[2])
        query, key, value = (self.read(name, grouped) for name in ("query", "key", "value"))
        share = (query @ key.transpose(1, 2) / WIDTH**0.5).softmax(-1)
        return (grouped + share @ value).view_as(tokens)

    def shown(self, tokens: Tensor, like: Tensor) -> Tensor:
        return self.read("out", torch.tanh(tokens)).transpose(1, 2).reshape(like.shape)


class TinyMultiView(_Tiny):
    """As MVDream (Shi et al. 2024): all pixels of four views attend to each other, and each view's pose is embedded."""

    class Config(ComponentConfig):
        """How many views are one scene."""

        together: int = 4
        """Views that the network sees at once."""

    def __init__(self, config: Any) -> None:
        super().__init__(config, {"text": 8, "pose": 12})

    @classmethod
    def provides(cls, config: Any) -> frozenset[str]:
        return frozenset({"noise-prediction", "text"})

    @classmethod
    def sees(cls, config: Any) -> int:
        return int(config.together)

    def encode_text(self, texts: Sequence[str]) -> Conditioning:
        """(B, 1, 8): random numbers that belong to the text, 0 for the empty one."""
        rows = [torch.randn(8, generator=torch.Generator().manual_seed(zlib.crc32(text.encode()))) * bool(text) for text in texts]
        return Conditioning(torch.stack(rows)[:, None].to(self.weights["out"].device))

    def embedded(self, cameras: CameraBatch, like: Tensor) -> Tensor:
        return self.read("pose", cameras.camera_to_world[:, :3].flatten(1).to(like))

    def predict(self, noisy: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        cameras = self.cameras(conditioning.cameras)
        view = self.embedded(cameras, noisy) + self.read("text", conditioning.embedding[:, 0].to(noisy))
        return self.shown(self.attend(self.tokens(noisy, timestep) + view[:, None], self.config.together), noisy)


class TinyNovelView(_Tiny):
    """As Zero-1-to-3 (Liu et al. 2023): conditioned on one picture, and on how the camera stands to the one that took it."""

    class Config(ComponentConfig):
        """Where the picture was taken from."""

        azimuth: float = 0.0
        """Degrees."""

    def __init__(self, config: Any) -> None:
        super().__init__(config, {"picture": 6, "turn": 4})
        self.register_buffer("picture", torch.randn(1, 1, 6, generator=torch.Generator().manual_seed(1)))

    @classmethod
    def provides(cls, config: Any) -> frozenset[str]:
        return frozenset({"noise-prediction"})

    def conditional(self) -> Conditioning:
        return Conditioning(self.picture)

    def unconditional(self) -> Conditioning:
        return Conditioning(torch.zeros_like(self.picture))

    def predict(self, noisy: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        cameras = self.cameras(conditioning.cameras)
        azimuth, elevation = torch.deg2rad(cameras.azimuth - self.config.azimuth), torch.deg2rad(cameras.elevation)
        turn = torch.stack([azimuth.sin(), azimuth.cos(), elevation.sin(), cameras.distance / 3], 1)
        view = self.read("turn", turn.to(noisy)) + self.read("picture", conditioning.embedding[:, 0].to(noisy))
        return self.shown(self.attend(self.tokens(noisy, timestep) + view[:, None], 1), noisy)
