"""Many runs from one: its files, under other prompts, seeds and settings, each sealed as if it had been made."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from dfw.comparison.entries import Entry
from dfw.config.yaml_text import read_yaml, write_yaml
from dfw.runs.directory import RunDirectory
from dfw.runs.seal import sealed_line
from dfw.studies.records import Record

HOSTILE = "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'> \"a\" {{ 7 * 7 }}"


def entry(name: str, prompt: str, seed: int = 0, **settings: str) -> Entry:
    """A finished run that has no files. `settings`: dotted keys, a dot as two underscores."""
    record = Record(Path(f"{name}-{prompt}-{seed}"), "finished", name, prompt, seed, 4, 4, 1.0, "", "", ())
    return Entry(record, {key.replace("__", "."): value for key, value in settings.items()})


def copied_run(source: Path, target: Path, status: dict[str, Any] | None = None, **settings: Any) -> Path:
    """Copies a run without its checkpoints and returns `target`. `settings`: dotted keys, a dot as two underscores, -> value.

    `status` changes keys of status.json.
    """
    old, new = RunDirectory(source), RunDirectory(target)
    said, manifest, rows = old.read_json("status.json"), old.read_json("manifest.json"), old.read_metrics()
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("checkpoints", "run.lock", "*.json", "*.yaml", "*.jsonl"))
    for name in ("config.yaml", "resolved.yaml"):
        tree, _ = read_yaml((source / name).read_text(encoding="utf-8"))
        for key, value in settings.items():
            _put(tree, key.split("__"), value)
        new.write_config(name, write_yaml(tree))
    new.write_json("status.json", said | (status or {}))
    new.write_json("manifest.json", manifest)
    new.metrics.write_text("".join(sealed_line(row, new.identity) for row in rows), encoding="utf-8")
    return target


def _put(tree: dict[str, Any], path: list[str], value: Any) -> None:
    for key in path[:-1]:
        tree = tree.setdefault(key, {})
    tree[path[-1]] = json.loads(json.dumps(value))
