"""What Zero-1-to-3 has and diffusers does not: from a picture's embedding and a relative pose to what the U-Net attends to.

The published conversions have one linear layer, under two names. The model that ships with dfw has a small network.
"""

from __future__ import annotations

import torch
from diffusers import ModelMixin
from diffusers.configuration_utils import ConfigMixin, register_to_config
from torch import Tensor, nn
from torch.nn import functional

POSE = 4
"""Numbers of a pose: polar angle, sine and cosine of the azimuth, and the last one."""


class CCProjection(ModelMixin, ConfigMixin):
    """A linear layer from a picture's embedding and a relative pose to what the U-Net attends to."""

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(self, in_channel: int = 772, out_channel: int = 768) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.projection = nn.Linear(in_channel, out_channel)

    def forward(self, known: Tensor) -> Tensor:
        """Maps (..., in_channel) to (..., out_channel)."""
        found: Tensor = self.projection(known)
        return found


class CLIPCameraProjection(ModelMixin, ConfigMixin):
    """The same layer as `CCProjection`."""

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(self, embedding_dim: int = 768, additional_embeddings: int = 4) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.proj = nn.Linear(embedding_dim + additional_embeddings, embedding_dim)

    def forward(self, known: Tensor) -> Tensor:
        """Maps (..., embedding_dim + additional_embeddings) to (..., embedding_dim)."""
        found: Tensor = self.proj(known)
        return found


class WordsProjection(ModelMixin, ConfigMixin):
    """Three layers that write as many tokens as a caption has, in the place of its words.

    So a U-Net that understands captions need not learn anew what a thing and a view are. The first layer reads the embedding also
    times sine and cosine of the difference of azimuths. The angle of the view is a sum, and these products are its parts.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(self, in_channel: int = 132, out_channel: int = 128, tokens: int = 16, hidden: int = 384) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.first, self.second = nn.Linear(3 * in_channel - 2 * POSE, hidden), nn.Linear(hidden, hidden)
        self.last = nn.Linear(hidden, tokens * out_channel)
        self.shape = (tokens, out_channel)

    def forward(self, known: Tensor) -> Tensor:
        """Maps (B, 1, in_channel) to (B, tokens, out_channel)."""
        embedding, sine, cosine = known[..., :-POSE], known[..., -3:-2], known[..., -2:-1]
        read = torch.cat((known, embedding * sine, embedding * cosine), -1)
        inside = functional.gelu(self.second(functional.gelu(self.first(read))))
        found: Tensor = self.last(inside).unflatten(-1, self.shape)[:, 0]
        return found


PROJECTIONS = {"cc_projection": (CCProjection, WordsProjection), "clip_camera_projection": (CLIPCameraProjection,)}
"""Sub-folder of a model -> the classes that it can hold."""
