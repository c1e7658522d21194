"""Which settings tell runs apart, and the methods that these make. Imports no torch."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dfw.config.yaml_text import YamlError, read_yaml
from dfw.runs.directory import RunDirectory
from dfw.studies.records import Record

log = logging.getLogger("dfw.studies")

ROWS_AND_COLUMNS = ("prompt", "image", "seed", "name", "output")
"""Settings by which runs stand in a table, so that no other difference need say them; and where a run lies."""


def settings_of(directory: RunDirectory) -> dict[str, str]:
    """Returns the dotted name of each setting of a run -> its value as text. Empty, with a warning, if they cannot be read."""
    try:
        tree, _ = read_yaml(directory.read_resolved())
    except YamlError as error:
        log.warning("%s: cannot be read (%s); its settings are not compared", directory.resolved, error)
        return {}
    return dict(_flat(tree if isinstance(tree, Mapping) else {}))


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Gives the dotted name and text of each setting. A ramp (`{from: 10, to: 3}`) is one setting."""
    for key, value in tree.items():
        if isinstance(value, Mapping) and value and not {"from", "to"} <= value.keys():
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", _text(value)


def _text(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case Mapping():
            return f"{{{', '.join(f'{key}: {_text(one)}' for key, one in value.items())}}}"
        case list():
            return f"[{', '.join(map(_text, value))}]"
        case _:
            return str(value)


def methods_of(runs: Sequence[tuple[Record, Mapping[str, str]]]) -> list[str]:
    """Returns the method of each run: its name, and the settings by which runs of one name, prompt and seed differ.

    `runs`: records with their settings, which are empty for a run that is only planned.
    """
    alike: dict[tuple[object, ...], list[Mapping[str, str]]] = {}
    for record, settings in runs:
        if settings:
            alike.setdefault((record.name, record.subject, record.seed), []).append(settings)
    apart: dict[str, dict[str, None]] = {}
    for (name, *_), group in alike.items():
        apart.setdefault(str(name), {}).update(dict.fromkeys(different(group)))
    labels: dict[tuple[str, ...], str] = {}
    found = []
    for record, settings in runs:
        keys = list(apart.get(record.name, {})) if settings else []
        variant = (record.name, *(settings.get(key, "") for key in keys))
        if variant not in labels:
            labels[variant] = _label(record.name, settings, keys, set(labels.values()))
        found.append(labels[variant])
    return found


SHOWN = 3
"""Settings in the name of a method; `different` has all."""


def _label(name: str, settings: Mapping[str, str], keys: Sequence[str], taken: set[str]) -> str:
    last = [key.rpartition(".")[2] for key in keys]
    words = [f"{key if last.count(end) > 1 else end}={settings.get(key, 'unset')}" for key, end in zip(keys, last, strict=True)]
    text = " ".join([name or "?", ", ".join(words[:SHOWN])]).strip()
    number, label = 1, text
    while label in taken:
        number += 1
        label = f"{text} ({number})"
    return label


def different(settings: Sequence[Mapping[str, str]]) -> list[str]:
    """Returns the settings that are not the same in all, without those that rows and columns say, in order of appearance."""
    keys = dict.fromkeys(key for one in settings for key in one if key not in ROWS_AND_COLUMNS)
    return [key for key in keys if len({one.get(key) for one in settings}) > 1]
