"""The shape of a run's configuration, as checked models. Imports no torch.

A component's own fields live in its `Config`; here they are an open mapping with a `type`, checked when the run is composed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from dfw.config.base import Checked
from dfw.config.kinds import KINDS, default_type
from dfw.config.origins import KeyPath
from dfw.config.paths import LocalPath
from dfw.config.schedules import Ramp, Schedule, last_step


def at_least(value: Schedule, least: float, what: str) -> Schedule:
    """Returns `value` if it is `least` or more, at both ends of a ramp. Raises ValueError, with `what` to write instead."""
    lowest = min(value.from_, value.to) if isinstance(value, Ramp) else value
    if lowest < least:
        raise ValueError(f"{lowest:g} is too small; {what}")
    return value


class ComponentSettings(Checked):
    """A component by name: `type`, and the fields of its own `Config` next to it."""

    model_config = ConfigDict(extra="allow")

    type: str
    """Name (`nerf`) or qualified name (`dreamfw/nerf`) of the component."""

    @property
    def options(self) -> dict[str, Any]:
        """The fields for the component's own Config."""
        return dict(self.model_extra or {})


def _named(value: Any) -> Any:
    """Writes a component's name as `{type: name}`, which it is short for."""
    return {"type": value} if isinstance(value, str) else value


Named = Annotated[ComponentSettings, BeforeValidator(_named, json_schema_input_type=str | ComponentSettings)]
"""A component: its name, or a mapping with `type` and its options."""


class LossSettings(ComponentSettings):
    """A loss, its weight in the total, and what it looks at. `type` defaults to the loss's key."""

    weight: Schedule = 1.0
    """Factor of the loss: a number or a ramp. A loss of weight 0 takes no part."""
    of: str = Field(default="colour", min_length=1)
    """Which picture of the render it looks at: `colour`, `normal` (world axes), `camera-normal`, `depth` (disparity), `opacity`,
    `normal-mask` (both as a latent of four channels), or another picture that the renderer gives, by its name."""
    views: str = "cameras"
    """Which views it looks at: `cameras`, or a name in `view_sets`."""
    guidance: str | None = None
    """Which of `guidances` it asks; none: the run's only one."""


Axis = Literal["x", "y", "z", "-x", "-y", "-z"]


class StartSettings(Checked):
    """What the scene starts from: exactly one of `run`, `stage` and `mesh`."""

    run: LocalPath | None = None
    """The directory of another run. Its newest checkpoint is read once; the directory may be deleted afterwards."""
    stage: str | None = None
    """An earlier stage of the same run, by its name in `stages`."""
    mesh: LocalPath | None = None
    """A mesh file (OBJ, GLB, glTF, PLY, STL), for a geometry that can start from a surface. It may be deleted afterwards."""
    up: Axis | None = None
    """The mesh file's axis that points up; none: z for PLY and STL, as dfw writes them, and y for others, as in glTF."""
    front: Axis | None = None
    """The mesh file's axis that points to the front; none: x for PLY and STL, and z for others."""
    radius: PositiveFloat | None = 0.9
    """World units of the ball around the origin that a mesh file is moved and scaled into, so that the usual cameras see all of
    it; none: it keeps its size and place."""
    smoothing: NonNegativeFloat | None = None
    """Standard deviation, world units, of a Gaussian over a density whose surface is taken, as in `export.smoothing`; none: that
    of the run which it starts from."""
    take: tuple[Literal["geometry", "renderer", "optimizer"], ...] = ("geometry",)
    """What is taken over. `renderer`: its parameters (a learned background), where both runs have the same renderer.
    `optimizer`: its state, where both scenes have the same parameters."""

    @model_validator(mode="after")
    def _one(self) -> StartSettings:
        given = [name for name in ("run", "stage", "mesh") if getattr(self, name) is not None]
        if len(given) != 1:
            what = " and ".join(given) or "nothing"
            raise ValueError(f"names {what}; write exactly one of run, stage and mesh, e.g. {{run: runs/dreamfusion/...}}")
        if self.mesh is not None and set(self.take) != {"geometry"}:
            raise ValueError("a mesh file holds neither a renderer nor an optimizer; leave take out")
        fields = type(self).model_fields
        alone = [
            name for name in ("up", "front", "radius") if getattr(self, name) != fields[name].default
        ]  # or it is written out
        if self.mesh is None and alone:
            raise ValueError(f"{min(alone)} is for a mesh file, and this starts from a run's scene; leave it out")
        if self.mesh is not None and self.smoothing is not None:
            raise ValueError("smoothing is for a run's density field, and this starts from a mesh file; leave it out")
        return self


