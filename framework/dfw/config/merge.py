"""Merges configurations, for `extends` and overrides, with the origin of every value. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from dfw.config.kinds import Kind, default_type, kind_at
from dfw.config.origins import KeyPath
from dfw.config.settings import GroupSettings, RunConfig
from dfw.config.yaml_text import DEEPEST, YamlError, is_text, read_yaml
from dfw.errors import ConfigError
from dfw.text import shortened

Tree = dict[str, Any]
"""A configuration as plain values."""
Origins = dict[KeyPath, str]
"""KeyPath -> the place where its value was written."""
Overrides = Sequence[str] | Mapping[str, str]
"""`key=value` texts; as a mapping, with what messages call each, such as `--formats glb`."""


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


def origins_below(value: Any, origin: str, path: KeyPath = ()) -> Origins:
    """Returns one origin for everything inside a value that was written in one place."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found: Origins = {}
    for key, item in items:
        here = (*path, str(key))
        found |= {here: origin} | origins_below(item, origin, here)
    return found


def parse_overrides(overrides: Overrides, known: Origins, prefix: KeyPath = ()) -> tuple[Tree, Origins]:
    """Reads `key=value` texts as one mapping. Returns it with the origins of its values, and of parents that are not `known`.

    prefix: the beginning of every key (`stages.refine`), which the mapping leaves out. Raises ConfigError if a text is malformed
    or would change nothing.
    """
    tree: Tree = {}
    origins: Origins = {}
    for text in overrides:
        called = overrides[text] if isinstance(overrides, Mapping) else f"override {shortened(text)!r}"
        path, value = _split(text, called, len(prefix))
        node = tree
        for depth, part in enumerate(path[:-1], start=1):
            below = node.setdefault(part, {})
            if not isinstance(below, dict):
                below = node[part] = {}
            node = below
            if path[:depth] not in known:
                origins[path[:depth]] = called
        node[path[-1]] = _unquoted(value) if _is_text(path) else _parse_value(called, value)
        origins = {at: origin for at, origin in origins.items() if at[: len(path)] != path}
        origins |= {path: called} | origins_below(node[path[-1]], called, path)
        if path[0] == "losses" and len(path) <= 2 and path in known and node[path[-1]] in ({}, None):
            raise ConfigError(f"{called} would change nothing: mappings merge; write losses.NAME.weight=0 to leave one out")
    return tree, origins


def _split(text: str, called: str, skipped: int) -> tuple[KeyPath, str]:
    """Splits `key=value`, without the first parts of the key. Raises ConfigError, which says what was meant."""
    key, equals, value = text.partition("=")
    path = _joined(tuple(key.strip().split("."))[skipped:])
    if not is_text(text):
        raise ConfigError(f"{called}: not UTF-8 text")
    if equals and path and path[0] == "extends":
        raise ConfigError(f"{called}: extends works only in a file; name that file instead")
    if not equals and " " in key.strip():
        raise ConfigError(f'{called}: write key=value; for a prompt, prompt="{shortened(text)}"')
    if not equals or not path or not all(path):
        raise ConfigError(f"{called}: write key=value, e.g. geometry.radius=2")
    if len(path) > DEEPEST:
        raise ConfigError(f"{called}: nothing is nested more than {DEEPEST} deep")
    return path, value


def _joined(path: KeyPath) -> KeyPath:
    """Joins the dotted name of a parameter group: optimizer.groups.geometry.means.lr is `lr` of the group `geometry.means`."""
    if path[:2] == ("optimizer", "groups"):
        for index in range(3, len(path)):
            if path[index] in GroupSettings.model_fields:
                return (*path[:2], ".".join(path[2:index]), *path[index:])
    return path


def _parse_value(called: str, value: str) -> Any:
    try:
        tree, _ = read_yaml(f"value: {value.strip() or repr('')}")  # as that of a key, where a comma or a dash is text
        if list(tree) != ["value"]:
            raise YamlError("it holds several lines")
    except YamlError as error:
        remedy = "put text with such signs in quotes: 'key=\"...\"'"
        raise ConfigError(f"{called}: the value is not valid YAML ({error}); {remedy}") from None
    return tree["value"]


def _unquoted(value: str) -> str:
    """Strips quotes around the whole text, as in `'prompt="a blue car"'`: they belong to YAML, not to the text."""
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'" else value


def _is_text(path: KeyPath) -> bool:
    """Returns whether the field is plain text (`prompt`, `output`). Such a value is taken literally, with colons and commas."""
    model: Any = RunConfig
    for key in path[:-1]:
        field = model.model_fields.get(key)
        model = field.annotation if field is not None else None
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            return False
    field = model.model_fields.get(path[-1])
    return field is not None and field.annotation is str
