"""MVDream's U-Net as its authors wrote it, with their names for its tensors: two levels of 32 and 64 channels, random weights.

After bytedance/MVDream (Apache-2.0), mvdream/ldm/modules/attention.py and diffusionmodules/openaimodel.py. With `picture` it is
ImageDream's, after bytedance/ImageDream (Apache-2.0), the same files and diffusionmodules/adaptors.py.
Legend: B pictures, V of them a scene, C channels, S side, N = S^2 pixels.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HEAD = 16
"""Width of an attention head."""
TABLE = {
    "_class_name": "MultiViewUNetModel",
    "image_size": 32,
    "in_channels": 4,
    "model_channels": 32,
    "out_channels": 4,
    "num_res_blocks": 1,
    "attention_resolutions": [2, 1],
    "channel_mult": [1, 2],
    "num_head_channels": HEAD,
    "transformer_depth": 1,
    "context_dim": 8,
    "camera_dim": 16,
}
"""The `config.json` of this network, as published folders have it."""
TOKENS, PATCH = 3, 8
"""Tokens that ImageDream's network makes of a picture, and the width of the CLIP features that it makes them of."""


class Attention(nn.Module):
    """CrossAttention."""

    def __init__(self, width: int, context: int, picture: bool = False) -> None:
        super().__init__()
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_k, self.to_v = (nn.Linear(context, width, bias=False) for _ in range(2))
        self.to_out = nn.Sequential(nn.Linear(width, width), nn.Dropout(0))
        if picture:
            self.to_k_ip, self.to_v_ip = (nn.Linear(context, width, bias=False) for _ in range(2))

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        if not hasattr(self, "to_k_ip"):
            return self.to_out(self.read(x, context, self.to_k, self.to_v))
        words, picture = context[:, :-TOKENS], context[:, -TOKENS:]
        return self.to_out(self.read(x, words, self.to_k, self.to_v) + self.read(x, picture, self.to_k_ip, self.to_v_ip))

    def read(self, x: Tensor, context: Tensor, to_k: nn.Module, to_v: nn.Module) -> Tensor:
        q, k, v = (
            part(y).unflatten(2, (-1, HEAD)).transpose(1, 2) for part, y in ((self.to_q, x), (to_k, context), (to_v, context))
        )
        weights = (q @ k.transpose(2, 3) / math.sqrt(HEAD)).softmax(-1)
        return (weights @ v).transpose(1, 2).flatten(2)