def _check_betas(value: tuple[float, float] | None) -> tuple[float, float] | None:
    if value is not None and not all(0 <= beta < 1 for beta in value):
        raise ValueError(f"[{value[0]:g}, {value[1]:g}] must lie inside [0, 1); Adam's are [0.9, 0.99]")
    return value


class GroupSettings(Checked):
    """What differs for one parameter group; what is left out is the optimiser's own."""

    lr: Schedule | None = None
    """Learning rate of the group; 0 freezes it."""
    betas: tuple[float, float] | None = None
    """Decay rates of the first and second moment."""
    eps: PositiveFloat | None = None
    """Added to the denominator."""
    weight_decay: NonNegativeFloat | None = None
    """Weight decay."""

    @field_validator("lr")
    @classmethod
    def _lr(cls, value: Schedule | None) -> Schedule | None:
        return None if value is None else at_least(value, 0, "write 0 or more, e.g. 0.01")

    @field_validator("betas")
    @classmethod
    def _betas(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        return _check_betas(value)


class OptimizerSettings(Checked):
    """How parameters are updated from gradients."""

    type: Literal["adamw", "adam", "sgd"] = "adamw"
    """`adamw`: Adam with decoupled weight decay (Loshchilov and Hutter 2019), which is plain Adam at weight_decay 0. `adam`: Adam
    (Kingma and Ba 2015), weight decay as an L2 penalty. `sgd`: with momentum betas[0]."""
    lr: Schedule = 0.01
    """Learning rate of every group that `groups` does not name."""
    betas: tuple[float, float] = (0.9, 0.99)
    """Decay rates of the first and second moment."""
    eps: PositiveFloat = 1e-15
    """Added to the denominator."""
    weight_decay: NonNegativeFloat = 0.0
    """Weight decay."""
    max_grad_norm: PositiveFloat | None = None
    """Clip the norm of all gradients together; none: no clipping."""
    groups: dict[str, GroupSettings] = {}  # noqa: RUF012  # pydantic copies it
    """Parameter group -> its own settings."""

    @field_validator("lr")
    @classmethod
    def _lr(cls, value: Schedule) -> Schedule:
        return at_least(value, 0, "write 0 or more, e.g. 0.01")

    @field_validator("betas")
    @classmethod
    def _betas(cls, value: tuple[float, float]) -> tuple[float, float]:
        _check_betas(value)
        return value


class TrainerSettings(Checked):
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
    accumulate: PositiveInt = 1
    """How many batches of views the gradient of one optimiser step is the mean of."""
    ema: float | None = Field(default=None, gt=0, lt=1)
    """Decay of an exponential moving average of the scene's parameters, which previews, export and checkpoints then show, e.g.
    0.999; none: no average."""
    watch_from: float = Field(default=0.1, ge=0, le=1)
    """Fraction of the run after which an empty or a filled scene stops it."""
    threads: PositiveInt | Literal["auto"] = "auto"
    """Threads of the processor that torch's operations share. auto: one where the models have 20 million parameters or fewer in
    all, as those that ship do: small operations take longer to share than to do. Else what OMP_NUM_THREADS says, or all cores."""


FACES = 20_000
"""Triangles that an exported mesh has at most, unless it is the user's own or `export.faces` says so."""


class ExportSettings(Checked):
    """What is made at the end."""

    formats: tuple[Named, ...] = Field(default=("glb", "obj", "ply"), validate_default=True)
    """Mesh files to write, each the name of an exporter or a mapping with its `type` and options; empty: no mesh."""
    resolution: int = Field(default=128, ge=16, le=1024)
    """Cells of the marching-cubes grid along each axis."""
    level: PositiveFloat | Literal["auto"] = "auto"
    """Density of the surface, 1/unit; auto: the level whose silhouettes agree best with the renders."""
    smoothing: NonNegativeFloat = 0.0
    """Standard deviation, world units, of a Gaussian over the shape: pits and bumps smaller than it go. 0: the field as it is."""
    faces: PositiveInt | None = None
    """Upper bound on triangles after decimation; none: 20,000, but a mesh with its own texture coordinates keeps all it has."""
    smallest_piece: float = Field(default=0.01, ge=0, le=1)
    """Separate pieces with less than this share of the largest piece's area are left out, and the report counts them; 0: none is.
    A mesh with its own texture coordinates keeps all it has."""
    texture: int = Field(default=1024, ge=64, le=8192)
    """Side of the baked texture, pixels."""
    turntable: Literal["webp", "gif", "mp4", "png"] = "webp"
    """Format of the turntable: an animation, or `png`, a folder of frames. mp4 needs the library `av`."""
    turntable_frames: int = Field(default=36, ge=0)
    """Frames of the turntable; 0: none."""
    turntable_width: PositiveInt = 192
    """Pixels of a turntable frame."""


_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,49}")  # it becomes a part of file names
_DEVICE = re.compile(r"^(auto|cpu|mps|cuda(:\d+)?)$")


