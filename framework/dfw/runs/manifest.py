"""What manifest.json says of a run: the parts that made it, and what they say of themselves."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from torch import nn

from dfw.compose import Composition
from dfw.interfaces.component import Component, name_of
from dfw.plugins.fence import plugin_code


def component_facts(composition: Composition, components: Iterable[Component]) -> dict[str, dict[str, Any]]:
    """Returns configuration path -> origin of each part, with `facts` for those of `components` that say something.

    Raises PluginError, which names the component, if it fails to say it or if JSON cannot hold it.
    """
    found: dict[str, dict[str, Any]] = {key: dict(entry.facts()) for key, entry in composition.origins().items()}
    for component in (one for outer in components for one in _with_inner(outer)):
        with plugin_code(name_of(component), "cannot say facts that JSON can hold (`facts`)"):
            facts = json.loads(json.dumps(dict(component.facts()), allow_nan=False))
        if facts and component.dfw_path in found:
            found[component.dfw_path]["facts"] = facts
    return found


def described(components: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Returns a line for each of `components` (as `component_facts` gives them) that says something of itself."""
    facts = {path: component["facts"] for path, component in components.items() if "facts" in component}
    return [f"{path}: {', '.join(f'{name} {value}' for name, value in said.items())}" for path, said in facts.items()]


def changed_facts(recorded: Mapping[str, Mapping[str, Any]], now: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Returns a sentence for each fact that a component gave when the run was made, and that is different now."""
    return [
        f"{path}: {name} was {value} when the run was made and is {now[path].get('facts', {}).get(name, 'not known')} now. "
        "The run does not go on to the same bits"
        for path, component in recorded.items()
        if path in now
        for name, value in component.get("facts", {}).items()
        if now[path].get("facts", {}).get(name) != value
    ]


def _with_inner(component: Component) -> Iterator[Component]:
    """Gives a component, and those that stand inside it."""
    yield component
    if isinstance(component, nn.Module):
        yield from (one for one in component.modules() if isinstance(one, Component) and one is not component)
