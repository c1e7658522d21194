"""The shape of a run's configuration, as checked models. Imports no torch.

A component's own fields live in its `Config`; here they are an open mapping with a `type`, checked when the run is composed.
"""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt, field_validator, model_validator

from dfw.config.camera_settings import CameraSettings, Settings, ViewSettings, at_least
from dfw.config.schedules import Schedule, last_step


class ComponentSettings(BaseModel):
    """A component by name: `type`, and the fields of its own `Config` beside it."""

    model_config = ConfigDict(frozen=True, extra="allow", use_attribute_docstrings=True)

    type: str
    """Name (`nerf`) or qualified name (`dreamfw/nerf`) of the component."""

    @property
    def options(self) -> dict[str, Any]:
        """The fields for the component's own Config."""
        return dict(self.model_extra or {})


class LossSettings(ComponentSettings):
    """A loss by name, with the weight it enters the sum with. `type` defaults to the loss's key."""

    weight: Schedule = 1.0
    """Factor of the loss: a number or a ramp."""


class GroupSettings(Settings):
    """Overrides for one parameter group."""

    lr: Schedule
    """Learning rate of the group."""

    @field_validator("lr")
    @classmethod
    def _lr(cls, value: Schedule) -> Schedule:
        return at_least(value, 0, "write 0 or more, e.g. 0.01")


class OptimizerSettings(Settings):
    """Adam (Kingma and Ba 2015), or AdamW when weight_decay is above 0."""

    lr: Schedule = 0.01
    """Learning rate of every group that `groups` does not name."""
    betas: tuple[float, float] = (0.9, 0.99)
    """Decay rates of the first and second moment."""
    eps: PositiveFloat = 1e-15
    """Added to the denominator."""
    weight_decay: NonNegativeFloat = 0.0
    """Decoupled weight decay."""
    max_grad_norm: PositiveFloat | None = None
    """Clip the norm of all gradients together; none: no clipping."""
    groups: dict[str, GroupSettings] = {}  # noqa: RUF012
    """Parameter group -> its own settings."""

    @field_validator("lr")
    @classmethod
    def _lr(cls, value: Schedule) -> Schedule:
        return at_least(value, 0, "write 0 or more, e.g. 0.01")

    @field_validator("betas")
    @classmethod
    def _betas(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not all(0 <= beta < 1 for beta in value):
            raise ValueError(f"[{value[0]:g}, {value[1]:g}] must lie inside [0, 1); Adam's are [0.9, 0.99]")
        return value


class TrainerSettings(Settings):
    """The loop: how long, how often to look, when to save."""

    steps: PositiveInt = 600
    """Optimiser steps."""
    preview_every: PositiveInt = 100
    """Steps between preview images."""
    checkpoint_every: PositiveInt = 200
    """Steps between checkpoints; one is always written at the end and on Ctrl-C."""
    keep_checkpoints: PositiveInt = 2
    """How many of the newest checkpoints stay."""
    preview_width: PositiveInt = 128
    """Pixels of preview images."""
    watch_from: float = Field(default=0.1, ge=0, le=1)
    """Fraction of the run after which an empty or a filled scene stops it."""


class ExportSettings(Settings):
    """What is made at the end."""

    formats: tuple[Literal["glb", "obj", "ply"], ...] = ("glb", "obj", "ply")
    """Files to write; empty: no mesh."""
    resolution: int = Field(default=128, ge=16, le=1024)
    """Cells of the marching-cubes grid along each axis."""
    level: PositiveFloat | Literal["auto"] = "auto"
    """Density of the surface, 1/unit; auto: the level whose silhouettes agree best with the renders."""
    smoothing: NonNegativeFloat = 0.0
    """Standard deviation, world units, of a Gaussian over the shape: pits and bumps smaller than it go. 0: the field as it is."""
    faces: PositiveInt = 20_000
    """Upper bound on triangles after decimation."""
    texture: int = Field(default=1024, ge=64, le=8192)
    """Side of the baked texture, pixels."""
    turntable_frames: int = Field(default=36, ge=0)
    """Frames of the turntable; 0: none."""
    turntable_width: PositiveInt = 192
    """Pixels of a turntable frame."""


_DEVICE = re.compile(r"^(auto|cpu|mps|cuda(:\d+)?)$")


class RunConfig(Settings):
    """One run: everything that decides its result."""

    name: str = Field(default="run", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Folder under `output` that this run's directory is made in."""
    output: str = "runs"
    """Where run directories are made."""
    prompt: str = Field(min_length=1)
    """What to make."""
    negative_prompt: str = ""
    """What the classifier-free guidance moves away from."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Seeds every random stream."""
    device: str = Field(default="auto", json_schema_extra={"pattern": _DEVICE.pattern})
    """`auto` takes the GPU where there is one; else `cpu`, `cuda`, `cuda:1` ... or `mps`."""
    precision: Literal["fp32", "fp16", "bf16"] = "fp32"
    """Autocast of the scene's own networks."""
    plugins: tuple[str, ...] = ()
    """Distributions this run needs, as pip requirements, e.g. `dreamfw-acme>=0.3`."""
    geometry: ComponentSettings
    """The scene."""
    renderer: ComponentSettings
    """How it is seen."""
    guidance: ComponentSettings | None = None
    """The diffusion model that judges it; none for runs on explicit losses only."""
    losses: dict[str, LossSettings]
    """A name of your own -> a loss."""
    views: ViewSettings = ViewSettings()
    """View-dependent prompt text."""
    cameras: CameraSettings = CameraSettings()
    """Training cameras."""
    optimizer: OptimizerSettings = OptimizerSettings()
    """Optimiser."""
    trainer: TrainerSettings = TrainerSettings()
    """The loop."""
    export: ExportSettings = ExportSettings()
    """What is made at the end."""

    @field_validator("device")
    @classmethod
    def _device(cls, value: str) -> str:
        if _DEVICE.match(value) is None:
            raise ValueError(f"no device is called {value!r}; write auto, cpu, cuda, cuda:0 ... or mps")
        return value

    @field_validator("losses", mode="before")
    @classmethod
    def _types(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        if not value:
            raise ValueError("no loss given; write at least one, e.g. sds: {}")
        nodes = {key: {} if node is None else node for key, node in value.items()}
        return {key: {"type": key, **node} if isinstance(node, dict) else node for key, node in nodes.items()}

    @model_validator(mode="after")
    def _schedules_fit(self) -> RunConfig:
        ramps: dict[str, Schedule] = {"optimizer.lr": self.optimizer.lr, "cameras.width": self.cameras.width}
        ramps |= {f"optimizer.groups.{name}.lr": group.lr for name, group in self.optimizer.groups.items()}
        ramps |= {f"losses.{name}.weight": loss.weight for name, loss in self.losses.items()}
        for path, ramp in ramps.items():
            if last_step(ramp) > self.trainer.steps:
                raise ValueError(
                    f"{path}: ends at step {last_step(ramp):g}, after the run's {self.trainer.steps} steps; "
                    "shorten it, raise trainer.steps, or use unit: fraction"
                )
        return self
