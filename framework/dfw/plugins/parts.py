"""Components before they are constructed: found, their options checked. Also components that stand inside other components."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from pydantic import BaseModel, PrivateAttr, ValidationError, model_validator

from dfw.config.kinds import KINDS, Kind
from dfw.config.messages import explain
from dfw.config.origins import KeyPath, Provenance
from dfw.config.settings import ComponentSettings
from dfw.errors import ConfigError, PluginError
from dfw.interfaces.component import Component, ComponentConfig
from dfw.plugins.discovery import Entry
from dfw.plugins.fence import OWN, plugin_code
from dfw.plugins.registry import Registry, registry

Interface = TypeVar("Interface", bound=Component)
Found = TypeVar("Found")


@dataclass(frozen=True)
class Chosen:
    """One component of a run before it is constructed."""

    path: KeyPath
    """Where it stands in the configuration."""
    entry: Entry
    """Who provides it."""
    cls: type[Component]
    """Its class."""
    config: ComponentConfig
    """Its checked options."""
    inside: tuple[Chosen, ...] = ()
    """The components that stand inside it."""

    @property
    def key(self) -> str:
        """The configuration path, e.g. `losses.sds`."""
        return ".".join(self.path)

    @property
    def who(self) -> str:
        """For messages: `geometry (acme/nerf, acme 0.3)`."""
        return _who(self.path, self.entry)

    def all(self) -> Iterator[Chosen]:
        """Gives itself, then what stands inside it."""
        yield self
        for one in self.inside:
            yield from one.all()

    def speaking(self) -> Iterator[Chosen]:
        """Gives itself and what stands inside it, whose `requires` and `provides` count in a run.

        A component around another of its own kind says itself what both require and provide.
        """
        yield self
        for one in self.inside:
            if one.entry.kind != self.entry.kind:
                yield from one.speaking()

    def construct(self) -> Component:
        """Builds the component. What its constructor raises, except a DfwError, becomes a PluginError that names it."""
        constructor = cast(Callable[[ComponentConfig], Component], self.cls)
        with plugin_code(self.who, "failed to start"):
            component = constructor(self.config)
        if hasattr(self.cls, "named_parameters") and "_parameters" not in vars(component):
            raise PluginError(f"{self.who} failed to start: its __init__ does not call super().__init__()")
        component.dfw_name, component.dfw_path = self.who, self.key
        return component

    def written(self, defaults: bool = True) -> dict[str, Any]:
        """Writes its type and options as plain data, with or without defaults. Raises PluginError for what cannot be written."""
        with plugin_code(self.who, "cannot write its options, which must be numbers, text, lists, mappings or Configs"):
            tree: dict[str, Any] = self.config.model_dump(mode="json", by_alias=True, exclude_unset=not defaults)
        for one in self.inside:
            if defaults or _stands(tree, one.path[len(self.path) :]):
                put(tree, one.path[len(self.path) :], one.written(defaults))
        return {"type": self.entry.qualified} | tree


def _stands(tree: Any, path: KeyPath) -> bool:
    for key in path:
        if not (isinstance(tree, list) or key in tree):
            return False
        tree = tree[int(key)] if isinstance(tree, list) else tree[key]
    return True


def put(tree: Any, path: KeyPath, value: Any) -> None:
    """Replaces what stands at `path` of plain nested values."""
    *parents, last = path
    for key in parents:
        tree = tree[int(key)] if isinstance(tree, list) else tree[key]
    tree[int(last) if isinstance(tree, list) else last] = value


class Part(ComponentSettings, Generic[Interface]):
    """A Config's field that holds another component: `noise: Part[Noise] = Part[Noise](type="dreamfw/gaussian")`.

    A configuration writes the component's name, or a mapping with its `type` and options. The core checks them when the run is
    composed, with their own path (`losses.sds.noise.type`); `build` constructs the component.
    """

    _chosen: Chosen | None = PrivateAttr(default=None)

    @model_validator(mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        return {"type": value} if isinstance(value, str) else value

    @classmethod
    def kind(cls) -> Kind:
        """Returns the kind of component that it holds."""
        (interface,) = cls.__pydantic_generic_metadata__["args"]
        return KINDS[interface.kind]

    @classmethod
    def __get_pydantic_json_schema__(cls, core: Any, handler: Any) -> dict[str, Any]:
        """Names the kind, so that `dfw.plugins.schema` and `describe` can tell what may stand here."""
        return {"x-dfw-kind": cls.kind().name, "type": ["object", "string"]}

    def __eq__(self, other: object) -> bool:
        """Returns whether both name one component with the same options, checked already or not."""
        return isinstance(other, Part) and (self.type, self.options) == (other.type, other.options)

    def __hash__(self) -> int:
        return hash(self.type)

    @property
    def cls(self) -> builtins.type[Interface]:
        """The component's class, for a wrapper that answers as it does: `part.cls.sees(part.config)`. Raises as `build` does."""
        return cast("type[Interface]", self._checked().cls)

    @property
    def config(self) -> Any:
        """The component's checked options. Raises as `build` does."""
        return self._checked().config

    def build(self) -> Interface:
        """Builds the component. Raises ConfigError or PluginError if no run has checked it, and it cannot be found or built."""
        return cast(Interface, self._checked().construct())

    def _checked(self) -> Chosen:
        if self._chosen is not None:
            return self._chosen
        chooser = Chooser(registry(), Provenance())
        chosen = chooser.choose((self.kind().name,), self.kind().name, self)
        chooser.finish()
        return chosen


