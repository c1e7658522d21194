"""The loop: sample cameras, render, ask the losses, go back, step. The only module that knows accelerate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn

from dfw.config.schedules import Progress, Schedule, value_at
from dfw.config.settings import RunConfig
from dfw.errors import ConfigError, DivergedError
from dfw.interfaces.checks import check_groups, check_guidance, check_loss, check_render
from dfw.interfaces.component import Component
from dfw.interfaces.data import CameraBatch, PromptBatch, RenderOutput
from dfw.interfaces.kinds import Geometry, Guidance, Loss, LossInputs, Renderer
from dfw.runs.cameras import sample_cameras
from dfw.runs.checkpoint import load_checkpoint, save_checkpoint
from dfw.runs.first_step import look_at_geometry, look_at_losses, look_at_render
from dfw.runs.optimizer import learning_rate_of, make_optimizer, merge_groups, set_learning_rates
from dfw.runs.prompts import ViewPrompts
from dfw.runs.random_streams import Streams
from dfw.runs.step_timer import Clock, Mark, seconds_of
from dfw.runs.watchdog import Watchdog, sources

FLUSH_EVERY = 10  # steps between reads from a CUDA device; on the CPU every step is read at once


@dataclass(frozen=True)
class StepRecord:
    """One step's numbers: unweighted `losses`, their weighted sum, what the watchdog looks at, and seconds per part."""

    step: int
    loss: float
    losses: dict[str, float]
    opacity: float
    grad_norm: float
    lr: float
    seconds: dict[str, float]


@dataclass(frozen=True)
class _Pending:
    step: int
    names: tuple[str, ...]
    numbers: Tensor
    lr: float
    spans: list[tuple[str, Mark, Mark]]


def pick_device(name: str) -> torch.device:
    """`auto` is the first CUDA device, else Apple's, else the CPU. Raises ConfigError for one that is not there."""
    cuda, mps = torch.cuda.device_count() if torch.cuda.is_available() else 0, torch.backends.mps.is_available()
    if name == "auto":
        return torch.device("cuda" if cuda else "mps" if mps else "cpu")
    wanted = torch.device(name)
    there = {"cuda": cuda, "mps": int(mps)}.get(wanted.type, 1)
    if (wanted.index or 0) >= there:
        seen = f"torch {torch.__version__} sees {there or 'none'} of that kind here"
        raise ConfigError(f"device: {name} is not there, {seen}; write device=auto or device=cpu")
    return wanted


def make_accelerator(config: RunConfig, device: torch.device) -> Accelerator:
    """accelerate's device placement, autocast and gradient scaling for this run."""
    AcceleratorState._reset_state(reset_partial_state=True)  # one process may hold several runs of different precision
    if device.type == "cuda":
        torch.cuda.set_device(device)
    precision = {"fp32": "no", "fp16": "fp16", "bf16": "bf16"}[config.precision]
    return Accelerator(cpu=device.type == "cpu", mixed_precision=precision)


