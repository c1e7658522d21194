"""What a listener may ask of a run between two steps. No answer changes a bit of the run."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from dfw.atomic import unused
from dfw.config.schedules import Progress
from dfw.errors import ConfigError
from dfw.interfaces.data import CameraBatch, Views
from dfw.interfaces.exporter import Exporter
from dfw.interfaces.loss import LossInputs
from dfw.runs.directory import RunDirectory
from dfw.runs.life import Life
from dfw.runs.outputs import export_all
from dfw.runs.remaining import Remaining
from dfw.runs.scene import evaluating, forget_numbers
from dfw.runs.signals import Interrupted
from dfw.runs.trainer import Trainer

log = logging.getLogger("dfw.runs")


@dataclass(frozen=True)
class Guess:
    """What a guidance sees of the step's views, and what it believes they should be."""

    seen: Tensor
    """(B, 3, H, W) in [0, 1]."""
    denoised: Tensor
    """(B, 3, H, W) in [0, 1], from one prediction: `Guidance.predict_clean`, decoded."""


class Controls:
    """A run, as a listener may use it while the run waits for the listener."""

    def __init__(
        self, trainer: Trainer, life: Life, left: Remaining, exporters: Sequence[Exporter], directory: RunDirectory
    ) -> None:
        self._trainer = trainer
        self._life = life
        self._left = left
        self._exporters = exporters
        self._directory = directory

    @property
    def stopping(self) -> bool:
        """Whether the run has been asked to stop, by a signal or by `stop`. It stops once the listener returns."""
        return self._life.stop.number is not None

    @property
    def views(self) -> Mapping[str, CameraBatch]:
        """The cameras of the last step, by set of views; nothing before the first step of this process."""
        return self._trainer.seen

    @property
    def asks_a_prior(self) -> bool:
        """Whether `ask` has somebody to ask."""
        return any(self._trainer.guidance_of(name) for name in self._trainer.losses)

    def stop(self) -> None:
        """Ends the run as Ctrl-C does: with a checkpoint, so that it can be resumed."""
        if not self.stopping:
            self._life.stop.handle(int(signal.SIGINT), None)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """The time inside counts as `paused`: neither as time of the steps nor in the time left. Leave it when `stopping`."""
        log.info("paused at step %d", self._trainer.step)
        self._life.say(step=self._trainer.step)
        with self._life.times("paused"), self._left.pausing():
            yield
        log.info("goes on at step %d", self._trainer.step)

    def export(self) -> dict[str, Path]:
        """Writes mesh and assets of the scene as it is now into a new folder of the run: name -> file.

        A signal ends it, and then the run; nothing is returned. Raises ExportError as at the end of the run.
        """
        folder = unused(self._directory.path / f"export-step-{self._trainer.step:06d}")
        made: dict[str, Path] = {}
        try:
            with self._life.times("mesh"), self._left.pausing(), self._life.stop.at_once():
                made = export_all(self._trainer.scene, self._trainer.config.export, self._exporters, folder)
        except Interrupted:
            if self._life.stop.insisted:
                raise
        return made

    def ask(self, noise: float, guidance_scale: float) -> Guess:
        """Shows the last step's views, without gradients, to the guidance of the first loss that has one.

        noise: how noisy they are made first, as a share of the schedule's T timesteps, in [0, 1]. The noise is the same each
        time, from a generator of its own. Raises ConfigError before the first step, and in a run without guidance.
        """
        trainer = self._trainer
        loss = next(
            (name for name in trainer.losses if trainer.guidance_of(name) and trainer.uses[name].views in self.views), None
        )
        if loss is None:
            raise ConfigError("no loss has asked a guidance yet; ask again after the first step")
        use, name = trainer.uses[loss], trainer.guidance_of(loss)
        assert name is not None
        cameras, model = self.views[use.views], trainer.model(name)
        generator = torch.Generator(trainer.device).manual_seed(0)
        with evaluating(trainer.geometry, trainer.renderer), trainer.accelerator.autocast():
            render = trainer.renderer(trainer.geometry, cameras)
            prompt = trainer.prompts[name].batch(cameras).with_control(model.control_image(render, cameras))
            progress = Progress(trainer.step, trainer.config.trainer.steps)
            inputs = LossInputs(render, Views(cameras), prompt, model, progress, generator, trainer.geometry, use.of)
            clean = inputs.encoded
            timestep = torch.full((len(clean),), round(noise * (len(model.schedule) - 1)), device=trainer.device)
            drawn = torch.randn(clean.shape, generator=generator, device=trainer.device, dtype=clean.dtype)
            noisy = model.add_noise(clean, drawn, timestep)
            predicted = model.predict_noise_guided(noisy, timestep, prompt.positive, prompt.negative, guidance_scale)
            denoised = model.decode_image(model.predict_clean(noisy, timestep, predicted))
            seen = model.decode_image(clean) if inputs.latent else inputs.image
        forget_numbers(model)
        return Guess(seen.clamp(0, 1), denoised.clamp(0, 1))
