"""From a checked configuration to components: names resolved, options checked, parts fitted together; only then constructed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, cast

from pydantic import BaseModel, ValidationError

from dfw.config.messages import explain
from dfw.config.origins import KeyPath, Provenance
from dfw.config.schedules import Ramp, Schedule, last_step
from dfw.config.settings import ComponentSettings, RunConfig
from dfw.errors import ConfigError, DfwError, PluginError, one_line
from dfw.interfaces.component import Component, ComponentConfig
from dfw.interfaces.kinds import Geometry, Guidance, Loss, Renderer
from dfw.plugins.discovery import Origin
from dfw.plugins.registry import Entry, Registry
from dfw.plugins.registry import registry as default_registry
from dfw.plugins.requirements import check_requirements
from dfw.plugins.torch_state import kept

log = logging.getLogger("dfw.compose")

Answer = TypeVar("Answer")

OFFERED_BY = {
    "density-field": "geometry",
    "image": "geometry",
    "colour": "renderer",
    "opacity": "renderer",
    "depth": "renderer",
    "normals": "renderer",
    "ray-samples": "renderer",
    "latents": "renderer",
    "noise-prediction": "guidance",
    "text": "guidance",
    "adapter": "guidance",
}
"""Built-in feature -> the kind of component that usually provides it, for messages."""


@dataclass(frozen=True)
class Part:
    """One component of a run before it is constructed: where it stands (`path`), its entry, class and checked options."""

    path: KeyPath
    entry: Entry
    cls: type[Component]
    config: ComponentConfig

    @property
    def key(self) -> str:
        """The configuration path, e.g. `losses.sds`."""
        return ".".join(self.path)

    @property
    def who(self) -> str:
        """For messages: `geometry (acme/nerf, acme 0.3)`."""
        return f"{self.key} ({self.entry.qualified}, {self.entry.distribution} {self.entry.version})"

    def construct(self) -> Component:
        """The component. What its constructor raises, other than a DfwError, becomes a PluginError that names it."""
        constructor = cast(Callable[[ComponentConfig], Component], self.cls)
        with kept(lambda changes: log.warning("%s changed %s in its constructor; put back", self.who, changes)):
            component = fenced(self, "failed to start", lambda: constructor(self.config))
        if "_parameters" not in vars(component):
            raise PluginError(f"{self.who} failed to start: its __init__ does not call super().__init__()")
        component.dfw_name = self.who
        return component

    def written(self) -> dict[str, Any]:
        """Its options as plain data, every default written out. Raises PluginError, naming it, for what cannot be written."""
        what = "cannot write its options, which must be numbers, text, lists, mappings or Configs"
        return fenced(self, what, lambda: self.config.model_dump(mode="json", by_alias=True))


@dataclass(frozen=True)
class Parts:
    """The constructed components of a run; each loss with its weight."""

    geometry: Geometry
    renderer: Renderer
    guidance: Guidance | None
    losses: dict[str, tuple[Loss, Schedule]]

    def all(self) -> list[Component]:
        """Every component, the guidance last."""
        parts = [self.geometry, self.renderer, *(loss for loss, _ in self.losses.values()), self.guidance]
        return [part for part in parts if part is not None]


@dataclass(frozen=True)
class Composition:
    """A configuration whose parts are known, checked and fit together; nothing is constructed yet."""

    config: RunConfig
    geometry: Part
    renderer: Part
    guidance: Part | None
    losses: dict[str, Part]
    resting: dict[str, Part]
    """Losses whose weight is 0 throughout: checked and written down, and no part of the run."""

    def parts(self) -> list[Part]:
        """All parts, in the order they are constructed."""
        return [part for part in (self.geometry, self.renderer, *self.losses.values(), self.guidance) if part is not None]

    def origins(self) -> dict[str, Origin]:
        """Configuration path -> where that component comes from, for the manifest."""
        return {p.key: Origin(p.entry.qualified, p.entry.distribution, p.entry.version, p.cls.__module__) for p in self.parts()}

    def plugins(self) -> dict[str, str]:
        """Distribution -> version, of all that take part."""
        return {part.entry.distribution: part.entry.version for part in self.parts()}

    def build_geometry(self) -> Geometry:
        """Constructs the geometry."""
        return cast(Geometry, self.geometry.construct())

    def build_renderer(self) -> Renderer:
        """Constructs the renderer."""
        return cast(Renderer, self.renderer.construct())

    def build_guidance(self) -> Guidance | None:
        """Constructs the guidance, which loads its model; None for a run without one."""
        return None if self.guidance is None else cast(Guidance, self.guidance.construct())

    def build_losses(self) -> dict[str, tuple[Loss, Schedule]]:
        """Constructs the losses, each with its weight."""
        return {name: (cast(Loss, part.construct()), self.config.losses[name].weight) for name, part in self.losses.items()}

    def build(self) -> Parts:
        """Constructs everything; the guidance last, since loading a model takes longest."""
        geometry, renderer, losses = self.build_geometry(), self.build_renderer(), self.build_losses()
        return Parts(geometry, renderer, self.build_guidance(), losses)

    def resolved(self) -> RunConfig:
        """The configuration with qualified names and every default written out: what `resolved.yaml` holds."""
        written: dict[str, Any] = {
            key: None if part is None else {"type": part.entry.qualified} | part.written()
            for key, part in (("geometry", self.geometry), ("renderer", self.renderer), ("guidance", self.guidance))
        }
        plain = self.config.model_dump(mode="json", by_alias=True)
        written["losses"] = {
            name: {"type": part.entry.qualified, "weight": plain["losses"][name]["weight"]} | part.written()
            for name, part in (self.losses | self.resting).items()
        }
        return RunConfig.model_validate(plain | written)


def compose(config: RunConfig, registry: Registry | None = None, provenance: Provenance | None = None) -> Composition:
    """Finds, checks and fits together the components of a run; loads classes, constructs nothing.

    Raises PluginError for what cannot be found or loaded and ConfigError for options, schedules and parts that do not fit; each
    names the configuration path, and the file and line where `provenance` knows them.
    """
    provenance = provenance or Provenance()
    check_requirements(config.plugins, provenance.prefix(("plugins",)).removesuffix(": "))
    chosen: dict[KeyPath, tuple[str, ComponentSettings]] = {
        ("geometry",): ("geometry", config.geometry),
        ("renderer",): ("renderer", config.renderer),
    }
    if config.guidance is not None:
        chosen[("guidance",)] = ("guidance", config.guidance)
    chosen |= {("losses", name): ("loss", settings) for name, settings in config.losses.items()}
    finder = _Finder(registry or default_registry(), provenance)
    parts = {path: finder.find(path, kind, settings) for path, (kind, settings) in chosen.items()}
    if finder.mistakes:
        raise ConfigError("\n".join(finder.mistakes))
    resting = {name: parts.pop(("losses", name)) for name, loss in config.losses.items() if loss.weight == 0}
    losses = {path[1]: part for path, part in parts.items() if path[0] == "losses"}
    if not losses:
        raise ConfigError(f"{provenance.prefix(('losses',))}the weight of every loss is 0; give one of them another")
    _check_ramps(parts.values(), config.trainer.steps, provenance)
    _check_features(list(parts.values()), provenance)
    return Composition(config, parts[("geometry",)], parts[("renderer",)], parts.get(("guidance",)), losses, resting)


class _Finder:
    """Resolves and checks components one by one; gathers mistakes in options, so that one message tells them all."""

    def __init__(self, registry: Registry, provenance: Provenance) -> None:
        self.registry = registry
        self.provenance = provenance
        self.mistakes: list[str] = []

    def find(self, path: KeyPath, kind: str, settings: ComponentSettings) -> Part:
        where = (*path, "type")
        origin = self.provenance.where(where)
        try:
            entry = self.registry.resolve(kind, settings.type, ".".join(where))
            cls = self.registry.load(entry)
        except PluginError as error:
            raise PluginError(f"{origin}: {error}" if origin else str(error)) from error.__cause__
        options = settings.options
        try:
            return checked(path, entry, cls, options)
        except ValidationError as error:
            self.mistakes += explain(error, options, cls.Config, self.provenance, path, entry.label)
            return Part(path, entry, cls, cls.Config.model_construct())


def checked(path: KeyPath, entry: Entry, cls: type[Component], options: Mapping[str, Any]) -> Part:
    """A part with its options checked. Raises ValidationError for wrong ones; PluginError for a Config that itself breaks."""
    try:
        return Part(path, entry, cls, cls.Config.model_validate(dict(options)))
    except (DfwError, ValidationError, KeyboardInterrupt):
        raise
    except BaseException as error:  # a validator of the plugin's own
        who = f"Config of {entry.qualified} ({entry.distribution} {entry.version})"
        raise PluginError(f"{'.'.join(path)}: {who} raised {one_line(error)}") from error


def fenced(part: Part, what: str, action: Callable[[], Answer]) -> Answer:
    """`action()`; an exception that is no DfwError becomes a PluginError naming the part, its distribution and version."""
    try:
        return action()
    except (DfwError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise PluginError(f"{part.who} {what}: {one_line(error)}") from error


def _check_ramps(parts: Any, steps: int, provenance: Provenance) -> None:
    mistakes = []
    for part in parts:
        for path, ramp in ramps_in(part.config, part.path):
            if last_step(ramp) > steps:
                mistakes.append(
                    f"{provenance.prefix(path)}ends at step {last_step(ramp):g}, after the run's {steps} steps; "
                    f"shorten it, raise trainer.steps, or use unit: fraction ({part.entry.label})"
                )
    if mistakes:
        raise ConfigError("\n".join(mistakes))


def ramps_in(value: object, path: KeyPath) -> Iterator[tuple[KeyPath, Ramp]]:
    """Every ramp inside a checked configuration, with its path."""
    if isinstance(value, Ramp):
        yield path, value
    elif isinstance(value, BaseModel):
        for name, info in type(value).model_fields.items():
            yield from ramps_in(getattr(value, name), (*path, info.alias or name))
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from ramps_in(item, (*path, str(key)))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from ramps_in(item, (*path, str(index)))


def _check_features(parts: list[Part], provenance: Provenance) -> None:
    offered = {part.path: features(part, "provides") for part in parts}
    mistakes = []
    for part in parts:
        others = [other for other in parts if other is not part]
        provided = frozenset().union(*(offered[other.path] for other in others))
        lacking = sorted(features(part, "requires") - provided)
        mistakes += [provenance.prefix(part.path) + _unmet(part, feature, others) for feature in lacking]
    if mistakes:
        raise ConfigError("\n".join(mistakes))


def features(part: Part, question: Literal["requires", "provides"]) -> frozenset[str]:
    """What a part `requires` or `provides`. Raises PluginError, naming it, when it cannot say or gives no set of words."""

    def ask() -> frozenset[str]:
        answer = getattr(part.cls, question)(part.config)
        if isinstance(answer, str) or not all(isinstance(word, str) for word in answer):
            raise TypeError(f"it gave {answer!r}, not a set of words such as frozenset({{'normals'}})")
        return frozenset(answer)

    return fenced(part, f"cannot say what it {question}", ask)


def _unmet(part: Part, feature: str, others: list[Part]) -> str:
    """What `part` lacks and how to get it."""
    head = f"{part.entry.label} needs {feature}"
    them = "them" if feature.endswith("s") and not feature.endswith("ss") else "it"
    hints = [
        f"{other.entry.kind} {other.entry.label} provides {them} when {other.cls.feature_hints[feature]}"
        for other in others
        if feature in other.cls.feature_hints
    ]
    if hints:
        return f"{head}; {' or '.join(hints)}"
    kind = OFFERED_BY.get(feature)
    present = [other for other in others if other.entry.kind == kind]
    if present:
        return f"{head}; {kind} {present[0].entry.label} does not provide {them}, choose another {kind}"
    if kind is not None:
        return f"{head}; this run has no {kind}, add one"
    return f"{head}; no other part of this run provides {them}"