class Chooser:
    """Finds and checks components one by one; gathers mistakes in options, so that one message lists them all."""

    def __init__(self, registry: Registry, provenance: Provenance) -> None:
        self.registry = registry
        self.provenance = provenance
        self.mistakes: list[str] = []

    def finish(self) -> None:
        """Raises ConfigError for the mistakes so far."""
        if self.mistakes:
            raise ConfigError("\n".join(self.mistakes))

    def choose(self, path: KeyPath, kind: str, settings: ComponentSettings) -> Chosen:
        """Finds and checks the component that `settings` name. Raises PluginError if it cannot be found, loaded or checked."""
        where = (*path, "type")
        origin = self.provenance.where(where)
        try:
            entry = self.registry.resolve(kind, settings.type, self.provenance.dotted(where))
            cls = self.registry.load(entry)
        except PluginError as error:
            raise PluginError(f"{origin}: {error}" if origin else str(error)) from error.__cause__
        return self.check(path, entry, cls, settings.options)

    def check(self, path: KeyPath, entry: Entry, cls: type[Component], options: Mapping[str, Any]) -> Chosen:
        """Checks a component's options, and what stands inside it. Raises PluginError for a Config that itself breaks."""
        try:
            with plugin_code(_who(path, entry), "failed to check its options", (*OWN, ValidationError)):
                config = cls.Config.model_validate(dict(options))
        except ValidationError as error:
            self.mistakes += explain(error, options, cls.Config, self.provenance, path, entry.label)
            return Chosen(path, entry, cls, cls.Config.model_construct())
        inside = []
        for below, part in found_in(config, Part):
            part._chosen = self.choose((*path, *below), part.kind().name, part)
            inside.append(part._chosen)
        return Chosen(path, entry, cls, config, tuple(inside))


def _who(path: KeyPath, entry: Entry) -> str:
    """Names a component for messages: `geometry (acme/nerf, acme 0.3)`."""
    return f"{'.'.join(path) or entry.kind} ({entry.qualified}, {entry.provider})"


def found_in(value: object, wanted: type[Found], path: KeyPath = ()) -> Iterator[tuple[KeyPath, Found]]:
    """Gives every instance of `wanted` in a checked Config, with its path; does not look inside those."""
    if isinstance(value, wanted):
        yield path, value
    elif isinstance(value, BaseModel):
        for name, info in type(value).model_fields.items():
            yield from found_in(getattr(value, name), wanted, (*path, info.alias or name))
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from found_in(item, wanted, (*path, str(key)))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from found_in(item, wanted, (*path, str(index)))
