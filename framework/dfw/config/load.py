"""Loads a run's configuration: YAML with `extends`, interpolation and overrides, checked into a RunConfig. Imports no torch.

`extends: base.yaml` takes another file as the base: a path relative to the file, or the name of a shipped configuration. Mappings
merge key by key; any other value replaces the base's. If a mapping names another `type` than the base's, the base's other keys
are dropped, because they are options of the old type. A loss then keeps only `weight`, `of`, `views` and `guidance`. A loss of
weight 0 takes no part in the run. Overrides (`geometry.radius=2`) merge last, by the same rules.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from dfw.config import references
from dfw.config.merge import Origins, Overrides, Tree, merge, origins_below, parse_overrides
from dfw.config.messages import explain
from dfw.config.origins import KeyPath, Provenance
from dfw.config.paths import Written, exists, shown
from dfw.config.settings import RunConfig
from dfw.config.yaml_text import LARGEST, YamlError, is_text, read_yaml, write_yaml
from dfw.errors import ConfigError
from dfw.text import shortened


@dataclass(frozen=True)
class LoadedConfig:
    """A checked configuration and its sources."""

    config: RunConfig
    """The configuration."""
    provenance: Provenance
    """Where each value was written."""


Source = str | Path | Mapping[str, Any]
"""A configuration: a file, the name of a shipped one, or its values."""


def load_config(source: Source, overrides: Overrides = ()) -> RunConfig:
    """Reads and checks a configuration. Raises ConfigError with file, line and remedy."""
    return load_with_provenance(source, overrides).config


def load_with_provenance(source: Source, overrides: Overrides = (), changes: Tree | None = None) -> LoadedConfig:
    """Like `load_config`, and keeps the origin of every value for the messages of later checks.

    overrides: `key=value` texts, or such texts with what messages call each. changes: values that merge after them, as a nested
    mapping.
    """
    read = _read(source)
    if "stages" in read.tree:
        raise ConfigError(f"{read.shown}: has stages, and this needs a configuration of one run; name a file without stages")
    return _checked(read, overrides, _with_text_keys(changes or {}))


def load_stages(source: Source, overrides: Overrides = (), changes: Tree | None = None) -> dict[str, LoadedConfig]:
    """Returns the stages of a configuration by name, in order. One without `stages` is a single stage called "".

    A stage is a run's configuration. One that `extends` an earlier stage merges over that. Any other merges over the file or
    shipped name that it extends, and over the keys next to `stages`. An override `stages.NAME.key=value` changes that stage; any
    other override changes all stages.
    """
    read, given = _read(source), _with_text_keys(changes or {})
    if "stages" not in read.tree:
        found = {"": _checked(read, overrides, given)}
        _check_start(found[""], ())
        return found
    stages = read.tree["stages"]
    where = read.origins.get(("stages",), read.shown)
    if not isinstance(stages, dict) or not stages or not all(isinstance(node, dict) for node in stages.values()):
        raise ConfigError(f"{where}: stages: must map names to configurations, e.g. {{coarse: {{extends: dreamfusion}}}}")
    own, shared = _overrides_of(stages, overrides)
    special = _changes_of(stages, given.pop("stages", {}))
    trees: dict[str, _Read] = {}
    found = {}
    for name, node in stages.items():
        place = ("stages", name)
        where = read.origins.get(place, read.shown)
        if not STAGE_NAME.fullmatch(name):
            raise ConfigError(f"{where}: stages.{name[:80]}: a stage's name has at most 50 letters, digits, '-' and '_'")
        base = _base_of(node, read, place, trees)
        mine = {key: value for key, value in node.items() if key != "extends"}
        trees[name] = base.under(mine, _below(read.origins, place), where)
        found[name] = _checked(trees[name], shared, merge(given, special[name], {}, {})[0], own[name], place)
        _check_start(found[name], list(trees)[:-1])
    return found


def _check_start(loaded: LoadedConfig, before: Sequence[str]) -> None:
    start = loaded.config.start
    if start is not None and start.stage is not None and start.stage not in before:
        where = loaded.provenance.prefix(("start", "stage"))
        raise ConfigError(f"{where}no stage before this one is called {start.stage!r}; there are {', '.join(before) or 'none'}")


STAGE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,49}")


@dataclass(frozen=True)
class _Read:
    """A configuration's values as written, base and file merged."""

    tree: Tree
    origins: Origins
    shown: str
    folder: Path | None = None
    """What `extends` of a stage is relative to."""

    def under(self, tree: Tree, origins: Origins, shown: str) -> _Read:
        """Merges `tree` over this one."""
        return _Read(*merge(self.tree, tree, self.origins, origins), shown)


