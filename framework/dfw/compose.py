"""From a checked configuration to components: names resolved, options checked, parts fitted together; only then constructed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from dfw.config.kinds import KINDS
from dfw.config.origins import KeyPath, Provenance
from dfw.config.schedules import Ramp, last_step
from dfw.config.settings import LossSettings, RunConfig, components_of
from dfw.errors import ConfigError
from dfw.interfaces.cameras import Cameras
from dfw.interfaces.component import Component
from dfw.interfaces.exporter import Exporter
from dfw.interfaces.geometry import Geometry
from dfw.interfaces.guidance import Guidance
from dfw.interfaces.loss import Loss
from dfw.interfaces.prompter import Prompter
from dfw.interfaces.renderer import Renderer
from dfw.plugins.discovery import Entry
from dfw.plugins.fence import plugin_code
from dfw.plugins.parts import Chooser, Chosen, found_in
from dfw.plugins.registry import Registry
from dfw.plugins.registry import registry as default_registry
from dfw.plugins.requirements import check_requirements

OFFERED_BY = {
    "density-field": "geometry",
    "signed-distance": "geometry",
    "surface": "geometry",
    "signed-grid": "geometry",
    "image": "geometry",
    "moving": "geometry",
    "colour": "renderer",
    "opacity": "renderer",
    "depth": "renderer",
    "normals": "renderer",
    "ray-samples": "renderer",
    "latents": "geometry",
    "noise-prediction": "guidance",
    "text": "guidance",
    "adapter": "guidance",
    "target-colour": "cameras",
    "target-mask": "cameras",
    "target-depth": "cameras",
    "target-normal": "cameras",
    "target-index": "cameras",
}
"""Built-in feature -> the kind of component that usually provides it, for messages."""

NEEDED_FOR = {"colour": "", "depth": "depth", "opacity": "opacity"} | dict.fromkeys(
    ("normal", "camera-normal", "normal-mask"), "normals"
)
"""What a loss looks at (`of`) -> the feature that the scene must provide; for other pictures (extras) their own name."""

TRAINING = ("cameras",)
"""Where the training cameras stand in a configuration."""


@dataclass(frozen=True)
class Parts:
    """The constructed components of a run."""

    geometry: Geometry
    renderer: Renderer
    cameras: dict[str, Cameras]
    """The training cameras under `cameras`, and every further set of views under its name."""
    prompter: Prompter | None
    """None where no guidance reads text."""
    guidances: dict[str, Guidance]
    losses: dict[str, Loss]

    def all(self) -> list[Component]:
        """Returns every component, guidances last."""
        parts: list[Component] = [self.geometry, self.renderer, *self.cameras.values(), *self.losses.values()]
        return [*parts, *([] if self.prompter is None else [self.prompter]), *self.guidances.values()]


@dataclass(frozen=True)
class Composition:
    """A configuration whose parts are known, checked and fit together; nothing is constructed yet."""

    config: RunConfig
    chosen: Mapping[KeyPath, Chosen]
    """Path -> component, of all that take part."""
    resting: Mapping[KeyPath, Chosen]
    """Losses with weight 0, and guidances that no loss asks: validated and kept in resolved.yaml, but not built in a run."""

    @property
    def models(self) -> list[str]:
        """The names of the guidances that take part; a single one is called `guidance`."""
        return [name for name in self.config.models if guidance_path(self.config, name) in self.chosen]

    @property
    def unasked(self) -> list[KeyPath]:
        """Where the guidances stand that no loss asks."""
        return [path for path in self.resting if path[0] != "losses"]

    def parts(self) -> list[Chosen]:
        """Returns all parts that take part. Those inside a component follow it."""
        return [one for part in self.chosen.values() for one in part.all()]

    def origins(self) -> dict[str, Entry]:
        """Returns configuration path -> where that component comes from."""
        return {part.key: part.entry for part in self.parts()}

    def plugins(self) -> dict[str, str]:
        """Returns distribution -> version, of all that take part."""
        return {part.entry.distribution: part.entry.version for part in self.parts()}

    def features(self, path: KeyPath) -> frozenset[str]:
        """Returns what the component at `path` provides: nothing where there is none."""
        part = self.chosen.get(path)
        return frozenset() if part is None else features(part, "provides")

    def geometry(self) -> Geometry:
        """Constructs the geometry."""
        return cast(Geometry, self.chosen[("geometry",)].construct())

    def renderer(self) -> Renderer:
        """Constructs the renderer."""
        return cast(Renderer, self.chosen[("renderer",)].construct())

    def cameras(self) -> dict[str, Cameras]:
        """Constructs the training cameras, and the sets of views that a loss looks at."""
        asked = {loss.views for name, loss in self.config.losses.items() if ("losses", name) in self.chosen} | {"cameras"}
        paths = {path[-1]: part for path, part in self.chosen.items() if path == TRAINING or path[0] == "view_sets"}
        return {name: cast(Cameras, part.construct()) for name, part in paths.items() if name in asked}

    def prompter(self) -> Prompter | None:
        """Constructs the prompter; None where no guidance reads text."""
        return cast(Prompter, self.chosen[("prompter",)].construct()) if self.reads_text() else None

    def reads_text(self) -> bool:
        """Returns whether some guidance of the run reads text."""
        return any("text" in self.features(guidance_path(self.config, name)) for name in self.models)

    def guidances(self, loaded: Mapping[str, Guidance] | None = None) -> dict[str, Guidance]:
        """Constructs the guidances that take part and are not `loaded`, by name."""
        return {name: (loaded or {}).get(name) or self.guidance(name) for name in self.models}

    def guidance(self, name: str) -> Guidance:
        """Constructs one guidance, also one that takes no part."""
        return cast(Guidance, self.guidance_part(name).construct())

    def guidance_part(self, name: str) -> Chosen:
        """Returns a guidance before it is constructed, also one that takes no part."""
        path = guidance_path(self.config, name)
        return self.chosen.get(path) or self.resting[path]

    def losses(self) -> dict[str, Loss]:
        """Constructs the losses that take part."""
        return {path[1]: cast(Loss, part.construct()) for path, part in self.chosen.items() if path[0] == "losses"}

    def exporters(self) -> list[Exporter]:
        """Constructs the exporters of the configuration's formats."""
        return [cast(Exporter, part.construct()) for path, part in self.chosen.items() if path[0] == "export"]

    def build(self, loaded: Mapping[str, Guidance] | None = None) -> Parts:
        """Constructs everything that is not `loaded`; guidances last, since loading a model takes longest."""
        geometry, renderer, cameras, losses = self.geometry(), self.renderer(), self.cameras(), self.losses()
        return Parts(geometry, renderer, cameras, self.prompter(), self.guidances(loaded), losses)

    def resolved(self, defaults: bool = True) -> RunConfig:
        """Returns the configuration with qualified names and every default written out, as `resolved.yaml` holds it.

        Without `defaults` a component has only the options that were given, as in `config.yaml`. Paths are absolute in both.
        """
        tree: dict[str, Any] = self.config.model_dump(mode="json", by_alias=True)
        for path, part in {**self.chosen, **self.resting}.items():
            node: Any = tree
            for key in path[:-1]:
                node = node[key]
            last: Any = int(path[-1]) if isinstance(node, list) else path[-1]
            stays = {key: value for key, value in node[last].items() if key in KINDS[part.entry.kind].reserved}
            node[last] = stays | part.written(defaults)
        return RunConfig.model_validate(tree)


