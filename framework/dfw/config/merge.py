"""Merges configurations, for `extends` and overrides, with the origin of every value. Imports no torch."""

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
"""KeyPath -> the place where its value was written."""


def merge(base: Tree, over: Tree, base_origins: Origins, over_origins: Origins, path: KeyPath = ()) -> tuple[Tree, Origins]:
    """Merges `over` onto `base` by the rules of `dfw.config.load`. Origins follow the values."""
    merged = dict(base)
    origins = base_origins | {where: origin for where, origin in over_origins.items() if where}
    for key, value in over.items():
        old, here = merged.get(key), (*path, key)
        kind = kind_at(here)
        if kind is not None and isinstance(value, str):  # a component by its name alone
            value = {"type": value}  # noqa: PLW2901
        if isinstance(old, str) and isinstance(value, dict):  # options of a component that the base names
            old = {"type": old}
        if isinstance(old, dict) and isinstance(value, dict):
            kept = old if same_type(old, value, here) else _of_the_run(old, kind)
            merged[key], origins = merge(kept, value, _of(origins, here, kept, over_origins), over_origins, here)
        elif not (value is None and isinstance(old, dict) and default_type(here)):  # `sds:` alone changes nothing
            merged[key] = value
            origins = _of(origins, here, {}, over_origins)
    return merged, origins


def _of(origins: Origins, path: KeyPath, kept: Tree, over: Origins) -> Origins:
    """Returns the origins without those of values below `path` that are gone."""
    deep = len(path)
    return {at: o for at, o in origins.items() if len(at) <= deep or at[:deep] != path or at[deep] in kept or at in over}


def same_type(old: Tree, new: Tree, path: KeyPath) -> bool:
    """Returns whether `new` means the component of `old`: it names no type, the same, or the same with its distribution."""
    if "type" not in new:
        return True
    before, after = old.get("type", default_type(path)), new["type"]
    if not (isinstance(before, str) and isinstance(after, str)):
        return before is None or before == after
    bare = "/" not in before or "/" not in after
    return before == after or (bare and before.rpartition("/")[2] == after.rpartition("/")[2])


def _of_the_run(node: Tree, kind: Kind | None) -> Tree:
    """Returns the keys that stay when another type replaces a component: those of the run, not of the component."""
    stays = set() if kind is None else {*kind.reserved} - {"type"}
    return {key: value for key, value in node.items() if key in stays}


def parse_overrides(overrides: Sequence[str], known: Origins, prefix: KeyPath = ()) -> tuple[Tree, Origins]:
    """Reads `key=value` texts as one mapping. Returns it with the origins of its values, and of parents that are not `known`.

    prefix: the beginning of every key (`stages.refine`), which the mapping leaves out. Raises ConfigError if a text is malformed
    or would change nothing.
    """
    tree: Tree = {}
    origins: Origins = {}
    for text in overrides:
        key, equals, value = text.partition("=")
        path = _joined(tuple(key.strip().split("."))[len(prefix) :])
        if not equals or not path or not all(path) or path[0] == "extends":
            remedy = "write key=value, e.g. geometry.radius=2"
            if equals and path and path[0] == "extends":
                remedy = "extends works only in a file; name that file instead"
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
    """Joins the dotted name of a parameter group: optimizer.groups.geometry.means.lr is `lr` of the group `geometry.means`."""
    if path[:2] == ("optimizer", "groups"):
        for index in range(3, len(path)):
            if path[index] in GroupSettings.model_fields:
                return (*path[:2], ".".join(path[2:index]), *path[index:])
    return path


def _parse_value(override: str, value: str) -> Any:
    from omegaconf import OmegaConf

    try:
        yaml.safe_load(value)
        # as the value of a key, so that OmegaConf's YAML rules apply (1e-3 is a number) and a list or a mapping works
        tree: Any = OmegaConf.to_container(OmegaConf.create("value: " + (value.strip() or "''")), resolve=False)
    except yaml.YAMLError as error:
        problem = getattr(error, "problem", None) or error
        remedy = "put text with such signs in quotes: 'key=\"...\"'"
        raise ConfigError(f"override {override!r}: the value is not valid YAML ({problem}); {remedy}") from None
    return tree["value"]


def _unquoted(value: str) -> str:
    """Strips quotes around the whole text, as in `'prompt="a blue car"'`: they belong to YAML, not to the text."""
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'" else value


def _is_text(path: KeyPath) -> bool:
    """Returns whether the field is plain text (`prompt`). Such a value is taken literally, with colons and commas."""
    model: Any = RunConfig
    for key in path[:-1]:
        field = model.model_fields.get(key)
        model = field.annotation if field is not None else None
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            return False
    field = model.model_fields.get(path[-1])
    return field is not None and field.annotation is str
