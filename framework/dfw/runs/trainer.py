"""The loop: sample views, render, ask the losses, go back, step. The only module that knows accelerate."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn

from dfw.compose import Parts
from dfw.config.load import to_yaml
from dfw.config.schedules import Progress, Ramp, value_at
from dfw.config.settings import RunConfig
from dfw.errors import ConfigError, DivergedError
from dfw.interfaces.cameras import Cameras
from dfw.interfaces.checks import check_groups, check_guidance, check_loss, check_render, check_views, check_wishes
from dfw.interfaces.component import Component, name_of, take_numbers
from dfw.interfaces.data import CameraBatch, RenderOutput, Views
from dfw.interfaces.geometry import Geometry
from dfw.interfaces.guidance import Guidance
from dfw.interfaces.loss import Loss, LossInputs, LossSetup
from dfw.interfaces.renderer import Renderer
from dfw.plugins.fence import end_copy
from dfw.plugins.parts import found_in
from dfw.ranks.processes import party
from dfw.runs.average import Average
from dfw.runs.checkpoint import load_checkpoint, save_checkpoint
from dfw.runs.checkpoint_folder import run_of
from dfw.runs.first_step import first_look, look_at_geometry, look_at_losses, look_at_render
from dfw.runs.network_calls import count_calls, take_calls
from dfw.runs.optimizer import carry_over, learning_rate_of, make_optimizer, merge_groups, set_learning_rates
from dfw.runs.prompt_table import PromptTable
from dfw.runs.random_streams import Streams
from dfw.runs.rehearsal import Rehearsal, optimizers_of
from dfw.runs.scene import Scene
from dfw.runs.seal import digest
from dfw.runs.step_timer import Clock, Mark, peak_memory, seconds_of
from dfw.runs.untouched import Watch
from dfw.runs.watchdog import Watchdog, sources

FLUSH_EVERY = 10  # steps between reads from a CUDA device; on the CPU every step is read at once
MAIN = "cameras"  # the training cameras; every other set of views has random streams of its own


@dataclass(frozen=True)
class StepRecord:
    """One step's numbers."""

    step: int
    """Counted from 0."""
    loss: float
    """The weighted sum of the losses."""
    losses: dict[str, float]
    """The unweighted losses that took part."""
    opacity: float | None
    """Mean opacity of the training views; None in a step in which no loss looked at them."""
    grad_norm: float
    """Norm of all gradients together, before clipping."""
    lr: float
    """Learning rate of the groups without one of their own."""
    seconds: dict[str, float]
    """Part of the step -> wall time."""
    schedules: dict[str, float] = field(default_factory=dict)
    """Configuration path of each ramp (`losses.sds.weight`) -> its value in this step."""
    network_calls: int = 0
    """Pictures that the guidances' networks were given."""
    peak_memory: float | None = None
    """Largest memory so far, in MB (10^6 bytes): of tensors on a CUDA device, elsewhere of the process. None if not known."""
    numbers: dict[str, float] = field(default_factory=dict)
    """What components logged, by `<where the component stands>.<name>`."""
    at: float = 0.0
    """When the step ended, on `time.monotonic()`."""


@dataclass(frozen=True)
class _Pending:
    step: int
    numbers: dict[str, Tensor | float]
    logged: frozenset[str]
    lr: float
    calls: int
    spans: list[tuple[str, Mark, Mark]]
    at: float


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
    with party().apart():  # accelerate would connect the processes in its own way
        return Accelerator(cpu=device.type == "cpu", mixed_precision=precision)


def schedules_of(config: RunConfig, components: Iterable[Component]) -> dict[str, Ramp]:
    """Returns configuration path -> ramp, of everything in a run that changes with the step."""
    found = dict(found_in(config, Ramp))
    for outer in components:
        for one in outer.modules() if isinstance(outer, nn.Module) else (outer,):
            if isinstance(one, Component) and one.dfw_path:
                found |= found_in(getattr(one, "config", None), Ramp, tuple(one.dfw_path.split(".")))
    return {".".join(path): ramp for path, ramp in found.items()}


