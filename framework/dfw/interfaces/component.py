"""What every component has in common: a checked configuration, features, and numbers it reports. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import model_validator

from dfw.config.base import Checked
from dfw.config.settings import ComponentSettings

if TYPE_CHECKING:
    from torch import Tensor

    from dfw.interfaces.models import Model


class ComponentConfig(Checked):
    """Base of every component's `Config`: frozen; the docstring under a field becomes its help.

    It refuses unknown keys, numbers that are not finite, and truth values for numbers.
    """

    @model_validator(mode="before")
    @classmethod
    def _types_of_parts(cls, value: Any) -> Any:
        """A component inside keeps its default type where only its options are written."""
        if not isinstance(value, Mapping):
            return value
        defaults = {info.alias or name: info.default for name, info in cls.model_fields.items()}
        parts = {key: default.type for key, default in defaults.items() if isinstance(default, ComponentSettings)}
        return {key: _typed(item, parts.get(key)) for key, item in value.items()}

    def check_files(self) -> None:
        """Looks at the files that these options name, before a model loads, also in a dry run. The default is none.

        Raises ConfigError for one that cannot be used. Its message begins with the option's name and a colon.
        """


def _typed(options: Any, default: str | None) -> Any:
    return {"type": default, **options} if default is not None and isinstance(options, Mapping) else options


class Component:
    """A part of a run that is chosen by name. The core constructs it as `cls(config)` with a checked `cls.Config`.

    Features are plain words. Built-in ones are `density-field`, `signed-distance`, `surface`, `signed-grid`, `image`,
    `latents` (of geometries); `colour`, `opacity`, `depth`, `normals`, `ray-samples` (of renderers); `noise-prediction`, `text`,
    `adapter` (of guidance); `target-colour`, `target-mask`, `target-depth`, `target-normal`, `target-index` (of cameras, for
    `Views.targets`).
    What a component requires must be provided by another part of the run. That is checked when the run is composed, before any
    model loads. A run with `start` provides `start`, for a geometry that has no shape of its own.
    """

    kind: ClassVar[str]
    """Name of the kind, e.g. `geometry`: a key of `dfw.config.kinds.KINDS`."""
    Config: ClassVar[type[ComponentConfig]] = ComponentConfig
    """The options, a subclass of ComponentConfig."""
    feature_hints: ClassVar[dict[str, str]] = {}
    """Feature -> what to configure so that this component provides it, e.g. {"normals": "shading.normals is 'always'"}."""
    config: Any
    """The checked options."""
    dfw_name: str = ""
    """Its name in messages, `losses.sds (acme/glow, acme 0.3)`. The core writes it when a run constructs the component."""
    dfw_path: str = ""
    """Where it stands in the configuration, `losses.sds`. The core writes it too."""

    @classmethod
    def requires(cls, config: Any) -> frozenset[str]:
        """Features that other parts of the run must provide, given this component's checked `config`."""
        return frozenset()

    @classmethod
    def provides(cls, config: Any) -> frozenset[str]:
        """Features that this component offers to the others, given its checked `config`."""
        return frozenset()

    @classmethod
    def models(cls) -> tuple[Model, ...]:
        """Returns the published or shipped models that its options can name, for `dfw models`. The default is none."""
        return ()

    @classmethod
    def model_names(cls, config: Any) -> Iterable[str] | None:
        """Returns which of its `models` a component with this checked `config` loads: names or repositories.

        The default is None: every text of its options that is such a name. Write it where an option has another meaning too.
        """
        return None

    def facts(self) -> Mapping[str, Any]:
        """Returns what the run's manifest says of this component next to its origin: name -> text, number, list or mapping.

        The default is empty. A guidance gives the model's id, revision and digest, so that the run can be repeated. The core asks
        once, when the component stands on the run's device and before the run's directory exists.
        """
        return {}

    def log(self, name: str, value: Tensor | float) -> None:
        """Reports a number of this step: metrics.jsonl, the report and trackers show it as `<where the component stands>.<name>`.

        value: a number, or a tensor () on any device, read later, so that this call does not wait for the device. A second value
        of one name in one step replaces the first.
        """
        detach = getattr(value, "detach", None)
        vars(self).setdefault("_dfw_numbers", {})[name] = value if detach is None else detach()


def take_numbers(component: Component) -> dict[str, Tensor | float]:
    """What `component` has logged since the last call, by name."""
    return dict(vars(component).pop("_dfw_numbers", {}))


def name_of(component: Component) -> str:
    """How messages call a component: as the run that constructed it does, else by kind and class."""
    cls = type(component)
    return component.dfw_name or f"{cls.kind} {cls.__module__}.{cls.__qualname__}"
