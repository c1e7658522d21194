"""What a component is, from its class and its Config: docstring, options with type, default and help, features, provenance."""

from __future__ import annotations

import inspect
import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from dfw.errors import PluginError
from dfw.interfaces.component import Component
from dfw.plugins.discovery import Entry
from dfw.plugins.fence import plugin_code

log = logging.getLogger("dfw.plugins.describe")

Schema = Mapping[str, Any]

WORDS = {"number": "number", "integer": "whole number", "string": "text", "boolean": "true or false", "null": "none"}
"""JSON type -> what people call it."""
_BOUNDS = {"exclusiveMinimum": ">", "minimum": ">=", "exclusiveMaximum": "<", "maximum": "<="}


@dataclass(frozen=True)
class Option:
    """One field of a Config: dotted `path`, `type` and `default` in words, `help`; `when`: the choice that it belongs to."""

    path: str
    type: str
    default: str
    help: str
    when: str = ""


@dataclass(frozen=True)
class Description:
    """A component: `requires` and `provides` are those of its default options, None where those cannot say."""

    kind: str
    name: str
    distribution: str
    version: str
    module: str
    summary: str
    options: tuple[Option, ...]
    requires: frozenset[str] | None
    provides: frozenset[str] | None
    hints: Mapping[str, str]


def describe(entry: Entry, cls: type[Component]) -> Description:
    """Gathers what `dfw plugins info` shows. Raises PluginError, with distribution and version, for a Config without a schema."""
    with plugin_code(f"{entry.kind} {entry.label}: its Config", "cannot be described", ()):
        options = tuple(options_of(cls.Config))
    module = f"{cls.__module__}:{cls.__qualname__}"
    config = _defaults(entry, cls.Config)
    features = {question: _features(cls, config, question) for question in ("requires", "provides")}
    summary = inspect.cleandoc(str(vars(cls).get("__doc__") or ""))
    hints = {str(feature): str(hint) for feature, hint in dict(cls.feature_hints).items()}
    place = (entry.kind, entry.qualified, entry.distribution, entry.version, module)
    return Description(*place, summary, options, features["requires"], features["provides"], hints)


def options_of(config: type[BaseModel]) -> Iterator[Option]:
    """Gives the fields of a Config with dotted paths. Those of nested ones follow their own field."""
    schema = config.model_json_schema()
    yield from _fields(schema, schema.get("$defs", {}), "", {}, "")


def _fields(node: Schema, known: Schema, prefix: str, defaults: Any, when: str) -> Iterator[Option]:
    required = node.get("required", ())
    for name, field in node.get("properties", {}).items():
        if "const" in field:
            continue  # the tag by which one of several is chosen
        path = f"{prefix}{name}"
        default = defaults[name] if isinstance(defaults, Mapping) and name in defaults else field.get("default")
        absent = name in required and not (isinstance(defaults, Mapping) and name in defaults)
        text = " ".join(str(field.get("description", "")).split())
        yield Option(path, type_of(field, known), "required" if absent else _shown(default), text, when)
        for variant, choice in _nested(field, known):
            tag = next(((key, one["const"]) for key, one in variant["properties"].items() if "const" in one), None)
            chosen = isinstance(default, Mapping) and (tag is None or default.get(tag[0]) == tag[1])
            inner = when if tag is None or not choice else f"{path}.{tag[0]} is {tag[1]}"
            yield from _fields(variant, known, f"{path}.", default if chosen else {}, inner)


def _nested(field: Schema, known: Schema) -> list[tuple[Schema, bool]]:
    """Returns the models a field may hold, each with whether there are several. A ramp counts as a number."""
    branches = [_target(branch, known) for branch in _branches(field, known)]
    models = [branch for branch in branches if branch.get("type") == "object" and "properties" in branch and not _is_ramp(branch)]
    return [(model, len(models) > 1) for model in models]


def _branches(field: Schema, known: Schema) -> Iterator[Schema]:
    inner = field.get("anyOf") or field.get("oneOf") or field.get("allOf")
    if inner is None:
        yield field
        return
    for branch in inner:
        yield from _branches(branch, known)


def _target(node: Schema, known: Schema) -> Schema:
    reference = node.get("$ref")
    return node if reference is None else dict(known[str(reference).removeprefix("#/$defs/")])


def _is_ramp(node: Schema) -> bool:
    return {"from", "to", "ease"} <= set(node.get("properties", {}))


def type_of(field: Schema, known: Schema) -> str:
    """Says a field's type and range in words: `number > 0`, `'softplus' or 'exp'`, `[number, number]`, `number or ramp`."""
    texts = dict.fromkeys(_one_type(_target(branch, known), known) for branch in _branches(field, known))
    return " or ".join(texts)


def _one_type(node: Schema, known: Schema) -> str:
    if "x-dfw-kind" in node:
        return f"{node['x-dfw-kind']} (a component)"
    if "const" in node or "enum" in node:
        return " or ".join(repr(value) for value in node.get("enum", [node.get("const")]))
    if "anyOf" in node or "oneOf" in node:
        return type_of(node, known)
    kind = str(node.get("type"))
    if kind in ("object", "array"):
        return _mapping(node, known) if kind == "object" else _list(node, known)
    limits = " and ".join(f"{sign} {node[key]:g}" for key, sign in _BOUNDS.items() if key in node)
    word = "path" if node.get("format") == "path" else WORDS.get(kind, "anything")
    return " ".join(part for part in (word, limits) if part)


def _mapping(node: Schema, known: Schema) -> str:
    if "properties" in node:
        tag = next((str(one["const"]) for one in node["properties"].values() if "const" in one), "")
        return "ramp" if _is_ramp(node) else f"mapping ({tag})" if tag else "mapping"
    inner = node.get("additionalProperties")
    return f"mapping of names to {type_of(inner, known)}" if isinstance(inner, Mapping) else "mapping"


def _list(node: Schema, known: Schema) -> str:
    if "prefixItems" in node:
        return f"[{', '.join(type_of(item, known) for item in node['prefixItems'])}]"
    return f"list of {type_of(node['items'], known)}" if isinstance(node.get("items"), Mapping) else "list"


def _shown(default: Any) -> str:
    if isinstance(default, Mapping):
        tags = [str(default[key]) for key in ("type", "form") if key in default]
        return tags[0] if tags else "as below"
    return "none" if default is None else json.dumps(default, ensure_ascii=False).strip('"')


def _defaults(entry: Entry, config: type[BaseModel]) -> BaseModel:
    """Returns the default options. Of a Config with required fields, or one that breaks, it returns those there are."""
    try:
        with plugin_code(f"{entry.kind} {entry.label}: its Config", "breaks on its defaults", (ValidationError,)):
            return config()
    except ValidationError:
        pass
    except PluginError as error:
        log.warning("%s", error)
    return config.model_construct()


def _features(cls: type[Component], config: BaseModel, question: str) -> frozenset[str] | None:
    try:
        with plugin_code(cls.__qualname__, f"cannot say what it {question}", ()):
            return frozenset(str(word) for word in getattr(cls, question)(config))
    except PluginError:  # it depends on options that have no default
        return None
