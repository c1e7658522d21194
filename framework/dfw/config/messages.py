"""Turns pydantic's errors into sentences: what, where (file, line, path) and what to write instead. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from dfw.config.origins import KeyPath, Provenance
from dfw.text import bounded, shortened

_PATH_IN_FRONT = re.compile(r"^([A-Za-z_][\w-]*(?:\.[\w-]+)*): ")


def explain(
    error: ValidationError, data: Any, model: type[BaseModel], provenance: Provenance, at: KeyPath = (), owner: str = ""
) -> list[str]:
    """Returns one sentence per mistake in `data`, which was checked against `model`.

    `data` stands at path `at` of the configuration. `owner` names the component whose options they are, e.g. `dreamfw/nerf`.
    """
    if isinstance(data, Mapping):  # a wrong default does not stand in the data, and has a path all the same
        data = {info.alias or name: info.default for name, info in model.model_fields.items() if not info.is_required()} | dict(
            data
        )
    sentences: list[str] = []
    for path, details, words in _one_per_place(error, data):
        problem = _problem(path, details, words, model)
        where, named = (*at, *path), _PATH_IN_FRONT.match(problem)
        below = tuple(named[1].split(".")) if named else ()
        if named and below[0] in field_names(model, path):  # a check of several fields names the one at fault itself
            where, problem = (*where, *below), problem[named.end() :]
        sentences.append(provenance.prefix(where) + problem + (f" ({owner})" if owner else ""))
    return list(dict.fromkeys(sentences))


def field_names(model: Any, path: KeyPath) -> list[str]:
    """Returns the keys that `model` knows at `path` below it, as they are written in YAML."""
    return list(dict.fromkeys(key for found in _models_at(model, path) for key in _keys(found)))


def _keys(model: type[BaseModel]) -> list[str]:
    return [info.alias or name for name, info in model.model_fields.items()]


def _models_at(annotation: Any, path: KeyPath) -> Iterator[type[BaseModel]]:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        yield from _models_at(arguments[0], path)
    elif origin in (Union, UnionType):
        for argument in arguments:
            yield from _models_at(argument, path)
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if not path:
            yield annotation
            return
        for name, info in annotation.model_fields.items():
            if path[0] in (name, info.alias):
                yield from _models_at(info.annotation, path[1:])
    elif path and origin is not None and arguments:  # dict[str, X], list[X], tuple[X, ...]
        yield from _models_at(arguments[1] if origin is dict else arguments[0], path[1:])


def _one_per_place(error: ValidationError, data: Any) -> Iterator[tuple[KeyPath, ErrorDetails, list[str]]]:
    """Yields, for each place, its path, the most useful error, and words that would also be valid.

    Drops the names of union branches from the locations, and the branches that the value was not meant for.
    """
    chosen: dict[KeyPath, list[tuple[int, ErrorDetails]]] = {}
    for details in error.errors():
        path, depth = _real_path(details, data)
        chosen.setdefault(path, []).append((depth, details))
    deeper = {path[:n] for path in chosen for n in range(len(path))}
    for path, candidates in chosen.items():
        branches = [details for _, details in candidates]
        if path in deeper and all(details["type"] != "extra_forbidden" and depth for depth, details in candidates):
            continue  # the value is a mapping, so it was meant for the branch whose errors lie inside it
        best = min(branches, key=_vagueness)
        words = [d["ctx"]["expected"] for d in branches if d["type"] == "literal_error" and d is not best and "ctx" in d]
        yield path, best, words if best["type"].endswith("_parsing") else []


def _vagueness(details: ErrorDetails) -> int:
    """Ranks pydantic's errors for a union: errors about the value first, about its type next, 'not a mapping' last."""
    if details["type"] in ("model_type", "dict_type", "model_attributes_type"):
        return 2
    return 1 if details["type"].endswith(("_type", "literal_error")) else 0


def _real_path(details: ErrorDetails, data: Any) -> tuple[KeyPath, int]:
    """Returns the location as written in the data, and how many branch names were dropped from it."""
    path: list[str] = []
    dropped = 0
    value = data
    last = len(details["loc"]) - 1
    for index, part in enumerate(details["loc"]):
        inside = isinstance(value, Mapping) and part in value
        if inside or (isinstance(value, list | tuple) and isinstance(part, int) and part < len(value)):
            value = value[part]
        elif not (index == last and details["type"] == "missing"):
            dropped += 1
            continue
        path.append(str(part))
    return tuple(path), dropped


def _problem(path: KeyPath, details: ErrorDetails, words: list[str], model: type[BaseModel]) -> str:
    kind, message = details["type"], details["msg"]
    if kind == "extra_forbidden":
        complaining = [m for m in _models_at(model, path[:-1]) if path[-1] not in _keys(m)]  # others of a union may know it
        known = list(dict.fromkeys(key for m in complaining for key in _keys(m)))
        near = get_close_matches(path[-1][:80], known, n=1, cutoff=0.6)
        return f"unknown key, did you mean '{near[0]}'?" if near else f"unknown key; known: {', '.join(known) or 'none'}"
    if kind == "missing":
        return "missing; " + (_help(model, path) or "write a value")
    if kind in ("value_error", "assertion_error"):
        return bounded(str(details.get("ctx", {}).get("error", message)), lines=4)
    if kind in ("model_type", "dict_type", "model_attributes_type", "tuple_type", "list_type"):
        return f"must be {_shape(kind, field_names(model, path), details['input'])} (is {_shown(details['input'])})"
    if kind == "union_tag_invalid":
        known, given = re.findall(r"'([^']*)'", details["ctx"]["expected_tags"]), details["ctx"]["tag"]
        near = get_close_matches(given[:80], known, n=1, cutoff=0.6)
        said = f"no type is called {shortened(given)!r}"
        return said + (f", did you mean {near[0]!r}?" if near else f"; known: {', '.join(known)}")
    if kind == "string_type" and isinstance(details["input"], int | float):
        message = "Input should be text; put it in quotes"
    text = re.sub(r"^Input should be", "must be", message).split(", unable to parse")[0]
    return f"{' or '.join([text[0].lower() + text[1:], *words])} (is {_shown(details['input'])})"


def _shape(kind: str, known: list[str], given: object) -> str:
    """Says what a value of the wrong shape should be, with an example. `known`: the keys of the mapping that is wanted."""
    if kind in ("tuple_type", "list_type"):
        return f"a list, e.g. [{shortened(str(given), 40)}]" if isinstance(given, str | int | float) else "a list"
    if known[:1] == ["type"]:
        return "a name, or a mapping with its type and options"
    return f"a mapping, e.g. {{{known[0]}: ...}}" if known else "a mapping"


def _help(model: type[BaseModel], path: KeyPath) -> str:
    for parent in _models_at(model, path[:-1]):
        for name, info in parent.model_fields.items():
            if path[-1] in (name, info.alias) and info.description:
                return f"it says: {' '.join(info.description.split())}"
    return ""


def _shown(value: object) -> str:
    try:
        return shortened(repr(value), 60)
    except ValueError:  # Python writes no whole number of more than 4,300 digits
        return "a very long number"