class Gated(nn.Module):
    """GEGLU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, 8 * width)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.proj(x).chunk(2, -1)
        return value * F.gelu(gate)


class FeedForward(nn.Module):
    """FeedForward with GEGLU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(Gated(width), nn.Dropout(0), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class Block(nn.Module):
    """BasicTransformerBlock3D: self-attention over the pixels of V views."""

    def __init__(self, width: int, context: int, picture: bool) -> None:
        super().__init__()
        self.attn1, self.ff, self.attn2 = Attention(width, width), FeedForward(width), Attention(width, context, picture)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))

    def forward(self, x: Tensor, context: Tensor, views: int) -> Tensor:
        scenes = x.reshape(len(x) // views, -1, x.shape[-1])
        normal = self.norm1(scenes)
        x = (self.attn1(normal, normal) + scenes).view_as(x)
        x = self.attn2(self.norm2(x), context) + x
        return self.ff(self.norm3(x)) + x


class Transformer(nn.Module):
    """SpatialTransformer3D with linear layers."""

    def __init__(self, channels: int, context: int, picture: bool) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(32, channels, eps=1e-6)
        self.proj_in, self.proj_out = nn.Linear(channels, channels), nn.Linear(channels, channels)
        self.transformer_blocks = nn.ModuleList([Block(channels, context, picture)])

    def forward(self, x: Tensor, context: Tensor, views: int) -> Tensor:
        pixels = self.proj_in(self.norm(x).flatten(2).transpose(1, 2))
        pixels = self.proj_out(self.transformer_blocks[0](pixels, context, views))
        return pixels.transpose(1, 2).view_as(x) + x


class ResBlock(nn.Module):
    """ResBlock."""

    def __init__(self, channels: int, time: int, out: int) -> None:
        super().__init__()
        self.in_layers = nn.Sequential(nn.GroupNorm(32, channels), nn.SiLU(), nn.Conv2d(channels, out, 3, padding=1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(time, out))
        self.out_layers = nn.Sequential(nn.GroupNorm(32, out), nn.SiLU(), nn.Dropout(0), nn.Conv2d(out, out, 3, padding=1))
        self.skip_connection = nn.Identity() if out == channels else nn.Conv2d(channels, out, 1)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        h = self.in_layers(x) + self.emb_layers(emb)[..., None, None]
        return self.skip_connection(x) + self.out_layers(h)


class Downsample(nn.Module):
    """Downsample."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)


class Upsample(nn.Module):
    """Upsample."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))


class PerceiverAttention(nn.Module):
    """PerceiverAttention with one head of 64."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.to_q, self.to_kv = nn.Linear(width, 64, bias=False), nn.Linear(width, 128, bias=False)
        self.to_out = nn.Linear(64, width, bias=False)

    def forward(self, x: Tensor, latents: Tensor) -> Tensor:
        x, latents = self.norm1(x), self.norm2(latents)
        k, v = self.to_kv(torch.cat((x, latents), 1)).chunk(2, -1)
        return self.to_out((self.to_q(latents) @ k.transpose(1, 2) / 8).softmax(-1) @ v)


class Resampler(nn.Module):
    """Resampler of four layers: CLIP's features of patches to tokens."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.zeros(1, TOKENS, width))
        self.proj_in, self.proj_out, self.norm_out = nn.Linear(PATCH, width), nn.Linear(width, width), nn.LayerNorm(width)

        def feed_forward() -> nn.Sequential:
            first, second = nn.Linear(width, 4 * width, bias=False), nn.Linear(4 * width, width, bias=False)
            return nn.Sequential(nn.LayerNorm(width), first, nn.GELU(), second)

        self.layers = nn.ModuleList(nn.ModuleList([PerceiverAttention(width), feed_forward()]) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        latents, x = self.latents.expand(len(x), -1, -1), self.proj_in(x)
        for attention, feed_forward in (part.children() for part in self.layers):
            latents = attention(x, latents) + latents
            latents = feed_forward(latents) + latents
        return self.norm_out(self.proj_out(latents))


class MultiViewUNetModel(nn.Module):
    """MultiViewUNetModel of `TABLE`."""

    def __init__(self, picture: bool = False) -> None:
        super().__init__()
        time, words = 128, 8
        if picture:
            self.image_embed = Resampler(words)

        def mlp(inputs: int) -> nn.Sequential:
            return nn.Sequential(nn.Linear(inputs, time), nn.SiLU(), nn.Linear(time, time))

        def level(channels: int, out: int) -> list[nn.Module]:
            return [ResBlock(channels, time, out), Transformer(out, words, picture)]

        self.time_embed, self.camera_embed = mlp(32), mlp(16)
        parts = ([nn.Conv2d(4, 32, 3, padding=1)], level(32, 32), [Downsample(32)], level(32, 64))
        self.input_blocks = nn.ModuleList(nn.ModuleList(part) for part in parts)
        self.middle_block = nn.ModuleList([*level(64, 64), ResBlock(64, time, 64)])
        ups = (level(128, 64), [*level(96, 64), Upsample(64)], level(96, 32), level(64, 32))
        self.output_blocks = nn.ModuleList(nn.ModuleList(part) for part in ups)
        self.out = nn.Sequential(nn.GroupNorm(32, 32), nn.SiLU(), nn.Conv2d(32, 4, 3, padding=1))

    def forward(
        self,
        x: Tensor,
        timesteps: Tensor,
        context: Tensor,
        camera: Tensor,
        num_frames: int,
        ip: Tensor | None = None,
        ip_img: Tensor | None = None,
    ) -> Tensor:
        """Maps pictures (B, 4, S, S) to what it predicts of them. camera: (B, 16); ip: features (B, N, D); ip_img: latents."""
        x = x.clone()
        if ip_img is not None:
            x[num_frames - 1 :: num_frames] = ip_img
        if ip is not None:
            context = torch.cat((context, self.image_embed(ip)), 1)
        phase = timesteps[:, None] * torch.exp(-math.log(10000) * torch.arange(16) / 16)
        emb = self.time_embed(torch.cat((phase.cos(), phase.sin()), 1)) + self.camera_embed(camera)

        def through(parts: nn.Module, x: Tensor) -> Tensor:
            for part in parts.children():
                if isinstance(part, ResBlock):
                    x = part(x, emb)
                else:
                    x = part(x, context, num_frames) if isinstance(part, Transformer) else part(x)
            return x

        kept = []
        for parts in self.input_blocks:
            x = through(parts, x)
            kept.append(x)
        x = through(self.middle_block, x)
        for parts in self.output_blocks:
            x = through(parts, torch.cat((x, kept.pop()), 1))
        return self.out(x)


def original(seed: int = 0, picture: bool = False) -> MultiViewUNetModel:
    """Makes one whose weights are all random and moderate, the last layer's too, and whose norms are not the identity."""
    model = MultiViewUNetModel(picture)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            size = parameter[0].numel() if parameter.dim() > 1 else 4
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / size**0.5)
    return model.eval()