class Trainer:
    """Optimises a scene. Same configuration, same machine: same bits, interrupted or not."""

    def __init__(
        self,
        config: RunConfig,
        geometry: Geometry,
        renderer: Renderer,
        guidance: Guidance | None,
        losses: dict[str, tuple[Loss, Schedule]],
        device: torch.device,
    ) -> None:
        self.config = config
        self.device = device
        self.streams = Streams(config.seed, device)
        self.accelerator = make_accelerator(config, device)
        self.geometry = geometry.to(device)
        self.renderer = renderer.to(device)
        self.guidance = None if guidance is None else guidance.to(device)
        self.losses = {name: loss.to(device) for name, (loss, _) in losses.items()}
        self.weights = {name: weight for name, (_, weight) in losses.items()}
        self.geometry.initialise(self.streams["init"])
        self.renderer.initialise(self.streams["init"])
        look_at_geometry(self.geometry, device)
        self.prompts = None
        if self.guidance is not None:
            check_guidance(self.guidance)
            texts = [text for loss in self.losses.values() for text in loss.texts()]
            self.prompts = ViewPrompts(config.prompt, config.negative_prompt, config.views, self.guidance, texts)
        for loss in self.losses.values():
            loss.bind(self.guidance, self.streams["init"])
        parts: list[Geometry | Renderer | Loss] = [self.geometry, self.renderer, *self.losses.values()]
        groups = merge_groups(check_groups(part) for part in parts)
        self.parameters = [p for group in groups.values() for p in group]
        self.optimizer = make_optimizer(config.optimizer, groups)
        self.prepared = self.accelerator.prepare_optimizer(self.optimizer)
        self.clock = Clock(device)
        self.is_scene = "image" not in type(geometry).provides(geometry.config)
        measured = "opacity" in type(renderer).provides(renderer.config)
        names = sources(self.geometry, self.renderer, self.guidance, self.losses)
        self.watchdog = Watchdog(config.trainer, self.is_scene and measured, names)
        self.step = 0
        self._pending: list[_Pending] = []

    @property
    def components(self) -> list[Component]:
        """Every component of the run, the guidance last."""
        guidance = [] if self.guidance is None else [self.guidance]
        return [self.geometry, self.renderer, *self.losses.values(), *guidance]

    @property
    def modules(self) -> dict[str, nn.Module]:
        """What a checkpoint holds."""
        modules: dict[str, nn.Module] = {"geometry": self.geometry, "renderer": self.renderer}
        return modules | {f"loss.{name}": loss for name, loss in self.losses.items()}

    @property
    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """All whose state a checkpoint holds: the run's own first, then those that losses step themselves."""
        own = {f"loss.{name}.{key}": it for name, loss in self.losses.items() for key, it in loss.optimizers().items()}
        return {"optimizer": self.optimizer} | own

    def train(self, stop: Callable[[], bool], on_step: Callable[[StepRecord], None]) -> bool:
        """Steps until the end of the run (True) or until `stop()` says so (False); `on_step` gets each step's record."""
        self.geometry.train()
        self.renderer.train()
        while self.step < self.config.trainer.steps and not stop():
            self._train_step(Progress(self.step, self.config.trainer.steps))
            self.step += 1
            if self.device.type == "cpu" or self.step % FLUSH_EVERY == 0:
                self.flush(on_step)
        self.flush(on_step)
        return self.step == self.config.trainer.steps

    def _train_step(self, progress: Progress) -> None:
        with self.clock("render"), self.accelerator.autocast():
            self.geometry.begin_step(progress)
            self.renderer.begin_step(self.geometry, progress, self.streams["render"])
            cameras = sample_cameras(self.config.cameras, progress, self.streams["cameras"])
            render: RenderOutput = self.renderer(self.geometry, cameras, self.streams["render"])
            check_render(self.renderer, self.geometry, cameras, render)
        with self.clock("guidance"):
            prompt = self._prompt(render, cameras)
            inputs = LossInputs(render, cameras, prompt, self.guidance, progress, self.streams["noise"])
            weights = {name: value_at(weight, progress) for name, weight in self.weights.items()}
            losses = {name: self.losses[name](inputs) for name, weight in weights.items() if weight != 0}
            for name, value in losses.items():
                check_loss(self.losses[name], value, render)
            if self.step == 0:
                look_at_render(self.renderer, render, self.step)
                look_at_losses({name: (self.losses[name], value) for name, value in losses.items()}, inputs)
            total = sum((weights[name] * loss for name, loss in losses.items()), start=(render.colour * 0).sum())
        with self.clock("backward"):
            self.accelerator.backward(total)
        with self.clock("optimizer"):
            set_learning_rates(self.optimizer, self.config.optimizer, progress)
            norm = self._clip()
            self.prepared.step()
            self.prepared.zero_grad()
        with self.clock("guidance"):
            for name in losses:
                self.losses[name].end_step(inputs)
        numbers = torch.stack([total, render.colour.mean(), render.opacity.mean(), norm, *losses.values()]).detach()
        lr = value_at(learning_rate_of(self.config.optimizer, ""), progress)
        self._pending.append(_Pending(self.step, tuple(losses), numbers, lr, self.clock.take()))

    @torch.no_grad()
    def _prompt(self, render: RenderOutput, cameras: CameraBatch) -> PromptBatch | None:
        """The prompt for these views, with the control picture of a guidance that reads one."""
        if self.prompts is None or self.guidance is None:
            return None
        return self.prompts.batch(cameras).with_control(self.guidance.control_image(render, cameras))

    def _clip(self) -> Tensor:
        """The norm of all gradients together; clips them where the configuration says so."""
        limit = self.config.optimizer.max_grad_norm
        if limit is not None:
            return torch.as_tensor(self.accelerator.clip_grad_norm_(self.parameters, limit), device=self.device)
        grads = [p.grad for p in self.parameters if p.grad is not None]
        return torch.nn.utils.get_total_norm(grads).to(self.device)

    def flush(self, on_step: Callable[[StepRecord], None]) -> None:
        """Reads the numbers of the steps since the last flush from the device: the only place that waits for it."""
        pending, self._pending = self._pending, []
        if not pending:
            return
        widest = max(p.numbers.numel() for p in pending)
        table = torch.stack([torch.nn.functional.pad(p.numbers.float(), (0, widest - p.numbers.numel())) for p in pending]).cpu()
        for row, entry in zip(table.tolist(), pending, strict=True):
            loss, colour, opacity, norm, *values = row
            losses = dict(zip(entry.names, values[: len(entry.names)], strict=True))
            record = StepRecord(entry.step, loss, losses, opacity, norm, entry.lr, seconds_of(entry.spans))
            on_step(record)
            numbers = {"colour": colour, "opacity": opacity} | {f"losses.{n}": v for n, v in losses.items()}
            if self.config.precision != "fp16":  # fp16's gradient scaler overflows on purpose and skips those steps
                numbers["grad_norm"] = norm
            self.watchdog.look(entry.step, numbers)

    def save(self, folder: Path) -> Path:
        """Checkpoints into `folder`. Raises DivergedError rather than save parameters that are not finite."""
        for name, parameter in self.geometry.named_parameters():
            if not bool(torch.isfinite(parameter).all()):
                raise DivergedError(f"geometry.{name} is not finite at step {self.step}; try a lower optimizer.lr")
        return save_checkpoint(
            folder, self.step, self.modules, self.optimizers, self.streams.state(), self.config.trainer.keep_checkpoints
        )

    def restore(self, path: Path) -> None:
        """Continues from a checkpoint to the same bits as an uninterrupted run."""
        self.step, streams = load_checkpoint(path, self.modules, self.optimizers)
        self.streams.load_state(streams)
