"""The JSON Schema of a run's configuration, with the options of every component of a run (whose import brings torch)."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from dfw.config.kinds import KINDS, Kind, all_places
from dfw.config.settings import RunConfig
from dfw.errors import PluginError
from dfw.plugins.discovery import Entry
from dfw.plugins.fence import plugin_code
from dfw.plugins.registry import Registry

log = logging.getLogger("dfw.plugins.schema")

Schema = dict[str, Any]
REQUIRED = ("geometry", "renderer", "losses")
"""Keys that a configuration which extends no other must have."""
EXTENDS = {"type": "string", "description": "A configuration to start from: a file, or the name of a shipped one."}
STAGES = "Stages by name, which run one after another. Each is a run's configuration, and may extend a stage before it."


def schema(registry: Registry) -> Schema:
    """Makes a JSON Schema (draft 2020-12) that editors for YAML understand.

    A component that fails to load, or whose options have no schema, is left out with a warning.
    """
    configs = _loaded(registry)
    models: list[tuple[type[BaseModel], Any]] = [(RunConfig, "validation")]
    models += [(config, "validation") for config in configs.values()]
    references, everything = models_json_schema(list(dict.fromkeys(models)))
    known: dict[str, Schema] = everything["$defs"]
    mappings = [node for node in known.values() if "properties" in node]
    run = known.pop(_target(references[(RunConfig, "validation")]))
    for entry, config in configs.items():
        mappings.append(known.setdefault(_key(entry), {}))
        known[_key(entry)] |= _with_reserved(known[_target(references[(config, "validation")])], KINDS[entry.kind], known)
    for kind in (one for one in KINDS.values() if not one.option):
        known[kind.name] = _component(kind, [entry for entry in configs if entry.kind == kind.name], known)
    for kind, place in all_places():
        _put(run, place, kind, [entry for entry in configs if entry.kind == kind.name], known)
    for node in list(_nodes(known)):
        if "x-dfw-kind" in node:  # a component inside a component
            reference = {"$ref": f"#/$defs/{node['x-dfw-kind']}"}
            node.clear()
            node.update(reference)
    for mapping in mappings:
        mapping["properties"] |= {key: _or_reference(one) for key, one in mapping["properties"].items() if key != "type"}
    run["properties"]["extends"] = EXTENDS
    known["stage"] = {key: value for key, value in run.items() if key != "required"}
    stages = {"type": "object", "description": STAGES, "additionalProperties": {"$ref": "#/$defs/stage"}, "minProperties": 1}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **known["stage"],
        "title": "A run of dfw",
        "properties": run["properties"] | {"stages": stages},
        "if": {"not": {"anyOf": [{"required": ["extends"]}, {"required": ["stages"]}]}},
        "then": {"required": list(REQUIRED), "properties": {kind: _typed() for kind in ("geometry", "renderer")}},
        "$defs": known,
    }


def _or_reference(one: Schema) -> Schema:
    """Returns the schema of a value for which a reference (`${trainer.steps}`) may stand."""
    said: Schema = {key: one[key] for key in ("description", "default") if key in one}
    return {"if": {"type": "string", "pattern": r"\$\{"}, "else": one, **said}


def _typed() -> Schema:
    """Returns the schema of a component that names its type."""
    return {"if": {"type": "object"}, "then": {"required": ["type"]}}


def _loaded(registry: Registry) -> dict[Entry, type[BaseModel]]:
    configs: dict[Entry, type[BaseModel]] = {}
    for entry in registry.entries():
        if KINDS[entry.kind].option:  # it stands outside of a run
            continue
        try:
            config = registry.load(entry).Config
            with plugin_code(f"{entry.kind} {entry.label}: its Config", "cannot be described", ()):
                json.dumps(config.model_json_schema())  # an option may be of a type that JSON has no word for
            configs[entry] = config
        except PluginError as error:
            log.warning("left out of the schema: %s", error)
    return configs


def _target(reference: Schema) -> str:
    return str(reference["$ref"]).removeprefix("#/$defs/")


def _key(entry: Entry) -> str:
    return f"{entry.kind}.{entry.distribution}.{entry.name}"


def _names(entry: Entry, entries: list[Entry]) -> list[str]:
    """Returns how a configuration may name `entry`: bare only where no other distribution has that name."""
    alone = sum(other.name == entry.name for other in entries) == 1
    return [entry.qualified, *([entry.name] if alone else [])]


def _with_reserved(options: Schema, kind: Kind, known: Mapping[str, Schema]) -> Schema:
    """Returns a component's options, next to the keys that the run's configuration keeps for itself."""
    of_the_run = known["LossSettings"]["properties"]
    shared = {key: {"type": "string"} if key == "type" else of_the_run[key] for key in kind.reserved}
    return options | {"properties": shared | options.get("properties", {})}


def _component(kind: Kind, entries: list[Entry], known: Mapping[str, Schema]) -> Schema:
    """Returns the schema of a component of one kind: a name, or a mapping whose options follow from its `type`.

    Where the type stands elsewhere (in the file that this one extends), every option of some component of the kind will do.
    """
    names = [name for entry in entries for name in _names(entry, entries)]
    branches = [
        {
            "if": {"properties": {"type": {"enum": _names(entry, entries)}}, "required": ["type"]},
            "then": {"$ref": f"#/$defs/{_key(entry)}"},
        }
        for entry in entries
    ]
    options = sorted({key for entry in entries for key in known[_key(entry)]["properties"]})
    branches.append({"if": {"not": {"required": ["type"]}}, "then": {"propertyNames": {"enum": options}}})
    mapping = {"properties": {"type": {"enum": names}}, "allOf": branches}
    either = [{"if": {"type": "string"}, "then": {"enum": names}}, {"if": {"type": "object"}, "then": mapping}]
    return {"description": kind.answers, "type": ["string", "object"], "allOf": either}


def _put(run: Schema, place: str, kind: Kind, entries: list[Entry], known: Mapping[str, Schema]) -> None:
    """Says in the schema of a run that components of `kind` stand at `place`."""
    *parents, last = place.removesuffix(".*").split(".")
    node = run
    for key in parents:
        node = known[_target(node["properties"][key])]
    old: Schema = node["properties"][last]
    one: Schema = {"$ref": f"#/$defs/{kind.name}"}
    if place.endswith(".*") and old["type"] == "array":
        new = {"type": "array", "items": one}
    elif place.endswith(".*"):
        new = {"type": "object", "additionalProperties": one}
        if kind.default == "*":
            new["properties"] = _by_key(kind, entries)
    else:
        empty = {"type": "null"} in old["anyOf"]
        new = {"if": {"type": "null"}, "else": one} if empty else dict(one)
    node["properties"][last] = new | {key: old[key] for key in ("description", "default") if key in old}


def _by_key(kind: Kind, entries: list[Entry]) -> Schema:
    """Returns the schemas of components whose key is their own name. They need no `type` and no options."""
    found: Schema = {}
    for entry in entries:
        if entry.name in _names(entry, entries):
            own = {"if": {"type": "object", "not": {"required": ["type"]}}, "then": {"$ref": f"#/$defs/{_key(entry)}"}}
            found[entry.name] = {"if": {"type": "null"}, "else": {"allOf": [{"$ref": f"#/$defs/{kind.name}"}, own]}}
    return found


def _nodes(value: Any) -> Iterator[Schema]:
    """Gives every mapping in a schema."""
    if isinstance(value, dict):
        yield value
        for item in value.values():
            yield from _nodes(item)
    elif isinstance(value, list):
        for item in value:
            yield from _nodes(item)
