"""What the kit asks a guidance: smooth images, noisy ones, timesteps and conditions, in scenes of as many views as it sees."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from dfw.errors import PromptError
from dfw.interfaces.data import CameraBatch, Conditioning
from dfw.interfaces.guidance import Guidance
from dfw.interfaces.poses import cameras_at
from dfw.testing.base import ComponentTests
from dfw.testing.devices import DeviceChecks, DtypeChecks
from dfw.testing.outcomes import require
from dfw.testing.state import StateChecks


class ShownToGuidance(ComponentTests[Guidance], StateChecks[Guidance], DtypeChecks[Guidance], DeviceChecks[Guidance]):
    """Images, noise and conditions, and one model for all checks that leave it as it is.

    A scene is `views` images: one for a model of single pictures. Timestep and prompt are a scene's, cameras a view's.
    """

    interface: ClassVar[type[Any]] = Guidance
    prompts: ClassVar[tuple[str, str]] = ("a red cube", "a blue car")
    """Two texts that the model can read and tell apart; a model that reads no text is asked with its condition and without."""
    views: ClassVar[int | None] = None
    """How many views of one scene the model sees at once, as its `sees` says; None: whatever that is."""
    round_trip: ClassVar[float | None] = 0.1
    """Mean absolute error, of colours in [0, 1], that decode_image(encode_image(x)) makes on smooth images; None: no promise."""

    noise_error: ClassVar[float] = 0.7
    """Error of a prediction's answer to noise, as a share of that noise."""
    trained: ClassVar[bool] = True
    """Whether its weights have learned to find noise; False for a model of random weights, made for a test."""

    _shared: ClassVar[dict[type[Any], Guidance]] = {}

    def place(self, made: Guidance) -> None:
        """Moves the model and its schedule to the device, as a run does."""
        super().place(made)
        made.schedule = made.schedule.to(self.device)

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
                "predict": made.predict(noisy, timestep, self._asked(made, [0, 0, 0])),
            }

    # -- helpers -------------------------------------------------------------------------------------------------------

    def _guidance(self) -> Guidance:
        """One model for all checks that do not change it: loading takes long."""
        key = type(self)
        if key not in self._shared:
            self._shared[key] = self.fresh()
        return self._shared[key].eval()

    def _sees(self, guidance: Guidance) -> int:
        """Views of one scene."""
        return max(1, type(guidance).sees(guidance.config)) if self.views is None else self.views

    def _reads_text(self, guidance: Guidance) -> bool:
        return "text" in type(guidance).provides(guidance.config)

    def _image(self, guidance: Guidance, scenes: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Smooth images (B, 3, side, side) in [0.1, 0.9]: four strong colours, one in each corner."""
        corners = 0.1 + 0.8 * self.draw(scenes * self._sees(guidance), 3, 2, 2, seed=3, dtype=dtype).round()
        side = guidance.resolution
        return torch.nn.functional.interpolate(corners, size=(side, side), mode="bilinear", align_corners=True)

    def _noisy(self, guidance: Guidance, scenes: int, dtype: torch.dtype = torch.float32, seed: int = 4) -> Tensor:
        side, count = guidance.latent_resolution, scenes * self._sees(guidance)
        drawn = torch.randn(count, guidance.channels, side, side, generator=torch.Generator().manual_seed(seed))
        return drawn.to(device=self.device, dtype=dtype)

    def _timesteps(self, guidance: Guidance, scenes: int) -> Tensor:
        """From a fiftieth to 49 fiftieths of the schedule, the same for all views of a scene."""
        length = len(guidance.schedule)
        steps = torch.linspace(0.02 * length, 0.98 * length, scenes, device=self.device).long().clamp(0, length - 1)
        return steps.repeat_interleave(self._sees(guidance))

    def _step(self, guidance: Guidance, scenes: int, step: int) -> Tensor:
        """One timestep for all views."""
        return torch.full((scenes * self._sees(guidance),), step, device=self.device)

    def _asked(self, guidance: Guidance, which: list[int], turn: float = 0.0) -> Conditioning:
        """The condition of each scene: 0 for the first prompt, 1 for the second; without text 0 is its condition and 1 is none.

        `turn`: for other cameras than those of 0, in degrees between the views.
        """
        views = self._sees(guidance)
        rows = [index for index in which for _ in range(views)]
        if self._reads_text(guidance):
            found = self._text(guidance, [self.prompts[index] for index in rows])
            return found if views == 1 else replace(found, cameras=self._cameras(len(which), views, turn))
        both = Conditioning.cat([one.select(slice(0, 1)) for one in (guidance.conditional(), guidance.unconditional())])
        found = both.select(torch.tensor(rows, device=both.embedding.device))
        return replace(found, cameras=self._cameras(len(which), views, turn))

    def _cameras(self, scenes: int, views: int, turn: float = 0.0) -> CameraBatch:
        """A ring of cameras around each scene, the first at another place in each, in groups of `views`."""
        scene = torch.arange(scenes, dtype=torch.float32).repeat_interleave(views)
        place = torch.arange(views, dtype=torch.float32).repeat(scenes)
        azimuth = torch.remainder(20 * scene + place * (360 / views - turn) + turn + 180, 360) - 180
        full = torch.ones_like(azimuth)
        elevation = 10 + 5 * torch.remainder(scene, 4) + turn / 4
        return cameras_at(azimuth, elevation, 3 * full, 40 * full, 64, 64).in_groups(views).to(self.device)

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
