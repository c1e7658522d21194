"""What every component has in common: a checked configuration, and the features it requires and provides. Imports no torch."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict


class ComponentConfig(BaseModel):
    """Base of every component's `Config`: frozen, unknown keys refused; the docstring under a field becomes its help."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True)


class Component:
    """A part of a run that is chosen by name. Constructed as `cls(config)` with a checked `cls.Config`.

    Features are plain words. Built-in ones: `density-field`, `image` (of geometries); `colour`, `opacity`, `depth`, `normals`,
    `ray-samples`, `latents` (of renderers); `noise-prediction`, `text`, `adapter` (of guidance). What a component requires must
    be provided by another part of the run; that is checked when the run is composed, before any model loads.
    """

    kind: ClassVar[str]
    Config: ClassVar[type[ComponentConfig]] = ComponentConfig

    feature_hints: ClassVar[dict[str, str]] = {}
    """Feature -> what to configure so that this component provides it, e.g. {"normals": "shading.normals is 'analytic'"}."""

    config: Any

    dfw_name: str = ""
    """Its name in messages, `losses.sds (acme/glow, acme 0.3)`: written by the core when a run constructs it."""

    @classmethod
    def requires(cls, config: Any) -> frozenset[str]:
        """Features that other parts of the run must provide, given this component's checked `config`."""
        return frozenset()

    @classmethod
    def provides(cls, config: Any) -> frozenset[str]:
        """Features that this component offers to the others, given its checked `config`."""
        return frozenset()


def name_of(component: Component) -> str:
    """How messages call a component: as the run that constructed it does, else by kind and class."""
    cls = type(component)
    return component.dfw_name or f"{cls.kind} {cls.__module__}.{cls.__qualname__}"
