"""How configurations merge: `extends` and overrides, with the origin of every value. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml  # type: ignore[import-untyped]
from pydantic import BaseModel

from dfw.config.kinds import Kind, default_type, kind_at
from dfw.config.origins import KeyPath
from dfw.config.settings import GroupSettings, RunConfig
from dfw.errors import ConfigError

Tree = dict[str, Any]
"""A configuration as plain values."""
Origins = dict[KeyPath, str]
"""Path -> where its value was written."""


def merge(base: Tree, over: Tree, base_origins: Origins, over_origins: Origins, path: KeyPath = ()) -> tuple[Tree, Origins]:
    """`over` on top of `base`, by the rules of `dfw.config.load`; origins follow the values."""
    merged = dict(base)
    origins = base_origins | {where: origin for where, origin in over_origins.items() if where}
    for key, value in over.items():
        old, here = merged.get(key), (*path, key)
        kind = kind_at(here)
        if kind is not None and isinstance(value, str):  # a component by its name alone
            value = {"type": value}  # noqa: PLW2901
        if isinstance(old, dict) and isinstance(value, dict):
            kept = old if same_type(old, value, here) else _of_the_run(old, kind)
            merged[key], origins = merge(kept, value, origins, over_origins, here)
        elif not (value is None and isinstance(old, dict) and default_type(here)):  # `sds:` alone asks for nothing new
            merged[key] = value
    return merged, origins


def same_type(old: Tree, new: Tree, path: KeyPath) -> bool:
    """Whether `new` speaks of the component that `old` names: no type of its own, the same, or the same with its distribution."""
    if "type" not in new:
        return True
    before, after = old.get("type", default_type(path)), new["type"]
    if not (isinstance(before, str) and isinstance(after, str)):
        return before is None or before == after
    bare = "/" not in before or "/" not in after
    return before == after or (bare and before.rpartition("/")[2] == after.rpartition("/")[2])


def _of_the_run(node: Tree, kind: Kind | None) -> Tree:
    """What stays of a component that another type replaces: the keys that belong to the run and not to the component."""
    stays = set() if kind is None else {*kind.reserved} - {"type"}
    return {key: value for key, value in node.items() if key in stays}


def parse_overrides(overrides: Sequence[str], known: Origins, prefix: KeyPath = ()) -> tuple[Tree, Origins]:
    """`key=value` texts as one mapping, and the origin of its values, and of parents that are not `known`. Raises ConfigError.

    `prefix`: what every key begins with (`stages.refine`), which is left out of the mapping.
    """
    tree: Tree = {}
    origins: Origins = {}
    for text in overrides:
        key, equals, value = text.partition("=")
        path = _joined(tuple(key.strip().split("."))[len(prefix) :])
        if not equals or not path or not all(path) or path[0] == "extends":
            remedy = "write key=value, e.g. geometry.radius=2"
            if equals and path and path[0] == "extends":
                remedy = "extends can stand in a file only"
            raise ConfigError(f"override {text!r}: {remedy}")
        node = tree
        for depth, part in enumerate(path[:-1], start=1):
            below = node.setdefault(part, {})
            if not isinstance(below, dict):
                below = node[part] = {}
            node = below
            if path[:depth] not in known:
                origins[path[:depth]] = f"override {text!r}"
        node[path[-1]] = _unquoted(value) if _is_text(path) else _parse_value(text, value)
        origins[path] = f"override {text!r}"
        if path[0] == "losses" and len(path) <= 2 and path in known and node[path[-1]] in ({}, None):
            raise ConfigError(
                f"override {text!r} would change nothing: mappings merge; write losses.NAME.weight=0 to leave one out"
            )
    return tree, origins


def _joined(path: KeyPath) -> KeyPath:
    """Names of parameter groups have dots: optimizer.groups.geometry.means.lr is the `lr` of the group `geometry.means`."""
    if path[:2] == ("optimizer", "groups"):
        for index in range(3, len(path)):
            if path[index] in GroupSettings.model_fields:
                return (*path[:2], ".".join(path[2:index]), *path[index:])
    return path


def _parse_value(override: str, value: str) -> Any:
    from omegaconf import OmegaConf

    try:
        yaml.safe_load(value)
        # as the value of one key, so that OmegaConf's rules for YAML decide (1e-3 is a number) and it may be a list or a mapping
        tree: Any = OmegaConf.to_container(OmegaConf.create("value: " + (value.strip() or "''")), resolve=False)
    except yaml.YAMLError as error:
        problem = getattr(error, "problem", None) or error
        remedy = "put text with such signs in quotes: 'key=\"...\"'"
        raise ConfigError(f"override {override!r}: the value is not valid YAML ({problem}); {remedy}") from None
    return tree["value"]


def _unquoted(value: str) -> str:
    """Text as it stands; quotes around all of it are YAML's, as in `'prompt="a blue car"'`, and no part of it."""
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'" else value


def _is_text(path: KeyPath) -> bool:
    """Whether the run's configuration wants plain text there (`prompt`): taken as it stands, colons and commas included."""
    model: Any = RunConfig
    for key in path[:-1]:
        field = model.model_fields.get(key)
        model = field.annotation if field is not None else None
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            return False
    field = model.model_fields.get(path[-1])
    return field is not None and field.annotation is str