def _read(source: Source) -> _Read:
    if isinstance(source, Mapping):
        tree = _with_text_keys(source)
        base = tree.pop("extends", None)
        below = _Read({}, {}, "argument") if base is None else _read(base)
        return below.under(tree, origins_below(tree, "argument"), below.shown)
    path = find_config(source)
    return _Read(*_read_chain(path), shown(path), path.parent)


def _checked(read: _Read, overrides: Overrides, changes: Tree, own: Overrides = (), stage: KeyPath = ()) -> LoadedConfig:
    tree, origins = read.tree, read.origins
    for texts, above in ((overrides, ()), (own, stage)):
        given, written = parse_overrides(texts, origins, above)
        tree, origins = merge(tree, given, origins, written)
    tree, origins = merge(tree, changes, origins, origins_below(changes, "argument"))
    provenance = Provenance({(): read.shown} | origins, stage)
    data = _resolved(tree, provenance)
    try:
        config = RunConfig.model_validate(data)
    except ValidationError as error:
        raise ConfigError("\n".join(explain(error, data, RunConfig, provenance))) from None
    return LoadedConfig(config, provenance)


def _changes_of(stages: Mapping[str, Any], changes: Any) -> dict[str, Tree]:
    """Returns stage -> its own changes. Raises ConfigError for other names."""
    if not isinstance(changes, dict) or not all(name in stages and isinstance(tree, dict) for name, tree in changes.items()):
        raise ConfigError(f"argument: stages: must map stages to their changes; the stages are {', '.join(stages)}")
    return {name: changes.get(name, {}) for name in stages}


def _overrides_of(stages: Mapping[str, Any], overrides: Overrides) -> tuple[dict[str, list[str]], list[str]]:
    """Returns stage -> its own overrides, and the overrides of all stages."""
    own: dict[str, list[str]] = {name: [] for name in stages}
    shared: list[str] = []
    for text in overrides:
        key = text.partition("=")[0].strip().split(".")
        if key[0] != "stages":
            shared.append(text)
        elif len(key) < 3 or key[1] not in own:
            raise ConfigError(f"override {shortened(text)!r}: write stages.NAME.key=value, with NAME one of {', '.join(stages)}")
        else:
            own[key[1]].append(text)
    return own, shared


def _base_of(node: Tree, read: _Read, place: KeyPath, earlier: Mapping[str, _Read]) -> _Read:
    """Reads what a stage merges over: an earlier stage without its start, or what it extends and the keys next to `stages`."""
    base = node.get("extends")
    where = read.origins.get((*place, "extends"), read.shown)
    if not isinstance(base, str | None):
        said = shortened(repr(base))
        raise ConfigError(f"{where}: {'.'.join(place)}.extends: must be a file, a shipped name or a stage before (is {said})")
    if base is not None and base in earlier:
        tree = {key: value for key, value in earlier[base].tree.items() if key != "start"}
        return replace(earlier[base], tree=tree)
    below = _Read({}, {}, read.shown)
    if base is not None:
        try:
            path = find_config(base, read.folder)
        except ConfigError as error:
            stages = ", ".join(earlier) or "none"
            raise ConfigError(f"{where}: {'.'.join(place)}.extends: {error}; stages before it: {stages}") from None
        below = _Read(*_read_chain(path), read.shown)
    common = {key: value for key, value in read.tree.items() if key != "stages"}
    return below.under(common, {path: o for path, o in read.origins.items() if path[:1] != ("stages",)}, read.shown)


def _below(origins: Origins, path: KeyPath) -> Origins:
    """Returns the origins of all values below `path`, as paths from there."""
    return {key[len(path) :]: origin for key, origin in origins.items() if key[: len(path)] == path and key != path}


def shipped_directory() -> Path:
    """Returns the folder of the shipped configurations: in the installed package, or in the checkout of an editable install."""
    package = Path(__file__).parents[1]
    inside = package / "configs"
    return inside if inside.is_dir() else package.parents[1] / "configs"


def shipped_names() -> list[str]:
    """Returns the names of the shipped configurations, for `dfw run NAME`."""
    return sorted(path.stem for path in shipped_directory().glob("*.yaml"))


