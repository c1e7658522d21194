"""What the kit asks a guidance: smooth images, noisy ones, timesteps and texts."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from dfw.errors import PromptError
from dfw.interfaces.data import Conditioning
from dfw.interfaces.guidance import Guidance
from dfw.testing.base import ComponentTests
from dfw.testing.devices import DeviceChecks, DtypeChecks
from dfw.testing.outcomes import require
from dfw.testing.state import StateChecks


class ShownToGuidance(ComponentTests[Guidance], StateChecks[Guidance], DtypeChecks[Guidance], DeviceChecks[Guidance]):
    """Images, noise and texts, and one model for all checks that leave it as it is."""

    interface: ClassVar[type[Any]] = Guidance
    prompts: ClassVar[tuple[str, str]] = ("a red cube", "a blue car")
    """Two texts that the model can read and tell apart."""
    round_trip: ClassVar[float | None] = 0.1
    """Mean absolute error, of colours in [0, 1], that decode_image(encode_image(x)) makes on smooth images; None: no promise."""

    noise_error: ClassVar[float] = 0.7
    """Error of a prediction's answer to noise, as a share of that noise."""
    trained: ClassVar[bool] = True
    """Whether its weights have learned to find noise; False for a model of random weights, made for a test."""

    _shared: ClassVar[dict[type[Any], Guidance]] = {}

    def exercise(self, made: Guidance) -> None:
        """Asks everything in training mode."""
        made.train()
        self.observe(made)

    def observe(self, made: Guidance, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
        """Encoded images, decoded ones, and predictions for the first prompt at several timesteps."""
        with torch.no_grad():
            image = self._image(made, 2, dtype)
            noisy, timestep = self._noisy(made, 3, dtype), self._timesteps(made, 3)
            return {
                "encode_image": made.encode_image(image),
                "decode_image": made.decode_image(made.encode_image(image)),
                "predict": made.predict(noisy, timestep, self._text(made, self.prompts[:1] * 3)),
            }

    # -- helpers -------------------------------------------------------------------------------------------------------

    def _guidance(self) -> Guidance:
        """One model for all checks that do not change it: loading takes long."""
        key = type(self)
        if key not in self._shared:
            self._shared[key] = self.fresh()
        return self._shared[key].eval()

    def _image(self, guidance: Guidance, count: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Smooth images (B, 3, side, side) in [0.1, 0.9]: four strong colours, one in each corner."""
        corners = 0.1 + 0.8 * self.draw(count, 3, 2, 2, seed=3, dtype=dtype).round()
        side = guidance.resolution
        return torch.nn.functional.interpolate(corners, size=(side, side), mode="bilinear", align_corners=True)

    def _noisy(self, guidance: Guidance, count: int, dtype: torch.dtype = torch.float32, seed: int = 4) -> Tensor:
        side = guidance.latent_resolution
        drawn = torch.randn(count, guidance.channels, side, side, generator=torch.Generator().manual_seed(seed))
        return drawn.to(device=self.device, dtype=dtype)

    def _timesteps(self, guidance: Guidance, count: int) -> Tensor:
        """From a fiftieth to 49 fiftieths of the schedule."""
        length = len(guidance.schedule)
        return torch.linspace(0.02 * length, 0.98 * length, count, device=self.device).long().clamp(0, length - 1)

    def _text(self, guidance: Guidance, texts: tuple[str, ...] | list[str]) -> Conditioning:
        try:
            found = guidance.encode_text(list(texts))
        except PromptError as error:
            remedy = (
                "Name two that it can tell apart: prompts = (...) in the test class, --prompt A --prompt B on the command line"
            )
            require(False, "it knows the texts that the checks ask about", str(error).rstrip("."), remedy)
        promise = "encode_text gives one row per text"
        seen = f"{len(texts)} texts gave an embedding of shape {tuple(found.embedding.shape)}"
        require(found.embedding.dim() == 3 and len(found) == len(texts), promise, seen, "Return Conditioning of (B, L, D)")
        return found