def require_device(name: str) -> None:
    """Raises ValueError for what cannot name a device. Whether it is there is another question."""
    if _DEVICE.match(name) is None:
        raise ValueError(f"no device is called {name!r}; write auto, cpu, cuda, cuda:0 ... or mps")


class RunConfig(Checked):
    """One run: everything that decides its result."""

    name: str = Field(default="run", max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Folder under `output` that this run's directory is made in."""
    output: LocalPath = "runs"
    """Where run directories are made."""
    prompt: str = ""
    """What to make. A guidance that reads text needs one."""
    image: LocalPath | None = None
    """A picture of what to make. Guidances and views that read one name it: `image: ${image}`."""
    negative_prompt: str = ""
    """What the classifier-free guidance moves away from; empty: no condition at all."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Seeds every random stream."""
    device: str = Field(default="auto", json_schema_extra={"pattern": _DEVICE.pattern})
    """`auto` takes the GPU where there is one; else `cpu`, `cuda`, `cuda:1` ... or `mps`."""
    precision: Literal["fp32", "fp16", "bf16"] = "fp32"
    """Autocast of the scene's own networks."""
    plugins: tuple[str, ...] = ()
    """Distributions this run needs, as pip requirements, e.g. `dreamfw-acme>=0.3`."""
    geometry: Named
    """The scene."""
    renderer: Named
    """How it is seen."""
    guidance: Named | None = None
    """The diffusion model that judges it; none for runs on explicit losses only."""
    guidances: dict[str, Named] = {}  # noqa: RUF012  # pydantic copies it
    """Several diffusion models instead of one: a name of your own -> a guidance. Losses choose by `guidance`."""
    losses: dict[str, LossSettings]
    """A name of your own -> a loss."""
    prompter: Named = ComponentSettings(type=KINDS["prompter"].default)
    """Which text describes which view."""
    cameras: Named = ComponentSettings(type=KINDS["cameras"].default)
    """Training cameras: the views that losses look at unless they name others."""
    view_sets: dict[str, Named] = {}  # noqa: RUF012  # pydantic copies it
    """Further sets of views: a name of your own -> cameras. Losses choose by `views`. A set is rendered only in steps in which a
    loss of weight above 0 asks for it."""
    start: StartSettings | None = None
    """What the scene starts from; none: from its initial values."""
    optimizer: OptimizerSettings = OptimizerSettings()
    """Optimiser."""
    trainer: TrainerSettings = TrainerSettings()
    """The loop."""
    export: ExportSettings = ExportSettings()
    """What is made at the end."""

    @field_validator("device")
    @classmethod
    def _device(cls, value: str) -> str:
        require_device(value)
        return value

    @model_validator(mode="before")
    @classmethod
    def _types(cls, value: Any) -> Any:
        return with_default_types(value)

    @field_validator("losses")
    @classmethod
    def _some_loss(cls, value: dict[str, LossSettings]) -> dict[str, LossSettings]:
        if not value:
            raise ValueError("no loss given; write at least one, e.g. sds: {}")
        return value

    @model_validator(mode="after")
    def _names_fit(self) -> RunConfig:
        for place in ("losses", "guidances", "view_sets"):
            for name in getattr(self, place):
                if _NAME.fullmatch(name) is None:
                    shown = name if len(name) < 80 else f"{name[:77]}..."
                    raise ValueError(
                        f"{place}: {shown!r} cannot be a name; write a letter or digit, then at most 49 letters, digits, '.', "
                        "'_' and '-'"
                    )
        if self.guidance is not None and self.guidances:
            remedy = "write all of them under guidances, and guidance: null over an inherited one"
            raise ValueError(f"guidances: the run has a guidance as well; {remedy}")
        if "cameras" in self.view_sets:
            raise ValueError("view_sets.cameras: this name stands for the training cameras; choose another")
        for name, loss in self.losses.items():
            if loss.views not in ("cameras", *self.view_sets):
                known = ", ".join(["cameras", *self.view_sets])
                raise ValueError(f"losses.{name}.views: no set of views is called {loss.views!r}; there are {known}")
            if loss.guidance is not None and loss.guidance not in self.models:
                known = ", ".join(self.models) or "none"
                raise ValueError(f"losses.{name}.guidance: no guidance is called {loss.guidance!r}; there are {known}")
        return self

    @property
    def subject(self) -> str:
        """What the run makes, in words: its prompt, else the name of its picture, else its own."""
        return self.prompt or (Path(self.image).stem if self.image else self.name)

    @property
    def models(self) -> dict[str, ComponentSettings]:
        """All guidances by name; a single one is called `guidance`."""
        return dict(self.guidances) if self.guidance is None else {"guidance": self.guidance}

    def guidance_of(self, loss: str) -> str | None:
        """Returns the name of the guidance that a loss asks. None where it names none and the run has not exactly one."""
        named = self.losses[loss].guidance
        return named or (next(iter(self.models)) if len(self.models) == 1 else None)

    @model_validator(mode="after")
    def _schedules_fit(self) -> RunConfig:
        ramps: dict[str, Schedule | None] = {"optimizer.lr": self.optimizer.lr}
        ramps |= {f"optimizer.groups.{name}.lr": group.lr for name, group in self.optimizer.groups.items()}
        ramps |= {f"losses.{name}.weight": loss.weight for name, loss in self.losses.items()}
        for path, ramp in ramps.items():
            if ramp is not None and last_step(ramp) > self.trainer.steps:
                raise ValueError(
                    f"{path}: ends at step {last_step(ramp):g}, after the run's {self.trainer.steps} steps; "
                    "shorten it, raise trainer.steps, or use unit: fraction"
                )
        return self


def with_default_types(tree: Any) -> Any:
    """Returns a configuration, as plain values, with the type of every component that may leave it out."""
    if not isinstance(tree, Mapping):
        return tree
    filled = dict(tree)
    for kind in KINDS.values():
        for place in kind.places:
            key, _, star = place.partition(".")
            if not kind.default or key not in filled:
                continue
            if not star:
                filled[key] = _typed(filled[key], (key,))
            elif isinstance(filled[key], Mapping):
                filled[key] = {name: _typed(node, (key, str(name))) for name, node in filled[key].items()}
    return filled


def _typed(node: Any, path: KeyPath) -> Any:
    if node is None or isinstance(node, str):
        return {"type": node or default_type(path)}
    return {"type": default_type(path), **node} if isinstance(node, Mapping) else node


def components_of(config: RunConfig) -> Iterator[tuple[KeyPath, str, ComponentSettings]]:
    """Gives (path, kind, settings) of every component that a run's configuration names, in the order of kinds."""
    for kind in KINDS.values():
        for place in kind.places:
            *keys, last = place.split(".")
            value: Any = config
            for key in keys if last == "*" else (*keys, last):
                value = getattr(value, key)
            found: dict[KeyPath, ComponentSettings | None]
            if last != "*":
                found = {(): value}
            elif isinstance(value, Mapping):
                found = {(name,): node for name, node in value.items()}
            else:
                found = {(str(index),): node for index, node in enumerate(value)}
            head = tuple(keys if last == "*" else (*keys, last))
            yield from ((head + path, kind.name, node) for path, node in found.items() if node is not None)