def guidance_path(config: RunConfig, name: str) -> KeyPath:
    """Returns where the guidance called `name` stands in the configuration."""
    return ("guidance",) if config.guidance is not None else ("guidances", name)


def compose(config: RunConfig, registry: Registry | None = None, provenance: Provenance | None = None) -> Composition:
    """Finds, checks and fits together the components of a run; loads classes, constructs nothing.

    Raises PluginError for what cannot be found or loaded and ConfigError for options, schedules and parts that do not fit. Each
    message names the configuration path, and the file and line where `provenance` knows them.
    """
    provenance = provenance or Provenance()
    check_requirements(config.plugins, provenance.prefix(("plugins",)).removesuffix(": "))
    chooser = Chooser(registry or default_registry(), provenance)
    chosen = {path: chooser.choose(path, kind, settings) for path, kind, settings in components_of(config)}
    chooser.finish()
    resting = {path: chosen.pop(path) for path in list(chosen) if path[0] == "losses" and config.losses[path[1]].weight == 0}
    if not any(path[0] == "losses" for path in chosen):
        raise ConfigError(f"{provenance.prefix(('losses',))}the weight of every loss is 0; give one of them another")
    asked = _asked_guidances(config, chosen)
    resting |= {path: chosen.pop(path) for path in (guidance_path(config, name) for name in config.models if name not in asked)}
    composition = Composition(config, chosen, resting)
    _check_ramps(composition.parts(), config.trainer.steps, provenance)
    _check_wiring(composition, provenance)
    return composition