def find_config(source: str | Path, relative_to: Path | None = None) -> Path:
    """Returns the file that `source` means: a path (relative to `relative_to`), or the bare name of a shipped configuration.

    Raises ConfigError with the nearest names if there is no such file.
    """
    try:
        path = Path(source).expanduser()
    except RuntimeError:
        raise ConfigError(f"{shortened(str(source))}: this machine knows no such home directory; write the path itself") from None
    bare = isinstance(source, str) and path.suffix not in (".yaml", ".yml") and not any(c in source for c in ("/", os.sep))
    if bare and source in shipped_names():
        return shipped_directory() / f"{source}.yaml"
    path = path if relative_to is None else relative_to / path
    if exists(path) and path.is_file():
        return path
    whole = next((path / name for name in ("resolved.yaml", "stages.yaml") if exists(path / name)), None)
    if whole is not None:
        raise ConfigError(f"{path} is a run; continue it with --resume {path}, or make another like it with {whole}")
    if bare and not exists(path):
        near = get_close_matches(str(source), shipped_names(), n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"give a path, or one of: {', '.join(shipped_names())}"
        if " " in str(source):
            hint = f'if it is a prompt, write dfw run dreamfusion prompt="{shortened(str(source))}"'
        raise ConfigError(f"no configuration named '{shortened(str(source))}'; {hint}")
    what = "is a directory, not a YAML file" if exists(path) and path.is_dir() else "no such file"
    if path.stem in shipped_names():
        raise ConfigError(f"{shortened(str(path), 160)}: {what}; did you mean '{path.stem}', which ships with dfw?")
    raise ConfigError(f"{shortened(str(path), 160)}: {what}; give a YAML file, or one of: {', '.join(shipped_names())}")


LONGEST_CHAIN = 20
"""Files that may extend one another."""


def _read_chain(path: Path, seen: tuple[Path, ...] = ()) -> tuple[Tree, Origins]:
    """Reads a file and merges it over the files that it extends."""
    if path.resolve() in seen:
        chain = " -> ".join(shown(p) for p in (*seen, path.resolve()))
        raise ConfigError(f"extends: the files extend each other in a circle: {chain}")
    if len(seen) > LONGEST_CHAIN:
        raise ConfigError(f"{shown(seen[0])}: extends: more than {LONGEST_CHAIN} files extend one another; merge some of them")
    tree, origins = _read_file(path)
    base = tree.pop("extends", None)
    if base is not None:
        where = origins[("extends",)]
        if not isinstance(base, str):
            said = shortened(repr(base))
            raise ConfigError(f"{where}: extends: must be a file or the name of a shipped configuration (is {said})")
        try:
            below = find_config(base, path.parent)
        except ConfigError as error:
            raise ConfigError(f"{where}: extends: {error}") from None
        base_tree, base_origins = _read_chain(below, (*seen, path.resolve()))
        tree, origins = merge(base_tree, tree, base_origins, origins)
    return tree, origins


def _read_file(path: Path) -> tuple[Tree, Origins]:
    name = shown(path)
    try:
        with path.open(encoding="utf-8") as file:
            tree, lines = read_yaml(file.read(LARGEST + 1))
    except UnicodeDecodeError as error:
        raise ConfigError(f"{name}: not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8") from None
    except OSError as error:
        raise ConfigError(f"{name}: cannot be read: {error.strerror}") from None
    except YamlError as error:
        line = "" if error.line is None else f":{error.line}"
        raise ConfigError(f"{name}{line}: not valid YAML: {error}") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{name}: must hold `key: value` lines, e.g. prompt: a red mushroom")
    origins = {where: f"{name}:{line}" for where, line in lines.items()}
    return Written.within(tree, Path(os.path.abspath(path.parent))), origins


def _with_text_keys(value: Any) -> Any:
    """Makes plain values with text as keys: a configuration written in Python may also hold paths, tuples and other keys."""
    if isinstance(value, Mapping):
        return {str(key): _with_text_keys(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_with_text_keys(item) for item in value]
    if isinstance(value, str) and not is_text(value):
        raise ConfigError(f"argument: {shortened(value)!r} holds half of a surrogate pair, which is not text")
    return str(value) if isinstance(value, Path) else value


def _resolved(tree: Tree, provenance: Provenance) -> Tree:
    try:
        return references.resolve(tree)
    except references.ReferenceError as error:
        raise ConfigError(f"{provenance.prefix(error.path)}{error}") from None


def to_yaml(config: RunConfig) -> str:
    """Writes the configuration as YAML that `load_config` reads back to an equal RunConfig."""
    return write_yaml(references.escape(config.model_dump(mode="json", by_alias=True)))
