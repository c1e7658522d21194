"""From an installed component to the checks it has to pass, and the survey of all that is installed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import torch
from pydantic import BaseModel, ValidationError

from dfw.compose import Composition, compose, features
from dfw.config.load import load_with_provenance
from dfw.config.merge import parse_overrides
from dfw.config.messages import explain
from dfw.config.origins import Provenance
from dfw.errors import ConfigError, DfwError, PluginError
from dfw.interfaces.geometry import Geometry
from dfw.interfaces.guidance import Guidance
from dfw.plugins.discovery import BUILT_IN, Entry, scan
from dfw.plugins.fence import plugin_code
from dfw.plugins.parts import Chooser
from dfw.plugins.registry import Registry
from dfw.testing.background import BackgroundTests
from dfw.testing.base import ComponentTests
from dfw.testing.cameras import CamerasTests
from dfw.testing.configs import undocumented
from dfw.testing.exporter import ExporterTests
from dfw.testing.geometry import GeometryTests
from dfw.testing.guidance import GuidanceTests
from dfw.testing.launcher import LauncherTests
from dfw.testing.loss import LossTests
from dfw.testing.noise import NoiseTests
from dfw.testing.outcomes import Outcome, outcome_of
from dfw.testing.prompter import PrompterTests
from dfw.testing.renderer import RendererTests
from dfw.testing.scorer import ScorerTests

KITS: dict[str, type[ComponentTests[Any]]] = {
    "geometry": GeometryTests,
    "renderer": RendererTests,
    "guidance": GuidanceTests,
    "loss": LossTests,
    "cameras": CamerasTests,
    "prompter": PrompterTests,
    "noise": NoiseTests,
    "background": BackgroundTests,
    "exporter": ExporterTests,
    "launcher": LauncherTests,
    "scorer": ScorerTests,
}
"""Kind -> its kit."""

_KIT_OFFERS = frozenset(
    ("colour", "opacity", "depth", "normals", "ray-samples", "noise-prediction", "text", "adapter", "density-field", "surface")
) | {"signed-distance", "signed-grid", "target-colour", "target-mask", "target-depth", "target-normal", "target-index"}
"""Features of what the kit shows a loss and a noise."""


@dataclass(frozen=True)
class Request:
    """What to check and how: overrides `key=value` of its options, or a run's configuration to take options and partners from."""

    name: str
    kind: str | None = None
    overrides: Sequence[str] = ()
    config: str | None = None
    prompts: tuple[str, ...] = ()
    device: str = "cpu"


@dataclass(frozen=True)
class Checked:
    """One component of the survey, and how it did."""

    entry: Entry
    outcome: Outcome = field(default=Outcome("", "passed"))


def find(registry: Registry, name: str, kind: str | None = None) -> Entry:
    """The one component of any kind that `name` means, bare or qualified. Raises PluginError for none and for several."""
    kinds = [kind] if kind else registry.kinds_of(name)
    if not kinds and scan().listeners(name):
        raise PluginError(
            f"{name!r} is a listener, and the kits check components; dfw plugins check, without a NAME, loads every listener and "
            f"shows its hooks, dfw plugins info {name} this one alone"
        )
    if not kinds:
        raise registry.unknown(name, "component")
    if len(kinds) > 1:
        raise PluginError(f"{name!r} names a {' and a '.join(kinds)}; say which with --kind {kinds[0]}")
    return registry.resolve(kinds[0], name, f"--kind {kinds[0]}")


def kit_for(registry: Registry, request: Request) -> tuple[Entry, type[ComponentTests[Any]]]:
    """The kit for a component, with the options and partners that `request` gives. Raises DfwError when it cannot be built."""
    _check_device(request.device)
    entry = find(registry, request.name, request.kind)
    if request.prompts and entry.kind != "guidance":
        raise ConfigError(f"--prompt is for guidance, and {entry.label} is a {entry.kind}; leave it out")
    cls = registry.load(entry)
    run = None if request.config is None else _compose(registry, request.config)
    options: dict[str, Any] = {} if run is None else _options_in(run, entry, request.config)
    changes, _ = parse_overrides(list(request.overrides), {})
    options = _merged(options, changes)
    chooser = Chooser(registry, Provenance())
    part = chooser.check((), entry, cls, options)
    if chooser.mistakes:
        sentences = "\n".join(chooser.mistakes)
        raise ConfigError(f"{sentences}\nGive its options with --set key=value, or with --config RUN.yaml")
    body: dict[str, Any] = {"component": cls, "options": options, "device": request.device, "__doc__": entry.label}
    body |= _partners(registry, entry, features(part, "requires"), run)
    if entry.kind == "guidance":
        body |= _prompts(request.prompts, run)
    return entry, type(f"Check{cls.__name__}", (KITS[entry.kind],), body)


def _check_device(name: str) -> None:
    try:
        torch.empty(1, device=name)
        torch.Generator(name)
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise ConfigError(f"--device {name}: not usable here ({reason}); write cpu, or a device that dfw doctor lists") from error


def survey(registry: Registry) -> Iterator[Checked]:
    """Every installed component: that it imports, that its Config is documented, holds its own defaults and brings them through
    YAML, and that it can be built from them.
    """
    for entry in registry.entries():
        try:
            cls = registry.load(entry)
        except PluginError as error:
            yield Checked(entry, Outcome("imports", "failed", str(error)))
            continue
        yield Checked(entry, _look_over(entry.kind, cls))


