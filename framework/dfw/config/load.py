"""Loads a run's configuration: YAML with `extends`, interpolation and overrides, checked into a RunConfig. Imports no torch.

`extends: base.yaml` takes another file as the base: a path relative to the file, or the name of a shipped configuration. Mappings
merge key by key; any other value replaces the base's. If a mapping names another `type` than the base's, the base's other keys
are dropped, because they are options of the old type. A loss then keeps only its `weight`. A loss of weight 0 takes no part in
the run. Overrides (`geometry.radius=2`) merge last, by the same rules.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from pydantic import ValidationError

from dfw.config.merge import Origins, Tree, merge, parse_overrides
from dfw.config.messages import explain
from dfw.config.origins import Provenance, lines_of
from dfw.config.settings import RunConfig
from dfw.errors import ConfigError


@dataclass(frozen=True)
class LoadedConfig:
    """A checked configuration and its sources."""

    config: RunConfig
    """The configuration."""
    provenance: Provenance
    """Where each value was written."""
    files: tuple[Path, ...]
    """The files that took part, base first."""


def load_config(source: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Reads and checks a configuration: a path, or a shipped name. Raises ConfigError with file, line and remedy."""
    return load_with_provenance(source, overrides).config


def load_with_provenance(source: str | Path, overrides: Sequence[str] = ()) -> LoadedConfig:
    """Like `load_config`, and keeps the origin of every value for the messages of later checks."""
    path = find_config(source)
    files: list[Path] = []
    tree, origins = _read_chain(path, files)
    changes, written = parse_overrides(overrides, origins)
    tree, origins = merge(tree, changes, origins, written)
    provenance = Provenance({(): _display(path)} | origins)
    data = _interpolate(tree, provenance)
    try:
        config = RunConfig.model_validate(data)
    except ValidationError as error:
        raise ConfigError("\n".join(explain(error, data, RunConfig, provenance))) from None
    return LoadedConfig(config, provenance, tuple(files))


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
    path = Path(source).expanduser()
    bare = isinstance(source, str) and path.suffix not in (".yaml", ".yml") and not any(c in source for c in ("/", os.sep))
    if bare and source in shipped_names():
        return shipped_directory() / f"{source}.yaml"
    path = path if relative_to is None else relative_to / path
    if path.is_file():
        return path
    if bare:
        near = get_close_matches(str(source), shipped_names(), n=1)
        hint = f"did you mean '{near[0]}'? " if near else ""
        raise ConfigError(f"no configuration named '{source}'; {hint}shipped: {', '.join(shipped_names())}; or give a path")
    what = "is a directory, not a YAML file" if path.is_dir() else "no such file"
    raise ConfigError(f"{path}: {what}; give a YAML file or one of: {', '.join(shipped_names())}")


def _read_chain(path: Path, files: list[Path], seen: tuple[Path, ...] = ()) -> tuple[Tree, Origins]:
    """Reads a file and merges it over the files that it extends."""
    if path.resolve() in seen:
        chain = " -> ".join(_display(p) for p in (*seen, path.resolve()))
        raise ConfigError(f"extends: the files extend each other in a circle: {chain}")
    tree, origins = _read_file(path)
    base = tree.pop("extends", None)
    if base is not None:
        where = origins[("extends",)]
        if not isinstance(base, str):
            raise ConfigError(f"{where}: extends: must be a file or the name of a shipped configuration (is {base!r})")
        try:
            below = find_config(base, path.parent)
        except ConfigError as error:
            raise ConfigError(f"{where}: extends: {error}") from None
        base_tree, base_origins = _read_chain(below, files, (*seen, path.resolve()))
        tree, origins = merge(base_tree, tree, base_origins, origins)
    files.append(path)
    return tree, origins


def _read_file(path: Path) -> tuple[Tree, Origins]:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    shown = _display(path)
    try:
        text = path.read_text(encoding="utf-8")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if not isinstance(node, yaml.MappingNode):
            raise ConfigError(f"{shown}: must hold `key: value` lines, e.g. prompt: a red mushroom")
        tree = OmegaConf.to_container(OmegaConf.create(text), resolve=False)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{shown}: not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8") from None
    except OSError as error:
        raise ConfigError(f"{shown}: cannot be read: {error.strerror}") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise ConfigError(f"{shown}{line}: not valid YAML: {error.problem or error.context}") from None
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(f"{shown}: not valid YAML: {error}") from None
    origins = {where: f"{shown}:{line}" for where, line in lines_of(node)}
    return _with_text_keys(tree), origins


def _with_text_keys(value: Any) -> Any:
    """Turns keys into text, because YAML reads `1:` or `on:` as a number or a truth value."""
    if isinstance(value, dict):
        return {str(key): _with_text_keys(item) for key, item in value.items()}
    return [_with_text_keys(item) for item in value] if isinstance(value, list) else value


def _interpolate(tree: Tree, provenance: Provenance) -> Tree:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        resolved: Any = OmegaConf.to_container(OmegaConf.create(tree), resolve=True)
    except OmegaConfBaseException as error:
        path = tuple(str(getattr(error, "full_key", "") or "").split("."))
        raise ConfigError(f"{provenance.prefix(path)}{(error.msg or str(error)).splitlines()[0]}") from None
    return dict(resolved)


def to_yaml(config: RunConfig) -> str:
    """Writes the configuration as YAML that `load_config` reads back to an equal RunConfig."""
    data = _escape(config.model_dump(mode="json", by_alias=True))
    text: str = yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=120)
    return text


def _escape(value: Any) -> Any:
    """Escapes text that looks like an interpolation, so that it stays text."""
    if isinstance(value, Mapping):
        return {key: _escape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_escape(item) for item in value]
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", value) if isinstance(value, str) else value


def _display(path: Path) -> str:
    """Returns the path as a user would write it: relative if it lies below the working directory."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except (ValueError, OSError):
        return str(path)
