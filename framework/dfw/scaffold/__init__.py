"""Writes a new plugin package, complete and working: what `dfw plugins new` makes. Imports no torch.

The files are Jinja2 templates in `templates`: those in `common`, and those of a kind. In their paths PACKAGE and MODULE stand for
the import name.
"""

from __future__ import annotations

import keyword
import re
import sys
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import dfw
from dfw.config.kinds import KINDS
from dfw.errors import ConfigError
from dfw.plugins.discovery import BUILT_IN, LOCAL, normalise

TEMPLATES = Path(__file__).parent / "templates"

_NAME = re.compile(r"^[A-Za-z][A-Za-z0-9]*([-_.][A-Za-z0-9]+)*$")
_PREFIX = re.compile(r"^(dreamfw|dfw)-(?=.)")
_LONGEST = 100
_TAKEN = {*dfw.__all__, *(f"{kind.capitalize()}Tests" for kind in KINDS)}
_TAKEN |= {"Callable", "Connection", "Iterator", "Priority"}
_TAKEN |= {
    "Any",
    "Annotated",
    "ClassVar",
    "Field",
    "Generator",
    "Literal",
    "Path",
    "PositiveFloat",
    "PositiveInt",
    "Sequence",
    "Tensor",
}
_TAKEN |= {"CONFIG", "COLOURS", "Channel", "Colour", "Degrees", "Fog", "GOLDEN", "GROUND", "HORIZON", "SKY", "SURE", "TRIANGLE"}
"""What the templates use themselves."""
_SUMMARIES = {
    "geometry": ("A scene for dfw: a soft ball whose place, size and colour are learned.", "geometry: {{type: {0}}}"),
    "renderer": ("A renderer for dfw: equally spaced samples along each ray.", "renderer: {{type: {0}}}"),
    "guidance": ("A guidance for dfw: a score model in closed form.", "guidance: {{type: {0}}}"),
    "loss": ("A loss for dfw: neighbouring pixels should agree.", "losses:\n  {1}: {{type: {0}, weight: 1}}"),
    "cameras": ("Cameras for dfw: a spiral that is even over the sphere.", "cameras: {{type: {0}}}"),
    "prompter": ("A prompter for dfw: the camera's height in words.", "prompter: {{type: {0}}}"),
    "noise": ("A noise for dfw: opposite pairs.", "losses:\n  sds: {{noise: {{type: {0}}}}}"),
    "background": ("A background for dfw: a sky that is learned.", "renderer: {{background: {{type: {0}}}}}"),
    "exporter": ("An exporter for dfw: the Object File Format.", "export: {{formats: [{0}]}}"),
    "launcher": ("A launcher for dfw: one process after another, with the lowest priority.", "dfw sweep CONFIG --on {0}"),
    "scorer": (
        "A scorer for dfw: how even an object's colours are around it.",
        "dfw run CONFIG && dfw evaluate runs --scorers {0}",
    ),
}


def names_for(name: str) -> dict[str, str]:
    """What a distribution's name makes of itself: `distribution`, import `package`, `component` and class `cls`.

    `dfw-soft-glow` gives component `soft-glow` and class `SoftGlow`. Raises ConfigError for a name that cannot be all of these.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{name!r} cannot name a package: write letters, digits and hyphens, beginning with a letter: dfw-glow")
    if len(name) > _LONGEST:
        raise ConfigError(f"the name has {len(name)} characters, and files are named after it: write at most {_LONGEST}")
    distribution = normalise(name)
    package = distribution.replace("-", "_")
    if distribution in (BUILT_IN, LOCAL, "dfw") or package in sys.stdlib_module_names or keyword.iskeyword(package):
        raise ConfigError(f"the name {distribution!r} is taken, by dfw or by Python; write e.g. dfw-{distribution}")
    found = find_spec(package)
    if found is not None:
        raise ConfigError(f"a module {package!r} is installed already ({found.origin or 'a folder'}); choose another name")
    component = _PREFIX.sub("", distribution)
    cls = "".join(part.capitalize() for part in component.split("-"))
    if not cls[0].isalpha():
        raise ConfigError(f"{component!r} cannot name a class, which begins with a letter: choose another name")
    if cls.startswith("Test"):
        raise ConfigError(f"{component!r} would name a class {cls}, which pytest takes for a test: choose another name")
    cls = f"{cls}Component" if cls in _TAKEN or keyword.iskeyword(cls) else cls
    return {"distribution": distribution, "package": package, "component": component, "cls": cls}


def write_package(name: str, kind: str, parent: Path) -> list[Path]:
    """Writes the package of a `kind` of component into the new folder `parent/<distribution>`; returns its files.

    Raises ConfigError for a name that cannot be used, a folder that exists, and one that cannot be written.
    """
    from jinja2 import Environment, StrictUndefined

    if kind not in KINDS:
        raise ConfigError(f"--kind {kind}: there are {', '.join(KINDS)}")
    names = names_for(name)
    folder = parent / names["distribution"]
    _require_new(folder)
    qualified = f"{names['distribution']}/{names['component']}"
    summary, usage = (text.format(qualified, names["component"]) for text in _SUMMARIES[kind])
    values = names | {
        "kind": kind,
        "trial": trial(kind, names),
        "outside": bool(KINDS[kind].option),
        "dfw_version": dfw.__version__,
        "summary": summary,
        "usage": usage,
    }
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)
    files: dict[Path, str] = {}
    for source in sorted(path for part in ("common", kind) for path in (TEMPLATES / part).rglob("*.j2")):
        inside = source.relative_to(TEMPLATES).with_suffix("").parts[1:]
        place = Path(*(part.replace("PACKAGE", names["package"]).replace("MODULE", names["package"]) for part in inside))
        files[place] = environment.from_string(source.read_text(encoding="utf-8")).render(values)
    _write(folder, files)
    return [folder / place for place in files]


def trial(kind: str, names: dict[str, str]) -> str:
    """Returns the command that shows what a new package does. `names` are those of `names_for`."""
    if not KINDS[kind].option:
        return "dfw run config.yaml"
    return _SUMMARIES[kind][1].format(f"{names['distribution']}/{names['component']}").replace("CONFIG", "config.yaml")


def _require_new(folder: Path) -> None:
    try:
        taken = folder.exists()
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be written: {error.strerror}; --out a folder you may write to") from error
    if taken:
        raise ConfigError(f"{folder} exists already and is left as it is; choose another name, or --out another folder")


def _write(folder: Path, files: dict[Path, str]) -> None:
    """All `files` in the new `folder`, or nothing."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as scratch:
            made = Path(scratch) / folder.name
            for place, text in files.items():
                (made / place).parent.mkdir(parents=True, exist_ok=True)
                (made / place).write_text(text, encoding="utf-8")
            made.rename(folder)
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be written: {error.strerror}; --out a folder you may write to") from error