def _look_over(kind: str, cls: type[Any]) -> Outcome:
    bare = sorted(f"{model.__name__}.{name}" for model, name in undocumented(cls.Config))
    if bare:
        return Outcome("config", "failed", f"no docstring under {', '.join(bare)}; say what it is, its unit and its range")
    try:
        with plugin_code("its Config", "breaks on its defaults", (ValidationError,)):
            config = cls.Config()
    except ValidationError as error:
        return _refused(cls.Config, error)
    except PluginError as error:
        return Outcome("config", "failed", str(error))
    kit = type("Defaults", (KITS[kind],), {"make": lambda self: SimpleNamespace(config=config)})
    written = outcome_of("config", kit().test_config_survives_yaml)
    return _built(cls, config) if written.status == "passed" else written


def _refused(model: type[BaseModel], error: ValidationError) -> Outcome:
    """What it means that a Config does not take its own defaults: that it must be given options, or that it is wrong."""
    needed = {problem["loc"][0] for problem in error.errors() if problem["type"] == "missing" and len(problem["loc"]) == 1}
    if len(needed) == error.error_count():
        names = ", ".join(sorted(map(str, needed)))
        return Outcome("builds", "skipped", f"not built: its options have no default for {names}")
    sentences = "; ".join(explain(error, {}, model, Provenance()))
    return Outcome("config", "failed", f"it refuses its own defaults: {sentences}")


@contextmanager
def _offline() -> Iterator[None]:
    """Inside, nothing is downloaded: a look at what is installed fetches no models."""
    from huggingface_hub import constants

    before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _built(cls: type[Any], config: object) -> Outcome:
    try:
        with _offline(), plugin_code("its defaults", "do not build it"):
            cls(config)
    except PluginError as error:
        return Outcome("builds", "failed", str(error))
    except DfwError as error:
        return Outcome("builds", "skipped", f"not built from its defaults: {error}")
    return Outcome("builds", "passed")


def _compose(registry: Registry, config: str) -> Composition:
    loaded = load_with_provenance(config)
    return compose(loaded.config, registry, loaded.provenance)


def _options_in(run: Composition, entry: Entry, config: str | None) -> dict[str, Any]:
    parts = [*run.parts(), *run.resting.values()]
    for part in parts:
        if (part.entry.kind, part.entry.qualified) == (entry.kind, entry.qualified):
            return {key: value for key, value in part.written().items() if key != "type"}
    used = ", ".join(part.entry.qualified for part in parts)
    raise ConfigError(f"{config}: no {entry.kind} {entry.qualified} in this run; it has {used}")


def _merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        below = merged.get(key)
        merged[key] = _merged(below, value) if isinstance(value, Mapping) and isinstance(below, Mapping) else value
    return merged


def _partners(registry: Registry, entry: Entry, requires: frozenset[str], run: Composition | None) -> dict[str, Any]:
    """Methods that give the kit a partner with the features it has none of: a run's own, or one that is installed."""
    if entry.kind == "renderer" and not requires & {"density-field", "surface"}:
        build = _geometry_with(registry, entry, requires) if run is None else run.geometry

        def geometry(self: Any) -> Geometry:
            return build()

        return {"geometry": geometry}
    if entry.kind not in ("loss", "noise") or run is None or requires <= _KIT_OFFERS:
        return {}
    return _scene_of(run, requires) | _model_of(run)


def _scene_of(run: Composition, wanted: frozenset[str]) -> dict[str, Any]:
    """The run's own scene, where it provides something of what is `wanted`."""
    if not (wanted - _KIT_OFFERS) & run.features(("geometry",)):
        return {}

    def geometry(self: Any) -> Geometry:
        return run.geometry()

    return {"geometry": geometry}


def _model_of(run: Composition) -> dict[str, Any]:
    """The run's own guidance, loaded once, and its prompt."""
    if not run.models:
        return {}
    shared: list[Guidance | None] = []

    def guidance(self: Any) -> Guidance | None:
        if not shared:
            shared.append(run.guidance(run.models[0]))
        return shared[0]

    def prompt(self: Any) -> tuple[str, str]:
        return run.config.prompt, run.config.negative_prompt

    return {"guidance": guidance, "prompt": prompt}


def _geometry_with(registry: Registry, renderer: Entry, wanted: frozenset[str]) -> Callable[[], Any]:
    """A function that builds an installed geometry that provides what is `wanted` from its defaults. Raises ConfigError for none.

    The renderer's own distribution is asked first, then the built-in one, then strangers; what breaks is passed over.
    """
    owners = (renderer.distribution, BUILT_IN)
    for entry in sorted(registry.entries("geometry"), key=lambda one: [one.distribution != owner for owner in owners]):
        try:
            chooser = Chooser(registry, Provenance())
            part = chooser.check(("geometry",), entry, registry.load(entry), {})
            chooser.finish()
            if wanted <= features(part, "provides"):
                part.construct()
                return part.construct
        except DfwError:
            continue
    raise ConfigError(
        f"no installed geometry provides {', '.join(sorted(wanted))} with its default options; "
        "give a run that has one with --config RUN.yaml"
    )


def _prompts(given: tuple[str, ...], run: Composition | None) -> dict[str, Any]:
    if len(given) not in (0, 2):
        raise ConfigError("--prompt: give two, which the model can read and tell apart")
    if given:
        return {"prompts": given}
    return {} if run is None else {"prompts": (run.config.prompt, run.config.negative_prompt)}