def _asked_guidances(config: RunConfig, chosen: Mapping[KeyPath, Chosen]) -> set[str]:
    """Returns the names of the guidances that the run needs.

    A loss asks one if it names it, as its `guidance` or in an option of its own, or if it requires what that provides. The first
    one decodes the latents that a scene shows.
    """
    asked: set[str] = set()
    losses = [part for path, part in chosen.items() if path[0] == "losses"]
    for loss in losses:
        asked |= {text for part in loss.all() for _, text in found_in(part.config, str)}
        asked.add(config.losses[loss.path[1]].guidance or "")
        name = config.guidance_of(loss.path[1])
        if name is not None:
            guidance = chosen[guidance_path(config, name)].speaking()
            offered = frozenset().union(*(features(part, "provides") for part in guidance))
            wanted = frozenset().union(*(features(part, "requires") for part in loss.speaking()))
            if wanted & offered or any(OFFERED_BY.get(word) == "guidance" for word in wanted):
                asked.add(name)
    shown = [features(part, "provides") for path in (("geometry",), ("renderer",)) for part in chosen[path].speaking()]
    first = next(iter(config.models), "")
    return asked | ({first} if "latents" in frozenset().union(*shown) else set())


def _check_wiring(composition: Composition, provenance: Provenance) -> None:
    """Checks that every part finds what it requires, and each loss its picture, its views and its guidance."""
    config, chosen = composition.config, composition.chosen
    scene = [part for path in (("geometry",), ("renderer",)) for part in chosen[path].speaking()]
    mistakes: list[str] = []
    models = [part for name in composition.models for part in chosen[guidance_path(config, name)].speaking()]
    given = frozenset() if config.start is None else frozenset({"start"})
    for part in (*scene, *models):
        mistakes += (provenance.prefix(part.path) + text for text in _lacking(part, features(part, "requires") - given, scene))
    for path, loss in chosen.items():
        if path[0] == "losses":
            mistakes += _loss_mistakes(composition, loss, config.losses[path[1]], scene, provenance)
    mistakes += _format_mistakes([part for path, part in chosen.items() if path[0] == "export"], provenance)
    if composition.reads_text() and not config.prompt:
        mistakes.append(f'{provenance.prefix(("prompt",))}missing; say what to make, e.g. prompt="a red mushroom"')
    if mistakes:
        raise ConfigError("\n".join(dict.fromkeys(mistakes)))


def _loss_mistakes(
    composition: Composition, loss: Chosen, settings: LossSettings, scene: list[Chosen], provenance: Provenance
) -> Iterator[str]:
    config, chosen = composition.config, composition.chosen
    views = chosen[TRAINING if settings.views == "cameras" else ("view_sets", settings.views)]
    name = config.guidance_of(loss.path[1])
    asked = None if name is None else chosen.get(guidance_path(config, name))
    prompter = [chosen[("prompter",)]]
    around = [*scene, *views.speaking(), *prompter, *([] if asked is None else asked.speaking())]
    for part in loss.speaking():
        wanted = features(part, "requires")
        if asked is None and len(config.models) > 1 and any(OFFERED_BY.get(word) == "guidance" for word in wanted):
            where = provenance.prefix((*loss.path, "guidance"))
            yield f"{where}missing; the run has several guidances, choose one of {', '.join(config.models)}"
            continue
        yield from (provenance.prefix(part.path) + text for text in _lacking(part, wanted, around))
    picture = NEEDED_FOR.get(settings.of, settings.of)
    if picture:
        yield from (provenance.prefix((*loss.path, "of")) + text for text in _lacking(loss, {picture}, scene))
    if asked is not None:
        sees, together = _number(asked, "sees"), _number(views, "together")
        if sees not in (1, together):
            yield (
                f"{provenance.prefix(views.path)}{asked.entry.label} sees {sees} views of one scene at once, and these cameras "
                f"give {together}; make the two equal, e.g. {views.key}: {{type: orthogonal, count: {sees}, batch_size: {sees}}}"
            )


