"""Makes `docs/configuration.md`: every field of a run, from RunConfig and the models below it.

python tools/docs/configuration.py [--check]
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, get_args, get_origin

from components import row
from pages import main, table
from pydantic import BaseModel

from dfw.config.schedules import Ramp
from dfw.config.settings import RunConfig
from dfw.plugins.describe import options_of

HEAD = """# Configuration

A run is one YAML file. This page lists the fields of the run itself. The options of a component are on the page of its kind,
under *Built-in components*. `dfw plugins info NAME` prints those of any installed component.

```sh
dfw config show dreamfusion                  # a configuration with every default
dfw config schema --out dfw.schema.json      # a JSON Schema, for completion in an editor
dfw run dreamfusion trainer.steps=300        # on the command line, a dot separates the parts of a field's path
```

`extends: dreamfusion` takes another configuration as the base. [How a run flows](flow.md) has the rules.

## What values mean

- Words mean what YAML 1.2 says. `true` and `null` are values; `on`, `yes`, `1:30` and `2001-01-01` are text. Numbers are
  decimal: `0123` is 123, and `0x1f` is text. Numbers must be finite, and a truth value is not a number. Put text that looks
  like a number in quotes.
- `${trainer.steps}` stands for the value of another field, also inside text. `\\${` is the text `${`. Nothing else is filled
  in: a configuration calls no function and reads no variable of the environment, so that no secret gets into a run's files. On
  the command line the shell fills variables in: `output="$SCRATCH/runs"`.
- A path may begin with `~`. A relative path is relative to the file that names it. A path of an override is relative to the
  working directory. `resolved.yaml` holds absolute paths, so a run can be exported, rendered and continued from any directory.
- YAML's tags (`!!set`) and merge keys (`<<`) are refused. Anchors and aliases work. A file has at most 500,000 characters, and
  lists and mappings are at most 32 deep.
"""


def pages() -> dict[str, str]:
    """Returns the page."""
    paths: dict[type[BaseModel], list[str]] = {}
    for model, path in models(RunConfig, ""):
        paths.setdefault(model, []).append(path)
    ramps = paths.pop(Ramp, [])
    sections = [section(model, found) for model, found in paths.items()]
    if ramps:
        sections.append(section(Ramp, []))
    return {"configuration.md": "\n".join([HEAD, *sections])}


def models(model: type[BaseModel], path: str, above: tuple[type[BaseModel], ...] = ()) -> Iterator[tuple[type[BaseModel], str]]:
    """Yields `model` and all models in its fields, each with its dotted path. A model inside itself is not entered again."""
    yield model, path
    for name, field in model.model_fields.items():
        for inner, where in _in_annotation(field.annotation, f"{path}.{field.alias or name}".lstrip(".")):
            if inner not in (*above, model):
                yield from models(inner, where, (*above, model))


def section(model: type[BaseModel], paths: list[str]) -> str:
    """Returns the table of a model's own fields. `paths` are the places in a configuration where the model stands."""
    places = [f"`{path}`" for path in dict.fromkeys(paths) if path]
    title = ", ".join(places) or {RunConfig: "The run", Ramp: "Ramps"}.get(model, model.__name__)
    lines = [f"## {title}", "", inspect.cleandoc(model.__doc__ or ""), ""]
    if model is Ramp:
        lines += ["A field of type *number or ramp* takes either, e.g. `{from: 0.01, to: 0.001, ease: log}`.", ""]
    # pydantic drops a field's description from the schema if it is the same as its model's
    texts = {field.alias or name: " ".join((field.description or "").split()) for name, field in model.model_fields.items()}
    own = (row(replace(option, help=texts[option.path])) for option in options_of(model) if "." not in option.path)
    return "\n".join([*lines, *table(("field", "type", "default", ""), own), ""])


def _in_annotation(annotation: Any, path: str) -> Iterator[tuple[type[BaseModel], str]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation, path
    elif get_origin(annotation) is dict:
        yield from _in_annotation(get_args(annotation)[1], f"{path}.NAME")
    else:
        for argument in get_args(annotation):
            yield from _in_annotation(argument, path)


if __name__ == "__main__":
    sys.exit(main(pages))