class _Look:
    """One batch of views in one step: every set that a loss asks for is rendered once, and encoded once per guidance."""

    def __init__(self, trainer: Trainer, progress: Progress, sets: Sequence[str]) -> None:
        self._trainer = trainer
        self._progress = progress
        self.views: dict[str, Views] = {}
        self.renders: dict[str, RenderOutput] = {}
        self.numbers: dict[str, Tensor] = {}
        self._inputs: dict[tuple[str, str | None, str], LossInputs] = {}
        for name in sets:
            self.views[name] = views = trainer.sample(name, progress)
            with trainer.looking(trainer.renderer), Watch(trainer.renderer, views):
                stream = trainer.streams.of("render", name)
                render = trainer.party.render(trainer.renderer, trainer.geometry, views.cameras, stream)
            check_render(trainer.renderer, trainer.geometry, views.cameras, render)
            self.renders[name] = render

    def of(self, loss: str) -> LossInputs:
        """What the loss of that name gets."""
        use = self._trainer.uses[loss]
        return self.inputs(use.views, use.of, self._trainer.guidance_of(loss))

    def forget(self) -> None:
        """Lets go of the step's graph. Inputs point here and are kept here, so only the garbage collector would free it."""
        self.views, self.renders, self._inputs = {}, {}, {}

    def inputs(self, views: str, of: str, guidance: str | None) -> LossInputs:
        """What a loss gets that looks at these views, this picture of them, and asks this guidance."""
        key = (views, guidance, of)
        if key not in self._inputs:
            trainer, seen, render = self._trainer, self.views[views], self.renders[views]
            model = None if guidance is None else trainer.model(guidance)
            prompt = None
            if model is not None and guidance is not None:
                with torch.no_grad(), trainer.looking(model):
                    control = model.control_image(render, seen.cameras)
                    prompt = trainer.prompts[guidance].batch(seen.cameras).with_control(control)
            stream, ask = trainer.streams.of("noise", views), partial(self.inputs, views, of)
            self._inputs[key] = LossInputs(render, seen, prompt, model, self._progress, stream, trainer.geometry, of, ask)
        return self._inputs[key]


