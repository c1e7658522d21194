"""Wonder3D's U-Net: it denoises six views of an object in colours, and the same six as normals, all together.

Long et al. 2024, sections 4.2 and 4.3. Legend: V = 6 views; rows are V views of normals, then V of colours; N pixels of width D.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from dfw_guidance.across_views import AcrossViews, inflate
from dfw_guidance.damage import read_table
from dfw_guidance.files import Files, check_tensors

ORIGINAL = "UNetMV2DConditionModel"
"""The authors' class, which published folders name. Its blocks have diffusers' names with MV2D in place of 2D."""
VIEWS = 6
DOMAINS = ((1.0, 0.0), (0.0, 1.0))
"""What tells the network that a row shows normals, or colours: the domain switcher."""
PLACES = (
    (0.0, 0.0, 0.0),
    (0.0, -0.2362, 0.8125),
    (0.0, -0.1686, 1.6934),
    (0.0, 0.5220, 3.1406),
    (0.0, 0.6904, 4.8359),
    (0.0, 0.3733, 5.5859),
)
"""What the network reads of each view's place, radians: the picture's elevation, and differences of polar angle and azimuth.

They are the constants of the authors' pipeline. They were measured in a frame of theirs that is tilted against the picture's; the
views themselves stand around the picture's camera, at its height (`wonder3d.AZIMUTHS`).
"""
_ONLY = {"multiview_attention": True, "cd_attention_mid": True, "cd_attention_last": False, "sparse_mv_attention": False}
"""Settings of the authors' class that the published model has."""


class AcrossDomains:
    """An attention processor of diffusers: each pixel attends to those of its view in both domains. It changes no weight."""

    def __init__(self, attend: Any) -> None:
        """`attend`: the layer's processor for pictures."""
        self.pair = AcrossViews(2, attend)

    def __call__(self, attention: Any, pixels: Tensor, *unused: Any, **others: Any) -> Tensor:
        """Maps pixels (2 V, N, D) to the same shape."""
        count = len(pixels) // 2
        pairs = torch.stack([pixels[:count], pixels[count:]], 1).flatten(0, 1)
        found = self.pair(attention, pairs)
        return torch.cat([found[::2], found[1::2]])


class CrossDomainBlock(nn.Module):
    """A transformer block of diffusers with a third attention, between the one to all views and the one to the picture."""

    def __init__(self, block: Any) -> None:
        """Takes over the layers of `block`, a BasicTransformerBlock."""
        from diffusers.models.attention_processor import Attention, AttnProcessor2_0

        super().__init__()
        own = block.attn1
        self.norm1, self.attn1, self.norm2, self.attn2 = block.norm1, own, block.norm2, block.attn2
        self.norm3, self.ff = block.norm3, block.ff
        layer: Any = Attention
        processor: Any = AttnProcessor2_0  # neither constructor has types
        self.attn_joint_mid = layer(query_dim=own.query_dim, heads=own.heads, dim_head=own.inner_dim // own.heads)
        self.attn_joint_mid.set_processor(AcrossDomains(processor()))
        self.norm_joint_mid = nn.LayerNorm(own.query_dim)

    def forward(self, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, **_: Any) -> Tensor:
        """Maps pixels (2 V, N, D) to the same shape, next to what is known of the picture (2 V, L, D')."""
        x = hidden_states
        x = self.attn1(self.norm1(x)) + x
        x = self.attn_joint_mid(self.norm_joint_mid(x)) + x
        x = self.attn2(self.norm2(x), encoder_hidden_states=encoder_hidden_states) + x
        found: Tensor = self.ff(self.norm3(x)) + x
        return found


def load_cross_domain_unet(files: Files) -> Any:
    """Loads the U-Net of a folder. Raises ValueError for another class, another variant of it, or other tensors than its own."""
    from diffusers import UNet2DConditionModel
    from safetensors.torch import load_file

    table = read_table(files.folder / "unet" / "config.json")
    if (found := table.get("_class_name")) != ORIGINAL:
        raise ValueError(f"its unet is a {found}, and Wonder3D's is a {ORIGINAL}")
    wrong = [f"{name} is {table[name]}, not {value}" for name, value in _ONLY.items() if table.get(name, value) != value]
    if table.get("num_views", VIEWS) != VIEWS:
        wrong.append(f"num_views is {table['num_views']}, not {VIEWS}")
    if wrong:
        raise ValueError(f"its unet is of another kind than the published one ({'; '.join(wrong)})")
    model: Any = UNet2DConditionModel  # whose constructor has no types
    unet = model(**_settings(table, inspect.signature(model).parameters))
    for parent in [one for one in unet.modules() if hasattr(one, "transformer_blocks")]:
        parent.transformer_blocks = nn.ModuleList(CrossDomainBlock(block) for block in parent.transformer_blocks)
    inflate(unet, VIEWS)
    tensors: dict[str, Tensor] = {}
    for path in sorted((files.folder / "unet").glob("diffusion_pytorch_model*.safetensors")):
        tensors |= load_file(path)
    own = unet.state_dict()
    shapes = [(name, tensors[name].shape, own[name].shape) for name in own.keys() & tensors.keys()]
    report = {
        "missing_keys": own.keys() - tensors.keys(),
        "unexpected_keys": tensors.keys() - own.keys(),
        "mismatched_keys": [one for one in shapes if one[1] != one[2]],
    }
    check_tensors("unet", unet, report)
    unet.load_state_dict(tensors, strict=False)
    return unet.eval()


def _settings(table: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """Returns diffusers' settings for those of the authors' class: the names of blocks, and only what is `known` to diffusers."""

    def named(value: Any) -> Any:
        return value.replace("MV2D", "2D") if isinstance(value, str) else value

    kept = {name: value for name, value in table.items() if name in known}
    return {name: [named(one) for one in value] if isinstance(value, list) else named(value) for name, value in kept.items()}
