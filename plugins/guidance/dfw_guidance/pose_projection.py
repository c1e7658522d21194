"""The layer of Zero-1-to-3 that diffusers does not have, under the two names that the published conversions use."""

from __future__ import annotations

from diffusers import ModelMixin
from diffusers.configuration_utils import ConfigMixin, register_to_config
from torch import Tensor, nn


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


PROJECTIONS = {"cc_projection": CCProjection, "clip_camera_projection": CLIPCameraProjection}
"""Sub-folder of a model -> the class in it."""