class Trainer:
    """Optimises a scene. Same configuration, same machine: same bits, interrupted or not."""

    def __init__(
        self, config: RunConfig, parts: Parts, device: torch.device, prepare: Callable[[Trainer], None] | None = None
    ) -> None:
        """A trainer at step 0. `prepare` starts a new run: by default it draws the initial values (`initialise`)."""
        self.config = config
        self.device = device
        self.party = party()
        self.streams = Streams(config.seed, device, parts.cameras)
        self.accelerator = make_accelerator(config, device)
        self.geometry: Geometry = parts.geometry.to(device)
        self.renderer: Renderer = parts.renderer.to(device)
        self.cameras: dict[str, Cameras] = {name: one.to(device) for name, one in parts.cameras.items()}
        self.prompter = parts.prompter
        self.guidances: dict[str, Guidance] = {name: one.to(device) for name, one in parts.guidances.items()}
        self.party.share(self.guidances.values())
        count_calls(self.guidances.values())  # outside of what is shared: the whole step's, in each process
        self.losses: dict[str, Loss] = {name: one.to(device) for name, one in parts.losses.items()}
        self.uses = {name: config.losses[name] for name in self.losses}
        self.rehearsal = Rehearsal()
        self.rehearsal.meet(self.geometry, self.renderer, *self.cameras.values())
        (initialise if prepare is None else prepare)(self)
        for guidance in self.guidances.values():
            check_guidance(guidance)
            guidance.schedule = guidance.schedule.to(device)
        self._check_latents()
        self.prompts = {name: self._prompt_table(name) for name in self.guidances}
        for name, loss in self.losses.items():
            setup = LossSetup(self._asked(name), self.geometry, self.renderer, self.streams["init"], prepare is leave)
            loss.bind(setup)
        self.rehearsal.meet(*self.losses.values())
        trained: list[Geometry | Renderer | Loss] = [self.geometry, self.renderer, *self.losses.values()]
        groups = merge_groups(check_groups(part) for part in trained)
        self.parameters = [p for group in groups.values() for p in group]
        self.optimizer = make_optimizer(config.optimizer, groups)
        self.prepared = self.accelerator.prepare_optimizer(self.optimizer)
        scene: dict[str, nn.Module] = {"geometry": self.geometry, "renderer": self.renderer}
        self.average = None if config.trainer.ema is None else Average(scene, config.trainer.ema)
        self.scene = Scene(
            config, self.geometry, self.renderer, self.cameras[MAIN].orbit(), device, self._decoder, average=self.average
        )
        self.clock = Clock(device)
        measured = "opacity" in type(self.renderer).provides(self.renderer.config)
        names = sources(self.geometry, self.renderer, self.guidances, self.losses)
        self.watchdog = Watchdog(config.trainer, measured and not self.scene.flat, names)
        self.schedules = schedules_of(config, [*parts.all()])
        self.step = 0
        self._process = os.getpid()
        self.identity = digest(to_yaml(config).encode())
        """The run's, which its checkpoints carry."""
        self._pending: list[_Pending] = []
        self.seen: dict[str, CameraBatch] = {}
        """The cameras of the last step, by set of views."""

    def _check_latents(self) -> None:
        """Raises ConfigError if a loss shows its guidance normals and mask as a latent, and the latents are of another kind."""
        for name, use in self.uses.items():
            asked = self._asked(name)
            if use.of == "normal-mask" and asked is not None and asked.channels != 4:
                raise ConfigError(
                    f"losses.{name}.of: normal-mask is a latent of 4 channels, and {name_of(asked)} works in {asked.channels}; "
                    "write of: normal"
                )

    def _prompt_table(self, name: str) -> PromptTable:
        """The prompt, and the texts of the losses that name the guidance, as it reads them."""
        config = self.config
        losses = [loss for key, loss in self.losses.items() if config.guidance_of(key) == name]
        shared = [text for loss in losses for text in check_wishes(loss, "texts", loss.texts())]
        by_view = [text for loss in losses for text in check_wishes(loss, "view_texts", loss.view_texts())]
        return PromptTable(self.guidances[name], self.prompter, config.prompt, config.negative_prompt, shared, by_view)

    def guidance_of(self, loss: str) -> str | None:
        """The name of the guidance that a loss asks; None where it asks none, or none is loaded for it."""
        name = self.config.guidance_of(loss)
        return name if name in self.guidances else None

    def _asked(self, loss: str) -> Guidance | None:
        name = self.guidance_of(loss)
        return None if name is None else self.guidances[name]

    def _decoder(self) -> Guidance | None:
        return next(iter(self.guidances.values()), None)

    def model(self, name: str) -> Guidance:
        """The guidance of that name. Raises ConfigError."""
        if name in self.config.models and name not in self.guidances:
            raise ConfigError(f"the guidance {name!r} is not loaded, since no loss names it, not even in an option of its own")
        if name not in self.guidances:
            raise ConfigError(f"this run has no guidance named {name!r}; there are {', '.join(self.guidances) or 'none'}")
        return self.guidances[name]

    @property
    def components(self) -> list[Component]:
        """Every component of the run, guidances last."""
        parts = [self.geometry, self.renderer, *self.cameras.values(), *self.losses.values()]
        return [*parts, *([] if self.prompter is None else [self.prompter]), *self.guidances.values()]

    @property
    def modules(self) -> dict[str, nn.Module]:
        """What a checkpoint holds."""
        modules: dict[str, nn.Module] = {"geometry": self.geometry, "renderer": self.renderer}
        modules |= {f"loss.{name}": loss for name, loss in self.losses.items()}
        modules |= {name if name == MAIN else f"view_sets.{name}": one for name, one in self.cameras.items()}
        return modules if self.average is None else modules | {"average": self.average}

    @property
    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """All whose state a checkpoint holds: the run's own first, then those that losses step themselves."""
        own = {f"loss.{name}.{key}": it for name, loss in self.losses.items() for key, it in optimizers_of(loss).items()}
        return {"optimizer": self.optimizer} | own

    def train(self, stop: Callable[[], bool], on_step: Callable[[StepRecord], None]) -> bool:
        """Steps until the end of the run (True) or until `stop()` says so (False); `on_step` gets each step's record."""
        with self.party.training(self._scene_state, self.step):
            while self.step < self.config.trainer.steps and not self.party.agree(stop()):
                self.take_step()
                if self.device.type == "cpu" or self.step % FLUSH_EVERY == 0:
                    self.flush(on_step)
        self.flush(on_step)
        return self.step == self.config.trainer.steps

    def _scene_state(self) -> list[Tensor]:
        """What all processes of a run must have alike."""
        return [*self.geometry.state_dict().values(), *self.renderer.state_dict().values()]

    def __iter__(self) -> Iterator[StepRecord]:
        """Takes the remaining steps, and gives each one's record when it is done."""
        records: list[StepRecord] = []
        while self.step < self.config.trainer.steps:
            self.take_step()
            self.flush(records.append)
            yield records.pop()

    def take_step(self) -> None:
        """One step of the optimiser."""
        self.geometry.train()
        self.renderer.train()
        progress = Progress(self.step, self.config.trainer.steps)
        if self.step == 0:
            streams = self.streams.state()
            self.rehearsal.before()
            self.streams.load_state(streams)
        take_calls(self.guidances.values())
        with self.party.in_step():
            numbers = self._train_step(progress)
        calls = take_calls(self.guidances.values())
        if self.step == 0:
            self.rehearsal.after()
        end_copy(self._process, "a component of this run")
        logged = self._logged()
        lr = value_at(learning_rate_of(self.config.optimizer, ""), progress)
        spans, now = self.clock.take(), time.monotonic()
        self._pending.append(_Pending(self.step, numbers | logged, frozenset(logged), lr, calls, spans, now))
        self.step += 1
        self.scene.step = self.step

    def looking(self, component: Component) -> AbstractContextManager[None]:
        """Watches what a component does to the process, in the first step."""
        return nullcontext() if self.step else first_look(component)

    def sample(self, name: str, progress: Progress) -> Views:
        """The views of one set in a step."""
        cameras = self.cameras[name]
        with self.looking(cameras):
            views = cameras.sample(progress, self.streams.of("cameras", name))
        check_views(cameras, views, type(cameras).together(cameras.config))
        return views

    def _train_step(self, progress: Progress) -> dict[str, Tensor | float]:
        batches = self.config.trainer.accumulate
        weights = {name: value_at(use.weight, progress) for name, use in self.uses.items()}
        weights = {name: weight for name, weight in weights.items() if weight != 0}
        looks: list[_Look] = []
        with self.clock("render"), self.accelerator.autocast():
            with self.looking(self.geometry):
                self.geometry.begin_step(progress, self.streams["scene"])
            with self.looking(self.renderer):
                self.renderer.begin_step(self.geometry, progress, self.streams["render"])
        for _ in range(batches):
            look, total = self._ask_losses(progress, weights)
            looks.append(look)
            with self.clock("backward"):
                if total.requires_grad:
                    self.accelerator.backward(total / batches if batches > 1 else total)
        with self.clock("optimizer"):
            set_learning_rates(self.optimizer, self.config.optimizer, progress)
            self.party.average(self.parameters)
            norm = self._clip()
            self.prepared.step()
            self._end_step(progress)
            self.prepared.zero_grad()
        with self.clock("guidance"):
            for look in looks:
                for name in weights:
                    with self.looking(self.losses[name]):
                        self.losses[name].end_step(look.of(name))
                self.seen = {name: views.cameras for name, views in look.views.items()}
                look.forget()
        numbers = {key: torch.stack([look.numbers[key] for look in looks]).mean(0) for key in looks[0].numbers}
        return {**numbers, "grad_norm": norm}

    def _ask_losses(self, progress: Progress, weights: Mapping[str, float]) -> tuple[_Look, Tensor]:
        """One batch of views, and the weighted sum of the losses."""
        sets = list(dict.fromkeys(self.uses[name].views for name in weights))
        with self.clock("render"), self.accelerator.autocast():
            look = _Look(self, progress, sets)
        with self.clock("guidance"):
            values: dict[str, Tensor] = {}
            for name in weights:
                loss, inputs = self.losses[name], look.of(name)
                with self.looking(loss), Watch(loss, inputs.views, inputs.render, inputs.prompt):
                    values[name] = loss(inputs)
                check_loss(loss, values[name], inputs.render, inputs.of)
            if self.step == 0:
                for render in look.renders.values():
                    look_at_render(self.renderer, render, self.step)
                look_at_losses({name: (self.losses[name], value, look.of(name)) for name, value in values.items()})
            nothing = torch.zeros((), device=self.device)
            start = sum(((render.colour * 0).sum() for render in look.renders.values()), start=nothing)
            total = sum((weights[name] * value for name, value in values.items()), start=start)
        look.numbers |= {"loss": total.detach()} | {f"losses.{name}": value.detach() for name, value in values.items()}
        if MAIN in look.renders:
            main = look.renders[MAIN]
            look.numbers |= {"colour": main.colour.detach().mean(), "opacity": main.opacity.detach().mean()}
        return look, total

    def _end_step(self, progress: Progress) -> None:
        """What the scene does after the optimiser's step: parameters may change their number."""
        with self.looking(self.geometry):
            resized = [*self.geometry.end_step(progress, self.streams["scene"])]
        with self.looking(self.renderer):
            resized += self.renderer.end_step(self.geometry, progress, self.streams["scene"])
        for one in resized:
            carry_over(self.optimizer, one)
        if self.average is not None:
            self.average.update(resized)

    def _logged(self) -> dict[str, Tensor | float]:
        """What components have logged in this step, under where they stand."""
        found: dict[str, Tensor | float] = {}
        named: list[tuple[str, nn.Module]] = [("geometry", self.geometry), ("renderer", self.renderer)]
        named += [(f"losses.{name}", loss) for name, loss in self.losses.items()]
        named += [(name if name == MAIN else f"view_sets.{name}", one) for name, one in self.cameras.items()]
        named += [(name if name == "guidance" else f"guidances.{name}", one) for name, one in self.guidances.items()]
        for place, module in named:
            for below, one in module.named_modules():
                if isinstance(one, Component):
                    prefix = ".".join(part for part in (place, below) if part)
                    found |= {f"{prefix}.{key}": value for key, value in take_numbers(one).items()}
        return found

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
        tensors = [value for one in pending for value in one.numbers.values() if isinstance(value, Tensor)]
        memory = peak_memory(self.device) if pending else None
        read = iter(torch.stack([t.detach().float().reshape(()).to(self.device) for t in tensors]).tolist() if tensors else ())
        for one in pending:
            numbers = {name: next(read) if isinstance(v, Tensor) else float(v) for name, v in one.numbers.items()}
            colour, logged = numbers.pop("colour", None), {name: numbers.pop(name) for name in sorted(one.logged)}
            losses = {name.removeprefix("losses."): v for name, v in numbers.items() if name.startswith("losses.")}
            opacity, norm = numbers.get("opacity"), numbers["grad_norm"]
            progress = Progress(one.step, self.config.trainer.steps)
            values = {path: ramp.at(progress) for path, ramp in self.schedules.items()}
            seconds = seconds_of(one.spans)
            made = (one.step, numbers["loss"], losses, opacity, norm, one.lr, seconds, values, one.calls, memory, logged, one.at)
            on_step(StepRecord(*made))
            watched = {f"losses.{name}": value for name, value in losses.items()} | logged
            watched |= {name: value for name, value in (("colour", colour), ("opacity", opacity)) if value is not None}
            if self.config.precision != "fp16":  # fp16's gradient scaler overflows on purpose and skips those steps
                watched["grad_norm"] = norm
            self.watchdog.look(one.step, watched)

    def save(self, folder: Path) -> Path:
        """Checkpoints into `folder`. Raises CheckpointError if it cannot be written.

        Raises DivergedError rather than save parameters that are not finite.
        """
        for name, parameter in self.geometry.named_parameters():
            if not bool(torch.isfinite(parameter).all()):
                raise DivergedError(f"geometry.{name} is not finite at step {self.step}; try a lower optimizer.lr")
        self.rehearsal.warn()
        keep = self.config.trainer.keep_checkpoints
        return save_checkpoint(folder, self.step, self.modules, self.optimizers, self.streams.state(), keep, self.identity)

    def restore(self, path: Path) -> None:
        """Continues from a checkpoint to the same bits as an uninterrupted run."""
        self.step, streams = load_checkpoint(path, self.modules, self.optimizers)
        self.identity = run_of(path)
        self.streams.load_state(streams)
        self.scene.step = self.step


def initialise(trainer: Trainer) -> None:
    """Draws the initial values of a new run, and looks at them."""
    trainer.geometry.initialise(trainer.streams["init"])
    trainer.renderer.initialise(trainer.streams["init"])
    look_at_geometry(trainer.geometry, trainer.device)


def leave(trainer: Trainer) -> None:
    """Draws nothing: a checkpoint will be restored."""
