"""The JSON Schema of a run's configuration, with the options of every installed component (whose import brings torch)."""

from __future__ import annotations

import json
import logging
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from dfw.config.kinds import KINDS
from dfw.config.settings import RunConfig
from dfw.errors import PluginError, one_line
from dfw.plugins.registry import Entry, Registry

log = logging.getLogger("dfw.plugins.schema")

Schema = dict[str, Any]
REQUIRED = ("prompt", "geometry", "renderer", "losses")
"""Keys that a configuration which extends no other must have."""


def schema(registry: Registry) -> Schema:
    """A JSON Schema (draft 2020-12) that editors for YAML understand. Components that fail to load or to say
    what their options are are left out, with a word.
    """
    configs = _loaded(registry)
    models: list[tuple[type[BaseModel], Any]] = [(RunConfig, "validation")]
    models += [(config, "validation") for config in configs.values()]
    references, everything = models_json_schema(list(dict.fromkeys(models)), title="A run of dfw")
    definitions: dict[str, Schema] = everything["$defs"]
    root = dict(definitions[_target(references[(RunConfig, "validation")])])
    root.pop("required", None)
    components = {entry: dict(definitions[_target(references[(config, "validation")])]) for entry, config in configs.items()}
    for kind in KINDS:
        own = {entry: options for entry, options in components.items() if entry.kind == kind}
        for entry, options in own.items():
            definitions[_key(entry)] = _with_shared(options, kind, definitions)
        definitions[f"{kind}-component"] = _component(kind, list(own), definitions)
    properties = dict(root["properties"])
    for kind in ("geometry", "renderer"):
        properties[kind] = {"$ref": f"#/$defs/{kind}-component"}
    properties["guidance"] = {"anyOf": [{"$ref": "#/$defs/guidance-component"}, {"type": "null"}]}
    properties["losses"] = _losses([entry for entry in configs if entry.kind == "loss"], properties["losses"])
    properties["extends"] = {
        "type": "string",
        "description": "A configuration to start from: a file, or the name of a shipped one.",
    }
    complete = {"required": list(REQUIRED), "properties": {kind: {"required": ["type"]} for kind in ("geometry", "renderer")}}
    condition = {"if": {"not": {"required": ["extends"]}}, "then": complete}
    dialect = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "A run of dfw"}
    return dialect | root | {"properties": properties, "allOf": [condition], "$defs": definitions}


def _loaded(registry: Registry) -> dict[Entry, type[BaseModel]]:
    configs: dict[Entry, type[BaseModel]] = {}
    for entry in registry.entries():
        try:
            config = registry.load(entry).Config
            json.dumps(config.model_json_schema())
            configs[entry] = config
        except KeyboardInterrupt:
            raise
        except PluginError as error:
            log.warning("left out of the schema: %s", error)
        except BaseException as error:  # an option of a type that JSON has no word for
            reason = f"its Config cannot be described: {one_line(error)}"
            log.warning("left out of the schema: %s %s: %s", entry.kind, entry.label, reason)
    return configs


def _target(reference: Schema) -> str:
    return str(reference["$ref"]).removeprefix("#/$defs/")


def _key(entry: Entry) -> str:
    return f"{entry.kind}.{entry.distribution}.{entry.name}"


def _names(entry: Entry, entries: list[Entry]) -> list[str]:
    """How a configuration may name `entry`: bare only where nobody else has that name."""
    alone = sum(other.name == entry.name for other in entries) == 1
    return [entry.qualified, *([entry.name] if alone else [])]


def _with_shared(options: Schema, kind: str, definitions: dict[str, Schema]) -> Schema:
    """A component's options, and beside them the keys that the run's configuration keeps for itself."""
    shared: Schema = {"type": {"type": "string"}}
    if kind == "loss":
        shared["weight"] = definitions["LossSettings"]["properties"]["weight"]
    return options | {"properties": shared | options.get("properties", {})}


def _component(kind: str, entries: list[Entry], definitions: dict[str, Schema]) -> Schema:
    """A component of one kind: the options follow from `type`."""
    names = [name for entry in entries for name in _names(entry, entries)]
    description = definitions["ComponentSettings"]["properties"]["type"].get("description", "")
    branches = [
        {
            "if": {"properties": {"type": {"enum": _names(entry, entries)}}, "required": ["type"]},
            "then": {"$ref": f"#/$defs/{_key(entry)}"},
        }
        for entry in entries
    ]
    return {
        "type": "object",
        "properties": {"type": {"type": "string", "enum": names, "description": description}},
        **({"allOf": branches} if branches else {}),
    }


def _losses(entries: list[Entry], described: Schema) -> Schema:
    """Losses by name: a key that is a loss's own name needs no `type`."""
    known: Schema = {}
    for entry in entries:
        if len(_names(entry, entries)) == 2:
            own = {"if": {"not": {"required": ["type"]}}, "then": {"$ref": f"#/$defs/{_key(entry)}"}}
            known[entry.name] = {"anyOf": [{"type": "null"}, {"allOf": [{"$ref": "#/$defs/loss-component"}, own]}]}
    text = {"description": described["description"]} if "description" in described else {}
    return {"type": "object", **text, "properties": known, "additionalProperties": {"$ref": "#/$defs/loss-component"}}