def _format_mistakes(exporters: list[Chosen], provenance: Provenance) -> Iterator[str]:
    """Checks that every exporter says which endings it writes, and that no two write files of one ending, and so of one name."""
    writers: dict[str, Chosen] = {}
    for part in exporters:
        endings: Any = getattr(part.cls, "suffixes", ())
        if isinstance(endings, str) or not endings or not all(isinstance(one, str) and one[:1] == "." for one in endings):
            yield f"{provenance.prefix(part.path)}{part.entry.label} does not say what it writes, e.g. suffixes = ('.abc',)"
            continue
        for ending in (one for one in endings if one in writers):
            where, other = provenance.prefix(part.path), writers[ending].key
            yield f"{where}{part.entry.label} writes {ending} files, as {other} does; leave one of them out"
        writers |= dict.fromkeys(endings, part)


def _number(part: Chosen, question: str) -> int:
    """Returns how many views a guidance `sees`, or cameras show `together`."""

    with plugin_code(part.who, f"cannot say how many views it {question}"):
        answer = getattr(part.cls, question)(part.config)
        if not isinstance(answer, int) or answer < 1:
            raise TypeError(f"it gave {answer!r}, not a whole number of 1 or more")
        return answer


def _lacking(part: Chosen, wanted: Iterable[str], around: list[Chosen]) -> Iterator[str]:
    """Gives a sentence for each feature that `part` wants and nothing around it provides."""
    others = [other for other in around if other is not part]
    provided = frozenset().union(*(features(other, "provides") for other in others))
    yield from (_unmet(part, feature, others) for feature in sorted(set(wanted) - provided))


def _check_ramps(parts: Iterable[Chosen], steps: int, provenance: Provenance) -> None:
    mistakes = []
    for part in parts:
        for path, ramp in found_in(part.config, Ramp, part.path):
            if last_step(ramp) > steps:
                mistakes.append(
                    f"{provenance.prefix(path)}ends at step {last_step(ramp):g}, after the run's {steps} steps; "
                    f"shorten it, raise trainer.steps, or use unit: fraction ({part.entry.label})"
                )
    if mistakes:
        raise ConfigError("\n".join(mistakes))


def features(part: Chosen, question: Literal["requires", "provides"]) -> frozenset[str]:
    """Returns what a part `requires` or `provides`. Raises PluginError, which names the part, if it gives no set of words."""

    with plugin_code(part.who, f"cannot say what it {question}"):
        answer = getattr(part.cls, question)(part.config)
        if isinstance(answer, str) or not all(isinstance(word, str) for word in answer):
            raise TypeError(f"it gave {answer!r}, not a set of words such as frozenset({{'normals'}})")
        return frozenset(answer)


def _unmet(part: Chosen, feature: str, others: list[Chosen]) -> str:
    """Says what `part` lacks and how to get it."""
    if feature == "start":
        return f"{part.entry.label} needs a scene to start from; write start.mesh=teapot.glb, or start.run=RUN"
    head = f"{part.entry.label} needs {feature}"
    them = "them" if feature.endswith("s") and not feature.endswith("ss") else "it"
    hints = [
        f"{other.entry.kind} {other.entry.label} provides {them} when {_placed(other, other.cls.feature_hints[feature])}"
        for other in others
        if feature in other.cls.feature_hints
    ]
    if hints:
        return f"{head}; {' or '.join(hints)}"
    kind = OFFERED_BY.get(feature)
    present = [other for other in others if other.entry.kind == kind]
    if present and kind == "cameras":
        where = f"{present[0].entry.label} at {present[0].key} do not give {them}"
        return f"{head} of its views, and {where}; write views: NAME, a set in view_sets that does"
    if present:
        return f"{head}; {kind} {present[0].entry.label} does not provide {them}, choose another {kind}"
    if kind is not None:
        return f"{head}; this run has no {kind}, add one"
    return f"{head}; no other part of this run provides {them}"


def _placed(part: Chosen, hint: str) -> str:
    """Writes a hint with the whole path of the option that it begins with: `renderer.shading.normals is 'always'`."""
    option = hint.partition(" ")[0].partition(".")[0]
    return f"{part.key}.{hint}" if option in part.cls.Config.model_fields else hint
