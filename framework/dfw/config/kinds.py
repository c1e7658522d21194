"""The kinds of components. One declaration here is all that registry, schema, command line, documentation and kit need.

A kind of a run's part exists because two published methods had to replace that part. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dfw.config.origins import KeyPath


@dataclass(frozen=True)
class Kind:
    """One kind of component."""

    name: str
    """What configurations, entry points and messages call it."""
    interface: str
    """The abstract class, as "module:Class"."""
    answers: str
    """The question that a component of this kind answers, for documentation and help."""
    places: tuple[str, ...] = ()
    """Where it stands in a run's configuration: `field`, or `field.*` for each value of a mapping and each item of a list. A
    kind without a place stands inside other components (`dfw.Part`), or outside of a run (`option`)."""
    default: str = ""
    """Its type where a configuration names none; "*": the key under which it stands."""
    reserved: tuple[str, ...] = ("type",)
    """Field names that the run's configuration keeps for itself."""
    option: str = ""
    """What chooses one on the command line, for a kind that stands outside of a run: `dfw sweep --on`."""

    @property
    def group(self) -> str:
        """The entry-point group."""
        return f"dfw.{self.name}"

    @property
    def title(self) -> str:
        """The name of the abstract class."""
        return self.interface.rpartition(":")[2]


KINDS = {
    kind.name: kind
    for kind in (
        Kind("geometry", "dfw.interfaces.geometry:Geometry", "What is optimised?", ("geometry",)),
        Kind("renderer", "dfw.interfaces.renderer:Renderer", "How does it look from a camera?", ("renderer",)),
        Kind("guidance", "dfw.interfaces.guidance:Guidance", "Which noise is in this picture?", ("guidance", "guidances.*")),
        Kind(
            "loss",
            "dfw.interfaces.loss:Loss",
            "How good is this picture?",
            ("losses.*",),
            default="*",
            reserved=("type", "weight", "of", "views", "guidance"),
        ),
        Kind(
            "cameras",
            "dfw.interfaces.cameras:Cameras",
            "Which views does this step look at?",
            ("cameras", "view_sets.*"),
            default="dreamfw/random",
        ),
        Kind(
            "prompter",
            "dfw.interfaces.prompter:Prompter",
            "Which text describes which view?",
            ("prompter",),
            default="dreamfw/directional",
        ),
        Kind("noise", "dfw.interfaces.noise:Noise", "Which noise is added to which view?", default="dreamfw/gaussian"),
        Kind("background", "dfw.interfaces.background:Background", "What is behind the scene?", default="dreamfw/random"),
        Kind("exporter", "dfw.interfaces.exporter:Exporter", "How is a mesh written to a file?", ("export.formats.*",)),
        Kind(
            "launcher",
            "dfw.interfaces.launcher:Launcher",
            "Where are the runs of a sweep made?",
            default="dreamfw/local",
            option="dfw sweep --on",
        ),
        Kind("scorer", "dfw.interfaces.scorer:Scorer", "How good is what a run made?", option="dfw evaluate --scorers"),
    )
}
"""Name -> kind, in the order of listings."""


def kind_at(path: KeyPath) -> Kind | None:
    """Returns the kind of the component that stands at `path` of a run's configuration, or of one of its stages, if one does."""
    path = path[2:] if path[:1] == ("stages",) else path
    for kind in KINDS.values():
        for place in kind.places:
            pattern = place.split(".")
            if len(pattern) == len(path) and all(want in ("*", key) for want, key in zip(pattern, path, strict=True)):
                return kind
    return None


def default_type(path: KeyPath) -> str | None:
    """Returns the type of the component at `path` where the configuration names none. None where it must name one."""
    kind = kind_at(path)
    if kind is None or not kind.default:
        return None
    return path[-1] if kind.default == "*" else kind.default


def all_places() -> Iterator[tuple[Kind, str]]:
    """Gives every kind with each of its places."""
    for kind in KINDS.values():
        for place in kind.places:
            yield kind, place
